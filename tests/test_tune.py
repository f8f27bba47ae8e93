"""Tuning: what it chooses is on the front and beaten by nothing, becomes the default, and stays it for those weights only."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents
from PIL import Image

from scorefield import NotFinite, ScorefieldError, app, registry
from scorefield.drawing import Drawing, choose_sampler, tuned_of
from scorefield.metrics.base import Estimate
from scorefield.metrics.two_sample import EnergyDistance
from scorefield.runs import open_run
from scorefield.specs import SampleSpec
from scorefield.tuning import halving
from scorefield.tuning.candidates import candidates_of
from scorefield.tuning.choice import choose, costs_of, errors_of, excesses, front_of
from scorefield.tuning.criterion import GROUPS, Criterion

FEW = {"n": 64, "evaluations": (3, 6), "samplers": ("abm", "heun", "stochastic-abm")}
PLAIN = FEW | {"samplers": ("ancestral", "ddim", "heun")}  # without ladders made for them


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on points in the plane that has learned a little."""
    folder = tmp_path_factory.mktemp("tune") / "moons"
    app.train("two-moons", out=folder, steps=8, settings=("data.examples=300", "training.precision=float32"))
    return folder


@pytest.fixture(scope="module")
def tuned(trained: Path) -> tuple[Path, Any]:
    """The run, tuned once, and the report."""
    folder = Path(shutil.copytree(trained, trained.parent / "tuned" / "moons"))
    return folder, app.tune(folder, **PLAIN)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that may be written into."""
    return Path(shutil.copytree(trained, tmp_path / "moons"))


@pytest.fixture
def tuned_run(tuned: tuple[Path, Any], tmp_path: Path) -> Path:
    """A copy of the tuned run that may be written into."""
    return Path(shutil.copytree(tuned[0], tmp_path / "moons"))


def average(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the figure be the mean of the samples' coordinates."""
    monkeypatch.setattr(EnergyDistance, "__call__", lambda self, seen, real: Estimate(float(seen.mean()), 0.0))


def planted(monkeypatch: pytest.MonkeyPatch, values: dict[tuple[str, int], float]) -> None:
    """Give candidates figures of our own, (sampler, levels) -> value, and evaluations that take a second.

    The figures are alike for all seeds but for a thousandth.
    """
    draw = halving.draw_batch

    def marked(criterion: Any, sampled: Any, *rest: Any) -> float:
        draw(criterion, sampled, *rest)
        value = values.get((sampled.candidate.name, len(sampled.candidate.times)), 9.0)
        sampled.rows[-1] = torch.full_like(sampled.rows[-1], value) + 1e-3 * torch.randn_like(sampled.rows[-1])
        return 1.0

    monkeypatch.setattr(halving, "draw_batch", marked)
    average(monkeypatch)


# --- the choice, of hand-made measurements ----------------------------------------------------------------------------


def alike(figures: list[float]) -> torch.Tensor:
    """Jackknife figures of candidates whose differences are the same on all seeds, so that they have no error."""
    return torch.tensor(figures, dtype=torch.float64)[:, None].expand(-1, GROUPS)


def unlike(figures: list[float], errors: list[float]) -> torch.Tensor:
    """Jackknife figures of independent candidates with these standard errors: of i and j that is sqrt(ei² + ej²).

    Candidate i moves in pairs of groups of its own by +-a; then the sum of squares is 2·a², and (G - 1)/G of it the variance.
    """
    without = alike(figures).clone()
    for i, error in enumerate(errors):
        without[i, 2 * i] += error * math.sqrt(GROUPS / (GROUPS - 1) / 2)
        without[i, 2 * i + 1] -= error * math.sqrt(GROUPS / (GROUPS - 1) / 2)
    return without


def test_errors_of_differences_are_those_that_were_planted() -> None:
    errors = errors_of(unlike([1.0, 2.0, 5.0], [0.3, 0.4, 0.0]))
    expected = torch.tensor([[0.0, 0.5, 0.3], [0.5, 0.0, 0.4], [0.3, 0.4, 0.0]], dtype=torch.float64)
    assert torch.allclose(errors, expected, rtol=0, atol=1e-12)


def test_what_the_seeds_have_in_common_cancels() -> None:
    """Two candidates that vary much, but alike, are told from each other where independent ones are not."""
    apart = unlike([1.0, 1.5], [1.0, 1.0])
    together = alike([1.0, 1.5]) + (apart[0] - 1.0)
    assert choose([1.0, 1.5], together, [2.0, 1.0], within=0.0).chosen == 0
    assert choose([1.0, 1.5], apart, [2.0, 1.0], within=0.0).chosen == 1


@pytest.mark.parametrize(
    ("figures", "costs", "within", "expected"),
    [
        ([1.0, 5.0, 9.0], [8, 4, 2], 0.05, 0),  # the best by far
        ([1.0, 1.04, 9.0], [8, 4, 2], 0.05, 1),  # a cheaper one within 5 %
        ([1.0, 1.10, 9.0], [8, 4, 2], 0.05, 0),  # a cheaper one that loses more
        ([1.0, 1.10, 9.0], [8, 4, 2], 0.20, 1),  # a larger loss is stated
        ([1.0, 1.10, 9.0], [8, 4, 2], 9.00, 2),
        ([1.0, 1.00, 9.0], [8, 8, 2], 0.00, 0),  # equal in figure and cost: the first
        ([1.0, 1.04, 1.08], [8, 4, 2], 0.05, 1),  # the cheapest is within 5 % of the second, but not of the best
        ([-1.0, -0.97, 9.0], [8, 4, 2], 0.05, 1),  # a share of a negative figure, as of an unbiased distance near 0
        ([0.0, 0.01, 9.0], [8, 4, 2], 0.05, 0),  # no share of nothing
        ([7.0], [3], 0.05, 0),  # nothing to compare with
    ],
)
def test_the_cheapest_that_loses_no_more_than_the_stated_share_is_chosen(
    figures: list[float], costs: list[float], within: float, expected: int
) -> None:
    choice = choose(figures, alike(figures), costs, within)
    assert choice.chosen == expected
    assert choice.chosen in choice.front
    assert choice.beaten_by[choice.chosen] is None
    assert [loss.value for loss in choice.losses] == [figure - min(figures) for figure in figures]


def test_a_loss_that_chance_explains_is_allowed_and_one_beyond_it_is_not() -> None:
    """c is 1.73 for two candidates, and the error of their difference 0.5."""
    for loss, chosen in ((0.86, 1), (0.88, 0)):
        assert choose([2.0, 2.0 + loss], unlike([2.0, 2.0 + loss], [0.3, 0.4]), [2.0, 1.0], within=0.0).chosen == chosen


def test_a_candidate_is_beaten_by_the_one_that_exceeds_it_most() -> None:
    figures = [3.0, 1.0, 2.0]
    choice = choose(figures, alike(figures), [1.0, 3.0, 2.0], within=0.0)
    assert choice.beaten_by == (1, None, 1)
    assert choice.front == (0, 2, 1)
    assert choice.losses[0] == Estimate(2.0, 0.0)


def test_a_noisy_best_does_not_hide_a_loss_against_a_finer_ladder_of_the_same_sampler() -> None:
    """Candidate 2 is worse than 1 by 0.5 on shared seeds; the best, 0, is stochastic, and its error is larger than that."""
    figures = [1.9, 2.0, 2.5]
    without = unlike(figures, [2.0, 0.0, 0.0])
    choice = choose(figures, without, [4.0, 3.0, 1.0], within=0.05)
    assert choice.beaten_by == (None, None, 1)
    assert choice.chosen == 1


def test_costs_are_evaluations_times_the_median_pace_in_quarters() -> None:
    paces = {"heun": [1.0, 1.1, 9.0], "abm": [1.4], "quick": [0.01]}
    assert costs_of(["heun", "abm", "quick"], [10, 10, 10], paces, 2.0) == [20.0, 30.0, 5.0]


def test_the_front_is_what_nothing_dominates() -> None:
    """Against the definition, on 200 random sets with ties in both."""
    draws = np.random.default_rng(0)
    for _ in range(200):
        figures, costs = (draws.integers(0, 6, 8).astype(float).tolist() for _ in "ab")
        pairs = list(zip(figures, costs, strict=True))
        dominated = [any(f <= g and c <= d and (f, c) != (g, d) for f, c in pairs) for g, d in pairs]
        assert {pairs[i] for i in front_of(figures, costs)} == {
            pair for pair, bad in zip(pairs, dominated, strict=True) if not bad
        }


def _equal(repeat: int, count: int = 30, better: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return figures and errors of candidates that are all alike but for the first: means over 400 partly shared seeds."""
    draws = torch.randn((count + 1, 400), generator=torch.Generator().manual_seed(repeat), dtype=torch.float64)
    seen = draws[0] + draws[1:]
    seen[0] -= better
    sums = seen.reshape(count, -1, GROUPS).sum(dim=1)  # seed i is of group i % GROUPS
    without = (seen.sum(dim=1, keepdim=True) - sums) / (400 - 400 // GROUPS)
    return seen.mean(dim=1), errors_of(without)


def test_among_thirty_equal_candidates_the_best_counts_as_beaten_in_at_most_five_of_a_hundred_repeats() -> None:
    """One standard error, for comparison, would beat it in most repeats; and a candidate that is truly worse is beaten."""
    repeats, unbeaten, by_one = 400, 0, 0
    for repeat in range(repeats):
        figures, errors = _equal(repeat)
        unbeaten += int(excesses(figures, errors, 0.0)[0].max() <= 0)
        by_one += int((figures[0] - figures - errors[0]).max() <= 0)
    assert unbeaten / repeats >= 0.95 - 5 * math.sqrt(0.95 * 0.05 / repeats)
    assert by_one / repeats < 0.5
    figures, errors = _equal(0, better=0.6)  # a difference has a standard error of sqrt(2/400) = 0.07
    assert (excesses(figures, errors, 0.0)[1:, 0] > 0).all()


def test_the_jackknife_s_errors_of_differences_are_those_of_their_means() -> None:
    """Of means of n numbers, std/sqrt(n) of the differences, averaged over repeats to 5 standard errors."""
    found = torch.stack([_equal(repeat, count=4)[1].square()[0, 1] for repeat in range(300)])
    assert abs(float(found.mean()) - 2 / 400) < 5 * float(found.std()) / math.sqrt(300)


# --- what is chosen, of a run -----------------------------------------------------------------------------------------


def test_a_candidate_whose_figure_cannot_be_taken_is_left_out_and_the_others_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples that are finite, but so large that the metric is not."""
    draw = halving.draw_batch

    def far(criterion: Any, sampled: Any, *rest: Any) -> float:
        rate = draw(criterion, sampled, *rest)
        if sampled.candidate.name == "ddim":
            sampled.rows[-1] = torch.full_like(sampled.rows[-1], torch.inf)
        return rate

    monkeypatch.setattr(halving, "draw_batch", far)
    report = app.tune(run, **PLAIN)
    assert {one.sampler for one in (*report.measurements, *report.dropped)} == {"ancestral", "heun"}
    assert all("NaN or infinity" in why for label, why in report.left_out.items() if label.startswith("ddim"))
    assert any(label.startswith("ddim") for label in report.left_out)


def test_a_report_chooses_from_the_front_something_that_is_not_beaten(run: Path) -> None:
    report = app.tune(run, **FEW)
    chosen = report.chosen
    assert chosen.front
    assert chosen.beaten_by is None
    assert sum(one.chosen for one in report.measurements) == 1
    for one in report.measurements:
        assert not (one.seconds < chosen.seconds and one.figure.value < chosen.figure.value)
        if one.front:
            assert one.seconds >= chosen.seconds or one.beaten_by
            assert all(o.figure.value > one.figure.value for o in report.measurements if o.seconds < one.seconds)
    assert {one.samples for one in report.measurements} == {64}
    assert {one.samples for one in report.dropped} <= {8, 16, 32}
    best = min(report.measurements, key=lambda one: one.figure.value)
    assert best.loss == Estimate(0.0, 0.0)
    assert (
        len(report.measurements) + len(report.dropped) == 3 * 2 + 2 * 2 + 1
    )  # two ladders for multistep ones, and the recipe's own


def test_a_planted_best_is_chosen_and_a_cheaper_one_within_the_loss_before_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        planted(patch, {("heun", 3): 1.0, ("ddim", 3): 1.04, ("ancestral", 6): 5.0})
        chosen = app.tune(run, **PLAIN).chosen
        assert (chosen.sampler, chosen.levels) == ("ddim", 3)
    planted(monkeypatch, {("heun", 3): 1.0, ("ddim", 3): 1.0, ("ancestral", 6): 0.2})
    chosen = app.tune(run, **PLAIN).chosen
    assert (chosen.sampler, chosen.levels) == ("ancestral", 6)


def test_the_same_seed_gives_the_same_report_but_for_the_seconds(tuned: tuple[Path, Any], run: Path) -> None:
    one, other, third = tuned[1], app.tune(run, **PLAIN), app.tune(run, **PLAIN, seed=2)

    def figures(report: Any) -> dict[str, Any]:
        return {one.label: (one.figure, one.samples) for one in (*report.measurements, *report.dropped)}

    assert figures(one) == figures(other)
    assert figures(one) != figures(third)


def test_a_jackknife_of_differences_on_shared_seeds_is_the_error_of_their_mean(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a mean the delete-a-group jackknife is right in expectation: the spread of the differences over sqrt(n)."""
    criterion = Criterion.of(open_run(run), lambda fraction, text: None)
    average(monkeypatch)
    common, own = torch.tensor(np.random.default_rng(0).normal(size=(2, 2000)))
    without = torch.stack([criterion.without(rows[:, None]) for rows in (common + 0.1 * own, common)])
    error = float(errors_of(without)[0, 1])
    expected = 0.1 / math.sqrt(2000)
    assert abs(error / expected - 1) < 5 / math.sqrt(2 * (GROUPS - 1))  # the error of a standard deviation from 20


# --- what is tried -----------------------------------------------------------------------------------------------------


def test_without_names_every_sampler_that_jumps_in_declared_evaluations_is_tried_once(run: Path) -> None:
    left_out = dict[str, str]()
    cpu = torch.device("cpu")
    candidates = candidates_of(open_run(run), None, [5, 9], cpu, left_out, lambda fraction, text: None)
    tried = {candidate.name for candidate in candidates}
    suited = {
        name
        for name, kind in registry.every("sampler").items()
        if kind().order is not None and kind().evaluations_per_step is not None
    }
    assert tried | left_out.keys() == suited
    assert "euler" in left_out
    assert left_out["euler"] == "its samples are those of ddim"
    assert {"abm", "heun", "ddim", "stochastic-abm"} <= tried
    assert any(candidate.recipe for candidate in candidates)


def test_a_sampler_that_dwells_is_tried_when_it_is_named(run: Path) -> None:
    report = app.tune(run, n=64, evaluations=(6, 20), samplers=["annealed", "abm"])
    assert "annealed" in {one.sampler for one in (*report.measurements, *report.dropped)}
    for one in (*report.measurements, *report.dropped):
        assert one.evaluations <= 20


def test_a_candidate_that_is_not_finite_is_named_and_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = halving.draw_batch

    def failing(criterion: Any, sampled: Any, *rest: Any) -> float:
        if sampled.candidate.name == "heun":
            raise NotFinite("got NaN in 1 of 8 samples, expected finite numbers: inspect the model")
        return draw(criterion, sampled, *rest)

    monkeypatch.setattr(halving, "draw_batch", failing)
    report = app.tune(run, **PLAIN)
    assert report.left_out["heun, 3 levels"].startswith("got NaN")
    assert "heun" not in {one.sampler for one in (*report.measurements, *report.dropped)}
    assert "- heun, 3 levels: got NaN" in (run / "tuning.md").read_text()
    before = contents(run)
    with pytest.raises(ScorefieldError, match=r"finite samples from no candidate .*got NaN.*expected at least one"):
        app.tune(run, **PLAIN | {"samplers": ("heun",)})
    assert contents(run) == before


# --- the default -------------------------------------------------------------------------------------------------------


def test_what_was_tuned_is_the_default_and_gives_the_bytes_of_naming_it(run: Path, tmp_path: Path) -> None:
    """An optimised ladder among them, which is kept rather than made again."""
    before = contents(run)
    assert command("sample", run, "-n", 9, "--out", tmp_path / "before.npz") == 0
    assert command("tune", run, "-n", 64, "--evaluations", "3,6", "--samplers", "abm,stochastic-abm") == 0
    tuned, holds = tuned_of(open_run(run))
    assert tuned is not None
    assert holds
    named = ("--sampler", tuned.sampler, "--steps", tuned.steps, *(("--ladder", tuned.ladder) if tuned.ladder else ()))
    assert command("sample", run, "-n", 9, "--out", tmp_path / "default.npz") == 0
    assert command("sample", run, "-n", 9, "--out", tmp_path / "named.npz", *named) == 0
    default, by_name, untuned = (np.load(tmp_path / f"{name}.npz")["x"] for name in ("default", "named", "before"))
    assert np.array_equal(default, by_name)
    assert not np.array_equal(default, untuned)
    report = app.sample(run, n=2, out=tmp_path / "few.npz")
    assert report.evaluations == tuned.evaluations
    after = contents(run)
    assert {name: after[name] for name in before} == before  # config.json, the weights and all else
    assert {"sampling.json", "tuning.json", "tuning.md", "tuning.png"} <= after.keys() - before.keys()


def test_an_optimised_ladder_is_kept_with_the_default(run: Path) -> None:
    opened = open_run(run)
    sampler, times = choose_sampler(opened, SampleSpec("abm", 6, "optimised"))
    kept = {"sampler": "abm", "steps": 6, "ladder": "optimised", "times": times.tolist(), "evaluations": 6, "why": ""}
    (run / "sampling.json").write_text(json.dumps(kept | {"model_sha256": opened.manifest["model_sha256"]}))
    default, again = choose_sampler(opened, SampleSpec())
    assert default == sampler
    assert torch.equal(times, again)
    warm, _ = choose_sampler(opened, SampleSpec(temperature=0.5)), None  # for another field its own ladder is made
    assert not torch.equal(warm[1], times)
    named, own = choose_sampler(opened, SampleSpec("abm", None))
    assert len(own) == opened.config.levels
    assert named == opened.config.sampler


def test_samples_are_the_same_whichever_of_them_is_the_first(run: Path) -> None:
    opened = open_run(run)
    sampler, ladder = choose_sampler(opened, SampleSpec("stochastic-abm", 5))
    whole, part = Drawing(opened, sampler, ladder).draw(9), Drawing(opened, sampler, ladder).draw(4, start=5)
    assert float((whole[5:] - part).abs().max()) < 1e-6  # float32 adds in another order in another batch


def test_other_weights_are_sampled_as_their_recipe_says_with_a_note(
    tuned_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training goes on from the tuned run as from any, and the default is measured again or not used."""
    run = tuned_run
    own = open_run(run).config
    assert len(app.inspect(run).sigmas) == app.inspect(run).tuned.times.__len__()  # type: ignore[union-attr]
    report = app.train("two-moons", out=run, steps=9, resume=True)
    assert (report.step, report.ended) == (9, "done")
    sampler, ladder = choose_sampler(open_run(run), SampleSpec())
    assert (sampler, len(ladder)) == (own.sampler, own.levels)
    assert command("inspect", run) == 0
    said = " ".join(re.sub("[│ ]+", " ", capsys.readouterr().out).split())
    assert "for weights that training has changed since" in said
    app.tune(run, **PLAIN)
    assert app.inspect(run).tuned_holds


def test_forgetting_goes_back_to_the_recipes_own(tuned_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tuned_run
    assert command("inspect", run) == 0
    assert "tuned" in capsys.readouterr().out
    assert command("tune", run, "--forget") == 0
    assert "is gone" in capsys.readouterr().out
    own = open_run(run).config
    sampler, ladder = choose_sampler(open_run(run), SampleSpec())
    assert (sampler, len(ladder)) == (own.sampler, own.levels)
    assert command("tune", run, "--forget") == 0
    assert "was not tuned" in capsys.readouterr().out


def test_a_damaged_default_is_refused_and_can_be_forgotten(run: Path) -> None:
    (run / "sampling.json").write_text('{"sampler": "abm"}')
    with pytest.raises(ScorefieldError, match=r"damaged .*sampling\.json.*tune again, or tune with --forget"):
        app.sample(run, n=2)
    assert app.forget_tuning(run) == run / "sampling.json"
    app.sample(run, n=2)


# --- what is written ---------------------------------------------------------------------------------------------------


def test_the_files_hold_what_the_report_says(tuned: tuple[Path, Any]) -> None:
    run, report = tuned
    assert [path.name for path in report.written] == ["sampling.json", "tuning.json", "tuning.md", "tuning.png"]
    kept, measured = (json.loads((run / name).read_text()) for name in ("sampling.json", "tuning.json"))
    assert kept["model_sha256"] == open_run(run).manifest["model_sha256"]
    assert (kept["sampler"], kept["evaluations"]) == (report.chosen.sampler, report.chosen.evaluations)
    assert len(kept["times"]) == report.chosen.levels
    assert [one["figure"]["value"] for one in measured["measurements"]] == [one.figure.value for one in report.measurements]
    text = (run / "tuning.md").read_text()
    assert report.sentence in text
    assert text.count("**chosen**") == 1
    with Image.open(run / "tuning.png") as picture:
        assert min(picture.size) > 300


# --- the wrong thing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--samplers", "abm,huen"), "did you mean 'heun'"),
        (("-n", 10), "at least 64 samples"),
        (("--evaluations", "1,5"), "numbers of at least 2"),
        (("--evaluations", "few"), "whole numbers between commas"),
        (("--within", "little"), "write 5% or 0.05"),
        (("--within", "-5%"), "give 0 or more"),
        (("--time", "soon"), "expected a duration"),
    ],
    ids=str,
)
def test_what_cannot_be_tuned_is_refused_before_the_work(
    words: tuple[object, ...], says: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    assert command("tune", run, *words) == 2
    said = capsys.readouterr().err.strip()
    assert says in said
    assert len(said.splitlines()) == 1
    assert contents(run) == before


def test_a_run_whose_data_changed_or_are_gone_cannot_be_tuned(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    app.train(str(tmp_path / "x.npy"), out=tmp_path / "run", steps=2, settings=("training.precision=float32",))
    np.save(tmp_path / "x.npy", rows + 1)
    with pytest.raises(ScorefieldError, match="differ from the run's"):
        app.tune(tmp_path / "run", **PLAIN)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ScorefieldError, match="expected"):
        app.tune(tmp_path / "run", **PLAIN)
    assert not (tmp_path / "run" / "sampling.json").exists()
