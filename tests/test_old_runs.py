"""Runs of older versions: this one opens them, draws what they drew, and goes on with them.

The folders in `runs/` were written by the version that names them (`runs/README.md`), so they speak of components, settings and
files by the names of that time. Their networks compute in float32, whose rounding belongs to a machine: samples agree to 1e-5
of their spread.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from scorefield import runs
from scorefield.cli import main

KEPT = Path(__file__).parent / "runs"
RUNS = sorted((folder.parent.name, folder.name) for folder in KEPT.glob("*/*/"))
WITH_CHECKPOINTS = [(version, name) for version, name in RUNS if (KEPT / version / name / "checkpoints").exists()]
STEPS, MORE = 20, 5


def copy(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the runs of a version and their data, and work there."""
    folder = Path(shutil.copytree(KEPT / version, tmp_path / "copy"))
    monkeypatch.chdir(folder)
    return folder


def data_of(name: str) -> str:
    return "people.csv" if name == "adams" else "points.npy"


def expected(version: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((KEPT / version / "expected.json").read_text())[name]
    return found


def drawn(name: str) -> np.ndarray:
    """Draw four samples by the command, as the values were recorded."""
    main(["sample", name, "-n", "4", "--out", "drawn.npz", "--force"])
    with np.load("drawn.npz") as found:
        (only,) = found.values()
    return only


def agree(found: np.ndarray, values: list[list[float]]) -> None:
    wanted = np.array(values)
    assert found.shape == wanted.shape
    assert (np.abs(found - wanted).max(axis=0) <= 1e-5 * wanted.std(axis=0)).all()


def values_of(tensors: dict[str, torch.Tensor]) -> list[list[float]]:
    """Return the values of all tensors as the network computes with them, in float32, in an order that is not that of names."""
    return sorted(tensor.flatten().float().tolist() for tensor in tensors.values())


def test_every_kind_of_old_run_is_there() -> None:
    assert {version for version, _ in RUNS} == {"0.4", "0.5"}
    assert {name for version, name in RUNS if version == "0.4"} == {"adams", "flow", "chain", "still"}


@pytest.mark.parametrize(("version", "name"), RUNS)
def test_it_opens_with_the_weights_that_were_written(
    version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy(version, tmp_path, monkeypatch)
    run = runs.open_run(name)
    assert run.manifest["scorefield"].startswith(version)
    assert run.manifest["progress"]["step"] == STEPS
    assert hashlib.sha256((folder / name / "model.safetensors").read_bytes()).hexdigest() == run.manifest["model_sha256"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what an older version did otherwise
        state = run.field.state_dict()
    stored = load_file(folder / name / "model.safetensors")
    assert values_of(state) == values_of(stored)


@pytest.mark.parametrize(("version", "name"), RUNS)
def test_it_draws_what_it_drew(version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(version, tmp_path, monkeypatch)
    agree(drawn(name), expected(version, name)["samples"])


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_it_was_tuned_to_holds(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(version, tmp_path, monkeypatch)
    drawn("adams")
    assert "on 4 levels, 4 evaluations each" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "name"), RUNS)
def test_it_can_be_inspected(
    version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy(version, tmp_path, monkeypatch)
    main(["inspect", name])
    shown = capsys.readouterr().out
    assert f"{STEPS} steps, 320 examples" in shown
    assert f"scorefield {version}" in shown
    main(["inspect", name, "--json"])
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((KEPT / version / name / "manifest.json").read_text())
    kept["data"]["normaliser"] = kept["data"].pop("affine")  # as it is called now
    assert said["manifest"] == kept
    levels = {"adams": 4, "flow": 20, "chain": 10, "still": 1}[name]
    assert len(said["sigmas"]) == levels


@pytest.mark.parametrize(("version", "name"), WITH_CHECKPOINTS)
def test_it_goes_on(version: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy(version, tmp_path, monkeypatch)
    before = load_file(folder / name / "model.safetensors")
    main(["train", data_of(name), "--out", name, "--resume", "--steps", str(STEPS + MORE)])
    manifest = json.loads((folder / name / "manifest.json").read_text())
    assert manifest["progress"]["step"] == STEPS + MORE
    assert manifest["progress"]["images"] == 16 * (STEPS + MORE)
    assert manifest["progress"]["finished"]
    after = load_file(folder / name / "model.safetensors")
    assert values_of(after) != values_of(before)
    agree(drawn(name), expected(version, name)["gone on"])


def test_without_its_checkpoint_it_still_draws_but_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy("0.4", tmp_path, monkeypatch)
    with pytest.raises(SystemExit) as end:
        main(["train", data_of("still"), "--out", "still", "--resume", "--steps", str(STEPS + MORE)])
    assert end.value.code == 2
    assert "no checkpoint" in capsys.readouterr().err
    agree(drawn("still"), expected("0.4", "still")["samples"])
