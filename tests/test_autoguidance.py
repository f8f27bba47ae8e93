"""The early average of a run: whose weights it has, that nothing but its file tells of it, and what a run without it says."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import command, contents
from torch import Tensor

from scorefield import SampleRng, ScorefieldError, app
from scorefield.drawing import Drawing
from scorefield.guidance import Autoguidance
from scorefield.runs import Run, load_field, open_run
from scorefield.specs import SampleSpec
from scorefield.training.averages import EARLY, TOO_LATE, Averages

SMALL = ("network.width=8", "network.depth=1", "training.precision=float32", "training.pictures=0", "training.batch=16")
STEPS = 16  # so that EARLY is after two of them


def train(out: Path, steps: int = STEPS, stop_at: int | None = None, **more: Any) -> Run:
    """Train on moons; stop after a step."""
    seen = {"steps": 0}

    def stop() -> bool:
        seen["steps"] += 1
        return stop_at is not None and seen["steps"] > stop_at

    settings = () if more.get("resume") else ("data.examples=200", *SMALL)
    app.train("two-moons", out=out, steps=steps, settings=settings, stop=stop, **more)
    return open_run(out)


def weights(field: Any) -> dict[str, Tensor]:
    return dict(field.state_dict())


def same(one: Any, other: Any) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("early") / "run")


def test_it_is_the_average_that_was_shown_after_an_eighth_of_the_training(whole: Run, tmp_path: Path) -> None:
    """A run that is stopped there shows that average."""
    assert EARLY * STEPS == 2
    stopped = train(tmp_path / "stopped", stop_at=2)
    assert stopped.manifest["progress"]["step"] == 2
    assert same(whole.early_field, stopped.field)
    assert not same(whole.early_field, whole.field)


@pytest.mark.parametrize("stop_at", [1, 2, 5])
def test_stop_and_resume_keep_the_same_one_to_the_last_bit(stop_at: int, whole: Run, tmp_path: Path) -> None:
    """Stopped before it is kept, at that step and after; the folder is then gone, but for its checkpoint."""
    stopped = train(tmp_path / "run", stop_at=stop_at)
    (stopped.path / "early.safetensors").unlink(missing_ok=True)
    again = train(tmp_path / "run", resume=True)
    for name in ("early", "model"):
        assert (again.path / f"{name}.safetensors").read_bytes() == (whole.path / f"{name}.safetensors").read_bytes()
    assert again.manifest["early_sha256"] == whole.manifest["early_sha256"]


def test_a_training_that_goes_on_for_longer_keeps_one_that_is_an_eighth_of_the_whole(tmp_path: Path) -> None:
    """At step 4 of 64 it is young again, until step 8, where the stopped run shows the average that is kept."""
    first = train(tmp_path / "run", steps=4)
    young = weights(first.early_field)
    stopped = train(tmp_path / "run", steps=64, stop_at=4, resume=True)
    assert stopped.manifest["progress"]["step"] == 8 == EARLY * 64
    shown = weights(stopped.field)
    early = weights(train(tmp_path / "run", steps=64, resume=True).early_field)
    assert all(torch.equal(early[name], value) for name, value in shown.items())
    assert not all(torch.equal(early[name], value) for name, value in young.items())


def test_a_training_that_went_by_without_one_does_not_keep_a_late_one(whole: Run) -> None:
    """As a run of an older version does that goes on near its end; a training of few steps keeps what comes next."""
    averages = Averages(whole.field, (0.05,))
    averages.update(13, TOO_LATE + 0.01)
    assert averages.early is None and not any(name.startswith("early/") for name in averages.state())
    averages.update(13, TOO_LATE)
    assert averages.early is not None


# --- autoguidance of a run --------------------------------------------------------------------------------------------


def test_samples_of_a_run_are_led_away_from_its_early_field(whole: Run) -> None:
    spec = SampleSpec("abm", 6, autoguidance=2.0)
    x, t = SampleRng(range(5)).normal((2,)), torch.full((5,), 0.5, dtype=torch.float64)
    good, bad = whole.field(x, t).score, whole.early_field(x, t).score
    torch.testing.assert_close(Drawing.of(whole, spec).field(x, t).score, bad + 2 * (good - bad), rtol=1e-12, atol=1e-12)
    assert isinstance(Drawing.of(whole, spec).field, Autoguidance)
    assert not torch.equal(Drawing.of(whole, spec).draw(4), Drawing.of(whole, SampleSpec("abm", 6)).draw(4))
    assert torch.equal(
        Drawing.of(whole, SampleSpec("abm", 6, autoguidance=1.0)).draw(4), Drawing.of(whole, SampleSpec("abm", 6)).draw(4)
    )


def test_a_run_without_early_weights_says_so_and_nothing_is_written(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(whole.path, tmp_path / "old"))
    (old / "early.safetensors").unlink()
    before = contents(tmp_path)
    assert command("sample", old, "--autoguidance", 2, "--out", tmp_path / "x.png") == 2
    assert "without weights from early in its training, expected some for autoguidance: train anew" in capsys.readouterr().err
    assert contents(tmp_path) == before
    assert load_field(old) is not None


def test_damaged_early_weights_are_not_used(whole: Run, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole.path, tmp_path / "copy"))
    content = bytearray((copy / "early.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "early.safetensors").write_bytes(bytes(content))
    with pytest.raises(ScorefieldError, match=r"early\.safetensors that differs from the manifest"):
        _ = open_run(copy).early_field
    assert same(open_run(copy).field, whole.field)
