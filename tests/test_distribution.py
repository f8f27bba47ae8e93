"""Many processes: the batch, the weights and the end are those of one process; one alone writes and prints."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import each_case
from safetensors.torch import load_file

from scorefield import ScorefieldError
from scorefield.distribution import World


def benchmark() -> Any:
    """The launcher of the benchmark `survival`, which forks processes with the environment of `torchrun`."""
    spec = importlib.util.spec_from_file_location("survival", Path(__file__).parents[1] / "benchmarks" / "survival.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare()
    return module


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted((run / "checkpoints").glob("step-*"))[-1] / "model.safetensors")


@each_case(size=[1, 2, 3, 7, 64])
@each_case(batch=[64, 100])
def test_the_shares_of_all_processes_are_the_batch_in_order_and_differ_by_one_at_most(size: int, batch: int) -> None:
    shares = [World(rank, size).share(batch) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(batch))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_agrees_with_itself_without_any_message() -> None:
    world, tensor = World(), torch.ones(3)
    world.sum_([tensor])
    assert torch.equal(tensor, torch.ones(3))
    assert (world.maximum(0.0, 2.5), world.gather("a"), world.broadcast("b"), world.agreed(lambda: 4)) == (
        [0.0, 2.5],
        ["a"],
        "b",
        4,
    )
    with pytest.raises(ScorefieldError, match="a mistake"):
        world.agreed(lambda: (_ for _ in ()).throw(ScorefieldError("a mistake")))


STEPS = 30


def test_two_processes_learn_what_one_learns_and_resume_in_another_number(tmp_path: Path) -> None:
    """Sums of float32 in another order: the difference is of the order of rounding, 2^-24, times steps, not of learning."""
    run = benchmark()
    one, two, mixed = tmp_path / "one", tmp_path / "two", tmp_path / "mixed"
    assert run.sitting(run.command(one, STEPS, False), 1) == [0]
    assert run.sitting(run.command(two, STEPS, False), 2) == [0, 0]
    assert run.sitting(run.command(mixed, STEPS, False), 2, run.die_at_step(STEPS // 2), who=1)[1] == -signal.SIGKILL
    begun = weights_of(mixed)
    assert run.sitting(run.command(mixed, STEPS, True), 1) == [0]
    reference = weights_of(one)
    apart = 0.0
    for other in (two, mixed):
        for name, value in weights_of(other).items():
            size, differs = float(reference[name].abs().max()), float((value - reference[name]).abs().max())
            assert differs <= STEPS * 8 * 2**-24 * max(size, 1.0), name
            apart = max(apart, differs)
    learned = max(float((begun[name] - value).abs().max()) for name, value in reference.items())
    # The second half of the run moved the weights far more than the bound, and a thousand times more than the runs differ.
    assert learned > 100 * STEPS * 8 * 2**-24 and learned > 1000 * apart
    logs = [[json.loads(line) for line in (run_ / "metrics.jsonl").read_text().splitlines()] for run_ in (one, two)]
    assert [(line["event"], line["step"]) for line in logs[0]] == [(line["event"], line["step"]) for line in logs[1]]


def test_a_mistake_ends_every_process_with_the_code_of_a_mistake(tmp_path: Path) -> None:
    run = benchmark()
    assert run.sitting(["train", "mixtrue", "--out", str(tmp_path / "run"), "--steps", "3"], 2) == [2, 2]
    few = [*run.command(tmp_path / "run", 3, False), "--set", "training.batch=1"]
    assert run.sitting(few, 2) == [2, 2]
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_torchrun_stops_at_a_signal_with_everything_saved_and_prints_once(tmp_path: Path) -> None:
    """A SIGTERM to the launcher reaches every process; all agree on the step, one saves."""
    arguments = [*benchmark().command(tmp_path / "run", 2500, False), "--set", "training.checkpoint_seconds=1000"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "scorefield"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([*launch, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        log = tmp_path / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(timeout=120)[0].decode()
    assert process.returncode not in (0, None)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())["progress"]
    checkpoint = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    assert manifest["step"] == int(checkpoint.name[5:]) > 0 and not manifest["finished"]
    assert printed.count("stopped at step") == 1 and printed.count("recipe auto") == 1, printed
