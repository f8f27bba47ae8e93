#!/usr/bin/env bash
# azula 0.11.1 with torch 2.13.0, CPU.
#
# What one would guess: a sampler that is given one measurement and a batch of starts treats every row alike, whatever the size
# of the batch: 1,024 draws in one batch are what 64 batches of 16 are.
# What it does: DPSSampler (diffusion posterior sampling) divides the pull towards the measurement by ONE norm over the whole
# batch, so a row's pull falls as 1/sqrt(batch). Alone a draw is pulled beyond the measurement and back; in large batches the
# draws hardly know of it. Other samplers of the library (here DDPM on the DiffPIR denoiser) do not depend on the batch.
# Whom it hurts: whoever tunes zeta on a few images and then draws many, compares methods on large sets of draws, or runs the
# same script on a device with more memory. Nothing is raised; the draws look like draws of the prior.
#
# Output seen, root mean square of y - A(x) of draws of N(0, I), dimension 8, of which the first number is measured, y = 2, noise
# 0.1, 100 steps:
#   azula 0.11.1, torch 2.13.0+cpu
#   DPS       batch of 1: 0.56   of 16: 0.12   of 1024: 1.50   of 16384: 2.03
#   DiffPIR   batch of 1: 0.28   of 16: 0.31   of 1024: 0.30   of 16384: 0.30
#   the prior without any measurement: 2.24
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.4.6" "azula==0.11.1"
cd "$work"
cat > see.py <<'PY'
import importlib.metadata

import torch
from azula.denoise import Denoiser, DiracPosterior
from azula.guidance import DiffPIRDenoiser, DPSSampler
from azula.noise import VPSchedule
from azula.sample import DDPMSampler

SIZE, NOISE, STEPS = 8, 0.1, 100
y = torch.tensor([2.0])


class Gaussian(Denoiser):
    """The exact denoiser of N(0, I)."""

    def __init__(self):
        super().__init__()
        self.schedule = VPSchedule()

    def forward(self, x_t, t, **_):
        alpha, sigma = self.schedule(t)
        return DiracPosterior(mean=x_t * alpha / (alpha**2 + sigma**2))


def first(x):
    return x[..., :1]


def residual(sampler, batch, repeats):
    off = []
    for seed in range(repeats):
        torch.manual_seed(seed)
        x = sampler(sampler.init((batch, SIZE)))
        off.append((first(x) - y).square().mean())
    return float(torch.stack(off).mean().sqrt())


dps = DPSSampler(Gaussian(), y, first, steps=STEPS, silent=True)
diffpir = DDPMSampler(DiffPIRDenoiser(Gaussian(), y, first, torch.tensor(NOISE**2)), steps=STEPS, silent=True)
print(f"azula {importlib.metadata.version('azula')}, torch {torch.__version__}")
seen = {}
for name, sampler in (("DPS", dps), ("DiffPIR", diffpir)):
    seen[name] = [residual(sampler, batch, max(1, 64 // batch)) for batch in (1, 16, 1024, 16384)]
    shown = "   of ".join(f"{batch}: {r:.2f}" for batch, r in zip((1, 16, 1024, 16384), seen[name], strict=True))
    print(f"{name:<9} batch of {shown}")
torch.manual_seed(0)
print(f"the prior without any measurement: {float((torch.randn(100_000) - 2).square().mean().sqrt()):.2f}")
dps_small, dps_large = seen["DPS"][1], seen["DPS"][2]
assert dps_large > 4 * dps_small, "the pull of DPS no longer depends on the batch"
assert max(seen["DiffPIR"]) < 1.5 * min(seen["DiffPIR"]), "DiffPIR depends on the batch, too"
PY
"$work/venv/bin/python" see.py
