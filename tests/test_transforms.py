"""Transforms of heavy tails: chosen by what they gain, exact in the density of the data's own units, and kept with the run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from test_support import Mixed

from scorefield import app
from scorefield.config import to_dict
from scorefield.data import DataConfig, Normaliser, open_again, open_data
from scorefield.data.table.columns import transform_in
from scorefield.data.table.coordinates import decode, snapped
from scorefield.data.table.partial import within_reach
from scorefield.data.table.tables import csv_of
from scorefield.data.table.tails import transform_of
from scorefield.data.transforms import Transform
from scorefield.devices import CPU
from scorefield.errors import ScorefieldError
from scorefield.evaluation.likelihood import LikelihoodSpec, measure_likelihood
from scorefield.exact import Gaussian
from scorefield.guidance.conditional import EXACT
from scorefield.imputation.settled import drawn_of
from scorefield.process import VE
from scorefield.randomness import SampleRng, subsample
from scorefield.runs import Run, open_run
from scorefield.web.shown import scores

N = 2000
R = np.random.default_rng(0)
SMALL = ("network.width=8", "network.depth=1", "training.precision=float32", "training.pictures=0")
MAPS = [
    Transform("log", 0.0, 0.3),
    Transform("log", -2.0, 0.5),
    Transform("log", 4.0, 0.2, -1),
    Transform("asinh", 1.5, 0.7),
]


# --- the map ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", MAPS, ids=lambda g: g.name)
def test_a_transform_increases_is_inverted_exactly_and_says_its_derivative_everywhere(g: Transform) -> None:
    x = torch.cat([torch.linspace(-50, 50, 2001, dtype=torch.float64), g.origin + g.side * g.unit * torch.tensor([1.0, 0.0])])
    x = x.sort().values.requires_grad_()
    y = g(x)
    assert bool((y.diff() > 0).all())
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(slope.log(), g.log_slope(x).detach(), atol=1e-9)
    assert torch.allclose(g.inverse(y), x, rtol=1e-12, atol=1e-12)
    assert float(g.log_slope(x).detach().diff().abs().max()) < 0.1 * 8  # continuous: 0.05 apart in x, at most 1/unit in log g'


@pytest.mark.parametrize(
    ("law", "kind", "gain"),
    [
        (stats.lognorm(1), "log(x)", 0.69),
        (stats.lognorm(1, loc=-50), "log(x + ", 0.69),
        (stats.expon(), "log(x", 0.36),
        (stats.t(3), "asinh", 0.12),
        (stats.t(3, loc=1e6, scale=1e-3), "asinh", 0.12),
        (stats.lognorm(1, scale=1e200), "log(x)", 0.69),
        (stats.norm(5, 2), None, 0),
        (stats.uniform(), None, 0),
        (stats.norm(loc=[-5, 5], scale=0.3), None, 0),
    ],
    ids=["log-normal", "moved", "exponential", "student", "student-far-and-small", "huge", "normal", "uniform", "two-modes"],
)
def test_heavy_tails_get_the_map_that_makes_them_normal_and_other_laws_none(law: Any, kind: str | None, gain: float) -> None:
    """A normal law loses nothing; of an exponential one the gain is the negentropy, (log 2 pi e)/2 - 1 = 0.42, at most."""
    quantiles = (np.arange(N) + 0.5) / N
    values = law.ppf(quantiles[:, None]).ravel() if np.ndim(law.mean()) else law.ppf(quantiles)
    found = transform_of(values, 0.0)
    if kind is None:
        assert found is None
        return
    assert found is not None
    transform, gained = found
    assert transform.name.startswith(kind)
    y = transform(torch.from_numpy(values)).numpy()
    left = stats.kurtosis(y)
    assert abs(left) < 1.5 < stats.kurtosis(values / values.std() if values.max() < 1e100 else values / 1e200)
    assert gained > gain


def test_one_odd_value_makes_no_law() -> None:
    values = np.append(R.normal(size=N), 1e6)
    assert transform_of(values, 0.0) is None
    assert transform_of(np.append(R.standard_t(3, N), 1e6), 0.0) is not None


def test_the_mirror_image_of_a_law_gets_the_mirror_image_of_its_map() -> None:
    values = R.lognormal(size=N)
    one, other = transform_of(values, 0.0), transform_of(-values, 0.0)
    assert one is not None
    assert other is not None
    x = torch.from_numpy(values)
    assert torch.allclose(one[0](x), -other[0](-x))
    assert one[1] == pytest.approx(other[1], rel=1e-9)


def test_a_grid_is_not_pulled_apart() -> None:
    """Counts of a few have no density after a logarithm; prices to the cent have one among the noise of the lowest level."""
    assert transform_of(np.floor(R.lognormal(0, 1, N)), 1.0) is None
    prices = transform_of(R.lognormal(3, 1, N).round(2), 0.01)
    assert prices is not None
    slopes = prices[0].log_slope(torch.tensor([20.0])).exp()
    assert float(slopes) == pytest.approx(1 / 20, rel=0.2)


# --- the density in the data's own units -----------------------------------------------------------------------------


@pytest.mark.parametrize("g", MAPS, ids=lambda g: g.name)
def test_the_density_of_a_normal_law_after_a_transform_integrates_to_one_in_the_datas_own_unit(g: Transform) -> None:
    normaliser = Normaliser((0.3,), (0.8,), transforms=((0, g),))
    y = torch.linspace(-7, 7, 20001, dtype=torch.float64) * 0.8 + 0.3
    raw = g.inverse(y)[:, None]
    z = normaliser.exactly(raw)
    density = (-(z**2) / 2 - math.log(2 * math.pi) / 2 + normaliser.log_slopes(raw))[:, 0].exp()
    assert float(torch.trapezoid(density, raw[:, 0])) == pytest.approx(1, abs=2e-4)
    assert torch.allclose(normaliser.decode(z), raw, rtol=1e-9)


def test_the_density_after_asinh_is_johnsons() -> None:
    g = Transform("asinh", 1.5, 0.7)
    raw = torch.linspace(-20, 20, 41, dtype=torch.float64)[:, None]
    normaliser = Normaliser((0.3,), (0.8,), transforms=((0, g),))
    mine = -(normaliser.exactly(raw) ** 2) / 2 - math.log(2 * math.pi) / 2 + normaliser.log_slopes(raw)
    truth = stats.johnsonsu(a=-0.3 / 0.8, b=1 / 0.8, loc=1.5, scale=0.7).logpdf(raw.numpy())
    assert np.allclose(mine.numpy(), truth, rtol=1e-10)


def csv(folder: Path, columns: dict[str, list[float]]) -> str:
    (folder / "t.csv").write_bytes(csv_of(columns))
    return str(folder / "t.csv")


LOW, MEAN, COVARIANCE = 0.01, np.array([2.0, -1.0]), np.array([[1.0, 0.6], [0.6, 0.8]])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of incomes, log-normal, and a normal number that depends on their logarithm."""
    rows = R.multivariate_normal(MEAN, COVARIANCE, size=N)
    folder = tmp_path_factory.mktemp("pairs")
    source = csv(folder, {"income": np.exp(rows[:, 0]).tolist(), "b": rows[:, 1].tolist()})
    app.train(source, out=folder / "run", steps=2, settings=SMALL)
    return folder / "run"


class Placed(Gaussian):
    """A closed form where a run has its network."""

    def to(self, _device: torch.device) -> Placed:
        return self


def exact_field(run: Run) -> Placed:
    """The true field of (log income, b) in model space."""
    assert run.normaliser.transforms[0][1].plain
    shift = np.array(run.normaliser.shift)
    shift[0] += math.log(run.normaliser.transforms[0][1].unit)  # of log x alone
    scale = np.array(run.normaliser.scale)
    return Placed(((MEAN - shift) / scale).tolist(), (COVARIANCE / np.outer(scale, scale)).tolist(), VE(LOW, 100.0))


def log_normal(rows: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The closed form: a normal density at (log a, b), less log a."""
    law = stats.multivariate_normal(MEAN, COVARIANCE + np.diag(noise**2))
    return np.asarray(law.logpdf(np.stack([np.log(rows[:, 0]), rows[:, 1]], axis=1)) - np.log(rows[:, 0]))


def test_a_log_normal_column_has_its_closed_form_density_in_its_own_unit(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(pairs)
    monkeypatch.setitem(run.__dict__, "field", exact_field(run))
    report = measure_likelihood(run, LikelihoodSpec(n=40, levels=40), CPU)
    raw = run.data.held_out[:][subsample(len(run.data.held_out), 40)].double()
    truth = log_normal(raw.numpy(), LOW * np.array(run.normaliser.scale))
    assert report.flow.value == pytest.approx(float(truth.mean()), abs=2e-4)
    assert abs(report.elbo.value - truth.mean()) < 5 * report.elbo.standard_error
    assert "log-density of a point of 2 coordinates in the data's own unit" in report.meaning


def test_an_amount_with_a_spike_at_zero_has_its_mixed_density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 with probability .3, else log-normal: log .3 at zero, and elsewhere log .7 + the closed-form density."""
    amounts = np.where(np.arange(N) % 10 < 3, 0.0, R.lognormal(2.0, 1.0, N))
    source = csv(tmp_path, {"rain": amounts.tolist(), "b": R.normal(size=N).tolist()})
    app.train(source, out=tmp_path / "run", steps=2, settings=SMALL)
    run = open_run(tmp_path / "run")
    (column, _), normaliser = run.manifest["data"]["columns"], run.normaliser
    ((place, g),) = normaliser.transforms
    assert (place, column["atoms"], g.plain) == (0, [0.0], True)
    shift, scale = np.array(normaliser.shift), np.array(normaliser.scale)
    fill = float(g(torch.tensor([column["fill"]])))
    means = [(np.array(m) - shift) / scale for m in ([2.0 - math.log(g.unit), 1, 0, 0], [fill, 0, 1, 0])]
    field = Mixed(
        [0.7, 0.3],
        [m.tolist() for m in means],
        [[1 / scale[0] ** 2, 0.0, 0.0, 1 / scale[3] ** 2], [0.0] * 3 + [1 / scale[3] ** 2]],
        VE(LOW, 100.0),
    )
    monkeypatch.setitem(run.__dict__, "field", field)
    monkeypatch.setattr("scorefield.evaluation.subject.TRIED", 3)
    report = measure_likelihood(run, LikelihoodSpec(n=8, levels=10, tolerance=1e-4), CPU)
    held = run.data.held_out[:][subsample(len(run.data.held_out), 8)].double().numpy()
    x = np.where(held[:, 2] > 0.5, 1.0, held[:, 0])
    there = stats.norm(2.0, math.hypot(1.0, LOW * scale[0])).logpdf(np.log(x)) - np.log(x) + math.log(0.7)
    other = stats.norm(0.0, math.hypot(1.0, LOW * scale[3])).logpdf(held[:, 3])
    truth = np.where(held[:, 2] > 0.5, math.log(0.3), there) + other
    assert report.flow.value == pytest.approx(float(truth.mean()), abs=2e-3)


def test_the_score_on_the_page_is_the_gradient_of_the_density_in_the_tables_own_units(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(pairs)
    monkeypatch.setitem(run.__dict__, "field", exact_field(run))
    monkeypatch.setattr("scorefield.web.shown._opened", lambda path: run)
    points = np.array([[3.0, -1.0], [20.0, 0.5], [0.8, -2.0]], dtype="<f4")
    found, head = scores(str(pairs), 1e-9, points.tobytes())  # the lowest level
    noise, h = LOW * np.array(run.normaliser.scale), 1e-4
    for point, score in zip(points.astype(float), np.frombuffer(found, dtype="<f4").reshape(-1, 2), strict=True):
        for i in (0, 1):
            up, down = (log_normal((point + side * h * np.eye(2)[i])[None], noise)[0] for side in (1, -1))
            assert score[i] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-3)
    assert float(head["X-Level-Low"]) > 0


# --- what else sees rows ------------------------------------------------------------------------------------------------


def test_draws_given_a_number_have_the_closed_form_conditional_law_and_known_incomes_stay_as_they_are(
    pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of log income given b: mean m_1 + c_12/c_22·(b - m_2), variance c_11 - c_12²/c_22."""
    run = open_run(pairs)
    monkeypatch.setitem(run.__dict__, "field", exact_field(run))
    raw = torch.tensor([[math.nan, 0.5]] * 400 + [[7.5, math.nan]] * 4, dtype=torch.float64)
    drawn, _ = drawn_of(run, raw, 1, SampleRng(range(404)), way=EXACT)
    logs = drawn[0, :400, 0].log()
    mean, variance = (
        MEAN[0] + COVARIANCE[0, 1] / COVARIANCE[1, 1] * (0.5 - MEAN[1]),
        1 - COVARIANCE[0, 1] ** 2 / COVARIANCE[1, 1],
    )
    assert abs(float(logs.mean()) - mean) < 5 * math.sqrt(variance / 400)
    assert abs(float(logs.var()) - variance) < 5 * variance * math.sqrt(2 / 400)
    assert drawn[0, 400:, 0].tolist() == pytest.approx([7.5] * 4, abs=1e-6)


def test_what_is_far_outside_counts_as_one_range_outside_after_the_transform(pairs: Path) -> None:
    columns = open_run(pairs).manifest["data"]["columns"]
    g = transform_in(columns[0])
    assert g is not None
    low, high = (g(torch.tensor(float(columns[0][end]))) for end in ("low", "high"))
    kept = within_reach(torch.tensor([[1e9, 0.0], [-1e9, 0.0], [3.0, 0.0]], dtype=torch.float64), columns)[:, 0]
    assert torch.allclose(g(kept[:2]), torch.stack([high + (high - low), low - (high - low)]))
    assert float(kept[2]) == 3.0


# --- what is drawn ------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_through_model_space_and_are_legal_with_noise() -> None:
    """Atoms, days, booleans, texts, prices, whole numbers, gaps and heavy tails of both sides, all in one table."""
    frame = {
        "rain": np.where(R.random(N) < 0.4, 0.0, R.lognormal(1, 1.2, N)).tolist(),
        "price": R.lognormal(4, 1, N).round(2).tolist(),
        "income": np.floor(R.lognormal(10, 1, N)).astype(int).tolist(),
        "return": [None if i % 9 == 0 else float(v) for i, v in enumerate(R.standard_t(3, N))],
        "loss": (-R.lognormal(0, 1, N)).tolist(),
        "yes": (R.random(N) < 0.3).tolist(),
        "text": R.choice(["a", "b"], N).tolist(),
        "day": [f"2023-01-{1 + i % 28:02d}" for i in range(N)],
    }
    data = open_data(frame, DataConfig())
    columns = data.columns or []
    assert [c["name"] for c in columns if "transform" in c] == ["rain", "price", "income", "return", "loss"]
    exact = data.normaliser.decode(data.normaliser.exactly(data.train[:]))
    assert decode(exact, columns)["price"] == decode(data.train[:], columns, exact=True)["price"]
    back = torch.tensor(decode(exact, columns)["rain"])
    assert torch.allclose(back, torch.tensor(decode(data.train[:], columns, exact=True)["rain"]), rtol=1e-6)
    noisy = data.normaliser.decode(
        data.x0(slice(None)).double() + 0.5 * torch.from_numpy(R.normal(size=(len(data.train), *data.shape)))
    )
    for rows in (noisy, data.normaliser.decode(1e6 * (noisy - noisy.mean(0)).sign())):
        drawn = decode(rows, columns)
        assert torch.equal(snapped(snapped(rows, columns), columns), snapped(rows, columns))
        for column in columns:
            values = [value for value in drawn[column["name"]] if value is not None]
            if "low" in column and column["type"] in ("number", "integer"):
                assert all(v in column.get("atoms", []) or column["low"] <= v <= column["high"] for v in values)
        assert all(isinstance(v, int) for v in drawn["income"])
        assert all(v == round(v, 2) for v in drawn["price"])


def test_a_small_value_keeps_its_digits_beside_large_ones() -> None:
    values = R.lognormal(0, 3, N)
    data = open_data({"x": values.tolist(), "y": R.normal(size=N).tolist()}, DataConfig())
    back = np.array(decode(data.train[:], data.columns or [])["x"])
    assert np.abs(back / data.train[:, 0].numpy() - 1).max() < 1e-3


# --- what is recorded, and how it is overruled ----------------------------------------------------------------------------


def test_the_reason_is_printed_kept_in_the_manifest_and_overruled_by_a_setting(tmp_path: Path) -> None:
    frame = {"income": R.lognormal(10, 1, 300).tolist(), "age": R.normal(40, 9, 300).tolist()}
    source = csv(tmp_path, frame)
    plan = app.plan(source)
    (reason,) = [note for note in plan.data.notes if "income" in note and "learned as" in note]
    assert "log(x" in reason
    assert "nats a value nearer to a normal law" in reason
    assert "--set data.transform=false" in reason
    app.train(source, out=tmp_path / "run", steps=1, settings=SMALL)
    columns = json.loads((tmp_path / "run" / "manifest.json").read_text())["data"]["columns"]
    assert columns[0]["transform"]["kind"] == "log"
    assert columns[0]["transform"]["gain"] > 0.05
    assert "transform" not in columns[1]
    app.train(source, out=tmp_path / "plain", steps=1, settings=(*SMALL, "data.transform=false"))
    plain = open_run(tmp_path / "plain")
    assert plain.normaliser.transforms == ()
    assert plain.data.normaliser == plain.normaliser
    assert open_run(tmp_path / "run").data.normaliser == open_run(tmp_path / "run").normaliser


def test_a_setting_of_tables_is_refused_for_other_data() -> None:
    with pytest.raises(ScorefieldError, match=r"data\.transform for the vectors"):
        open_data(np.zeros((20, 2)) + R.normal(size=(20, 2)), DataConfig(transform=False, kind="vector"))


def test_a_run_made_before_there_were_transforms_opens_as_it_was() -> None:
    frame = {"income": R.lognormal(10, 1, 300).tolist(), "age": R.normal(40, 9, 300).tolist()}
    old = open_data(frame, DataConfig(transform=False))
    described = {"columns": old.columns, "fingerprint": old.fingerprint, "normaliser": to_dict(old.normaliser)}
    again = open_again(frame, DataConfig(), described)
    assert again.columns == old.columns
    assert again.normaliser == old.normaliser
    assert torch.equal(again.train[:], old.train[:])


# --- a short training ---------------------------------------------------------------------------------------------------


def test_a_short_training_keeps_the_share_of_zeros_and_the_far_quantile_of_a_log_normal_amount(tmp_path: Path) -> None:
    """Zeros within 3 standard errors of the table's share, the 99 % quantiles within 10 %, and no amount below the least."""
    n, drawn, r = 4000, 20_000, np.random.default_rng(0)
    table = {"rain": np.where(r.random(n) < 0.3, 0.0, r.lognormal(0, 1, n)), "size": r.lognormal(0, 1, n)}
    source = csv(tmp_path, {name: values.tolist() for name, values in table.items()})
    settings = ("network.width=64", "training.batch=512", "training.pictures=0")
    app.train(source, out=tmp_path / "run", steps=200, settings=settings)
    app.sample(tmp_path / "run", n=drawn, batch=drawn, out=tmp_path / "drawn.csv")
    rows = np.genfromtxt(tmp_path / "drawn.csv", delimiter=",", names=True)
    share = float((table["rain"] == 0).mean())
    assert abs((rows["rain"] == 0).mean() - share) < 3 * math.sqrt(share * (1 - share) * (1 / n + 1 / drawn))
    for name, values in table.items():
        there, here = values[values > 0], rows[name][rows[name] > 0]
        assert here.min() >= there.min() - 1e-6
        assert np.quantile(here, 0.99) == pytest.approx(np.quantile(there, 0.99), rel=0.1)
