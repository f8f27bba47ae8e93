"""Classes: a network that was trained with the class of every example is never asked without one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from scorefield import VE, Gaussian, SampleRng, ScorefieldError, app
from scorefield.app import plan
from scorefield.drawing import SampleSpec, choose_sampler, conditions_of
from scorefield.evaluation.likelihood import LikelihoodSpec, bound_gap, measure_likelihood
from scorefield.prediction import Prediction
from scorefield.randomness import subsample
from scorefield.runs import Run, load_field, open_run
from scorefield.sampling import acceptance_by_level

CPU = torch.device("cpu")
SMALL = ("network.width=8", "network.depth=1", "training.precision=float32")
AT = 4.0  # the classes lie at -AT and AT on the first axis, with unit variance


class Conditional:
    """The exact field of p(x | class) in model space, and nothing else: without a class, or of one unasked for, it stops."""

    def __init__(self, run: Run, only: int | None = None) -> None:
        shift, scale = (np.array(v) * np.ones(2) for v in (run.normaliser.shift, run.normaliser.scale))
        self.process, self.shape, self.only = VE(0.01, 2000.0), (2,), only
        self.data_mean, self.data_std = torch.zeros(2), 1.0
        self.parts = [
            Gaussian((np.array([side * AT, 0.0]) - shift) / scale, np.diag(1 / scale**2), self.process) for side in (-1, 1)
        ]

    def to(self, _device: torch.device) -> Conditional:
        return self

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Prediction:
        assert cond is not None, "asked without a class"
        assert cond.shape == t.shape
        assert self.only is None or bool((cond == self.only).all()), "asked of another class"
        each = [part(x, t).score for part in self.parts]
        return Prediction.of_score(self.process, x, t.double(), torch.where((cond == 1)[:, None], each[1], each[0]))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained with the class of every example."""
    folder = tmp_path_factory.mktemp("classes")
    y = torch.arange(400) % 2
    x = SampleRng(range(400)).normal((2,)) + torch.stack([AT * (2.0 * y - 1), torch.zeros(400)], dim=1)
    np.savez(folder / "both.npz", x=x.numpy().astype(np.float32), y=y.numpy())
    app.train(str(folder / "both.npz"), out=folder / "run", steps=4, settings=(*SMALL, "training.labels=1"))
    return folder / "run"


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    opened = open_run(trained)
    monkeypatch.setitem(opened.__dict__, "field", Conditional(opened))
    return opened


def test_a_field_that_was_never_trained_without_a_class_refuses_to_be_asked_without(trained: Path) -> None:
    field, x, t = load_field(trained), torch.zeros(3, 2), torch.ones(3)
    assert not field.unconditional
    with pytest.raises(ScorefieldError, match=r"got no classes for a field that was trained with the class of every example"):
        field(x, t)
    assert field(x, t, torch.tensor([0, 1, 1])).score.isfinite().all()


@pytest.mark.parametrize(("labels", "both"), [(0.9, True), (0.0, True)])
def test_a_field_that_was_trained_without_classes_too_answers(trained: Path, tmp_path: Path, labels: float, both: bool) -> None:
    source = str(trained.parent / "both.npz")
    app.train(source, out=tmp_path / "run", steps=1, settings=(*SMALL, f"training.labels={labels}", "training.pictures=0"))
    field = load_field(tmp_path / "run")
    assert field.unconditional == both
    assert field(torch.zeros(3, 2), torch.ones(3)).score.isfinite().all()


def test_the_likelihood_is_that_of_each_example_given_its_class(run: Run) -> None:
    """With the exact field: the mean of log N(x; ±AT, 1), smoothed, in the data's own unit."""
    report = measure_likelihood(run, LikelihoodSpec(n=8, levels=10), CPU)
    raw, y = run.data.held_out[:].double().numpy(), run.data.held_out_labels
    assert y is not None
    scale = np.array(run.normaliser.scale) * np.ones(2)
    rows = subsample(len(raw), 8)
    centre = np.stack([AT * (2.0 * y.numpy() - 1), np.zeros(len(y))], axis=1)
    truth = norm(centre, np.hypot(1, 0.01 * scale)).logpdf(raw).sum(axis=1)[rows]
    assert report.flow.value == pytest.approx(truth.mean(), abs=1e-3)
    assert report.given_class
    assert "given its class" in report.meaning
    assert abs(bound_gap(run, n=40, levels=10, device=CPU).value) < 1.0


def test_optimised_ladders_are_made_for_what_will_be_drawn(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all classes, or for the one that is asked for: the field sees to it."""
    opened = open_run(trained)
    monkeypatch.setitem(opened.__dict__, "field", Conditional(opened))
    _, both = choose_sampler(opened, SampleSpec("abm", 8, "optimised"))
    monkeypatch.setitem(opened.__dict__, "field", Conditional(opened, only=1))
    _, one = choose_sampler(opened, SampleSpec("abm", 8, "optimised", label="1"))
    assert len(both) == len(one) == 8
    with pytest.raises(AssertionError, match="asked of another class"):
        choose_sampler(opened, SampleSpec("abm", 8, "optimised"))


def test_every_verb_works_on_a_run_that_knows_only_classes(trained: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"n": 16, "force": True}
    for extra in ({}, {"sampler": "abm", "steps": 8, "ladder": "optimised"}, {"label": "1"}):
        assert app.sample(trained, out=tmp_path / "x.npz", **how, **extra).samples == 16
    mala = app.sample(trained, out=tmp_path / "x.npz", **how, sampler="annealed-mala", steps=8)
    assert mala.acceptance
    assert app.likelihood(trained, n=4, levels=4).given_class
    assert plan(str(trained.parent / "both.npz"), settings=(*SMALL, "training.labels=1"), seconds=1.0).pilot is not None


def test_the_curl_that_is_reported_is_that_of_the_field_that_drew(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_run(trained)
    field, labels = Conditional(opened), torch.tensor([0, 1] * 8)
    x = torch.stack([part.sample(SampleRng([i])) for i in range(8) for part in field.parts]).reshape(16, 2)
    found = acceptance_by_level(field, x, labels, (0.5,), torch.tensor((0.5,), dtype=torch.float64))
    assert found[0][2] < 1e-3


def test_unlabelled_data_are_refused_by_a_run_that_knows_only_classes_and_names_are_matched(trained: Path) -> None:
    opened = open_run(trained)
    with pytest.raises(ScorefieldError, match=r"without classes for .*training\.labels=1.*expected labelled data"):
        conditions_of(opened, opened.data, None)
    turned = replace(opened.data, classes=("1", "0"))
    labels = conditions_of(opened, turned, torch.tensor([0, 1, 1]))
    assert labels is not None
    assert labels.tolist() == [1, 0, 0]
    with pytest.raises(ScorefieldError, match="unknown class 'dog'"):
        conditions_of(opened, replace(opened.data, classes=("0", "dog")), torch.tensor([0, 1]))
