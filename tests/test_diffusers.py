"""Against another library, where it is installed: the same betas, levels and noise give the same steps.

    pip install "scorefield[interchange]"    # optional; without it these tests are skipped

Its tables are float32, whose last digit is a ten-thousandth of sigma² at the least noise. Where its formulas are compared its
table is therefore replaced by the same table in float64, after a test of its own has shown that it is the same one.
"""

from typing import Any

import pytest
import torch

from scorefield import GaussianMixture, LinearVE, SampleRng, Tabulated
from scorefield.levels import chain_times, karras
from scorefield.samplers import DDIM, Ancestral, Euler, simulate

diffusers = pytest.importorskip("diffusers")

STEPS, EPS32 = 1000, float(torch.finfo(torch.float32).eps)
CHAIN = Tabulated.linear(STEPS)  # index n - 1 of a table is time n of the chain
FIELD = GaussianMixture([0.2, 0.5, 0.3], [[-1.0, 0.5], [0.5, 0.0], [1.0, 1.0]], [0.1, 0.2, 0.3], CHAIN)


def their_abar() -> torch.Tensor:
    """Their definition in float64: the product of 1 - beta, the betas equally spaced from 1e-4 to 0.02."""
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), dim=0)


def exactly(kind: Any, **settings: Any) -> Any:
    scheduler = kind(num_train_timesteps=STEPS, beta_schedule="linear", clip_sample=False, **settings)
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), their_abar(), rtol=STEPS * EPS32, atol=0)
    scheduler.alphas_cumprod = their_abar()
    return scheduler


def start(count: int = 64) -> torch.Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Given(SampleRng):
    """The draws of a generator, as their schedulers make them."""

    def __init__(self, rows: int, seed: int) -> None:
        super().__init__(range(rows))
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, shape: Any = ()) -> torch.Tensor:
        return torch.randn(len(self), *shape, dtype=torch.float64, generator=self.generator)


def their_run(scheduler: Any, x: torch.Tensor, **how: Any) -> torch.Tensor:
    """Their loop, with our field as the network that predicts the noise."""
    for t in scheduler.timesteps:
        predicted = FIELD(x, torch.full((len(x),), float(t) + 1, dtype=torch.float64)).noise
        x = scheduler.step(predicted, int(t), x, **how).prev_sample
    return x


def our_run(sampler: Any, ladder: torch.Tensor, x: torch.Tensor, rng: SampleRng) -> torch.Tensor:
    *_, last = simulate(FIELD, sampler, ladder, x, rng=rng)
    return last.x


def test_the_tabulated_process_is_their_table_of_betas() -> None:
    n = torch.arange(1, STEPS + 1, dtype=torch.float64)
    torch.testing.assert_close(CHAIN.alpha(n) ** 2, their_abar(), rtol=1e-12, atol=0)
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=STEPS)
    x, noise = start(), start().flip(0)
    t = torch.linspace(0, STEPS - 1, 64).long()
    theirs = scheduler.add_noise(x, noise, t)
    torch.testing.assert_close(CHAIN.perturb(x, t.double() + 1, noise), theirs, rtol=0, atol=4 * STEPS * EPS32)
    scheduler.set_timesteps(STEPS)
    assert (scheduler.timesteps + 1).tolist() == chain_times(CHAIN).flip(0).tolist()


@pytest.mark.parametrize(("variance", "theirs"), [("posterior", "fixed_small"), ("transition", "fixed_large")])
def test_ddpm_takes_their_steps_with_either_variance(variance: Any, theirs: str) -> None:
    """A hundred of the thousand, down to index 0, from the same starting noise and with the same draws."""
    scheduler = exactly(diffusers.DDPMScheduler, variance_type=theirs)
    scheduler.set_timesteps(100)
    ladder = scheduler.timesteps.double() + 1
    got = our_run(Ancestral(variance), ladder, start(), Given(64, 7))
    wanted = their_run(scheduler, start(), generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-8)
    other = our_run(Ancestral("posterior" if variance == "transition" else "transition"), ladder, start(), Given(64, 7))
    assert float((other - wanted).abs().max()) > 1e-3  # the two variances are not the same


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_ddim_takes_their_steps_on_their_times(eta: float, spacing: str) -> None:
    scheduler = exactly(diffusers.DDIMScheduler, timestep_spacing=spacing, set_alpha_to_one=True)
    scheduler.set_timesteps(50)
    got = our_run(DDIM(eta=eta), scheduler.timesteps.double() + 1, start(), Given(64, 7))
    wanted = their_run(scheduler, start(), eta=eta, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [2, 18, 40])
def test_the_karras_ladder_is_equation_5_of_edm_and_their_grid(levels: int) -> None:
    """sigma_i = (s_max^(1/7) + i/(N - 1)·(s_min^(1/7) - s_max^(1/7)))^7."""
    process = LinearVE(0.002, 80.0)
    ours = process.sigma(karras(process, levels))
    paper = [(80 ** (1 / 7) + i / (levels - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(levels)]
    torch.testing.assert_close(ours, torch.tensor(paper, dtype=torch.float64), rtol=1e-12, atol=0)
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(levels)
    assert len(scheduler.sigmas) == levels + 1 and float(scheduler.sigmas[-1]) == 0  # theirs ends with the denoised sample
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), ours, rtol=2 * EPS32, atol=0)


def test_eulers_steps_on_that_grid_are_theirs() -> None:
    process = LinearVE(0.002, 80.0)
    field = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.5, 1.0]], [0.3, 0.5], process)
    scheduler = diffusers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(18)
    snapshots = list(simulate(field, Euler(), karras(process, 18), 80 * start(), rng=SampleRng(range(64)), denoise=False))
    for here, there, t in zip(snapshots, snapshots[1:-1], scheduler.timesteps, strict=False):
        level = torch.full((64,), here.t, dtype=torch.float64)
        stepped = scheduler.step(here.x, t, here.x, pred_original_sample=field(here.x, level).denoised).prev_sample
        torch.testing.assert_close(there.x, stepped.double(), rtol=0, atol=8 * EPS32 * float(here.x.abs().max()))
