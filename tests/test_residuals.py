"""Residuals: right draws lie from what was measured as far as is expected; what is off is said with its cause."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case
from test_inputs import made

from scorefield import SampleRng, app
from scorefield.advice import advice
from scorefield.operators import Clip, Operator, Quantise, parse
from scorefield.residuals import Fit, fit_of
from scorefield.restoration import Restored
from scorefield.specs import RestoreSpec

SHAPE = (1, 12, 12)
FITS = [
    "identity",
    "blur:1",
    "mask:left",
    "clip:-10:10",
    "absolute",
    "quantise:0.5",
    "quantise:8",
    "quantise:40",
    "quantise:8:-24:24",
    "jpeg:20",
    "blur:1,quantise:8",
]


@each_case(s=[0.3, 4.0])
@each_case(text=FITS)
def test_right_draws_have_the_residual_that_is_expected(text: str, s: float) -> None:
    """x0 itself is a draw of p(x0 | y) of y measured of it: over many, residual² and expected² have one mean."""
    operator, n = parse(text), 60
    x = 20 * SampleRng(range(n)).normal(SHAPE) + (128 if "jpeg" in text else 0)
    noise = s * SampleRng(range(n), stream=1).normal(operator.shape_out(SHAPE))
    fits = [fit_of(operator, x[k : k + 1], operator.noisy(x[k : k + 1], noise[k : k + 1])[0], s) for k in range(n)]
    off = torch.tensor([fit.residual**2 - fit.expected**2 for fit in fits])
    assert abs(float(off.mean())) < 5 * float(off.std()) / math.sqrt(n)
    assert operator.rounds or all(fit.expected == 1 and fit.numbers == math.prod(operator.shape_out(SHAPE)) for fit in fits)
    assert not any(fit.is_above(1.5) or fit.is_below(0.8) for fit in fits)


@pytest.mark.parametrize("operator", [Quantise(0.4), Quantise(0.4, -0.8, 0.8)])
def test_noise_before_rounding_gives_every_point_of_the_grid_as_often_as_its_evidence_says(operator: Operator) -> None:
    x, s, n = torch.tensor([[-1.0, 0.13, 0.7]], dtype=torch.float64), 0.3, 20_000
    y = operator.noisy(x, s * SampleRng(range(n)).normal((3,)))
    for point in y.unique():
        chance = torch.stack([operator.log_evidence(one.reshape(1, 1), torch.zeros(()), point, s).exp() for one in x[0]])[:, 0]
        share = (y == point).double().mean(dim=0)
        assert bool(((share - chance).abs() <= 5 * (chance * (1 - chance) / n).sqrt() + 1e-12).all())


def test_numbers_at_a_bound_of_a_clip_have_no_noise() -> None:
    x, y = torch.tensor([[0.0, 1.0, 0.5, 0.5]]), torch.tensor([0.0, 1.0, 0.6, 0.4])
    fit = fit_of(Clip(0.0, 1.0), x, y, 0.1)
    assert fit.numbers == 2 and fit.expected == pytest.approx(math.sqrt(0.5)) and fit.residual == pytest.approx(math.sqrt(0.5))


def test_without_noise_a_residual_is_in_the_units_of_the_measurement() -> None:
    x, y = torch.tensor([[0.2, 1.9]]), torch.tensor([0.0, 2.0])
    assert fit_of(parse("identity"), x, y, 0.0).expected == 0
    fit = fit_of(Quantise(1.0), x, y, 0.0)
    assert fit.residual == pytest.approx(math.sqrt((0.2**2 + 0.1**2) / 2)) and fit.expected == pytest.approx(fit.residual)


def test_by_chance_right_draws_are_hardly_ever_strange_and_wrong_noise_is() -> None:
    """The residual² of m numbers is chi-square/m: with 5 standard deviations of it, of few numbers nothing can be said."""
    n = 400
    for m, seen in ((4, False), (900, True)):
        noise = SampleRng(range(n)).normal((m,))
        x, operator = torch.zeros(1, m), parse("identity")
        right, small, large = ([fit_of(operator, x, one, s) for one in noise] for s in (1.0, 0.5, 2.0))
        assert not any(fit.is_above(1.5) or fit.is_below(0.8) for fit in right)
        assert all(fit.is_above(1.5) for fit in small) or not seen
        assert all(fit.is_below(0.8) for fit in large) == seen


# --- what is said of them ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory) -> Restored:
    """An answer, of which the tests change what matters."""
    place, rng = tmp_path_factory.mktemp("residuals"), np.random.default_rng(0)
    np.save(place / "grey.npy", rng.integers(0, 256, (60, 4, 6), dtype=np.uint8))
    run: Path = made(place / "run", str(place / "grey.npy"))
    return app.restore(run, rng.integers(0, 256, (4, 6), dtype=np.uint8), "identity", samples=1, noise=5.0).answers[0]


FAR, NEAR, RIGHT = Fit(9.8, 1.0, 1.0, 500), Fit(0.5, 1.0, 1.0, 500), Fit(1.1, 1.0, 1.0, 500)
SAID: dict[str, tuple[Fit, str, bool, dict[str, Any], str]] = {
    "right": (RIGHT, "twisted", False, {"noise": 5.0}, ""),
    "few numbers": (replace(NEAR, numbers=20), "twisted", False, {"noise": 5.0}, ""),
    "black of a picture has no noise": (replace(NEAR, least=0.6), "twisted", False, {"noise": 5.0}, ""),
    "bounds of a clip": (Fit(0.43, 0.42, 0.42, 100), "twisted", False, {"noise": 5.0}, ""),
    "stated": (FAR, "twisted", False, {"noise": 5.0}, "larger than was said, or another operator"),
    "rounding": (FAR, "twisted", False, {}, "larger than that of rounding"),
    "estimated": (FAR, "twisted", True, {}, "larger than was estimated"),
    "simulated": (FAR, "twisted", False, {"simulate": True}, "the run knows such data too little"),
    "biased": (FAR, "dps", False, {"simulate": True}, "dps is biased, .*: use --method auto"),
    "split": (FAR, "split-gibbs", False, {"noise": 5.0}, "split-gibbs is biased"),
    "near, estimated": (NEAR, "twisted", True, {}, "estimated too large: state --noise"),
    "near, stated": (NEAR, "twisted", False, {"noise": 5.0}, "smaller than was said"),
    "near, mmps": (NEAR, "mmps", True, {}, "its draws copy the noise: use --method auto"),
    "near, diffpir": (NEAR, "diffpir", False, {"noise": 5.0}, "its draws copy the noise"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_strange_is_said_with_its_likely_cause_and_nothing_else_is(name: str, restored: Restored) -> None:
    fit, method, estimated, how, wanted = SAID[name]
    posterior = replace(restored.posterior, method=method)
    one = replace(restored, fit=fit, posterior=posterior, task=replace(restored.task, estimated=estimated))
    said = advice([one], RestoreSpec(**how))
    assert len(said) == bool(wanted)
    if wanted:
        assert re.search(wanted, said[0]) and said[0].startswith(f"{restored.name}: the samples lie {fit.residual:.2g} times")
