#!/usr/bin/env bash
# torch 2.13.0, CPU build (no CUDA, no MPS, no XPU).
#
# What one would guess: torch.manual_seed(n) on a machine without accelerators sets one generator, in a microsecond.
# What it does: it formats the caller's whole Python stack three times, once for every kind of accelerator that is not there (the
# stack is kept, so that a later initialisation could say who asked). The cost grows with the depth of the call: on one machine
# 424 us from a script's top level, 2,043 us fifty frames down and 10,305 us four hundred frames down, where
# torch.default_generator.manual_seed(n), which gives the very same numbers, took 1.4 us at each depth.
# Whom it hurts: whoever seeds dropout or augmentation once a step to make a training repeatable. In a training of small steps
# below a framework it was 7 % of the time.
#
# Output seen:
#   torch 2.13.0+cpu: 3 stacks formatted by one torch.manual_seed, 0 by default_generator.manual_seed
#   the same numbers: True
#   slower by the depth alone: True
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.4.6"
cd "$work"
cat > see.py <<'PY'
import time
import traceback

import torch

if torch.version.cuda is not None:
    raise SystemExit("this is about the CPU build: install torch from the CPU wheels")

count, format_stack = 0, traceback.format_stack


def counted(*args, **kwargs):
    global count
    count += 1
    return format_stack(*args, **kwargs)


def deep(frames, call):
    return call() if frames == 0 else deep(frames - 1, call)


def seconds(seed, frames):
    """The least of seven rounds: nothing makes a round faster than the work in it."""

    def rounds():
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for n in range(50):
                seed(n)
            times.append(time.perf_counter() - start)
        return min(times)

    return deep(frames, rounds)


traceback.format_stack = counted
torch.manual_seed(0)
whole, count = count, 0
torch.default_generator.manual_seed(0)
own = count
traceback.format_stack = format_stack
print(f"torch {torch.__version__}: {whole} stacks formatted by one torch.manual_seed, {own} by default_generator.manual_seed")

torch.manual_seed(5)
first = torch.rand(1000)
torch.default_generator.manual_seed(5)
same = torch.equal(first, torch.rand(1000))
print("the same numbers:", same)

slower = seconds(torch.manual_seed, 400) > 3 * seconds(torch.manual_seed, 1)
print("slower by the depth alone:", slower)
if (whole, own, same, slower) != (3, 0, True, True):
    raise SystemExit("changed: update the note above, and seed as one would guess where that is fixed")
PY
"$work/venv/bin/python" see.py
