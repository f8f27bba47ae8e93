"""What is asked for becomes a run: the same for train and plan, from flags, keywords or a spec, with the data read once."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro

from scorefield import ScorefieldError, app, registry
from scorefield.cli.asked import Asked
from scorefield.config import to_dict
from scorefield.durations import duration
from scorefield.runs import open_run
from scorefield.specs import TrainSpec
from scorefield.training import begin
from scorefield.training import resolve as resolving
from scorefield.training.resolve import resolve

TINY = ("data.examples=60", "training.batch=8", "network.width=8", "training.pictures=0", "training.precision=float32")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every source that is opened, in order."""
    sources = list[Any]()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, *rest: Any) -> Any:
            sources.append(source)
            return function(source, *rest)

        return call

    monkeypatch.setattr(resolving, "open_data", counted(resolving.open_data))
    monkeypatch.setattr(begin, "open_again", counted(begin.open_again))
    return sources


def test_the_data_are_opened_once_whether_a_run_begins_goes_on_or_swaps_a_part(opened: list[Any], tmp_path: Path) -> None:
    how: dict[str, Any] = {"out": tmp_path / "run", "settings": TINY}
    asked = iter((False, True))
    assert app.train("two-moons", steps=3, stop=lambda: next(asked), **how).ended == "stopped"
    assert opened == ["two-moons"]
    assert app.train("two-moons", steps=3, **how).ended == "done"  # the very same run goes on unasked
    assert opened == ["two-moons"] * 2
    own = open_run(tmp_path / "run").config.process
    swap = [f"process={json.dumps(to_dict(own, 'process'))}"]  # a part that may be swapped for itself alone
    assert app.train("two-moons", steps=4, out=tmp_path / "run", settings=swap, resume=True).step == 4
    assert opened == ["two-moons"] * 3
    app.plan("two-moons", steps=1, settings=TINY, pilot_seconds=0.01)
    assert opened == ["two-moons"] * 4


def test_a_run_that_may_not_go_on_is_refused_before_its_data_are_opened(opened: list[Any], tmp_path: Path) -> None:
    app.train("two-moons", out=tmp_path / "run", steps=1, settings=TINY)
    opened.clear()
    with pytest.raises(ScorefieldError, match="another seed for the run"):
        app.train("two-moons", out=tmp_path / "run", steps=2, seed=1, resume=True)
    assert opened == []


def test_a_spec_and_its_fields_as_keywords_are_the_same_run_and_a_keyword_wins(tmp_path: Path) -> None:
    spec = TrainSpec(steps=1, seed=2, settings=TINY)
    app.train("two-moons", spec, out=tmp_path / "spec")
    app.train("two-moons", out=tmp_path / "flat", steps=1, seed=2, settings=TINY)
    app.train("two-moons", spec, seed=3, out=tmp_path / "both")
    files = [(tmp_path / name / "config.json").read_bytes() for name in ("spec", "flat", "both")]
    assert files[0] == files[1] != files[2]
    assert open_run(tmp_path / "both").config.seed == 3


def test_the_image_fields_are_settings_and_a_setting_wins_over_them() -> None:
    spec = TrainSpec(size=(6, 8), fit="pad", flip=True, settings=("data.size=6",))
    assert spec.changes == ("data.size=6,8", "data.fit=pad", "data.flip=true", "data.size=6")
    run = resolve("digits", spec)
    assert (run.config.data.size, run.config.data.fit, run.config.data.flip) == (6, "pad", True)
    assert run.reasons[-3:] == ("data.size=6: set by hand", "data.fit=pad: set by hand", "data.flip=true: set by hand")


def test_the_flags_make_the_spec() -> None:
    words = "digits --time 3m --steps 5 --recipe ncsn --set levels=3 --set seed=1 --seed 4 --size 6x8 --fit pad --flip"
    asked = tyro.cli(Asked, args=words.split()).asked()
    wanted = TrainSpec(180.0, 5, "ncsn", ("levels=3", "seed=1"), 4, (6, 8), "pad", True)
    assert dataclasses.asdict(asked) == dataclasses.asdict(wanted)
    assert dataclasses.asdict(tyro.cli(Asked, args=["digits"]).asked()) == dataclasses.asdict(TrainSpec())


def test_the_help_names_every_recipe_and_the_formats_without_loading_torch() -> None:
    script = (
        "import sys; from scorefield.cli import main\ntry: main(['train', '--help'])\nfinally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    words = " ".join(done.stdout.replace("│", " ").split())
    assert words.endswith("False")
    assert all(name in words for name in registry.names("recipe"))
    assert "a Parquet or Arrow file" in words


@pytest.mark.parametrize("kind", ["recipe", "source", "ladder"])
def test_names_that_the_source_says_are_those_that_are_registered(kind: str) -> None:
    assert registry.written(kind) == registry.names(kind)


def test_the_reports_are_plain_json_values(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    report = app.train(x, out=tmp_path / "run", steps=1, settings=TINY[1:])
    values = report.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert (values["folder"], values["step"], values["ended"]) == (str(tmp_path / "run"), 1, "done")
    again = app.train(x, out=tmp_path / "run", steps=1, resume=True)
    assert math.isnan(again.held_out) and again.to_dict()["held_out"] is None


def test_a_time_that_is_not_known_is_said_to_be() -> None:
    assert duration(math.nan) == "an unknown time"
