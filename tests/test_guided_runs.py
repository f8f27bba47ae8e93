"""`scorefield sample --guidance`: the same bytes from every face, what a set says of itself, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents

from scorefield import SampleRng, ScorefieldError, app
from scorefield.drawing import Drawing, choose_sampler, field_of
from scorefield.guidance import ClassifierFree
from scorefield.runs import open_run
from scorefield.specs import SampleSpec

SMALL = ("network.width=8", "network.depth=1", "training.precision=float32", "training.pictures=0", "training.batch=16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on two labelled classes: `some`, trained with and without them, and `all`, trained with them alone."""
    place = tmp_path_factory.mktemp("guided")
    y = torch.arange(200) % 2
    x = SampleRng(range(200)).normal((2,)) + torch.stack([4 * (2.0 * y - 1), torch.zeros(200)], dim=1)
    np.savez(place / "both.npz", x=x.numpy().astype(np.float32), y=y.numpy())
    for name, labels in (("some", 0.5), ("all", 1.0)):
        app.train(str(place / "both.npz"), out=place / name, steps=12, settings=(*SMALL, f"training.labels={labels}"))
    app.train("two-moons", out=place / "none", steps=8, settings=("data.examples=200", *SMALL))
    return place


def test_the_field_of_a_guided_drawing_is_that_of_its_spec(folder: Path) -> None:
    run = open_run(folder / "some")
    x, t, cond = SampleRng(range(6)).normal((2,)), torch.full((6,), 0.5, dtype=torch.float64), torch.arange(6) % 2
    spec = SampleSpec(guidance=2.5)
    wanted = -1.5 * run.field(x, t).score + 2.5 * run.field(x, t, cond).score
    torch.testing.assert_close(field_of(run, spec=spec)(x, t, cond).score, wanted, rtol=1e-12, atol=1e-12)
    both = field_of(run, spec=SampleSpec(guidance=2.0, autoguidance=1.5, guidance_interval=(0.1, 5.0), temperature=0.8))
    assert bool(both(x, t, cond).score.isfinite().all())
    assert field_of(run) is run.field


def test_python_and_the_command_give_the_same_bytes_and_strength_one_those_without_guidance(folder: Path) -> None:
    run, how = folder / "some", {"n": 6, "sampler": "abm", "steps": 5}
    words = ["sample", run, "-n", 6, "--sampler", "abm", "--steps", 5]
    app.sample(run, **how, out=folder / "python.npz", guidance=2.0, guidance_interval=(0.1, 5.0), label="1")
    asked = ["--guidance", 2, "--guidance-interval", "0.1,5", "--label", "1"]
    assert command(*words, *asked, "--out", folder / "command.npz") == 0
    app.sample(run, **how, out=folder / "plain.npz")
    assert command(*words, "--guidance", 1, "--autoguidance", 1, "--out", folder / "one.npz") == 0
    made = {name: (folder / f"{name}.npz").read_bytes() for name in ("python", "command", "plain", "one")}
    assert made["python"] == made["command"] != made["plain"] == made["one"]


def test_a_set_says_how_it_was_guided_and_the_report_how_often_the_network_is_asked(folder: Path) -> None:
    run = open_run(folder / "some")
    about = Drawing.of(run, SampleSpec(guidance=2.0, guidance_interval=(0.1, 5.0), autoguidance=1.5)).about
    assert {key: about[key] for key in ("guidance", "autoguidance", "guidance_interval")} == {
        "guidance": 2.0,
        "autoguidance": 1.5,
        "guidance_interval": (0.1, 5.0),
    }
    json.dumps(about)
    report = app.sample(folder / "some", n=4, steps=4, out=folder / "said.npz", guidance=2.0, autoguidance=1.5)
    assert report.note is not None and "asks the network 4 times" in report.note
    assert app.sample(folder / "some", n=4, steps=4, out=folder / "unsaid.npz").note is None


def test_an_optimised_ladder_is_made_for_the_guided_field(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[Any]()

    def optimised(field: Any, levels: int, **more: Any) -> torch.Tensor:
        asked.append(field)
        return torch.linspace(1, 0.1, levels, dtype=torch.float64)

    monkeypatch.setattr("scorefield.drawing.optimised", optimised)
    choose_sampler(open_run(folder / "some"), SampleSpec("abm", 5, "optimised", guidance=2.0))
    assert isinstance(asked[0], ClassifierFree)


def test_sampler_with_metropolis_test_reports_the_curl_of_the_guided_field(folder: Path) -> None:
    report = app.sample(folder / "some", n=4, out=folder / "mala.npz", sampler="annealed-mala", steps=6, guidance=2.0)
    assert report.acceptance


REFUSED = [  # run, flags, what is said
    ("none", ["--guidance", 2], "which was trained without classes, expected none: leave it out, try --autoguidance"),
    (
        "all",
        ["--guidance", 2],
        "which was trained with the class of every example (training.labels=1), expected one that was also trained",
    ),
    ("some", ["--guidance", -1], "got a guidance of -1, expected a number >= 0, where 1 is no guidance: try 1.5 or 2"),
    ("some", ["--guidance", "nan"], "got a guidance of nan, expected a number >= 0"),
    ("some", ["--autoguidance", "inf"], "got a guidance of inf, expected a number >= 0"),
    ("some", ["--guidance", 2, "--guidance-interval", "5,0.2"], "from 5 to 0.2, expected noise levels low < high"),
    ("some", ["--guidance", 2, "--guidance-interval", "5"], "got --guidance-interval '5', expected two noise levels LOW,HIGH"),
    ("some", ["--guidance-interval", "1,2"], "got --guidance-interval without guidance, expected some inside it"),
]


@pytest.mark.parametrize(("run", "flags", "said"), REFUSED)
def test_guidance_that_cannot_be_is_refused_and_nothing_is_written(
    run: str, flags: list[Any], said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert command("sample", folder / run, "-n", 4, *flags, "--out", folder / "refused.png") == 2
    assert said in capsys.readouterr().err
    assert contents(folder) == before


def test_a_run_that_knows_only_classes_is_still_led_away_from_its_early_self(folder: Path) -> None:
    assert app.sample(folder / "all", n=4, steps=4, out=folder / "auto.npz", autoguidance=2.0).samples == 4
    with pytest.raises(ScorefieldError, match="got guidance='much' for sample, expected a number"):
        app.sample(folder / "all", n=4, guidance="much")
    with pytest.raises(ScorefieldError, match="got a guidance of nan"):
        app.sample(folder / "some", n=4, guidance=math.nan)
