"""Killed with SIGKILL at random moments, saves included, a run ends where the uninterrupted one does: bit for bit.

    python benchmarks/survival.py --kills 20 --processes 1
    python benchmarks/survival.py --kills 20 --processes 2

A small training of a fixed number of steps runs once without interruption. Then the same command is killed again and again,
half of the times at a random call of the system inside a save (write, fsync, rename, mkdir), half at a random step, until it
has been killed often enough and is let through. Half of the sittings say --resume, half are the very first command. Weights,
averages, moments, log (without its times) and curve are then compared byte by byte.

Sittings are forked from a process that has imported everything, and two processes get the environment that `torchrun` would
give them; when one is killed the other is, too, as `torchrun` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STEPS = 60
SMALL = ("data.examples=400", "training.batch=32", "training.precision=float32", "training.pictures=0")
SMALL += ("network.width=16", "network.depth=1", "training.checkpoint_seconds=0.02")
SYSTEM = ("write", "fsync", "replace", "mkdir", "open", "link")
TIMES = {"seconds", "images_per_second"}


def command(out: Path, steps: int, resume: bool) -> list[str]:
    """Return the arguments of the command."""
    settings = [part for setting in SMALL for part in ("--set", setting)]
    return ["train", "mixture", "--out", str(out), "--steps", str(steps), *settings, *(["--resume"] if resume else [])]


def die_at_call(count: int) -> Callable[[], None]:
    """Return what makes this process kill itself before its count-th call of the system that changes a file."""

    def arm() -> None:
        calls = [0]

        def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                calls[0] += 1
                if calls[0] == count:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)

            return call

        for name in SYSTEM:
            setattr(os, name, deadly(getattr(os, name)))

    return arm


def die_at_step(count: int) -> Callable[[], None]:
    """Return what makes this process kill itself in its count-th step, between the gradient and the weights' update."""

    def arm() -> None:
        import torch

        norm, steps = torch.nn.utils.get_total_norm, [0]

        def deadly(*arguments: Any, **named: Any) -> Any:
            steps[0] += 1
            if steps[0] == count:
                os.kill(os.getpid(), signal.SIGKILL)
            return norm(*arguments, **named)

        torch.nn.utils.get_total_norm = deadly

    return arm


def prepare() -> None:
    """Import everything that a sitting needs, once, before the forks."""
    import accelerate  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    import scorefield.app
    import scorefield.cli.train  # noqa: F401


def sitting(arguments: list[str], processes: int, arm: Callable[[], None] = lambda: None, who: int = 0) -> list[int]:
    """Run the command in so many processes; returns what each ended with: a code, or minus the signal that killed it.

    Args:
        arguments: of the command.
        processes: how many.
        arm: called in process `who` before it begins.
        who: number of that process.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children: dict[int, int] = {}
    for rank in range(processes):
        child = os.fork()
        if not child:
            _be(rank, processes, port, arguments, arm if rank == who else lambda: None)
        children[child] = rank
    ends = [0] * processes
    while children:
        child, status = os.wait()
        ends[children.pop(child)] = os.waitstatus_to_exitcode(status)
        if os.WIFSIGNALED(status):
            for other in children:
                os.kill(other, signal.SIGKILL)
    return ends


def _be(rank: int, size: int, port: int, arguments: list[str], arm: Callable[[], None]) -> None:
    """Be one of the processes, and never come back."""
    code = 1
    try:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ |= {name: str(value) for name, value in names.items()} | {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        sys.stdout = sys.stderr = open(os.environ.get("SURVIVAL_LOG", os.devnull), "a")  # noqa: SIM115
        from scorefield.cli import main

        arm()
        main(arguments)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException as error:
        import traceback

        traceback.print_exception(error)
    finally:
        sys.stdout.flush()
        os._exit(code)


def outcome(run: Path) -> dict[str, str]:
    """Return a digest of everything that must not depend on interruptions."""
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    whole = [run / "model.safetensors", run / "levels.json", *sorted(last.glob("*.safetensors"))]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    log = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    found = {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in whole}
    return found | {"metrics.jsonl": json.dumps(log)}


def survive(
    folder: Path, kills: int, processes: int, seed: int, steps: int = STEPS, say: Callable[[str], None] = print
) -> bool:
    """Kill a run so often, let it through, and compare it with the uninterrupted one; returns whether they are the same."""
    dice = random.Random(seed)
    whole, hurt = folder / f"whole-{processes}", folder / f"hurt-{processes}"
    start = time.perf_counter()
    if sitting(command(whole, steps, False), processes) != [0] * processes:
        raise SystemExit("the uninterrupted run failed")
    say(f"{processes} process(es), {steps} steps, uninterrupted: {time.perf_counter() - start:.1f} s")
    killed = sittings = 0
    while killed < kills:
        inside_save, resume, who = dice.random() < 0.5, dice.random() < 0.5, dice.randrange(processes)
        snapshot = dice.randrange(1, 120) if inside_save else dice.randrange(1, 2 + steps // kills)
        who = 0 if inside_save else who  # the first process alone saves
        arm = die_at_call(snapshot) if inside_save else die_at_step(snapshot)
        ends, sittings = sitting(command(hurt, steps, resume), processes, arm, who), sittings + 1
        died = ends[who] == -signal.SIGKILL
        killed += died
        reached = max((int(p.name[5:]) for p in (hurt / "checkpoints").glob("step-*")), default=0)
        what = f"call {snapshot} of the system" if inside_save else f"step {snapshot}"
        say(f"  sitting {sittings:2d}: {'killed' if died else 'NOT killed'} in process {who} at its {what}; reached {reached}")
        if not died:
            if any(ends) or reached < steps:
                say(f"  ended with {ends}")
                return False
            shutil.rmtree(hurt)  # it got through: begin again
    ends = sitting(command(hurt, steps, True), processes)
    one, other = outcome(whole), outcome(hurt)
    different = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    say(f"{killed} kills in {sittings} sittings, the last ended with {ends}; different: {different or 'nothing'}")
    return not different and not any(ends)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory() as place:
        same = survive(Path(place), chosen.kills, chosen.processes, chosen.seed)
    print("bit for bit the same" if same else "DIFFERENT")
    raise SystemExit(0 if same else 1)
