"""The data doctor and the pilot: what was planted is found and named, and what follows from it is arithmetic."""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import command
from numpy.typing import NDArray

from scorefield import ScorefieldError, app
from scorefield.cli.show import issue_lines
from scorefield.config import override
from scorefield.data import DataConfig, Dataset, open_data, open_source
from scorefield.data.base import DataIssue, Examples, Normaliser, build, split
from scorefield.data.doctor import examine
from scorefield.nets.residual import ResidualConfig
from scorefield.recipes import auto, data_stats
from scorefield.runs import build_model, classes_of
from scorefield.specs import size_of
from scorefield.training.loop import Trainer
from scorefield.training.memory import Memory, kept_for_backward
from scorefield.training.pilot import Pace, Pilot, pilot, reach

SMALL = ("network.channels=8,16", "network.blocks=1", "training.precision=float32", "training.batch=16")
N = 300


def vectors(rows: NDArray[np.float32]) -> Dataset:
    return build(Examples("rows", "vector", torch.from_numpy(rows), Normaliser.standard), DataConfig())


def normal(dimension: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(N, dimension)).astype(np.float32)


def images(pixels: NDArray[np.uint8], labels: list[int] | None = None) -> Dataset:
    classes = tuple(f"class{i}" for i in range(max(labels) + 1)) if labels else ()
    examples = Examples(
        "pictures",
        "image",
        torch.from_numpy(pixels),
        normaliser=lambda _: Normaliser.between(0.0, 255.0),
        labels=torch.tensor(labels) if labels else None,
        classes=classes,
    )
    return build(examples, DataConfig())


def noise_images(n: int = 60, side: int = 8, top: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, top, (n, 1, side, side), dtype=np.uint8)


def causes(data: Dataset) -> list[str]:
    return [f"{issue.where}: {issue.cause}" for issue in examine(data).issues]


# --- the doctor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [2, 64])
def test_planted_copies_and_leaks_are_counted_and_named(dimension: int) -> None:
    rows, (train, held) = normal(dimension), split(N, 0.1, None)
    rows[train[9]] = rows[train[5]]
    rows[held[2]] = rows[train[7]]
    found = examine(vectors(rows))
    assert (found.copies, found.near_copies, found.leaks) == (1, 0, 1)
    named = {issue.where: issue.cause for issue in found.issues}
    assert named["training example 9"] == "repeats training example 5"
    assert re.fullmatch("repeats training example 7, .*a leak", named["held-out example 2"])
    assert all(issue.used for issue in found.issues)


@pytest.mark.parametrize("dimension", [2, 64])
def test_in_independent_examples_nothing_is_found(dimension: int) -> None:
    found = examine(vectors(normal(dimension)))
    assert (found.copies, found.near_copies, found.leaks, found.warnings, found.issues) == (0, 0, 0, (), ())


@pytest.mark.parametrize(("difference", "copies"), [(0.05, 20), (0.3, 0)])
def test_near_copies_differ_by_less_than_a_tenth_of_the_standard_deviation(difference: float, copies: int) -> None:
    rows, (train, held) = normal(64), split(N, 0.1, None)
    other = np.random.default_rng(2).normal(size=(20, 64)).astype(np.float32)
    rows[held[:20]] = rows[train[:20]] + difference * other
    found = examine(vectors(rows))
    assert (found.leaks, found.copies) == (copies, 0)


def frame(**columns: object) -> Dataset:
    return open_data(columns, DataConfig())


DICE = np.random.default_rng(5).integers(1, 7, (300, 4))
YES = np.random.default_rng(6).random((300, 25)) < 0.9


@pytest.mark.parametrize(
    "data",
    [
        frame(a=DICE[:, 0], b=DICE[:, 1], c=[f"{k}" for k in DICE[:, 2]]),
        frame(a=DICE[:, 0]),
        frame(year=1900 + np.random.default_rng(7).integers(0, 2000, 300)),
        frame(stars=DICE[:, 0] / 2, heap=np.where(DICE[:, 1] < 6, 0, 1.5), gone=[None if k > 3 else 1.0 for k in DICE[:, 2]]),
        frame(**{f"q{i}": YES[:, i] for i in range(25)}),
        vectors(DICE.astype(np.float32)[:, :2]),
    ],
)
def test_rows_of_few_values_that_are_equal_by_chance_are_counted_and_no_leaks(data: Dataset) -> None:
    found = examine(data)
    assert (found.leaks, found.copies, found.near_copies) == (0, 0, 0)
    assert not any("repeats" in issue.cause for issue in found.issues)
    rows = [tuple(row) for row in torch.cat([data.train[:], data.held_out[:]]).tolist()]
    equal = len(rows) - len(set(rows))
    assert any(warning.startswith(f"{equal:,} of 300 rows equal an earlier one, ") for warning in found.warnings)


@pytest.mark.parametrize("copied", [1, 100])
def test_a_copied_row_is_a_leak_wherever_chance_cannot_make_one(copied: int) -> None:
    train, held = (part.tolist() for part in split(300, 0.5, None))
    rows = np.random.default_rng(8).normal(size=(300, 2))
    grades = np.random.default_rng(9).integers(0, 10, (300, 12))
    for numbers in (rows, grades):
        numbers[held[:copied]] = numbers[train[:copied]]
    tables = [
        {"x": rows[:, 0], "dice": grades[:, 0]},
        {"x": rows[:, 0], "y": rows[:, 1]},
        {f"q{i}": grades[:, i] for i in range(12)},
    ]
    for table in tables:
        found = examine(open_data(table, DataConfig(held_out=0.5)))
        assert found.leaks == copied
        assert sum(issue.cause.endswith("a leak") for issue in found.issues) == copied


def test_rows_with_equal_texts_and_near_numbers_are_no_copies() -> None:
    """Of one number beside 19 coordinates of texts, the root mean square difference of most pairs is small."""
    texts = {f"t{i}": ["a" if k else "b" for k in YES[:, i]] for i in range(9)}
    found = examine(frame(x=np.random.default_rng(10).normal(size=300), **texts))
    assert (found.copies, found.near_copies, found.leaks) == (0, 0, 0)


@pytest.mark.parametrize(
    ("values", "odd", "shown"),
    [
        (np.arange(300) % 7, 1234567, "1234567"),
        (np.arange(300) * 0.37 % 7, 1234567.8, "1234567.8"),
        ([datetime.date(2020, 1, 1 + i % 28) for i in range(300)], datetime.date(1020, 3, 4), "1020-03-04"),
    ],
)
def test_an_odd_value_is_named_as_it_was_written(values: Sequence[object], odd: object, shown: str) -> None:
    row = split(300, 0.1, None)[0].tolist()[17]
    data = frame(
        code=[odd if i == row else value for i, value in enumerate(values)], x=np.random.default_rng(3).normal(size=300)
    )
    assert any(f"column 'code' is {shown}, " in issue.cause for issue in examine(data).issues)


def test_two_close_points_of_a_plane_are_no_copies() -> None:
    rows, (train, held) = normal(2), split(N, 0.1, None)
    rows[held[0]] = rows[train[0]] + 1e-6
    assert examine(vectors(rows)).leaks == 0


def test_distances_to_the_nearest_are_those_of_a_loop() -> None:
    data = vectors(normal(5))
    x, y = (data.normaliser.encode(part[:]).double() for part in (data.train, data.held_out))
    among = [min(float((a - b).square().mean().sqrt()) for j, b in enumerate(x) if j != i) for i, a in enumerate(x)]
    apart = [min(float((a - b).square().mean().sqrt()) for b in x) for a in y]
    found = examine(data)
    assert found.nearest_training == pytest.approx(float(torch.tensor(among).median()), rel=1e-5)
    assert found.nearest_held_out == pytest.approx(float(torch.tensor(apart).median()), rel=1e-5)


def test_an_outlier_is_named_with_its_column_and_value() -> None:
    rows = normal(3)
    rows[split(N, 0.1, None)[0][4], 1] = 777.0
    (first, *_) = examine(vectors(rows)).issues
    assert first.where == "training example 4"
    assert re.match(r"column 1 is 777, \d+ spreads from its median", first.cause)


def test_an_image_that_is_unlike_all_others_is_named() -> None:
    smooth = np.random.default_rng(0).normal(120, 3, (N, 1, 8, 8)).clip(0, 255).astype(np.uint8)
    smooth[split(N, 0.1, None)[0][11]] = noise_images(1)[0]
    assert next(text for text in causes(images(smooth)) if "outlier" in text).startswith("training example 11: ")


def test_blank_images_and_constant_pixels_are_found() -> None:
    pixels = noise_images()
    pixels[:, :, :2] = 0
    pixels[split(60, 0.1, None)[0][3]] = 0
    found = examine(images(pixels))
    assert found.constant == tuple(range(16))
    assert "training example 3: is blank: all its values are equal" in causes(images(pixels))


@pytest.mark.parametrize(("rare", "warned"), [(9, True), (30, False)])
def test_unequal_classes_are_warned_of(rare: int, warned: bool) -> None:
    found = examine(images(noise_images(), [0] * (60 - rare) + [1] * rare))
    assert sum(found.counts.values()) == 54
    assert any("Unequal classes" in sentence for sentence in found.warnings) == warned


@pytest.mark.parametrize(("top", "warned"), [(16, True), (256, False)])
def test_pixels_that_use_little_of_their_range_are_mis_scaled(top: int, warned: bool) -> None:
    found = examine(images(noise_images(top=top)))
    assert (found.low, found.high) == (0, top - 1)
    assert any("mis-scaled" in sentence for sentence in found.warnings) == warned


def test_heavy_tails_few_values_and_grey_in_three_channels_are_warned_of() -> None:
    rows = np.concatenate([normal(16) for _ in range(5)]) + np.arange(5 * N)[:, None].astype(np.float32) * 1e-3
    rows[:, 3] = np.random.default_rng(0).integers(0, 3, 5 * N)
    rows[split(5 * N, 0.1, None)[0][0], 5] = 1e6
    heavy, few = examine(vectors(rows)).warnings
    assert "column 5 reaches" in heavy
    assert few.startswith("Column 3 holds")
    assert any("channels are equal" in text for text in examine(images(np.repeat(noise_images(), 3, axis=1))).warnings)


def test_what_the_source_named_comes_first_and_its_copies_are_not_named_twice() -> None:
    rows, (train, held) = normal(4), split(N, 0.1, None)
    rows[train[1]], rows[held[1]] = rows[train[0]], rows[train[2]]
    own = (DataIssue("cut.png", "truncated"), DataIssue("b.png", "the same pixels as 'a.png'", used=True))
    texts = causes(replace(vectors(rows), issues=own))
    assert texts[:2] == ["cut.png: truncated", "b.png: the same pixels as 'a.png'"]
    assert [text.split(":")[0] for text in texts[2:]] == ["held-out example 1"]


def test_a_large_source_is_looked_at_evenly_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefield.data.doctor.survey.MOST", 100)
    found = examine(vectors(normal(3)))
    assert (found.looked_at, found.examples) == (100, N)


# --- the pilot ---------------------------------------------------------------------------------------------------------


class Ticking:
    """A clock that moves on by one second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@functools.cache
def digits_pilot(*settings: str) -> tuple[Trainer, Pilot]:
    data = open_source("digits", DataConfig())
    stats = data_stats(data)
    config = override(auto(stats).config, [*SMALL, *settings])
    model = build_model(config, data.shape, stats.std, stats.mean, classes=classes_of(config, data.classes))
    before = [value.clone() for value in model.parameters()]
    found = pilot(config, data, model, torch.device("cpu"), seconds=60.0, clock=Ticking())
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    return Trainer(config, data, model, None, torch.device("cpu")), found


def test_a_pace_is_the_time_between_two_readings_of_the_clock() -> None:
    _, found = digits_pilot()
    assert {(pace.precision, pace.batch, pace.timed, pace.seconds) for pace in found.paces} == {
        ("float32", batch, batch, 1.0) for batch in (16, 8, 32)
    }
    assert (found.chosen.batch, found.chosen.images_per_second, found.loading) == (16, 16.0, 1.0)
    assert found.better_batch == Pace("float32", 32, 1.0, 32)


def test_the_precision_is_chosen_among_both_or_as_it_was_asked_for() -> None:
    assert {pace.precision for pace in digits_pilot("training.precision=auto")[1].paces} == {"float32", "bfloat16"}
    assert {pace.precision for pace in digits_pilot("training.precision=bfloat16")[1].paces} == {"bfloat16"}


def test_memory_is_four_bytes_a_weight_for_weights_gradients_and_averages_and_eight_for_moments() -> None:
    trainer, found = digits_pilot("training.ema=0.999", "optimiser.method=adamw")
    weights, tensors = sum(p.numel() for p in trainer.model.parameters()), len(list(trainer.model.parameters()))
    memory = found.memory
    assert (memory.parameters, memory.gradients, memory.averages) == (4 * weights,) * 3
    assert memory.optimiser == 8 * weights + 4 * tensors  # Adam counts its steps for every tensor
    assert memory.total == 3 * 4 * weights + memory.optimiser + memory.activations
    assert digits_pilot("training.ema=0")[1].memory.averages == 0


def test_activations_grow_in_proportion_to_the_batch() -> None:
    trainer, found = digits_pilot()
    kept = [kept_for_backward(trainer, size) for size in (4, 8, 12, 16)]
    assert kept[1] - kept[0] == kept[2] - kept[1] == kept[3] - kept[2] > 0
    assert found.memory.activations == kept[3]
    assert digits_pilot("training.accumulate=4")[1].memory.activations == kept[0]


def test_what_does_not_fit_is_said() -> None:
    memory = Memory(parameters=10, gradients=10, optimiser=20, averages=10, activations=100, available=200)
    assert (memory.total, memory.fits) == (150, True)
    assert not replace(memory, available=199).fits


def test_nothing_global_changes() -> None:
    state, threads, wanted = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()
    digits_pilot("network.dropout=0.5")
    assert torch.equal(state, torch.get_rng_state())
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (threads, wanted)


@pytest.mark.parametrize(("side", "seen"), [(40, 19), (12, 12)])
def test_a_stack_of_convolutions_sees_one_plus_twice_its_dilations(side: int, seen: int) -> None:
    """Two plain 3x3 convolutions and three of dilation 1, 2, 4: 1 + 2·(1 + 1 + 2 + 4 + 1) = 19, and no more than there is."""
    network = ResidualConfig(width=8, blocks=3).build((1, side, side))
    weights = [value.clone() for value in network.parameters()]
    assert reach(network, (1, side, side)) == (seen, seen)
    assert all(torch.equal(old, new) for old, new in zip(weights, network.parameters(), strict=True))


# --- the plan ----------------------------------------------------------------------------------------------------------


def planned(source: str | Dataset = "digits", **options: object) -> app.DataPlan:
    settings = (*SMALL, *options.pop("settings", ()))  # type: ignore[misc]
    return app.plan(source, settings=settings, pilot_seconds=0.01, **options)  # type: ignore[arg-type]


def test_epochs_are_images_over_examples_and_a_number_of_steps_is_kept() -> None:
    plan = planned(steps=150)
    assert (plan.steps, plan.images, plan.seconds) == (150, 150 * 16, None)
    assert plan.epochs == 150 * 16 / 1198
    assert plan.parameters == sum(p.numel() for p in build_model(plan.config, (1, 8, 8), plan.std, classes=10).parameters())
    assert len(plan.sigmas) == plan.config.levels
    assert plan.evaluations == len(plan.sigmas)
    twice = planned(steps=150, settings=("autoguidance=1.5",))
    assert twice.evaluations == 2 * plan.evaluations  # it asks two networks
    assert plan.reach == (8, 8)


def test_a_budget_of_time_is_divided_by_the_pace() -> None:
    plan = planned(seconds=60.0)
    assert plan.steps == int(60 / plan.pilot.chosen.seconds)
    assert plan.sampling_seconds == plan.pilot.evaluation * plan.evaluations


def test_a_data_set_that_is_open_already_gives_the_same_plan_as_its_name() -> None:
    data = open_source("digits", DataConfig())
    one, other = planned(data, steps=10), planned(steps=10)
    assert (one.config, one.why, one.findings, one.pilot.memory.activations) == (
        other.config,
        other.why,
        other.findings,
        other.pilot.memory.activations,
    )


def test_the_plan_is_the_run_that_train_begins(tmp_path: Path) -> None:
    plan = planned(steps=1)
    app.train("digits", out=tmp_path / "run", steps=1, settings=SMALL)
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == plan.to_dict()["config"]


def test_what_to_expect_follows_from_the_numbers() -> None:
    few = images(noise_images(40))
    assert any("36 examples of 64 dimensions are few: it will memorise" in text for text in planned(few, steps=1).expectations)
    assert any("for 0% of the examples" in text for text in planned(steps=1, settings=("training.batch=2",)).expectations)
    rows, (train, held) = normal(4), split(N, 0.1, None)
    rows[held[0]] = rows[train[0]]
    leak, *_ = app.plan(vectors(rows), steps=1, pilot_seconds=0.01).expectations
    assert leak.startswith("1 of 30 held-out examples")


def test_everything_is_written_as_json_once(tmp_path: Path) -> None:
    plan = planned(steps=5, out=tmp_path / "plan.json")
    values = json.loads((tmp_path / "plan.json").read_text())
    assert values == json.loads(json.dumps(plan.to_dict()))
    assert values["expected"]["images"] == 80
    with pytest.raises(ScorefieldError, match="add --force"):
        app.plan("digits", out=tmp_path / "plan.json")
    planned(steps=6, out=tmp_path / "plan.json", force=True)
    assert json.loads((tmp_path / "plan.json").read_text())["expected"]["images"] == 96


# --- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("digts",), "did you mean 'digits'"),
        (("digits", "--recipe", "ncsn3"), "did you mean 'ncsn'"),
        (("digits", "--time", "soon"), "expected a duration"),
        (("digits", "--size", "big"), "write 64 or 48x64"),
        (("digits", "--set", "trianing.batch=3"), "did you mean 'training'"),
        (("digits", "--json", "no/such/plan.json"), "make it first"),
    ],
    ids=str,
)
def test_a_wrong_word_gets_one_sentence_and_nothing_is_written(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command("plan", *words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("scorefield: ")
    assert says in last
    assert list(tmp_path.iterdir()) == []


def test_the_report_tells_data_run_machine_and_expectations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = planned(steps=5)
    monkeypatch.setattr(app, "plan", lambda *_, **__: plan)
    assert command("plan", "digits") == 0
    said = re.sub(r"\s+", " ", capsys.readouterr().out)
    for text in ("1,198 for training, 599 held out", "10 classes", f"{plan.parameters:,} parameters", "5 steps, 80 examples"):
        assert text in said
    assert all(sentence in said for sentence in (*plan.why, *plan.expectations))
    assert list(tmp_path.iterdir()) == []


def test_problems_with_one_cause_share_a_line_and_the_rest_is_counted() -> None:
    issues = [DataIssue(f"{i}.png", "truncated") for i in range(7)] + [
        DataIssue(str(i), f"odd {i}", used=True) for i in range(5)
    ]
    lines = issue_lines(issues, 3)
    assert lines[0] == "0.png, 1.png, 2.png, 3.png and 3 more: truncated"
    assert lines[1:] == ["0: odd 0", "1: odd 1", "and 3 more"]
    assert issue_lines(issues[:1], 3) == ["0.png: truncated"]


def test_sizes_are_read_as_people_write_them() -> None:
    assert [size_of(text) for text in ("64", "48x64", "48X64", "48,64")] == [64, (48, 64), (48, 64), (48, 64)]
    for text in ("", "0", "64x", "big", "-3"):
        with pytest.raises(ScorefieldError, match="--size"):
            size_of(text)
