"""`likelihood` through Python and the command: the same report, the unit that applies, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from helpers import command

from scorefield import GaussianMixture, SampleRng, ScorefieldError, app
from scorefield.data import open_source
from scorefield.evaluation.likelihood import bound_gap
from scorefield.likelihood import Exact, data_log_prob
from scorefield.randomness import subsample
from scorefield.runs import open_run


@pytest.fixture(scope="module")
def moons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("likelihood") / "moons"
    app.train("two-moons", out=folder, steps=8, settings=("data.examples=200", "training.precision=float32"))
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("likelihood") / "digits"
    settings = (
        "network.channels=8,16",
        "network.blocks=1",
        "training.batch=16",
        "training.precision=float32",
        "training.pictures=2",
    )
    app.train("digits", out=folder, steps=8, settings=settings)
    return folder


def test_points_are_reported_in_nats_of_the_datas_own_unit_and_python_and_the_command_agree(
    moons: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[float] = []
    report = app.likelihood(moons, n=6, levels=10, batch=4, progress=lambda fraction, text: seen.append(fraction))
    assert seen == sorted(seen)
    assert math.isclose(seen[-1], 1.0)
    written = report.written[0].read_bytes()
    assert command("likelihood", moons, "-n", 6, "--levels", 10, "--batch", 4) == 0
    assert report.written[0].read_bytes() == written
    assert app.likelihood_table(report) == report.written[1].read_text()
    assert app.likelihood_table(report) in capsys.readouterr().out
    kept = json.loads(written)
    assert (kept["unit"], kept["guessing"], kept["probes"], kept["divergence"]) == ("nats", None, 0.0, "exact trace")
    run = open_run(moons)
    source = open_source(run.config.source, run.config.data)
    raw = source.held_out[subsample(len(source.held_out), 6)]
    model = data_log_prob(
        run.field, run.normaliser.encode(raw).double(), rng=SampleRng(range(6)), divergence=Exact(), tolerance=1e-5, within=None
    )
    scales = torch.tensor(run.normaliser.scale, dtype=torch.float64).expand(2)
    expected = float(model.value.mean()) - float(scales.log().sum())
    assert math.isclose(report.flow.value, expected, abs_tol=1e-4)


def test_digits_have_17_levels_so_their_unit_is_nats_of_a_probability(digits: Path) -> None:
    report = app.likelihood(digits, n=3, part="train", probes=2, tolerance=1e-2, levels=8)
    assert report.unit == "nats"
    assert "17 grey levels" in report.meaning
    assert math.isclose(report.guessing or 0.0, -64 * math.log(17))
    assert report.flow.value < 0
    assert report.elbo.value < 0
    assert report.probes is not None
    assert report.probes > 0
    assert math.isclose(report.smoothing, 1 / math.sqrt(12), rel_tol=1e-6)  # of the uniform noise on a bin of width 1
    assert [path.name for path in report.written] == ["likelihood-train.json", "likelihood-train.md"]
    assert "even guessing" in report.written[1].read_text()


def test_what_cannot_be_measured_is_refused_in_one_sentence(moons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in (
        (("-n", 1), "got -n 1, expected at least 2"),
        (("--probes", 0), "got --probes 0, expected at least 1"),
        (("--levels", 1), "got --levels 1, expected at least 2"),
        (("--tolerance", 0), "expected rtol >= 0 and atol > 0"),
    ):
        assert command("likelihood", moons, *words) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(ScorefieldError, match="got part 'test', expected held-out or train"):
        app.likelihood(moons, part="test")
    with pytest.raises(ScorefieldError, match="got divergence 'sliced', expected exact or hutchinson"):
        app.likelihood(moons, divergence="sliced")


def test_the_part_may_still_be_called_data_unless_there_is_such_a_path(
    moons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.likelihood(moons, n=2, levels=4, data="train") == app.likelihood(moons, n=2, levels=4, part="train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ScorefieldError, match="expected"):
        app.likelihood(moons, n=2, levels=4, data="train")


def test_help_names_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("likelihood", "--help") == 0
    shown = capsys.readouterr().out
    for word in ("--data", "--part", "held-out,train", "--divergence", "--probes", "--tolerance", "--levels"):
        assert word in shown


class Known(GaussianMixture):
    """An exact field that stands in for a run's own."""

    def to(self, _device: torch.device) -> Known:
        return self


def test_the_gap_is_what_the_training_examples_are_likelier_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that knows nothing of either part has none; narrow bells around the training points are a gap of some nats."""
    app.train("two-moons", out=tmp_path / "run", steps=2, settings=("data.examples=800", "data.held_out=0.5"))
    run = open_run(tmp_path / "run")
    process, points = run.config.process, run.data.x0(slice(None))
    cpu = torch.device("cpu")
    monkeypatch.setitem(run.__dict__, "field", Known([1.0], [[0.0, 0.0]], [1.0], process))
    honest = bound_gap(run, n=400, device=cpu)
    assert abs(honest.value) < 5 * honest.standard_error
    narrow = torch.full((len(points),), 0.03)
    monkeypatch.setitem(run.__dict__, "field", Known(torch.ones(len(points)), points, narrow, process))
    copied = bound_gap(run, n=400, device=cpu)
    assert copied.value > 5 * copied.standard_error
