"""The early average of a run: whose weights it has, that nothing but its file tells of it, and what a run without it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import command, contents
from torch import Tensor

from scorefield import SampleRng, ScorefieldError, app, files
from scorefield.distillation import distil
from scorefield.drawing import Drawing, field_of
from scorefield.guidance import Autoguidance
from scorefield.runs import Run, load_field, open_run
from scorefield.specs import SampleSpec, TrainSpec
from scorefield.training.averages import EARLY, TOO_LATE, Averages
from scorefield.training.resolve import resolve

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


@pytest.fixture(scope="module")
def led(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that draws with autoguidance by default."""
    folder = Path(shutil.copytree(whole.path, tmp_path_factory.mktemp("led") / "run"))
    config = json.loads((folder / "config.json").read_text())
    files.write_json(folder / "config.json", config | {"autoguidance": 2.0})
    return open_run(folder)


def test_a_run_draws_with_its_own_autoguidance_where_nothing_else_is_asked(whole: Run, led: Run) -> None:
    x, t = SampleRng(range(5)).normal((2,)), torch.full((5,), 0.5, dtype=torch.float64)
    good, bad = led.field(x, t).score, led.early_field(x, t).score

    def drawn(**asked: Any) -> Tensor:
        return Drawing.of(led, SampleSpec(**asked)).field(x, t).score

    torch.testing.assert_close(drawn(), bad + 2 * (good - bad), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(drawn(sampler="heun", seed=3), drawn(), rtol=0, atol=0)
    torch.testing.assert_close(drawn(autoguidance=1.5), bad + 1.5 * (good - bad), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(drawn(autoguidance=1.0), good, rtol=0, atol=0)
    tempered = Drawing.of(whole, SampleSpec(temperature=0.5)).field(x, t).score
    torch.testing.assert_close(drawn(temperature=0.5), tempered, rtol=0, atol=0)
    ends = led.config.process.sigma(t) / led.config.process.alpha(t)
    inside, outside = ((float(ends[0]) * low, float(ends[0]) * high) for low, high in ((0.9, 1.1), (2.0, 3.0)))
    torch.testing.assert_close(drawn(guidance_interval=inside), drawn(), rtol=0, atol=0)
    torch.testing.assert_close(drawn(guidance_interval=outside), good, rtol=0, atol=0)
    assert field_of(led) is led.field  # what likelihood, denoising and restoration ask
    assert Drawing.of(led, SampleSpec()).said.endswith(", autoguidance 2")
    assert app.evaluate(led.path, n=20).sampler.endswith(", autoguidance 2")
    report = app.sample(led.path, n=4, steps=4, out=led.path / "some.npz")
    assert report.note is not None and "asks the network 2 times" in report.note


def test_a_tuned_ladder_is_of_the_field_that_is_drawn_from(led: Run, tmp_path: Path) -> None:
    tuned = Path(shutil.copytree(led.path, tmp_path / "tuned"))
    times = [0.9, 0.5, 0.1]
    chosen = {"sampler": "heun", "steps": 3, "ladder": "optimised", "times": times, "evaluations": 5, "why": ""}
    files.write_json(tuned / "sampling.json", chosen | {"model_sha256": led.manifest["model_sha256"]})
    run = open_run(tuned)
    for asked in ({}, {"seed": 7}, {"autoguidance": 2.0}):
        assert Drawing.of(run, SampleSpec(**asked)).ladder.tolist() == times
    assert Drawing.of(run, SampleSpec(autoguidance=1.0)).ladder.tolist() != times


def test_a_generator_is_made_of_what_is_drawn_from_and_has_no_autoguidance_itself(
    led: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[Any]()

    class Seen(distil.Matcher):
        def __init__(self, field: Any, network: Any, *more: Any, **how: Any) -> None:
            seen.extend([field, network])
            super().__init__(field, network, *more, **how)

    monkeypatch.setattr(distil, "Matcher", Seen)
    folder = app.distill(led.path, steps=2, evaluations=1, out=tmp_path / "few").folder
    assert isinstance(seen[0], Autoguidance) and seen[0].strength == 2 and not isinstance(seen[1], Autoguidance)
    few = open_run(folder)
    assert Drawing.of(few, SampleSpec()).field is few.generator
    assert isinstance(Drawing.of(few, SampleSpec("abm")).field, Autoguidance)  # from its score


def test_many_images_of_the_default_recipe_have_autoguidance_and_nothing_else_has(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    many = numbers.integers(0, 255, (11_200, 4, 4), dtype=np.uint8)  # 10,080 to learn from
    sources = {
        "image": many,
        "few": many[:11_000],
        "colour": np.stack([many] * 3, axis=-1),
        "signal": numbers.normal(size=(11_200, 2, 9)).astype(np.float32),
        "vector": numbers.normal(size=(11_200, 3)).astype(np.float32),
        "volume": numbers.normal(size=(11_200, 4, 4, 4)).astype(np.float32),
    }
    for kind, values in sources.items():
        found = resolve(values, TrainSpec(steps=1, settings=("data.axes=zyx",) if kind == "volume" else ()))
        wanted = kind in ("image", "colour")
        assert found.data.kind == ("image" if wanted or kind == "few" else kind)
        assert found.config.autoguidance == (1.5 if wanted else 1), kind
        assert any("autoguidance = 1.5" in reason for reason in found.reasons) == wanted
    assert resolve(many, TrainSpec(steps=1, recipe="ncsnv2")).config.autoguidance == 1
    assert resolve(many, TrainSpec(steps=1, settings=("autoguidance=1",))).config.autoguidance == 1


def test_a_run_without_early_weights_says_so_and_nothing_is_written(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = Path(shutil.copytree(whole.path, tmp_path / "old"))
    (old / "early.safetensors").unlink()
    files.write_json(old / "config.json", json.loads((old / "config.json").read_text()) | {"autoguidance": 2.0})
    assert not isinstance(Drawing.of(open_run(old), SampleSpec()).field, Autoguidance)
    assert app.sample(old, n=2, steps=2, out=tmp_path / "x.npz").note is None
    (tmp_path / "x.npz").unlink()
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
