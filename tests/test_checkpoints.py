"""Checkpoints and the run's folder under damage, failing disks and kills: nothing broken is used, nothing good is lost."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from scorefield import VE, ScorefieldError, files
from scorefield.app import train as train_run
from scorefield.config import Optimiser, RunConfig, Training, to_dict
from scorefield.data import DataConfig, Dataset, open_source
from scorefield.levels import Levels
from scorefield.nets.mlp import MLPConfig
from scorefield.objectives import Denoising
from scorefield.prediction import EDM
from scorefield.runs import build_model, load_field, manifest_of, save_model
from scorefield.samplers import Heun
from scorefield.training import checkpoint
from scorefield.training.checkpoint import Clock
from scorefield.training.loop import Trainer

CPU = torch.device("cpu")
ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)
CALLS = ("open", "write", "fsync", "replace", "mkdir", "link")  # what changes a disk, as the code under test calls it


def tensors_of(step: int) -> dict[str, dict[str, torch.Tensor]]:
    """Some tensors that say which step they are from."""
    return {
        "model": {"weight": torch.full((7, 5), float(step)), "empty": torch.zeros(0)},
        "averages": {"0.05/weight": torch.full((7, 5), step + 0.5)},
        "optimiser": {"0/step": torch.tensor(float(step))},
        "loop": {"tally": torch.arange(18, dtype=torch.float64).reshape(9, 2) * step},
    }


def is_whole(found: checkpoint.Saved | None, step: int) -> bool:
    """Whether a checkpoint is that of the step, to the last bit."""
    if found is None or found.clock != Clock(step, step / 3, 32 * step) or found.facts != {"said": ["✓"], "step": step}:
        return False
    wanted = tensors_of(step)
    return found.parts.keys() == wanted.keys() and all(
        found.parts[part].keys() == wanted[part].keys()
        and all(torch.equal(found.parts[part][name], value) for name, value in wanted[part].items())
        for part in wanted
    )


def save(folder: Path, step: int) -> Path:
    return checkpoint.save(folder, Clock(step, step / 3, 32 * step), tensors_of(step), {"said": ["✓"], "step": step})


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1 and 2."""
    folder = tmp_path / "checkpoints"
    save(folder, 1)
    save(folder, 2)
    return folder


def put_right(folder: Path) -> None:
    """Bring back what was set aside."""
    for path in folder.glob("damaged-*"):
        path.rename(folder / path.name[len("damaged-") :][: len("step-00000002")])


# --- damage ------------------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_to_the_last_bit(two: Path) -> None:
    found = checkpoint.newest(two)
    assert is_whole(found, 2)
    assert found is not None and found.damaged == []


def damaged_at_random(kind: str, count: int, dice: random.Random, newest: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield a file of the checkpoint and the bytes that are there instead; every file is hit."""
    paths = sorted(newest.iterdir())
    for i in range(count):
        path = paths[i % len(paths)]
        content = path.read_bytes()
        at = dice.randrange(len(content))
        flipped = content[:at] + bytes([content[at] ^ 1 << dice.randrange(8)]) + content[at + 1 :]
        yield path, content[:at] if kind == "truncation" else flipped


@pytest.mark.parametrize(("kind", "count"), [("truncation", 200), ("flipped bit", 500)])
def test_no_damage_is_used_and_the_older_checkpoint_is_with_a_sentence(kind: str, count: int, two: Path) -> None:
    newest, missed = two / "step-00000002", []
    for path, content in damaged_at_random(kind, count, random.Random(4), newest):
        good = path.read_bytes()
        path.write_bytes(content)
        found = checkpoint.newest(two)
        assert found is not None
        if not (is_whole(found, 1) and len(found.damaged) == 1 and "step-00000002 is damaged" in found.damaged[0]):
            missed.append((path.name, len(content)))
        put_right(two)
        path.write_bytes(good)
    assert missed == []
    assert is_whole(checkpoint.newest(two), 2)  # and it was the damage alone that was refused


@pytest.mark.parametrize("name", ["model.safetensors", "loop.safetensors", "manifest.json"])
def test_a_file_of_another_checkpoint_is_found_out(name: str, two: Path) -> None:
    shutil.copy(two / "step-00000001" / name, two / "step-00000002" / name)
    found = checkpoint.newest(two)
    assert is_whole(found, 1)
    assert found is not None and "step-00000002 is damaged" in found.damaged[0]


def test_two_checkpoints_with_each_others_names_are_found_out(two: Path) -> None:
    """Each is whole in itself; but the newer name holds the older state, and would have been preferred."""
    (two / "step-00000001").rename(two / "aside")
    (two / "step-00000002").rename(two / "step-00000001")
    (two / "aside").rename(two / "step-00000002")
    with pytest.raises(ScorefieldError, match=r"only damaged checkpoints .*step-00000002 is damaged \(it holds step 1\)"):
        checkpoint.newest(two)


def test_a_manifest_that_says_the_same_in_other_bytes_is_refused_too(two: Path) -> None:
    path = two / "step-00000002" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert is_whole(checkpoint.newest(two), 1)


def test_where_every_checkpoint_is_damaged_they_stay_where_they_are_and_every_attempt_says_so(two: Path) -> None:
    for path in two.glob("step-*/model.safetensors"):
        path.write_bytes(b"")
    for _ in range(2):  # set aside, they would be forgotten at the second attempt, and the run would begin anew
        with pytest.raises(ScorefieldError, match="only damaged checkpoints"):
            checkpoint.newest(two)


# --- failing disks -----------------------------------------------------------------------------------------------------


class Disk:
    """Counts the calls that change the disk and fails at one of them, or from one of them on."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int = 0, error: int = errno.ENOSPC, for_good: bool = False) -> None:
        self.calls: list[str] = []
        for name in CALLS:
            patch.setattr(os, name, self._watched(name, getattr(os, name), fail_at, error, for_good))

    def _watched(self, name: str, real: Callable[..., Any], fail_at: int, error: int, for_good: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) == fail_at or (for_good and len(self.calls) > fail_at > 0):
                raise OSError(error, os.strerror(error))
            return real(*arguments, **named)

        return call


def calls_of(work: Callable[[], object], patch: pytest.MonkeyPatch) -> list[str]:
    with patch.context() as inner:
        disk = Disk(inner)
        work()
    return disk.calls


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_disk_that_fails_at_any_call_of_a_save_leaves_the_previous_checkpoint(
    error: int, for_good: bool, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(two, two.parent / "trial")
    calls = calls_of(lambda: save(two.parent / "trial", 3), monkeypatch)
    assert calls.count("write") == calls.count("fsync") - 2 == 5 and calls.count("replace") == 1  # 5 files, 2 folders, 1 rename
    last = len(calls) - calls[::-1].index("fsync")  # after it, old checkpoints are dropped, and may as well stay
    for at, name in enumerate(calls[:last], start=1):
        folder = two.parent / f"{name}-{at}"
        shutil.copytree(two, folder)
        with monkeypatch.context() as patch:
            Disk(patch, at, error, for_good)
            with pytest.raises(OSError) as failure:
                save(folder, 3)
        assert failure.value.errno == error
        found = checkpoint.newest(folder)
        renamed = calls.index("replace") + 1 < at  # only its being flushed failed: it is there, and whole
        assert is_whole(found, 3 if renamed else 2)
        assert found is not None and found.damaged == []
        save(folder, 3)  # and once the disk is mended, saving works
        assert is_whole(checkpoint.newest(folder), 3)
        assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return open_source("mixture", DataConfig(examples=200))


def config_of(**training: Any) -> RunConfig:
    """A run of 60 small steps with a checkpoint after each."""
    settings = {"steps": 60, "seconds": None, "batch": 8, "ema": 0.9, "precision": "float32", "pictures": 0} | training
    return RunConfig(
        source="mixture",
        recipe="auto",
        process=VE(0.05, 8.0),
        parametrisation=EDM(data_std=1.0),
        network=MLPConfig(width=8, depth=1),
        objective=Denoising(noise_distribution=Levels(8)),
        sampler=Heun(),
        levels=8,
        data=DataConfig(examples=200),
        optimiser=Optimiser(lr=3e-3, warmup=5),
        training=Training(**({"checkpoint_seconds": 1e-9} | settings)),
    )


def trainer_of(data: Dataset, folder: Path | None, **training: Any) -> Trainer:
    config = config_of(**training)
    return Trainer(config, data, build_model(config, data.shape, 1.0), folder, CPU)


@pytest.mark.parametrize("error", ERRORS)
def test_the_run_folder_is_the_old_or_the_new_one_whatever_call_fails(
    error: int, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and manifest belong together: what is opened after a failure is the field before or the field after."""
    config, fields = config_of(), []
    for seed in (0, 1):
        model = build_model(replace(config, seed=seed), data.shape, 1.0)
        fields.append(next(iter(model.state_dict().values())).clone())
        if seed == 0:
            old = tmp_path / "old"
            old.mkdir()
            save_model(old, model, manifest_of(data, 1.0, (), 0))
            files.write_json(old / "config.json", to_dict(config))

    def keep(folder: Path) -> None:
        with files.together():
            save_model(folder, model, manifest_of(data, 1.0, (), 0))

    shutil.copytree(old, tmp_path / "trial")
    calls = calls_of(lambda: keep(tmp_path / "trial"), monkeypatch)
    assert calls.count("replace") == 2
    for at, name in enumerate(calls, start=1):
        folder = tmp_path / f"{name}-{at}"
        shutil.copytree(old, folder)
        with monkeypatch.context() as patch:
            Disk(patch, at, error)
            if name == "link":  # without a second name for the old file there is only no way back from a second failure
                keep(folder)
            else:
                with pytest.raises(OSError):
                    keep(folder)
        weights = next(iter(load_field(folder).state_dict().values()))  # verifies the sha256
        after_both = at > len(calls) - calls[::-1].index("replace")
        assert torch.equal(weights, fields[1 if after_both or name == "link" else 0])
        assert not [path.name for path in folder.iterdir() if path.name.endswith(".partial")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_line_that_cannot_be_added_to_the_log_leaves_the_log_as_it_was(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    files.append(path, b'{"step": 1}\n')
    real = os.write

    def half(handle: int, content: Any) -> int:
        if len(content) < 12:
            raise OSError(error, os.strerror(error))
        return real(handle, content[:5])  # the disk takes some of it first

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError):
        files.append(path, b'{"step": 2}\n')
    assert path.read_bytes() == b'{"step": 1}\n'


def test_what_the_system_takes_in_pieces_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: real(handle, content[:3]))
    files.write(tmp_path / "file", bytes(range(256)))
    assert (tmp_path / "file").read_bytes() == bytes(range(256))


def test_a_full_disk_is_a_warning_while_the_training_runs_and_an_error_at_its_end(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may be mended while the training goes on; stopping at once would lose everything since the last checkpoint."""
    trainer, said = trainer_of(data, tmp_path, checkpoint_seconds=1e-9), list[str]()
    with monkeypatch.context() as patch:
        for progress in trainer.run(stop=lambda: trainer.clock.step == 9):
            said += progress.messages
            if trainer.clock.step == 3:
                Disk(patch, 1, for_good=True)
            if trainer.clock.step == 6:
                patch.undo()
    assert [sentence.partition(" (")[0] for sentence in said] == [f"no checkpoint at step {step}" for step in (4, 5, 6)]
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.clock.step == 9

    with monkeypatch.context() as patch:
        with pytest.raises(ScorefieldError, match=r"error of the system at the last checkpoint, of step 12 \(.*No space left"):
            for _ in trainer.run(stop=lambda: trainer.clock.step == 12):
                Disk(patch, 1, for_good=True)
        patch.undo()
    found = checkpoint.newest(tmp_path)
    assert found is not None and found.clock.step == 9


def test_without_a_folder_nothing_is_written(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    disk = Disk(monkeypatch)
    trainer = trainer_of(data, None)
    assert not trainer.resume()
    *_, last = trainer.run(stop=lambda: trainer.clock.step == 3)
    assert last.event == "stopped"
    assert disk.calls == [] and list(tmp_path.iterdir()) == []


# --- kills and other ends of a run ---------------------------------------------------------------------------------------


def survival() -> Any:
    """The benchmark, of which this is a short version."""
    spec = importlib.util.spec_from_file_location("survival", Path(__file__).parents[1] / "benchmarks" / "survival.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare()
    return module


def test_a_run_killed_three_times_ends_bit_for_bit_where_the_uninterrupted_one_does(tmp_path: Path) -> None:
    lines: list[str] = []
    assert survival().survive(tmp_path, kills=3, processes=1, seed=1, steps=30, say=lines.append), lines
    assert sum(" killed in " in line for line in lines) == 3


SMALL = ("data.examples=200", "training.batch=8", "training.precision=float32", "training.pictures=0", "network.width=8")


def test_the_same_command_goes_on_with_a_run_cut_short_and_another_or_a_finished_one_is_refused(tmp_path: Path) -> None:
    def again(**other: Any) -> Any:
        asked = {"steps": 6, "settings": SMALL} | other
        return train_run("mixture", out=tmp_path / "run", **asked)

    count = iter(range(100))
    assert again(stop=lambda: next(count) == 3).step == 3
    with pytest.raises(ScorefieldError, match="holds a run already"):
        again(settings=(*SMALL, "network.depth=1"))
    with pytest.raises(ScorefieldError, match="holds a run already"):
        again(seed=1)
    done = again()
    assert (done.step, done.ended) == (6, "done")
    assert any("resumed at step 3" in sentence for sentence in done.messages)
    with pytest.raises(ScorefieldError, match="holds a run already"):
        again()


def test_a_run_whose_checkpoints_are_gone_is_not_begun_anew_in_silence(tmp_path: Path) -> None:
    train_run("mixture", out=tmp_path / "run", steps=3, settings=SMALL)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ScorefieldError, match=r"got no checkpoint in .*, though the run had reached step 3"):
        train_run("mixture", out=tmp_path / "run", steps=6, settings=SMALL, resume=True)


def test_two_trainings_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        files.alone(tmp_path),
        pytest.raises(ScorefieldError, match="another process is training now"),
        files.alone(tmp_path),
    ):
        pass
    with files.alone(tmp_path):  # and it is free again
        pass
