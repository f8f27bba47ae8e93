#!/usr/bin/env bash
# diffusers 0.42.1 with torch 2.13.0, CPU.
#
# What one would guess: the last step of DDPM's ancestral sampling gives the mean, without noise, whatever grid the steps stand on;
# and the published choice between the two variances ("fixed_small", "fixed_large") is a matter of the steps before it.
# What it does: DDPMScheduler leaves the noise out where the index is 0. With timestep_spacing="trailing", the spacing that its
# documentation and "Common diffusion noise schedules and sample steps are flawed" (Lin et al. 2023) recommend for few steps, the
# last index is not 0 (19 of 1,000 for 50 steps). "fixed_small" is then 0 by its own formula, "fixed_large" is 1 - abar: the result
# has noise of standard deviation sqrt(1 - abar) on it. Nothing is raised. DDIMScheduler with eta = 1 has none.
# Whom it hurts: a model whose config says "fixed_large" (as that of the first DDPM's CIFAR-10 does) drawn in few steps with the
# recommended spacing: 10 of 255 grey levels of grain at 50 steps, 22 at 20, on every image, which looks like a badly trained model.
#
# Output seen, for data that are all 0, with the exact noise prediction:
#   diffusers 0.42.1, torch 2.13.0+cpu
#   DDPMScheduler fixed_large  leading   last index  0: standard deviation 0.0000
#   DDPMScheduler fixed_large  trailing  last index 19: standard deviation 0.0765
#   DDPMScheduler fixed_small  leading   last index  0: standard deviation 0.0000
#   DDPMScheduler fixed_small  trailing  last index 19: standard deviation 0.0000
#   DDIMScheduler eta 1        trailing  last index 19: standard deviation 0.0000
#   sqrt(1 - abar) at index 19: 0.0760
#   in 20 steps: 22 grey levels of 255
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.13.0" "numpy==2.4.6" "diffusers==0.42.1"
cd "$work"
cat > see.py <<'PY'
import importlib.metadata

import torch
from diffusers import DDIMScheduler, DDPMScheduler


def last(kind, spacing, steps=50, **settings):
    """Draw with the exact noise prediction of data that are all 0, so that what comes out is the error."""
    scheduler = kind(1000, beta_schedule="linear", clip_sample=False, timestep_spacing=spacing, **settings)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    for t in scheduler.timesteps:
        sigma = (1 - scheduler.alphas_cumprod[t]).sqrt()
        more = {} if kind is DDPMScheduler else {"eta": 1.0}
        x = scheduler.step(x / sigma, t, x, generator=generator, **more).prev_sample
    return int(t), float(x.std()), float(sigma)


print(f"diffusers {importlib.metadata.version('diffusers')}, torch {torch.__version__}")
seen = {}
for kind, variance, spacing in (
    (DDPMScheduler, "fixed_large", "leading"),
    (DDPMScheduler, "fixed_large", "trailing"),
    (DDPMScheduler, "fixed_small", "leading"),
    (DDPMScheduler, "fixed_small", "trailing"),
    (DDIMScheduler, None, "trailing"),
):
    index, std, sigma = last(kind, spacing, **({"variance_type": variance} if variance else {}))
    seen[variance, spacing] = std
    print(f"{kind.__name__} {variance or 'eta 1':<12} {spacing:<9} last index {index:>2}: standard deviation {std:.4f}")
print(f"sqrt(1 - abar) at index {index}: {sigma:.4f}")
assert abs(seen["fixed_large", "trailing"] / sigma - 1) < 0.03, "the last step of fixed_large no longer adds noise"
assert max(std for key, std in seen.items() if key != ("fixed_large", "trailing")) < 1e-4, "others add noise, too"
for steps in (20,):
    print(f"in {steps} steps: {255 / 2 * last(DDPMScheduler, 'trailing', steps, variance_type='fixed_large')[1]:.0f} grey levels of 255")
PY
"$work/venv/bin/python" see.py
