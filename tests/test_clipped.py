"""Clipping of denoised samples: what it leaves, that it only takes errors away, and when a run is drawn from with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents
from torch import Tensor

from scorefield import VE, VP, GaussianMixture, Prediction, SampleRng, ScorefieldError, app, files, registry
from scorefield.drawing import Drawing, field_of
from scorefield.field import Field
from scorefield.guidance import Clipped
from scorefield.levels import ladder_of
from scorefield.process import Process
from scorefield.runs import Run, open_run
from scorefield.samplers import Sampler, sample
from scorefield.specs import SampleSpec

SMALL = ("network.name=residual", "training.precision=float32", "training.pictures=0", "training.batch=16")
CORNERS = [[-1.0, 1.0], [1.0, 1.0], [1.0, -0.5]]


def corners(process: Process) -> GaussianMixture:
    """Data at three corners of the square, as good as points."""
    return GaussianMixture([0.5, 0.3, 0.2], CORNERS, [1e-7] * 3, process)


class Wrong:
    """A field whose denoised samples are off by what is given."""

    def __init__(self, field: Field, off: Tensor) -> None:
        self.field, self.off = field, off
        self.process, self.shape = field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        return Prediction.of_denoised(self.process, x, t, self.field(x, t, cond).denoised + self.off)


@pytest.mark.parametrize("process", [VE(0.01, 20.0), VP()])
def test_a_field_of_data_inside_the_bounds_stays_as_it_is_and_of_a_wrong_one_no_error_grows(process: Process) -> None:
    exact, n = corners(process), 2000
    rng = SampleRng(range(n))
    x0 = exact.sample(rng)
    t = torch.tensor([process.t_min, process.t_max], dtype=torch.float64) @ torch.stack([1 - rng.uniform(), rng.uniform()])
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    x = alpha * x0 + sigma * rng.normal((2,))
    for view in ("denoised", "score"):
        found, wanted = (getattr(field(x, t), view) for field in (Clipped(exact, -1.0, 1.0), exact))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-5 * float(wanted.abs().max()))
    wrong = Wrong(exact, rng.normal((2,)))
    before, after = ((field(x, t).denoised - x0).abs() for field in (wrong, Clipped(wrong, -1.0, 1.0)))
    assert bool((after <= before + 1e-6).all())
    assert float(after.square().mean()) < 0.7 * float(before.square().mean())


@pytest.mark.parametrize("name", ["abm", "heun", "ddim", "dpm-solver++", "ancestral", "annealed", "unipc"])
def test_a_field_that_is_beyond_the_bounds_everywhere_is_drawn_to_them_by_every_sampler(name: str) -> None:
    """D' is the corner (high, low), whatever x is, so that is where the last denoising ends."""
    wrong = Wrong(corners(VE(0.01, 20.0)), torch.tensor([5.0, -5.0], dtype=torch.float64))
    field = Clipped(wrong, torch.tensor([-1.0, -0.5]), 1.0)
    sampler = registry.find("sampler", name)()
    assert isinstance(sampler, Sampler)
    x = sample(field, sampler, ladder_of(field, sampler.ladder, 8), rng=SampleRng(range(5)))
    torch.testing.assert_close(x, torch.tensor([[1.0, -0.5]] * 5, dtype=torch.float64), rtol=0, atol=1e-9)


def test_bounds_that_are_not_in_order_are_refused() -> None:
    with pytest.raises(ScorefieldError, match="expected low < high everywhere"):
        Clipped(corners(VP()), 1.0, 1.0)


# --- of a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that know nothing: of images, which have a legal range, and of points, which have none."""
    folder = tmp_path_factory.mktemp("clipped")
    pixels = (SampleRng(range(60)).uniform((4, 4, 3)) * 255).round().to(torch.uint8).numpy()
    np.savez(folder / "images.npz", images=pixels)
    app.train(str(folder / "images.npz"), out=folder / "images", steps=16, settings=("network.channels=[8]", *SMALL[1:]))
    points = ("data.examples=100", "network.width=8", "network.depth=1", *SMALL[1:])
    app.train("two-moons", out=folder / "points", steps=2, settings=points)
    return folder


def test_samples_are_clipped_where_it_is_asked_for_or_the_run_s_own_and_everything_else_asks_the_field(place: Path) -> None:
    run = open_run(place / "images")
    assert (run.normaliser.low, run.normaliser.high) == (0, 255)
    x, t = SampleRng(range(3)).normal(run.shape) * 3, torch.full((3,), run.config.process.t_min, dtype=torch.float64)
    plain = run.field(x, t).denoised

    def drawn(run: Run, **asked: Any) -> Tensor:
        return Drawing.of(run, SampleSpec(**asked)).field(x, t).denoised

    assert float(plain.abs().max()) > 1.1  # it has something to clip
    torch.testing.assert_close(drawn(run), plain, rtol=0, atol=0)
    torch.testing.assert_close(drawn(run, clip_denoised="yes"), plain.clamp(-1, 1), rtol=1e-12, atol=1e-12)
    config = json.loads((run.path / "config.json").read_text())
    files.write_json(run.path / "config.json", config | {"clipped": True})
    own = open_run(run.path)
    torch.testing.assert_close(drawn(own), plain.clamp(-1, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(drawn(own, clip_denoised="no"), plain, rtol=0, atol=0)
    assert field_of(own) is own.field  # what likelihood, denoising and restoration ask
    assert Drawing.of(own, SampleSpec()).about["clip_denoised"] == "yes" and Drawing.of(own, SampleSpec()).said.endswith(
        ", clipped"
    )
    files.write_json(run.path / "config.json", config)
    spec = SampleSpec(sampler="heun", steps=4)
    inside = Drawing.of(run, replace(spec, clip_denoised="yes")).draw(4)
    assert float(inside.abs().max()) <= 1 + 1e-9 < float(Drawing.of(run, spec).draw(4).abs().max())


def test_a_guided_field_is_clipped_and_what_is_clipped_is_drawn_from_at_a_temperature(place: Path) -> None:
    run = open_run(place / "images")
    x, t = SampleRng(range(3)).normal(run.shape) * 3, torch.full((3,), run.config.process.t_min, dtype=torch.float64)
    guided = field_of(run, spec=SampleSpec(autoguidance=2.0))
    assert not torch.equal(guided(x, t).denoised, run.field(x, t).denoised)
    found = field_of(run, spec=SampleSpec(autoguidance=2.0, clip_denoised="yes"))
    torch.testing.assert_close(found(x, t).denoised, guided(x, t).denoised.clamp(-1, 1), rtol=1e-9, atol=1e-9)
    cold = field_of(run, spec=SampleSpec(autoguidance=2.0, clip_denoised="yes", temperature=0.5))
    variance, noise = run.field.data_std**2, float(run.config.process.sigma(t)[0]) ** 2
    factor = (variance + noise) / (0.5 * variance + noise)  # of N(0, variance): nearly 1/T
    torch.testing.assert_close(cold(x, t).score, factor * found(x, t).score, rtol=1e-9, atol=0)


def test_clipping_without_a_legal_range_is_refused_and_nothing_is_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(place)
    assert command("sample", place / "points", "--clip-denoised", "yes", "--out", place / "x.npz") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "whose data have no legal range, expected one: leave it out, or train with --set data.range=LOW,HIGH" in said
    assert contents(place) == before
