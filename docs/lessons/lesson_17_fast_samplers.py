r"""
17. Fast samplers
=================

A sampler asks the network once or twice in every step, and that is nearly all of its cost. The probability flow of
:ref:`lesson 16 <sphx_glr_book_lesson_16_likelihood.py>` is smooth, and smooth equations can be solved in few steps: ten or
twenty evaluations do what took a thousand. This lesson shows where the error of a step comes from, and three ways to
reduce it.
"""

# %%
# The flow without its linear part
# --------------------------------
#
# Let :math:`z = x/\alpha` and :math:`\lambda = \sigma/\alpha`. By :eq:`probability-flow`,
# :math:`dz/dt = (v - f x)/\alpha = -\tfrac12 g^2 s/\alpha`. With :math:`\sigma^2 = \alpha^2\lambda^2` formula
# :eq:`drift-and-diffusion` becomes :math:`g^2 = \alpha^2 (\lambda^2)' = 2\alpha^2\lambda\lambda'`. So
# :math:`dz/dt = -\alpha\lambda s\, \lambda' = -\sigma s\, \lambda'`, and :math:`-\sigma s` is the mean noise:
#
# .. theorem:: flow-in-lambda
#
#    \frac{dz}{d\lambda} = \widehat{\mathrm{noise}} = \frac{z - D}{\lambda}, \qquad D = \mathbb E[x_0 \mid x].
#
# No drift, no diffusion, no schedule: every process has this one equation. Euler's step in it,
# :math:`z_s = z + (\lambda_s - \lambda)\,\widehat{\mathrm{noise}}`, is known as DDIM (Song, Meng, Ermon 2021).
#
# **Where do paths bend?** For data N(m, c) the noise is :math:`\lambda(z - m)/(c + \lambda^2)`, and the solution is
# :math:`z - m \propto \sqrt{c + \lambda^2}`: its derivative is :math:`\lambda/\sqrt{c+\lambda^2}`, as it has to be. Its second
# derivative, :math:`c/(c + \lambda^2)^{3/2}`, is what a straight step misses. Far above the data paths are straight lines, far
# below they stand still. They bend where the noise is about as large as the data.

import math

import matplotlib.pyplot as plt
import torch

from scorefield import Gaussian, GaussianMixture, LinearVE, SampleRng
from scorefield.levels import ladder_of
from scorefield.samplers import ABM, DPMSolver, Euler, Heun, StochasticABM, simulate

line = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.3, 0.3], LinearVE(0.01, 20.0))
start = torch.tensor([[-22.0], [-7.0], [7.0], [22.0]], dtype=torch.float64)


def paths(field, sampler, ladder, start):
    """The times of a run, and the state at each."""
    run = list(simulate(field, sampler, ladder, start, rng=SampleRng(range(len(start))), denoise=False))
    return [one.t for one in run], torch.stack([one.x for one in run])


figure, axes = plt.subplots()
for sampler, levels, marker in ((ABM(), 200, ""), (Euler(), 7, "o"), (ABM(), 7, "s")):
    times, there = paths(line, sampler, ladder_of(line, "log-cauchy", levels), start)
    name = "the flow" if levels == 200 else f"{type(sampler).__name__}, 6 steps"
    curves = axes.plot(times, there[:, :, 0], marker=marker, markersize=5, linewidth=1.2 if marker else 2.5)
    for curve in curves:
        curve.set(color={"": "C5", "o": "C1", "s": "C0"}[marker], linestyle=":" if marker else "-")
    curves[0].set_label(name)
axes.set(xscale="log", xlim=(20, 0.01), ylim=(-4, 4), xlabel="noise level lambda, falling", ylabel="x")
axes.set_title("Two modes at -1 and 1")
axes.legend()

# %%
# .. field-view:: data=ring&sampler=euler&levels=12&n=800
#
# Order
# -----
#
# A step of length h that follows the path up to the term :math:`h^p` leaves an error of order :math:`h^{p+1}`. There are 1/h
# steps, so that the error at the end is
#
# .. theorem:: order-of-a-sampler
#
#    e(h) = C\, h^p + O(h^{p+1}), \qquad p = \lim_{h \to 0} \log_2 \frac{e(h)}{e(h/2)},
#
# and p is the **order** of the method. Euler has p = 1: twice the accuracy costs twice the evaluations. Heun's method takes the
# mean of the slopes at both ends of Euler's step, and has p = 2 for two evaluations (Karras et al. 2022).
#
# A **multistep** method has a higher order for one evaluation a step: it remembers the values at earlier levels, and puts a
# polynomial through them. What to put it through is the question.
#
# *Through the denoised sample.* Divide z by lambda: :math:`\frac{d}{d\lambda}\frac z\lambda = \frac{z - D}{\lambda^2} -
# \frac{z}{\lambda^2} = -\frac{D}{\lambda^2}`. Now z is gone from the right side, and the equation can be integrated:
#
# .. theorem:: exponential-step
#
#    z_s = \frac{\lambda_s}{\lambda}\, z + \lambda_s \int_{\lambda_s}^{\lambda} \frac{D}{\lambda'^2}\, d\lambda'.
#
# This is exact. With D constant in a step it gives
# :math:`z_s = \frac{\lambda_s}{\lambda} z + (1 - \frac{\lambda_s}{\lambda}) D`, DDIM again, which is therefore exact on data
# that are one point. With D a line in :math:`\log\lambda` through its last two values it is DPM-Solver++(2M) (Lu et al. 2022).
# Such methods are called **exponential integrators**.
#
# *Through what is zero on a Gaussian.* Let m and sd be the data's mean and standard deviation, :math:`r^2 = sd^2 + \lambda^2`,
# :math:`y = (z - m)/r` and :math:`\lambda = sd \tan u`, so that :math:`r = sd/\cos u` and :math:`d\lambda/du = r^2/sd`. Then
# :math:`\frac{dy}{du} = \bigl(\frac{\widehat{\mathrm{noise}}}{r} - \frac{(z - m)\lambda}{r^3}\bigr)\frac{r^2}{sd}`, and with
# :math:`z - m = (D - m) + \lambda\, \widehat{\mathrm{noise}}` the noise keeps the factor
# :math:`(r^2 - \lambda^2)/(r\,sd) = sd/r`:
#
# .. theorem:: angle-flow
#
#    \frac{dy}{du} = -F, \qquad F = \frac1r \Bigl(\frac{\lambda}{sd}\,(D - m) - sd\ \widehat{\mathrm{noise}}\Bigr).
#
# On N(m, sd²), :math:`D - m = \frac{sd^2}{r^2}(z - m)` and :math:`\widehat{\mathrm{noise}} = \frac{\lambda}{r^2}(z - m)`, so F
# = 0: a step of any length is exact. The angle u runs over a finite interval without a singularity at either end. ``ABM``, our
# default, predicts with a polynomial through the last two values of F (**Adams-Bashforth**), and when it has F at the end of
# the step, which the next step needs anyway, repeats the step with that value too (**Adams-Moulton**): order 3 for one
# evaluation.

field = GaussianMixture([0.8, 0.2], [[-2.0, 0.0], [2.0, 1.0]], [0.5, 0.5], LinearVE(0.01, 80.0))
start = 80 * SampleRng(range(200)).normal((2,))
truth = paths(field, ABM(), ladder_of(field, "log-cauchy", 200), start)[1][-1]


def error(sampler, ladder, field=field, start=start, truth=truth):
    """Root mean square distance from where the flow leads."""
    return float((paths(field, sampler, ladder, start)[1][-1] - truth).square().sum(1).mean().sqrt())


figure, axes = plt.subplots()
calls = (8, 16, 32, 64)
for sampler, marker in ((Euler(), "o"), (Heun(), "s"), (DPMSolver(2), "^"), (ABM(), "d")):
    each = sampler.evaluations_per_step
    errors = [error(sampler, ladder_of(field, sampler.ladder, count // each + 1)) for count in calls]
    slope = math.log2(errors[-2] / errors[-1])
    axes.loglog(calls, errors, marker=marker, label=f"{type(sampler).__name__}: order {sampler.order}, last slope {slope:.1f}")
axes.set(xlabel="evaluations of the field", ylabel="rms distance at the end, units of x", title="Each on its own ladder")
axes.set_xticks(calls, [str(count) for count in calls])
axes.minorticks_off()
axes.legend()

# %%
# An order is a promise for short steps only. In 8 evaluations Heun has 4 steps, and is the worst of all.
#
# Where to put the levels
# -----------------------
#
# A ladder is a choice of times. Karras et al. (2022) space a root of the level evenly, with :math:`\rho = 7`:
#
# .. theorem:: karras-ladder
#
#    \lambda_j = \Bigl(\lambda_0^{1/\rho} + \frac{j}{L - 1} \bigl(\lambda_{L-1}^{1/\rho} -
#    \lambda_0^{1/\rho}\bigr)\Bigr)^{\rho}, \qquad j = 0..L-1.
#
# For :math:`\rho \to \infty` it becomes the geometric ladder. Both spend many levels far below the data, where paths stand
# still. Ours places :math:`\log(\lambda/sd)` at even quantiles of a Cauchy density with centre c = -0.25 and width w = 1.5:
#
# .. theorem:: log-cauchy-ladder
#
#    \arctan\frac{\log(\lambda_j/sd) - c}{w} \quad \text{in equal steps.}
#
# It is dense where the noise is as large as the data. ``optimised`` goes further: it runs a few samples down a fine ladder
# once, computes from what it saw the error of every possible step, and finds the ladder of the smallest sum by dynamic
# programming.

from scorefield.samplers.optimal import optimised

figure, (left, right) = plt.subplots(1, 2, width_ratios=(1.3, 1))
names = ("karras", "geometric", "log-cauchy", "optimised")
for row, (name, marker) in enumerate(zip(names, "os^d", strict=True)):
    ladders = [
        optimised(field, count, rng=SampleRng(range(48), stream=1), fine=48)
        if name == "optimised"
        else ladder_of(field, name, count)
        for count in (10, 14, 20)
    ]
    left.semilogx(ladders[0], torch.full((10,), float(row)), marker, color=f"C{row}")
    right.loglog((10, 14, 20), [error(ABM(), ladder) for ladder in ladders], marker=marker, label=name)
left.axvline(field.data_std, color="black", linewidth=0.8, linestyle="--")
left.set(xlim=(200, 0.005), ylim=(-0.5, 3.5), xlabel="noise level lambda, falling", ylabel="ladder")
left.set_title("10 levels; dashed: as large as the data")
left.set_yticks(range(4), names)
right.set(xlabel="evaluations", ylabel="rms distance, units of x", title="ABM on each")
right.set_xticks((10, 14, 20), ["10", "14", "20"])
right.minorticks_off()
right.legend(fontsize=8)

# %%
# Noise on the way
# ----------------
#
# Between the flow and the reverse SDE lies a family. Add to the flow's Fokker-Planck equation
# :math:`-\nabla\cdot(\tfrac12\eta^2 g^2\, p\,\nabla\log p) + \tfrac12\eta^2 g^2 \Delta p`, which is zero: a little more of the
# score, and just as much noise as undoes it. With time turned round,
#
# .. theorem:: noise-family
#
#    dx = \bigl(f x - \tfrac12 (1 + \eta^2)\, g^2\, \nabla \log p_t\bigr)\, dt + \eta\, g\, d\bar w
#
# has the same densities for every :math:`\eta \ge 0`: 0 is the flow, 1 the reverse SDE. What differs is memory. The flow
# carries every error to the end. With noise a sample forgets: on Gaussian data, in y of unit variance, one step of
# ``StochasticABM`` is
#
# .. math:: y_s = k\, y + \sqrt{1 - k^2}\, z, \qquad k = (r_s/r)^{\eta^2},
#
# so that a variance of :math:`1 + e` becomes :math:`1 + k^2 e`. Here the start has twice the variance that it should have:

from scorefield.verification.affine import affine_map

normal = Gaussian([0.0], [[1.0]], LinearVE(0.01, 10.0))
etas = torch.tensor([0.0, 0.15, 0.3, 0.5, 0.75, 1.0])
lasting = []
for eta in etas.tolist():
    keep, noise, _ = affine_map(normal, StochasticABM(eta), ladder_of(normal, "karras", 10))
    lasting.append(float(2 * 101 * keep.square().sum() + noise.square().sum()) - 1)
figure, axes = plt.subplots()
axes.semilogy(etas, lasting, "o", label="measured, 9 steps")
fine = torch.linspace(0, 1, 100, dtype=torch.float64)
axes.semilogy(fine, (1.0001 / 101) ** (fine**2), "-", color="black", linewidth=0.8, label="(r_s/r) to the power of 2·eta²")
axes.set(xlabel="noise eta", ylabel="relative error of the variance", title="What is left of a doubled variance at the start")
axes.legend()

# %%
# The price: steps with noise have order 1 or 2 in law, not 3. For an exact field the flow wins; for a network with errors of
# its own, and evaluations to spare, some noise does (Karras et al. 2022, Xue et al. 2023). On two mixtures with exact scores,
# in units of what two exact sets differ by, 1.00 being perfect (``benchmarks/results/samplers.md``, 20,000 samples a set):
#
# ===================  ======  ======  ======  =====  ========  ========
# ring, evaluations    10      20      50      100    32-D, 10  32-D, 20
# ===================  ======  ======  ======  =====  ========  ========
# abm                  1.01    0.99    1.00    1.00   1.15      1.00
# unipc                4.46    0.80    0.79    0.80   3.32      1.04
# dpm-solver++         6.25    1.06    0.79    0.79   4.97      1.19
# euler                4.82    2.48    1.23    0.91   4.74      2.33
# heun                 20.93   2.47    0.82    0.79   22.90     2.31
# ancestral            7.77    4.31    1.73    1.43   7.96      4.12
# reverse-diffusion    10.72   6.35    3.42    1.94   10.21     3.93
# ===================  ======  ======  ======  =====  ========  ========
#
# (Figures below 1 are chance: the row abm has 24 sets, the others 4 in the plane and 2 in 32 dimensions.)
#
# What is often wrong
# -------------------
#
# - Multistep weights mix the levels at both ends of a step. A public library has one in the place of the other in one weight.
#   Pictures look fine, and the measured order is 1 where 2 is claimed. Only a measured order finds such mistakes: exercise 3.
# - The field must never be asked at sigma = 0, where score and noise are 0/0. The last step is a denoising.
# - An order that is proved for DPM-Solver++ without noise does not carry over to eta > 0: in law it is 1.
# - A comparison at equal *steps* flatters Heun, which evaluates twice. Compare at equal evaluations.
#
# References
# ----------
#
# - Song, Meng, Ermon (2021), "Denoising diffusion implicit models", arXiv 2010.02502.
# - Karras, Aittala, Aila, Laine (2022), "Elucidating the design space of diffusion-based generative models", arXiv 2206.00364.
# - Lu, Zhou, Bao, Chen, Li, Zhu (2022), "DPM-Solver++", arXiv 2211.01095.
# - Zhang, Chen (2023), "Fast sampling of diffusion models with exponential integrator", arXiv 2204.13902.
# - Zhao, Bai, Rao, Zhou, Lu (2023), "UniPC", arXiv 2302.04867.
# - Xue et al. (2023), "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", arXiv 2309.05019.
# - Chen et al. (2024), "On the trajectory regularity of ODE-based diffusion sampling", arXiv 2405.11326.
#
# Exercises
# ---------
#
# 1. By which factor does one Euler step from :math:`\lambda` to :math:`\lambda_s` multiply :math:`z - m` on N(m, c)? By which
#    does the flow? Compare for a step from 10 to 0 with c = 1.
# 2. A run of ``StochasticABM`` starts with the mean off by b. How much is left at the end, on Gaussian data?
# 3. Write DPM-Solver++(2M) in a few lines. Then extrapolate D to the end of the step instead of its middle, a mistake that
#    still makes good pictures and is exact on a single point, and measure both orders.
#
# Solutions
# ---------
#
# **1.** Euler: :math:`1 - (\lambda - \lambda_s)\lambda/(c + \lambda^2)`. The flow:
# :math:`\sqrt{(c + \lambda_s^2)/(c + \lambda^2)}`. From 10 to 0 that is 1/101 against 1/10.05: ten times too little is left,
# and all samples land near the mean.

step = torch.tensor([10.0, 0.01], dtype=torch.float64)
factor, _, _ = affine_map(normal, Euler(), step)
assert math.isclose(float(factor), 1 - 9.99 * 10 / 101, rel_tol=1e-12)
factor, _, _ = affine_map(normal, ABM(), step)
assert math.isclose(float(factor), math.sqrt((1 + 0.01**2) / 101), rel_tol=1e-12)

# %%
# **2.** In y each step multiplies the mean by k, and all k multiply to :math:`(r_{end}/r_{start})^{\eta^2}`; x is y times r:

for eta in (0.0, 0.5, 1.0):
    keep, _, _ = affine_map(normal, StochasticABM(eta), ladder_of(normal, "karras", 6))
    assert math.isclose(float(keep), (1.0001 / 101) ** ((1 + eta**2) / 2), rel_tol=1e-10)

# %%
# **3.** With :math:`h = \log(\lambda/\lambda_s)` and the length :math:`h'` of the step before, the line through the last two D
# has the value :math:`D + \frac{h}{2h'}(D - D')` in the middle of the step, and twice that slope at its end:


def two_m(field, times, z, reach=0.5):
    """DPM-Solver++(2M) on LinearVE, where z = x and lambda = t; `reach` 1 extrapolates to the end of the step."""
    before, length = None, None
    for t, s in zip(times[:-1], times[1:], strict=True):
        seen, h = field(z, t.expand(len(z))).denoised, torch.log(t / s)
        ahead = seen if before is None else seen + reach * h / length * (seen - before)
        z = s / t * z + (1 - s / t) * ahead
        before, length = seen, h
    return z


times = [torch.linspace(2.0, 0.5, n + 1, dtype=torch.float64) for n in (80, 160, 400)]
start = 2 * SampleRng(range(50), stream=2).normal((2,))
exact = paths(field, ABM(), times[-1], start)[1][-1]
for reach, order in ((0.5, 2), (1.0, 1)):
    coarse, fine = (float((two_m(field, one, start, reach) - exact).square().mean().sqrt()) for one in times[:2])
    print(f"to {reach:g} of the step: measured order {math.log2(coarse / fine):.2f}")
    assert abs(math.log2(coarse / fine) - order) < 0.2
