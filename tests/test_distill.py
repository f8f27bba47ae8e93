"""Distillation: whether a generator is pulled to the field's distribution, what it draws, and what a distilled run can do.

Of Gaussians everything is known: the KL between a generator that is affine and the data, at every level, and so the direction
in which its weights must move.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents, each_case
from torch import Tensor, nn

from scorefield import VE, VP, Cosine, Gaussian, RectifiedFlow, SampleRng, ScorefieldError, app
from scorefield.distillation.matching import Matcher, Matching
from scorefield.distillation.pairs import EVALUATIONS, Pairs, Regression, draw_pairs, ladder_through
from scorefield.drawing import Drawing
from scorefield.field import ScoreModel
from scorefield.generator import HIGH, LOW, SAMPLER, few_levels
from scorefield.levels import LogNormal
from scorefield.nets.mlp import MLP
from scorefield.prediction import EDM, Prediction
from scorefield.runs import open_run
from scorefield.samplers import sample
from scorefield.specs import SampleSpec

STD, MEAN = 0.5, 1.0
PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "cosine": Cosine(), "flow": RectifiedFlow()}


# --- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.theorem("generator-levels")
@each_case(process=PROCESSES, levels=[1, 2, 4], data_std=[0.05, 0.5, 1.0])
def test_the_levels_of_a_generator_are_geometric_in_the_noise_beside_the_data(
    process: Any, levels: int, data_std: float
) -> None:
    times = few_levels(process, levels, data_std)
    noise = (process.sigma(times) / process.alpha(times)).tolist()
    wanted = [data_std * HIGH * (LOW / HIGH) ** (j / max(levels - 1, 1)) for j in range(levels)]
    assert noise == pytest.approx(wanted, rel=1e-6)


def test_a_process_with_less_noise_begins_at_its_end_and_one_with_too_little_is_refused() -> None:
    assert VE(0.01, 3.0).sigma(few_levels(VE(0.01, 3.0), 2, 1.0)).tolist() == pytest.approx([3.0, 0.8])
    with pytest.raises(ScorefieldError, match="choose a process with more levels"):
        few_levels(VE(0.9, 3.0), 2, 1.0)


# --- pairs, in closed form ----------------------------------------------------------------------------------------------


@each_case(process=PROCESSES, levels=[1, 2, 4], data_std=[0.05, 0.5, 1.0])
def test_the_flow_is_led_through_all_levels_of_a_generator(process: Any, levels: int, data_std: float) -> None:
    times = few_levels(process, levels, data_std)
    ladder = ladder_through(process, times, data_std)
    assert ladder[0] == times[0] and set(times.tolist()) <= set(ladder.tolist())
    assert bool((ladder.diff() < 0).all()) and EVALUATIONS <= len(ladder) <= EVALUATIONS + levels - 1
    end = torch.tensor(process.t_min, dtype=torch.float64)
    least = max(0.05 * data_std, float(process.sigma(end) / process.alpha(end)))
    assert float(process.sigma(ladder[-1]) / process.alpha(ladder[-1])) == pytest.approx(least, rel=1e-6)


@pytest.mark.theorem("gaussian-flow-map")
@each_case(process=PROCESSES, levels=[1, 2, 4], precision=["float32", "bfloat16"])
def test_pairs_of_a_gaussian_are_those_of_its_affine_flow_map(process: Any, levels: int, precision: str) -> None:
    """z - m grows as sqrt(v + lambda²), and the last evaluation shrinks it by v/(v + least²)."""
    field = Gaussian([MEAN, -MEAN], [[STD**2, 0.0], [0.0, STD**2]], process)
    times = few_levels(process, levels, STD)
    pairs = draw_pairs(field, times, SampleRng(range(500), stream=1), None, precision)
    assert len(pairs) == 500 and pairs.cond is None and pairs.passed.shape == (levels, 500, 2)
    last = ladder_through(process, times, STD)[-1]
    least, v = float(process.sigma(last) / process.alpha(last)), STD**2
    for t, x in zip(times, pairs.passed, strict=True):
        alpha, lam = float(process.alpha(t)), float(process.sigma(t) / process.alpha(t))
        slope = v / math.sqrt((v + least**2) * (v + lam**2))
        mean = field.data_mean.float()
        assert torch.allclose(pairs.ends, mean + slope * (x / alpha - mean), rtol=0, atol=2e-6)
    first = pairs.passed[0].double() / float(process.alpha(times[0])) - field.data_mean
    lam = float(process.sigma(times[0]) / process.alpha(times[0]))
    assert abs(float(first.square().mean()) / (v + lam**2) - 1) < 5 * math.sqrt(2 / first.numel())


def test_pairs_are_of_the_classes_as_often_as_they_are_drawn_and_a_pair_is_the_same_in_any_batch() -> None:
    field = Two(PROCESSES["vp"])
    times, n = few_levels(field.process, 2, field.data_std), 2000
    pairs = draw_pairs(field, times, SampleRng(range(n), stream=1), torch.tensor([1, 3]))
    assert pairs.cond is not None
    assert abs(float(pairs.cond.double().mean()) - 0.75) < 5 * math.sqrt(0.75 * 0.25 / n)
    lam = float(field.process.sigma(times[0]) / field.process.alpha(times[0]))
    for label, mean in enumerate((-2.0, 2.0)):
        begun = mean - mean * STD / math.hypot(STD, lam)  # the start knows the mean of both alone
        assert abs(float(pairs.ends[pairs.cond == label].mean()) - begun) < 0.1 * STD
    parts = [draw_pairs(field, times, SampleRng(range(a, a + 500), stream=1), torch.tensor([1, 3])) for a in range(0, n, 500)]
    joined = Pairs.joined(parts)
    assert joined.cond is not None and len(joined) == n
    for one, other in zip((pairs.passed, pairs.ends, pairs.cond), (joined.passed, joined.ends, joined.cond), strict=True):
        assert torch.equal(one, other)


@each_case(process=PROCESSES)
def test_a_regression_on_pairs_finds_the_flow_map_of_a_gaussian(process: Any) -> None:
    """x0 = a·z + b begins as the denoiser at the first level, of a 26th of the variance; the map has all of it."""
    field = Gaussian([MEAN], [[STD**2]], process)
    times = few_levels(process, 1, STD)
    pairs = draw_pairs(field, times, SampleRng(range(1000), stream=1), None)
    generator = Affine(field, STD / math.sqrt(26), MEAN + 0.3)
    regression = Regression(generator, pairs, times, Matching(regression_lr=3e-2))  # type: ignore[arg-type]
    steps = 300
    losses = [regression.take_step(SampleRng(range(256 * i, 256 * (i + 1)), stream=2), i / steps) for i in range(steps)]
    last = ladder_through(process, times, STD)[-1]
    least = float(process.sigma(last) / process.alpha(last))
    assert float(generator.a.detach()) == pytest.approx(STD / math.sqrt(1 + (least / STD) ** 2), rel=1e-2)
    assert float(generator.b.detach()) == pytest.approx(MEAN, abs=1e-2)
    assert losses[0] > 0.5 and losses[-1] < 1e-3


# --- the pull on a generator, in closed form --------------------------------------------------------------------------


class Affine(nn.Module):
    """x0 = a·z + b of a start whose noise is z: N(b, a²), with two weights."""

    def __init__(self, field: Gaussian, a: float, b: float) -> None:
        super().__init__()
        self.field, self.a, self.b = field, nn.Parameter(torch.tensor(a)), nn.Parameter(torch.tensor(b))
        self.data_std = field.data_std

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Any:
        alpha, spread = self.field.process.prior(float(t[0]), self.field.data_std)
        x0 = self.a * (x - alpha * self.field.data_mean.to(x)) / spread + self.b
        return Prediction.of_denoised(self.field.process, x, t, x0)


class Own(nn.Module):
    """The exact denoiser of N(b, a²), with a weight that does nothing."""

    def __init__(self, field: Gaussian, a: float, b: float) -> None:
        super().__init__()
        self.exact, self.nothing = Gaussian([b], [[a * a]], field.process), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Any:
        found = self.exact(x, t)
        return Prediction.of_denoised(self.exact.process, x, t, found.denoised + 0 * self.nothing)


def pulled(process: Any, a: float, b: float) -> tuple[float, float]:
    """How a step moves a and b, of a generator whose own denoiser is known exactly."""
    field = Gaussian([MEAN], [[STD**2]], process)
    matcher = Matcher(field, Affine(field, a, b), LogNormal(-1.0, 1.0), 1, Matching(batch=20_000, lr=1e-3, warmup=1))  # type: ignore[arg-type]
    matcher.others[0] = Own(field, a, b)  # type: ignore[assignment]
    matcher.take_step(SampleRng(range(20_000), stream=1), 0.0)
    moved = matcher.generator
    assert isinstance(moved, Affine)
    return float(moved.a.detach()) - a, float(moved.b.detach()) - b


@pytest.mark.theorem("distribution-matching")
@each_case(process=PROCESSES)
def test_a_step_makes_the_kullback_leibler_divergence_smaller_in_each_weight(process: Any) -> None:
    """KL = (v'/v - 1 - ln(v'/v) + (b - m)²/v)/2 at each level falls as a comes to the data's deviation and b to their mean.

    Each weight is tried where the other is right: the size by which a sample's pull is divided is larger where it is far off.
    """
    for a, b in ((0.3, MEAN), (0.8, MEAN), (STD, 0.4), (STD, 1.7)):
        da, db = pulled(process, a, b)
        assert (da * (STD - a) if b == MEAN else db * (MEAN - b)) > 0
    da, db = pulled(process, -0.8, 1.0)  # a reflection is as good: the deviation is |a|
    assert da > 0


@pytest.mark.theorem("distribution-matching")
@each_case(process=PROCESSES, share=[0.2, 0.7])
def test_the_slope_of_the_kullback_leibler_divergence_is_the_mean_of_a_difference_of_denoisers(
    process: Any, share: float
) -> None:
    """x0 = a·z + b: the slopes of the KL of two normal densities, and E[(alpha/sigma)²·(D' - D)·d x0/d(a, b)] by quadrature."""
    a, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 0.3))
    t = torch.tensor([process.t_min + share * (process.t_max - process.t_min)], dtype=torch.float64)
    alpha, sigma = process.alpha(t), process.sigma(t)
    v, own_v = alpha**2 * STD**2 + sigma**2, alpha**2 * a**2 + sigma**2
    divergence = 0.5 * (own_v / v - 1 - (own_v / v).log() + alpha**2 * (b - MEAN) ** 2 / v)
    slopes = torch.autograd.grad(divergence, [a, b])

    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    z, noise = (torch.tensor(grid.ravel()[:, None]) for grid in np.meshgrid(nodes, nodes))
    weight = torch.tensor(np.outer(weights, weights).ravel()[:, None] / (2 * math.pi))
    x0 = 0.8 * z + 0.3
    x, times = alpha * x0 + sigma * noise, t.expand(len(z))
    own, field = Gaussian([0.3], [[0.8**2]], process), Gaussian([MEAN], [[STD**2]], process)
    pull = weight * (alpha / sigma) ** 2 * (own(x, times).denoised - field(x, times).denoised)
    for slope, moved in zip(slopes, (z, torch.ones_like(z)), strict=True):
        assert math.isclose(float(slope), float((pull * moved).sum()), rel_tol=1e-8, abs_tol=1e-13)


def test_there_is_no_pull_where_both_distributions_are_the_same() -> None:
    field = Gaussian([MEAN], [[STD**2]], PROCESSES["ve"])
    matcher = Matcher(field, Affine(field, STD, MEAN), LogNormal(-1.0, 1.0), 1, Matching(batch=100))  # type: ignore[arg-type]
    matcher.others[0] = Own(field, STD, MEAN)  # type: ignore[assignment]
    difference, _ = matcher.take_step(SampleRng(range(100), stream=1), 0.0)
    assert difference < 1e-5  # of two equal denoisers in single precision


# --- a learned generator ----------------------------------------------------------------------------------------------


class Two:
    """Gaussians of one deviation around -2 and 2: by class, as their conditional fields."""

    def __init__(self, process: Any) -> None:
        self.process, self.shape = process, (1,)
        self.fields = [Gaussian([mean], [[STD**2]], process) for mean in (-2.0, 2.0)]
        self.data_mean, self.data_std = torch.zeros(1, dtype=torch.float64), math.sqrt(4 + STD**2)

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        assert cond is not None
        low, high = (field(x, t).denoised for field in self.fields)
        return Prediction.of_denoised(self.process, x, t, torch.where(cond.reshape(-1, 1) == 1, high, low))


@pytest.mark.parametrize(
    ("name", "evaluations", "begun"), [("ve", 1, False), ("vp", 2, False), ("ve", 1, True), ("vp", 2, True)]
)
def test_a_generator_draws_each_class_with_its_mean_and_deviation(name: str, evaluations: int, begun: bool) -> None:
    """Also one that began with pairs."""
    field, steps, batch = Two(PROCESSES[name]), 250, 128
    torch.manual_seed(0)
    network = ScoreModel(
        MLP((1,), width=32, depth=2, classes=2), EDM(data_std=field.data_std), field.process, (1,), None, field.data_std
    )
    counts = torch.tensor([1, 3])
    matcher = Matcher(field, network, LogNormal(0.0, 1.2), evaluations, Matching(batch, lr=3e-3, score_lr=6e-3), classes=counts)
    if begun:
        pairs = draw_pairs(field, matcher.times, SampleRng(range(1000), stream=8), counts)
        regression = Regression(matcher.generator, pairs, matcher.times, Matching(regression_lr=3e-3))
        for i in range(steps):
            regression.take_step(SampleRng(range(i * batch, (i + 1) * batch), stream=9), i / steps)
        matcher.begin_average()
    for i in range(steps):
        matcher.take_step(SampleRng(range(i * batch, (i + 1) * batch), stream=7), i / steps)
    levels, n = few_levels(field.process, evaluations, field.data_std), 4000
    for label, mean in enumerate((-2.0, 2.0)):
        cond = torch.full((n,), label)
        x = sample(matcher.average, SAMPLER, levels, rng=SampleRng(range(n), stream=3), cond=cond)
        # what is learned in so few steps is off by more than chance: by less than a fifth of a deviation
        assert abs(float(x.mean()) - mean) < 0.2 * STD
        assert abs(float(x.std()) / STD - 1) < 0.2


# --- a distilled run --------------------------------------------------------------------------------------------------


SMALL = ("network.width=16", "network.depth=2", "training.precision=float32", "training.pictures=0", "training.batch=32")


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distill") / "moons"
    app.train("two-moons", out=path, steps=30, settings=("data.examples=500", *SMALL))
    return path


@pytest.fixture(scope="module")
def fast(moons: Path) -> Path:
    app.distill(moons, steps=6, out=moons.with_name("fast"), evaluations=2)
    return moons.with_name("fast")


def test_a_distilled_run_draws_in_its_evaluations_and_its_score_is_that_of_the_run_it_is_made_of(
    moons: Path, fast: Path
) -> None:
    before = contents(moons)
    drawn = [app.sample(fast, n=40, out=fast.with_name(f"{k}.npy"), seed=5) for k in range(2)]
    assert drawn[0].evaluations == 2 and drawn[0].levels == 2
    one, other = (fast.with_name(f"{k}.npy").read_bytes() for k in range(2))
    assert one == other
    app.sample(fast, n=40, out=fast.with_name("part.npy"), seed=5, batch=7)
    whole, part = (np.load(fast.with_name(f"{name}.npy")) for name in ("0", "part"))
    assert np.abs(whole - part).max() < 1e-5 * np.abs(whole).max()
    few, many = (Drawing.of(open_run(fast), SampleSpec(seed=5)).draw(n) for n in (3, 40))
    assert torch.allclose(few, many[:3], atol=1e-5)
    for run in (moons, fast):
        app.sample(run, n=20, sampler="abm", steps=5, out=run.with_name(f"{run.name}-abm.npy"))
    assert (fast.with_name("fast-abm.npy")).read_bytes() == (moons.with_name("moons-abm.npy")).read_bytes()
    assert contents(moons) == before
    about = app.inspect(fast).run.manifest["distilled"]
    assert about["evaluations"] == 2 and about["steps"] == 6 and Path(about["from"]) == moons.absolute()


def test_the_same_seed_and_steps_give_the_same_generator_and_another_seed_another(moons: Path, fast: Path) -> None:
    found = {}
    for name, seed in (("again", 0), ("other", 1)):
        app.distill(moons, steps=6, evaluations=2, seed=seed, out=moons.with_name(name))
        found[name] = (moons.with_name(name) / "generator.safetensors").read_bytes()
    own = (fast / "generator.safetensors").read_bytes()
    assert found["again"] == own != found["other"]


def test_a_distillation_that_is_stopped_leaves_what_was_learned_by_then(moons: Path, tmp_path: Path) -> None:
    said: list[str] = []

    def progress(share: float, words: str) -> None:
        said.append(words)

    stop = lambda: any("step 3, difference" in words for words in said)  # noqa: E731
    report = app.distill(moons, steps=40, out=tmp_path / "early", progress=progress, stop=stop)
    assert report.stopped and report.steps == 4
    assert open_run(tmp_path / "early").manifest["distilled"]["steps"] == 4
    assert [one["step"] for one in json.loads((tmp_path / "early" / "distill.json").read_text())] == [1, 2, 4]

    said.clear()
    stop = lambda: any("step 7, loss" in words for words in said)  # noqa: E731
    report = app.distill(moons, steps=40, out=tmp_path / "earlier", progress=progress, stop=stop)
    assert report.stopped and report.steps == 0
    assert "begun by 8 steps of regression on 512 pairs of the field's flow" in report.reasons
    app.sample(tmp_path / "earlier", n=3, out=tmp_path / "few.npy")

    with pytest.raises(ScorefieldError, match=r"got a stop before the first step of the distillation, .* nothing is written"):
        app.distill(moons, steps=40, out=tmp_path / "never", stop=lambda: True)
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"guidance": 2.0}, "whose generator has no score to change"),
        ({"temperature": 0.5}, "whose generator has no score to change"),
        ({"steps": 8}, "got --steps 8 for .*, whose generator knows its own 2 alone"),
        ({"ladder": "karras"}, "got --ladder karras"),
    ],
)
def test_what_a_generator_cannot_do_is_refused_and_leads_to_the_score(fast: Path, how: dict[str, Any], said: str) -> None:
    with pytest.raises(ScorefieldError, match=f"{said}.*--sampler abm"):
        app.sample(fast, n=2, out=fast.with_name("never.npy"), **how)
    assert not fast.with_name("never.npy").exists()


def test_tuning_leads_to_the_run_that_it_is_made_of(moons: Path, fast: Path) -> None:
    with pytest.raises(ScorefieldError, match=f"draws in 2 evaluations and no others.*tune {moons.absolute()}"):
        app.tune(fast, n=64)
    assert not (fast / "sampling.json").exists()


def test_what_cannot_be_distilled_is_refused_in_a_sentence_and_nothing_is_written(
    moons: Path, fast: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "\n".join(f"{i / 7:.3f},{'xy'[i % 2]}" for i in range(40)) + "\n")
    app.train(str(table), out=tmp_path / "mixed", steps=2, settings=SMALL[:4])
    noiseless = ("process=noiseless", "objective=sliced")
    app.train("two-moons", out=tmp_path / "single", steps=2, settings=("data.examples=100", *noiseless, *SMALL))
    (tmp_path / "full").mkdir()
    for run, words, said in (
        (fast, ("--steps", "2"), f"which is distilled already, expected a trained run: distil {moons.absolute()}"),
        (tmp_path / "mixed", ("--steps", "2"), "a table with columns of other things than numbers (b)"),
        (tmp_path / "single", ("--steps", "2"), "a run of one noise level"),
        (moons, ("--steps", "0"), "got --steps 0, expected more than 0"),
        (moons, ("--time", "0.001s"), "give it more --time"),
        (moons, ("--steps", "2", "--out", str(tmp_path / "full")), "which is there already"),
        (moons, ("--steps", "2", "--out", str(tmp_path / "no" / "place")), "in one that exists"),
    ):
        before, others = contents(run), sorted(tmp_path.iterdir())
        out = () if "--out" in words else ("--out", str(tmp_path / "new"))
        assert command("distill", str(run), *words, *out) == 2
        assert said in " ".join(capsys.readouterr().err.split())
        assert contents(run) == before and sorted(tmp_path.iterdir()) == others and not list((tmp_path / "full").iterdir())
