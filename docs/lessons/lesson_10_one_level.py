r"""
10. One noise level is not enough
=================================

Lessons 6, 7 and 9 ended with the same advice: add noise. How much? This lesson shows that a high level gives the wrong
density, a low one gives a sampler that never arrives, no level in between does both, and that a ladder of levels in constant
ratio does.

**Too high.** The density at the level :math:`\sigma` has the variance :math:`v + \sigma^2` where the data have v. One could
remove the noise at the end by the posterior mean, :math:`D(x) = x + \sigma^2 s_\sigma(x)` for data around zero. For
:math:`\mathcal N(0, v)` that is :math:`D(x) = x\, v/(v + \sigma^2)`, with the variance

.. theorem:: denoised-is-too-narrow

   \operatorname{Var} D(x) = \left(\frac{v}{v + \sigma^2}\right)^2 (v + \sigma^2) = \frac{v^2}{v + \sigma^2} < v.

Noisy samples are too wide, and denoised ones too narrow: what the noise has destroyed, a mean does not bring back.

**Too low.** By :ref:`lesson 9 <sphx_glr_book_lesson_09_mode_weights.py>` the shares of two modes at :math:`\pm a` relax
within a time that grows like :math:`e^{a^2/(2(v + \sigma^2))}`, and a step of Langevin dynamics is at most of the size of
:math:`v + \sigma^2`.
"""

# %%
# Both in one picture
# -------------------
#
# Modes of width 1 at :math:`\pm 5`. On the left the number of steps that Langevin dynamics needs to relax, with
# :math:`\tau = (v + \sigma^2)/10`; on the right what is wrong with the variance of a mode, before and after denoising:

import math

import matplotlib.pyplot as plt
import torch

from scorefield import VE, Gaussian, GaussianMixture, LinearVE, SampleRng, geometric, log_cauchy, uniform
from scorefield.samplers import Annealed, AnnealedMala, Langevin, simulate
from scorefield.samplers.base import sample

a, v = 5.0, 1.0
sigmas = torch.logspace(-1.5, 1, 60, dtype=torch.float64)
w = v + sigmas**2
steps = math.pi * w / (2 * a) * (2 * math.pi * w * 0.16).sqrt() * (a**2 / (2 * w)).exp() / (w / 10)

figure, (left, right) = plt.subplots(1, 2)
left.loglog(sigmas, steps)
left.set(xlabel="noise level σ, in units of x", ylabel="steps to relax", title="Low levels do not arrive")
right.semilogx(sigmas, w / v, label="noisy samples")
right.semilogx(sigmas, v / w, "--", label="denoised samples")
right.axhline(1, color="black", linewidth=0.8, linestyle=":")
right.set(
    xlabel="noise level σ, in units of x", ylabel="variance over that of the data", title="High levels are wrong", ylim=(0, 3)
)
right.legend()

# %%
# At :math:`\sigma = 0.3` the variance is right to 10 %, and it takes 300,000 steps. At :math:`\sigma = 3` it takes 35, and
# the variance is ten times too large. (The formula is for modes that are apart; above :math:`\sigma = 5`, where they have
# merged, nothing is in the way.)
#
# Eight modes
# -----------
#
# Eight modes of the weights 1/36, 2/36, ... 8/36 and the width 0.1. The same number of steps, 300, at one high level, at one
# low level, and down a ladder:

angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
centres = 2 * torch.stack([angles.cos(), angles.sin()], dim=1)
process = VE(0.01, 6.0)
ring = GaussianMixture(torch.arange(1.0, 9.0), centres, [0.1] * 8, process)
n = 400


def one_level(sigma):
    """The end of 300 Langevin steps at one level, from a wide start, and a last denoising step."""
    rng = SampleRng(range(n))
    level = process.time_of_sigma(torch.tensor([sigma], dtype=torch.float64))
    sampler = Langevin(tau=0.2 * (0.1**2 + sigma**2), steps=300)
    *_, last = simulate(ring, sampler, level, 6 * rng.normal((2,)), rng=rng)
    return last.x


ladder = geometric(process, 60)
runs = {
    "one high level, 1": one_level(1.0),
    "one low level, 0.05": one_level(0.05),
    "60 levels of 5 steps": sample(ring, Annealed(5), ladder, rng=SampleRng(range(n))),
}
figure, panels = plt.subplots(1, 3, figsize=(7.2, 2.9), sharey=True)
for axes, (name, ends) in zip(panels, runs.items(), strict=True):
    axes.plot(*centres.T, "o", color="C3", markersize=9, alpha=0.5, label="modes")
    axes.plot(*ends.T, ".", markersize=2, label="samples")
    axes.set(xlabel="first coordinate", ylabel="second coordinate", title=name, aspect="equal", xlim=(-3, 3), ylim=(-3, 3))

figure, axes = plt.subplots()
axes.bar(range(8), ring.weights.numpy(), width=0.9, color="0.85", label="weights")
for shift, marker, (name, ends) in zip((-0.2, 0.0, 0.2), "os^", runs.items(), strict=True):
    shares = torch.cdist(ends, centres).argmin(dim=1).bincount(minlength=8) / n
    axes.plot(torch.arange(8) + shift, shares, marker, label=name)
axes.set(xlabel="mode", ylabel="share of the samples nearest to it", title="The shares of the eight modes")
axes.legend(loc="upper left")

for name, ends in runs.items():
    near = float((torch.cdist(ends, centres).min(dim=1).values < 0.4).double().mean())
    print(f"{name}: {100 * near:.0f} % within four widths of a mode")

# %%
# The high level knows the weights but not the modes. The low level knows the modes, and gives each the share of its start.
# The ladder gives both.
#
# .. field-view:: lesson=level

# %%
# Which levels? A constant ratio
# ------------------------------
#
# A sample of one level is the start for the next. How far are neighbouring levels from each other? Where the noise is larger
# than the data, both are nearly normal, of variances :math:`\sigma_j^2` and :math:`\sigma_{j+1}^2`. The Kullback-Leibler
# divergence of the lower from the upper one is the mean of the log-ratio of the densities, :math:`\log(\sigma_j/\sigma_{j+1})
# + \tfrac{1}{2}\mathbb{E}x^2\,(\sigma_j^{-2} - \sigma_{j+1}^{-2})` a coordinate, and with :math:`\mathbb{E}x^2 =
# \sigma_{j+1}^2` and the ratio :math:`\gamma = \sigma_j/\sigma_{j+1}`, in d dimensions
#
# .. theorem:: equal-steps-of-a-ladder
#
#    D(p_{\sigma_{j+1}}, p_{\sigma_j}) = d \left( \log\gamma + \frac{\gamma^{-2} - 1}{2} \right).
#
# It depends on the ratio alone. So a ladder of equal steps has a constant ratio: it is geometric. Equal differences of
# :math:`\sigma` waste their levels at the top and jump at the bottom. d stands in front: images need closer levels than
# points in the plane (:ref:`lesson 12 <sphx_glr_book_lesson_12_ncsnv2.py>`).
#
# Once the noise is smaller than the data, p hardly changes with the level, and the levels could be wider apart. With
# :math:`\gamma^2 = (v + \sigma_j^2)/(v + \sigma_{j+1}^2)` the formula holds for :math:`\mathcal N(0, v)`. The package's
# ``log_cauchy`` ladder makes use of that: it is dense where the noise is about as large as the data. It takes large steps at
# the top as well, where the noised data are nearly one Gaussian, and a sampler that follows a differential equation makes
# hardly an error.

levels = LinearVE(0.01, 50.0)
figure, axes = plt.subplots()
for name, times, marker in (
    ("geometric", geometric(levels, 16), "o"),
    ("equal differences", uniform(levels, 16), "s"),
    ("log-cauchy", log_cauchy(levels, 16), "^"),
):
    sigma = levels.sigma(times)
    ratio = ((1 + sigma[:-1] ** 2) / (1 + sigma[1:] ** 2)).sqrt()
    axes.semilogx(sigma[1:], ratio.log() + (ratio**-2 - 1) / 2, marker=marker, label=name)
axes.set(
    xlabel="level σ that is entered, in units of x",
    ylabel="divergence from the last level, nats",
    title="Steps of three ladders of 16 levels, data N(0, 1)",
)
axes.invert_xaxis()
axes.legend()

# %%
# From one level to the next, exactly
# -----------------------------------
#
# Annealed Langevin dynamics enters a level with the samples of the last one and repairs them there. One can do better. Write
# :math:`\lambda` for the level that is left and :math:`\gamma\lambda`, :math:`\gamma < 1` from here on, for the one that is
# entered. Given x and the clean :math:`x_0`, the less noisy point is normal, with the mean :math:`x_0 + \gamma^2 (x - x_0)`
# and the variance :math:`\lambda^2 \gamma^2 (1 - \gamma^2)` (condition the sum of two noises on its total). With :math:`\eta
# = 1 - \gamma^2` the mean is :math:`x + \eta\,(x_0 - x)`. Nobody knows :math:`x_0`, but its mean given x is :math:`D(x)` and
# its variance is :math:`\lambda^2 c` with :math:`c = 1 + \lambda^2 s'` (:ref:`lesson 5
# <sphx_glr_book_lesson_05_tweedie.py>`). So the point has the mean :math:`x + \eta (D(x) - x)` and the variance
# :math:`\lambda^2\eta(1 - \eta) + \eta^2 \lambda^2 c`:
#
# .. theorem:: entering-a-level
#
#    x' = x + \eta\, \big(D(x) - x\big) + \lambda \sqrt{\eta\, (\gamma^2 + \eta\, c)}\; z, \qquad \eta = 1 - \gamma^2.
#
# For a Gaussian this is exact, however far apart the levels are. ``AnnealedMala`` enters every level so, and then holds it by
# the tested steps of :ref:`lesson 8 <sphx_glr_book_lesson_08_langevin.py>`. Five levels, each half of the last:

n, std = 4000, 1.0
halves = LinearVE(0.1, 4.0)
normal = Gaussian([0.0], [[std**2]], halves)
few = torch.tensor([4.0 * 0.5**j for j in range(5)], dtype=torch.float64)
figure, axes = plt.subplots()
for name, sampler, marker in (
    ("Annealed, 1 step a level", Annealed(1), "o"),
    ("Annealed, 5 steps a level", Annealed(5), "s"),
    ("AnnealedMala, 1 step a level", AnnealedMala(1), "^"),
):
    begin = math.hypot(std, 4.0) * SampleRng(range(n)).normal((1,))
    *states, _ = simulate(normal, sampler, few, begin, rng=SampleRng(range(n), stream=1))
    each = sampler.steps_per_level
    found = [float(states[each * (j + 1)].x.square().mean()) / (std**2 + float(few[j]) ** 2) for j in range(5)]
    axes.semilogx(few, found, marker=marker, label=name)
axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
axes.invert_xaxis()
axes.set_xticks(few, [f"{level:g}" for level in few])
axes.minorticks_off()
axes.set(
    xlabel="level σ, in units of x", ylabel="variance over the true one", title="Halving the level at each step, data N(0, 1)"
)
axes.legend()

# %%
# What texts get wrong
# --------------------
#
# - *"Add a little noise and the problems are solved."* A little noise solves the problem of lesson 6, and not those of 7 and 9.
# - *A ladder of variances.* The geometric ladder is one of standard deviations. Its squares are geometric too, but a code
#   that takes :math:`\sigma_{max}` and :math:`\sigma_{min}` for variances ends at another level.
# - *Linear ladders.* Of equal differences from 50 to 0.01 in 16 levels, the last step alone goes from 3.3 to 0.01.
#
# References
# ----------
#
# - Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", section 4, arXiv 1907.05600.
# - Song, Ermon (2020), "Improved techniques for training score-based generative models", arXiv 2006.09011.
# - Bao, Li, Zhu, Zhang (2022), "Analytic-DPM: an analytic estimate of the optimal reverse variance in diffusion probabilistic
#   models", arXiv 2201.06503.
#
# Exercises
# ---------
#
# 1. How many levels does a geometric ladder from 50 to 0.01 need for a ratio of at most 1.0398?
# 2. At which level do denoised samples of :math:`\mathcal N(0, v)` have half of its variance? Check by drawing.
# 3. Show that :eq:`entering-a-level` takes :math:`\mathcal N(0, v + \lambda^2)` to :math:`\mathcal N(0, v +
#    \gamma^2\lambda^2)` exactly.
#
# Solutions
# ---------
#
# **1.** :math:`\gamma^{L-1} \geq 5000`, so that :math:`L = 1 + \lceil \log 5000/\log 1.0398 \rceil = 220`:

from scorefield.ncsnv2 import number_of_levels

assert number_of_levels(0.01, 50.0, 1.0398) == 1 + math.ceil(math.log(5000) / math.log(1.0398)) == 220

# %%
# **2.** :math:`v^2/(v + \sigma^2) = v/2` at :math:`\sigma^2 = v`:

level = torch.full((n,), std, dtype=torch.float64)
noisy = halves.perturb(normal.sample(SampleRng(range(n))), level, SampleRng(range(n), stream=1).normal((1,)))
denoised = normal(noisy, level).denoised
assert abs(denoised.square().mean() - std**2 / 2) < 4 * std**2 / 2 * math.sqrt(2 / n)

# %%
# **3.** :math:`D(x) - x = -x\,\lambda^2/(v + \lambda^2)` and :math:`c = 1 - \lambda^2/(v + \lambda^2) = v/(v + \lambda^2)`.
# Put both in, for any numbers:

for v, lam, gamma in ((1.0, 3.0, 0.5), (0.2, 1.0, 0.1), (4.0, 0.3, 0.9)):
    eta, c = 1 - gamma**2, v / (v + lam**2)
    variance = (1 - eta * lam**2 / (v + lam**2)) ** 2 * (v + lam**2) + lam**2 * eta * (gamma**2 + eta * c)
    assert math.isclose(variance, v + gamma**2 * lam**2, rel_tol=1e-12)
