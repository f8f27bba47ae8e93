"""What decides about a run: its settings, never a clock, where its budget is a number of steps; and what is refused or said."""

from __future__ import annotations

import re
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case
from PIL import Image

from scorefield import ScorefieldError, registry
from scorefield.app import plan, train
from scorefield.cli import main
from scorefield.config import override, to_dict
from scorefield.data import DataConfig, open_source
from scorefield.evaluation.reference import LEAST
from scorefield.recipes import data_stats, measured_settings
from scorefield.runs import open_run
from scorefield.training import memory, precision

SMALL = ("data.examples=200", "training.batch=16", "network.width=8", "training.pictures=0")


def refusal(*words: Any, **how: Any) -> str:
    """The sentence that train refuses with; it must leave nothing."""
    with pytest.raises(ScorefieldError) as error:
        train(*words, **how)
    return str(error.value)


def slow_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let every look at the clock find that so many seconds have passed."""
    ticks = count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) * seconds)


def test_the_same_steps_under_three_clocks_leave_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    for number, seconds in enumerate((1e-6, 0.5, 1e4)):  # a checkpoint never, now and then, at every step
        with monkeypatch.context() as patch:
            slow_clock(patch, seconds)
            report = train("two-moons", out=tmp_path / str(number) / "run", steps=26, settings=(*SMALL, "training.pictures=2"))
        assert report.step == 26 and open_run(report.folder).manifest["precision"] == "float32"
        names = ["model.safetensors", *(str(path.relative_to(report.folder)) for path in report.written)]
        kept.append([(report.folder / name).read_bytes() for name in names])
    assert len(kept[0]) == 5 and kept[0] == kept[1] == kept[2]


def test_steps_that_are_set_by_hand_are_steps_alone_unless_a_time_is_set_too(tmp_path: Path) -> None:
    def budget(*settings: str, **how: Any) -> Any:
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        training = open_run(train("two-moons", out=out, settings=(*SMALL, *settings), **how).folder).config.training
        return training.steps, training.seconds

    assert budget("training.steps=1") == (1, None)
    assert budget("training.steps=1", "training.seconds=50") == (1, 50)
    assert budget("training.steps=1", seconds=40.0) == (1, 40)


def test_no_stopwatch_is_asked_for_the_precision_of_a_run_of_steps_and_one_of_a_run_of_time_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fastest(*_: Any) -> tuple[str, dict[str, float]]:
        asked.append(1)
        return "bfloat16", {"float32": 2.0, "bfloat16": 1.0}

    monkeypatch.setattr("scorefield.training.precision.fastest", fastest)
    steps = train("two-moons", out=tmp_path / "steps", steps=1, settings=SMALL)
    assert not asked and "no clock" in steps.messages[0] and steps.messages[0].startswith("precision = float32")
    timed = train("two-moons", out=tmp_path / "time", seconds=1e-6, settings=SMALL)
    assert asked and "measured float32 2000 ms a step, bfloat16 1000 ms a step" in timed.messages[0]
    assert open_run(timed.folder).manifest["precision"] == "bfloat16"


@pytest.mark.parametrize(("able", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_of_a_gpu_its_ability_decides(able: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert precision.of_device(torch.device("cuda")) == chosen
    assert precision.of_device(torch.device("cpu")) == "float32"


def test_the_stopwatch_stops_at_its_limit() -> None:
    config = registry.find("recipe", "auto")(data_stats(data := open_source("two-moons", DataConfig(examples=100)))).config
    from scorefield.runs import build_model

    model = build_model(config, data.shape, 1.0)
    assert precision.fastest(model, config.objective, data.x0(slice(0, 8)), None, limit=-1.0) == ("float32", {})


def test_a_budget_of_nearly_nothing_buys_one_step_and_says_that_it_is_next_to_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    main(["train", "two-moons", "--out", str(tmp_path / "run"), "--time", "0.000001s", *settings])
    said = capsys.readouterr()
    assert "the time was over after 1 step, fewer than the 200 with which a training begins" in said.err
    assert "scorefield sample" not in said.out and f"--out {tmp_path / 'run'} --resume --time 10m" in said.out
    assert open_run(tmp_path / "run").manifest["progress"]["step"] == 1
    main(["train", "two-moons", "--out", str(tmp_path / "run"), "--steps", "2", "--resume"])  # and steps are as asked for
    said = capsys.readouterr()
    assert "the time was over" not in said.err and "scorefield sample" in said.out


def test_where_and_how_it_was_trained_is_in_the_manifest_and_going_on_elsewhere_is_said(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    train("two-moons", out=tmp_path / "run", steps=1, settings=SMALL)
    manifest = open_run(tmp_path / "run").manifest
    assert [manifest[key] for key in ("device", "threads", "processes", "precision")] == ["cpu", threads, 1, "float32"]
    same = train("two-moons", out=tmp_path / "run", steps=2, resume=True)
    assert not [sentence for sentence in same.messages if "goes on with" in sentence]
    torch.set_num_threads(3 - min(threads, 2))
    try:
        other = train("two-moons", out=tmp_path / "run", steps=3, settings=("training.precision=bfloat16",), resume=True)
    finally:
        torch.set_num_threads(threads)
    (said,) = [sentence for sentence in other.messages if "goes on with" in sentence]
    assert f"threads {3 - min(threads, 2)} instead of {threads}" in said and "precision bfloat16 instead of float32" in said
    assert open_run(tmp_path / "run").manifest["precision"] == "bfloat16"


def test_moments_are_not_dropped_in_silence(tmp_path: Path) -> None:
    train("two-moons", out=tmp_path / "run", steps=1, settings=SMALL)
    how = {"out": tmp_path / "run", "steps": 2, "resume": True}
    assert "got another optimiser.method" in refusal("two-moons", settings=("optimiser.method=muon",), **how)
    report = train("two-moons", settings=("optimiser.lr=0.001", "optimiser.betas=0.5,0.6"), **how)  # its moments mean the same
    assert report.step == 2


# --- what is measured on the data stays measured -------------------------------------------------------------------------


def test_every_registered_component_that_takes_the_datas_deviation_gets_it_when_it_is_swapped_in() -> None:
    data = open_source("digits", DataConfig())
    stats = data_stats(data)
    base = registry.find("recipe", "ddpm")(stats).config
    assert abs(stats.std - 0.5) > 0.01
    found = 0
    for kind, at in (("parametrisation", "parametrisation"), ("weighting", "objective.weighting")):
        for name in registry.names(kind):
            settings = [f"{at}={name}"] if kind == "parametrisation" else ["objective=denoising", f"{at}={name}"]
            values: Any = to_dict(override(base, settings, measured=measured_settings(stats)))
            for part in at.split("."):
                values = values[part]
            if "data_std" in values:
                found += 1
                assert values["data_std"] == stats.std, name
    assert found >= 4


def test_levels_that_are_measured_are_filled_in_and_what_is_given_wins_in_any_order() -> None:
    stats = data_stats(open_source("digits", DataConfig()))
    base = registry.find("recipe", "ddpm")(stats).config

    def got(*settings: str) -> Any:
        return override(base, settings, measured=measured_settings(stats))

    auto = registry.find("recipe", "auto")(stats).config
    assert got("process=ve").process == auto.process
    assert got("process=linear-ve").process == registry.find("recipe", "edm")(stats).config.process
    noise_distribution = got("objective=denoising", "objective.noise_distribution=log-normal").objective.noise_distribution
    assert noise_distribution.mean == registry.find("recipe", "edm")(stats).config.objective.noise_distribution.mean
    for settings in (
        ("parametrisation=edm", "parametrisation.data_std=0.3"),
        ("parametrisation.data_std=0.3", "parametrisation=edm"),
    ):
        assert got(*settings).parametrisation.data_std == 0.3
    whole = got('parametrisation={"name": "edm", "noise_label": "sigma"}').parametrisation
    assert (whole.data_std, whole.noise_label) == (stats.std, "sigma")
    assert got('training={"batch": 7}').training.ema == 0.9999  # and of a section the rest stays the recipe's


def test_a_swap_at_the_command_keeps_the_measured_value(tmp_path: Path) -> None:
    settings = (*SMALL, "parametrisation=denoised", "objective.weighting=edm")
    report = train("two-moons", out=tmp_path / "run", steps=1, recipe="ncsnv2", settings=settings)
    run = open_run(report.folder)
    assert run.config.parametrisation.data_std == run.manifest["data"]["std"] == run.config.objective.weighting.data_std
    again = train("two-moons", out=tmp_path / "run", steps=2, settings=("parametrisation=denoised",), resume=True)
    assert again.step == 2  # the same component, so the run's own


# --- what cannot fit is refused before it begins -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.batch=1e9", r"got training.batch=1,000,000,000, of which 1,000,000,000 examples at once need"),
        ("network.width=3000000", r"got a network of .* weights, whose training needs"),
        ("levels=1e9", "less than or equal to 100000"),
        ("objective.noise_distribution=levels", ""),
        ("training.accumulate=1e9", "expected at least an example in each piece"),
        ("data.examples=1e12", "less than or equal to 10000000"),
    ],
)
def test_what_no_machine_has_is_refused_before_anything_is_taken(setting: str, sentence: str, tmp_path: Path) -> None:
    settings = (*SMALL, setting) if sentence else (*SMALL, setting, "objective.noise_distribution.levels=1e9")
    assert re.search(sentence or "less than or equal to 100000", refusal("two-moons", out=tmp_path / "run", settings=settings))
    assert not (tmp_path / "run").exists()


def test_a_batch_is_refused_by_what_is_free_and_the_pieces_advised_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = (*SMALL[:1], "network.width=64", "training.pictures=0", "training.batch=4096")
    free = memory.available(torch.device("cpu"))
    assert 0 < free < 2**50
    monkeypatch.setattr(memory, "available", lambda device: 2_000_000)  # an example keeps about 4 kB for its gradient
    said = refusal("two-moons", out=tmp_path / "run", steps=1, settings=wide)
    pieces = said.split("training.accumulate=")[1].split()[0]
    assert 1 < int(pieces) < 100
    assert train("two-moons", out=tmp_path / "run", steps=1, settings=(*wide, f"training.accumulate={pieces}")).step == 1


def test_a_plan_does_not_walk_a_billion_steps() -> None:
    settings = (*SMALL, "sampler=annealed", "sampler.steps_per_level=1000000000", "levels=3")
    found = plan("two-moons", steps=1, settings=settings, pilot_seconds=0.1)
    assert abs(found.evaluations / 3e9 - 1) < 1e-3


# --- what is known is said in time ---------------------------------------------------------------------------------------


def test_train_says_and_keeps_what_plan_warns_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fifty greys of 256, eight of one class to one of the other, and 9 held out where evaluate needs 20."""
    pixels = np.random.default_rng(0).integers(0, 50, size=(90, 8, 8), dtype=np.uint8)
    for name in ("many", "rare"):
        (tmp_path / "dark" / name).mkdir(parents=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "dark" / ("many" if i < 80 else "rare") / f"{i:02d}.png")
    source = str(tmp_path / "dark")
    how: dict[str, Any] = {"steps": 1, "settings": ("training.batch=4", "training.pictures=0", "network.channels=[4]")}
    planned = plan(source, **how, pilot_seconds=0.1)
    words = [word for setting in how["settings"] for word in ("--set", setting)]
    main(["train", source, "--out", str(tmp_path / "run"), "--steps", "1", *words])
    said, kept = capsys.readouterr().err, open_run(tmp_path / "run").manifest["warnings"]
    few = f"Only 9 examples are held out, but scorefield evaluate needs {LEAST}: --set data.held_out=0.23 holds out enough."
    assert kept == [*planned.findings.warnings, few] and few in planned.expectations
    assert any("mis-scaled?" in sentence for sentence in kept) and any("Unequal classes" in sentence for sentence in kept)
    assert all(f"warning: {sentence}" in said for sentence in kept)
    enough = open_source(source, DataConfig(held_out=0.23))
    assert len(enough.held_out) >= LEAST


WRONG = [
    *({"settings": "training.batch=16"}, {"settings": None}, {"settings": (5,)}, {"out": ""}, {"out": 5}, {"recipe": 5}),
    *({"steps": True}, {"seed": True}, {"seed": "a"}, {"source": None}, {"source": 5}, {"seconds": "3m"}),
]


@each_case(wrong=WRONG)
def test_wrong_arguments_in_python_are_a_sentence_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    how = {"source": "two-moons", "steps": 1, "settings": ("data.examples=100",)} | wrong
    with pytest.raises(ScorefieldError) as refusal:
        train(how.pop("source"), **how)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 220
    assert not list(tmp_path.iterdir())


def test_numbers_of_another_library_are_numbers_and_plan_takes_the_data_themselves(tmp_path: Path) -> None:
    settings = ("data.examples=100", *SMALL[1:])
    report = train("two-moons", out=tmp_path / "run", steps=np.int64(2), seed=np.int32(3), settings=settings)  # type: ignore[arg-type]
    assert report.step == 2 and open_run(tmp_path / "run").config.seed == 3
    found = plan(np.random.default_rng(0).normal(size=(100, 2)), steps=1, settings=SMALL[1:], pilot_seconds=0.01)
    assert found.data.shape == (2,) and len(found.data.train) + len(found.data.held_out) == 100
