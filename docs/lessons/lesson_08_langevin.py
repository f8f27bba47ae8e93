r"""
8. Langevin dynamics and Metropolis' test
=========================================

A score points to where the density rises. Following it leads to a mode and stays there. With the right amount of noise added
to each step, the points spread over the whole density instead: this is **Langevin dynamics**, the oldest sampler that needs
nothing but a score.

**Why noise makes it right.** Let particles of density :math:`\rho(x)` drift with the velocity :math:`s(x)` and diffuse. The
drift carries the flow :math:`\rho\, s` through a place. Noise of variance 2 per unit of time carries :math:`-\nabla\rho`,
from many particles to few. If :math:`\rho = p` and :math:`s = \nabla\log p = \nabla p/p`, the two are

.. math::

   p\, s - \nabla p = 0.

Nothing flows, so that p stays as it is. A step of finite size :math:`\tau` approximates this motion:

.. math::

   x' = x + \tau\, s(x) + \sqrt{2\tau}\, z, \qquad z \sim \mathcal N(0, I).

**Two conventions are in print.** Some write :math:`x' = x + \tfrac{\epsilon}{2} s(x) + \sqrt{\epsilon}\, z`. With
:math:`\epsilon = 2\tau` this is the same step. The paper of NCSN prints this second form, and its code uses the first; its
published step size 2e-5 is a :math:`\tau`. Everything here is in :math:`\tau`.

**The bias of a finite step.** On :math:`\mathcal N(0, v)` the score is :math:`-x/v` and a step is :math:`x' = (1 - \tau/v)\,
x + \sqrt{2\tau}\, z`. If x has the variance V, then x' has :math:`(1 - \tau/v)^2\, V + 2\tau`. In the long run both are
equal: :math:`V = 2\tau / \left(1 - (1 - \tau/v)^2\right)`, and :math:`1 - (1 - \tau/v)^2 = (2\tau/v)(1 - \tau/(2v))`, so

.. theorem:: langevin-bias

   V = \frac{v}{1 - \tau/(2v)}.

This is exact, for every :math:`\tau < 2v`. The particles spread too wide: by 5 % at :math:`\tau = v/10`, to twice the
variance at :math:`\tau = v`. Beyond :math:`2v` the factor :math:`|1 - \tau/v|` exceeds 1 and they run away.

.. field-view:: lesson=bias
"""

# %%
# Metropolis' test
# ----------------
#
# Take the step as a *proposal*, and accept it or stay. Let :math:`q(x'|x) = \mathcal N(x';\, x + \tau s(x),\, 2\tau I)` be
# the density of proposals. In the long run as many particles must go from x to x' as from x' to x (**detailed balance**);
# then p stays as it is. Accept with the probability :math:`\min(1, r)`, where
#
# .. theorem:: metropolis-ratio
#
#    r = \frac{p(x')\, q(x|x')}{p(x)\, q(x'|x)}, \qquad
#    p(x)\, q(x'|x)\, \min(1, r) = p(x')\, q(x|x')\, \min(1, 1/r).
#
# The right equation is the balance. It holds because both sides are the smaller one of :math:`p(x)\, q(x'|x)` and
# :math:`p(x')\, q(x|x')`. Both proposal densities belong into r: with the ratio of the p alone the result is wrong. The
# sampler is called **MALA**, Metropolis-adjusted Langevin algorithm. It has no bias at any step size:

import math

import matplotlib.pyplot as plt
import torch

from scorefield import Field, Gaussian, GaussianMixture, Noiseless, SampleRng
from scorefield.samplers import Langevin, Mala, simulate

n = 1500
bottom = torch.zeros(1, dtype=torch.float64)  # a ladder with one level, and no noise on it
normal = Gaussian([0.0], [[1.0]], Noiseless())


def settled(field, sampler, n=n):
    """The state after the sampler's steps, from exact draws: only the sampler can make it wrong."""
    *_, last = simulate(
        field, sampler, bottom, field.sample(SampleRng(range(n))), rng=SampleRng(range(n), stream=1), denoise=False
    )
    return last


taus = [0.1, 0.4, 0.8, 1.2, 1.6]
plain = [float(settled(normal, Langevin(tau=tau, steps=max(20, round(3 / tau)))).x.square().mean()) for tau in taus]
tested = [settled(normal, Mala(tau=tau, steps=20)) for tau in taus]
fine = torch.linspace(0.01, 1.8, 100)

figure, (left, right) = plt.subplots(1, 2)
left.plot(fine, 1 / (1 - fine / 2), color="black", linewidth=1, label="v/(1 - τ/(2v))")
left.plot(taus, plain, "o", label="Langevin")
left.plot(taus, [float(last.x.square().mean()) for last in tested], "s", label="MALA")
left.set(xlabel="step size τ, in units of x²", ylabel="variance of the samples", title="The variance is 1", ylim=(0, 8))
left.legend()
rates = [last.info.acceptance[0] for last in tested]
right.plot(taus, rates, "s-", label="acceptance")
right.plot(taus, [tau * rate for tau, rate in zip(taus, rates, strict=True)], "^--", label="τ times acceptance")
right.set(xlabel="step size τ, in units of x²", ylabel="acceptance; speed, in units of x²", title="What the test costs")
right.legend()

# %%
# .. field-view:: lesson=metropolis
#
# How often is a step accepted?
# -----------------------------
#
# On :math:`\mathcal N(0, 1)` one can say. The proposal is :math:`x' = (1 - \tau) x + \sqrt{2\tau} z`, so
#
# .. math::
#
#    \log r = \frac{x^2 - x'^2}{2} + \frac{(x' - (1-\tau) x)^2 - (x - (1-\tau) x')^2}{4\tau}.
#
# In the last numerator the mixed terms cancel, and :math:`(1 - (1-\tau)^2)(x'^2 - x^2) = \tau(2 - \tau)(x'^2 - x^2)` remains.
# Divided by :math:`4\tau` it is :math:`(\tfrac12 - \tfrac\tau4)(x'^2 - x^2)`, and
#
# .. theorem:: acceptance-on-a-normal
#
#    \log r = \frac{\tau}{4}\, \big(x^2 - x'^2\big).
#
# In d dimensions :math:`x^2` becomes a sum of d squares, :math:`\log r` a sum of d terms, and by the central limit theorem
# normal. Its mean is :math:`-d\,\tau^3/4` (exercise 3) and its variance, for small :math:`\tau`, twice as much:
# :math:`d\,\tau^3/2`. A normal Y with mean :math:`-b^2/2` and variance :math:`b^2` has :math:`\mathbb{E}\min(1, e^Y) =
# 2\Phi(-b/2)`. An accepted step moves by :math:`2\tau d` in square, so the best step maximises :math:`\tau\,\Phi(-b/2)` with
# :math:`b^2 = d\,\tau^3/2`. With :math:`l^2 = 2\tau d^{1/3}`, :math:`b/2 = l^3/8` and the maximum is at :math:`l = 1.65`:
#
# .. theorem:: best-mala-step
#
#    \tau = \tfrac12 \cdot 1.65^2\; d^{-1/3}\, v, \qquad \text{accepted with probability } 2\Phi(-1.65^3/8) = 0.574.
#
# (Roberts and Rosenthal 1998.) ``Mala`` takes this step when it is given none, with the noise's :math:`\sigma^2` for v.

from scorefield.samplers.metropolis import curl, line_integral, optimal_step

d = 300
wide = GaussianMixture([1.0], torch.zeros(1, d), [1.0], Noiseless())
rate = settled(wide, Mala(tau=optimal_step(d), steps=1)).info.acceptance[0]
print(f"{d} dimensions: step {optimal_step(d):.3f}, accepted {100 * rate:.0f} %")

# %%
# The bias is not only one of the variance. Two modes, a large step:

mixture = GaussianMixture([0.7, 0.3], [[-1.0], [1.5]], [0.5, 0.9], Noiseless())
x = torch.linspace(-4, 5, 400, dtype=torch.float64)[:, None]
figure, axes = plt.subplots()
axes.plot(x, mixture.log_prob(x, torch.zeros(400)).exp(), color="black", label="density")
for name, sampler, line in (("Langevin", Langevin(tau=0.35, steps=40), "-"), ("MALA", Mala(tau=0.35, steps=40), "--")):
    drawn = settled(mixture, sampler, 4000).x[:, 0].numpy()
    axes.hist(drawn, bins=60, range=(-4, 5), density=True, histtype="step", linestyle=line, linewidth=1.8, label=name)
axes.set(xlabel="x", ylabel="density, samples per unit of x", title="One step size, 0.35, with the test and without it")
axes.legend()

# %%
# The test without a density
# --------------------------
#
# r asks for :math:`p(x')/p(x)`, and a network gives only a score. Its line integral is what is missing:
#
# .. math::
#
#    \log p(x') - \log p(x) = \int_0^1 s\big(x + u(x' - x)\big) \cdot (x' - x)\, du,
#
# because the integrand is the derivative of :math:`\log p(x + u(x'-x))` by u (Sjöberg et al. 2023). Simpson's rule takes the
# scores at both ends, which the step has anyway, and one in the middle:
#
# .. theorem:: line-integral
#
#    \log p(x') - \log p(x) = \tfrac16 \Big( s(x) + 4\, s\big(\tfrac{x + x'}{2}\big) + s(x') \Big) \cdot (x' - x)
#    + O\big(\lVert x' - x\rVert^5\big).
#
# For a Gaussian the score is a straight line, and the rule is exact. ``Mala(energy="line")`` does it, at two evaluations a step
# instead of one. Here is its error on the mixture:

from scorefield.samplers.base import CountedField

lengths, errors = torch.logspace(-1.5, 0.3, 10, dtype=torch.float64), []
here = mixture.sample(SampleRng(range(200)))
for length in lengths:
    there, counted = here + length, CountedField(mixture, None)
    simpson = line_integral(counted, here, there, 0.0, counted(here, 0.0).score, counted(there, 0.0).score)
    zero = torch.zeros(200, dtype=torch.float64)
    errors.append(float((simpson - mixture.log_prob(there, zero) + mixture.log_prob(here, zero)).abs().mean()))

figure, axes = plt.subplots()
axes.loglog(lengths, errors, "o", label="Simpson's rule on the mixture's score")
axes.loglog(lengths, errors[0] * (lengths / lengths[0]) ** 5, color="black", linewidth=1, label="fifth power")
axes.set(
    xlabel="length of the step, in units of x",
    ylabel="error of the log ratio, in nats",
    title="Acceptance from the score alone",
)
axes.legend()

score_only = Field.of_score(lambda x, sigma: -x, Noiseless(), (1,))  # the score of N(0, 1), and no density
start = normal.sample(SampleRng(range(n)))
*_, last = simulate(score_only, Mala(tau=1.0, steps=20), bottom, start, rng=SampleRng(range(n), stream=1), denoise=False)
print(f"score only: variance {last.x.square().mean():.2f}, {last.evaluations} evaluations for 20 steps")

# %%
# Is it a gradient at all?
# ------------------------
#
# The integral is a difference of log-densities only if the score is the gradient of something. Then it is the same on every
# path, and zero around a loop. A network's output need not be a gradient. The Jacobian J of a gradient is symmetric; how far
# J is from it is the share
#
# .. theorem:: curl-share
#
#    c = \frac{\lVert (J - J^\top)/2 \rVert}{\lVert J \rVert} \in [0, 1],
#
# 0 for every gradient, and 1 for a pure rotation. ``curl`` estimates its square from random directions u, v: with :math:`a =
# v^\top J u` and :math:`b = u^\top J v`, :math:`\mathbb{E}(a - b)^2/4` and :math:`\mathbb{E}(a^2 + b^2)/2` have that ratio.
# With a rotation of strength w added to the score of :math:`\mathcal N(0, I)` in the plane, J has the antisymmetric part
# :math:`\pm w` and the diagonal -1, and :math:`c = w/\sqrt{1 + w^2}`:

places = SampleRng(range(2000)).normal((2,))
for w in (0.0, 0.3, 1.0):

    def rotated(x, sigma, w=w):
        return -x + w * torch.stack([-x[:, 1], x[:, 0]], dim=1)

    field = Field.of_score(rotated, Noiseless(), (2,))
    share = curl(field, places, torch.zeros(2000), SampleRng(range(2000), stream=1), probes=20).square().mean().sqrt()
    print(f"rotation {w}: curl {share:.2f}, in closed form {w / math.sqrt(1 + w**2):.2f}")

# %%
# (A mean of ratios is not the ratio of means: the estimate from 20 directions is a little off.) If c is not small, no density
# has this score, and the test cannot make the samples those of one. A network that outputs an energy has c = 0 by
# construction: :ref:`lesson 13 <sphx_glr_book_lesson_13_energy.py>`.
#
# What papers and code get wrong
# ------------------------------
#
# - *The conventions mixed up.* A step :math:`\epsilon/2` with the noise :math:`\sqrt{2\epsilon}` has noise of twice the
#   variance that belongs to its drift, and so samples of twice the variance.
# - *The predicted noise taken for the score.* A network that predicts the noise gives :math:`s = -\hat\epsilon/\sigma`; the
#   drift is :math:`-(\tau/\sigma)\,\hat\epsilon`. Public code has :math:`-\tau\,\hat\epsilon` (exercise 1).
# - *The score taken at the new point*, or the noise added before the score is taken. It is :math:`s(x)` of the state before
#   the step.
# - *A large step "because it mixes faster".* It does, towards a density that is too wide.
#
# References
# ----------
#
# - Roberts, Tweedie (1996), "Exponential convergence of Langevin distributions and their discrete approximations", Bernoulli
#   2(4).
# - Roberts, Rosenthal (1998), "Optimal scaling of discrete approximations to Langevin diffusions", JRSS B 60(1).
# - Sjöberg, Lindqvist, Önnheim, Jirstrand, Svensson (2023), "MCMC-correction of score-based diffusion models for model
#   composition", arXiv 2307.14012.
# - Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", arXiv 1907.05600.
#
# Exercises
# ---------
#
# 1. Code drifts by :math:`-\tau\,\hat\epsilon = \tau\,\sigma\, s` and adds :math:`\sqrt{2\tau}\, z`. What variance does it
#    leave on :math:`\mathcal N(0, v)` for small steps? How much is it at :math:`\sigma = 0.01`?
# 2. Write :math:`x' = x + \tfrac\epsilon2 s(x) + \sqrt\epsilon\, z` in four lines, and show that it is ``Langevin(tau=epsilon
#    / 2)``, number by number.
# 3. Show that on :math:`\mathcal N(0, 1)` the mean of :math:`\log r` is :math:`-\tau^3/4`.
#
# Solutions
# ---------
#
# **1.** It is Langevin with the step :math:`\tau' = \tau\sigma`, and noise of variance :math:`2\tau = 2\tau'/\sigma`:
# :math:`1/\sigma` times too much. The variance is :math:`v/\sigma`, times the usual :math:`1/(1 - \tau'/(2v))`. At 0.01 it is
# a hundred times too large:

sigma, tau = 0.01, 10.0
wrong = Field.of_score(lambda x, level: -sigma * x, Noiseless(), (1,), check=False)
*_, last = simulate(wrong, Langevin(tau=tau, steps=60), bottom, start, rng=SampleRng(range(n), stream=1), denoise=False)
expected = 1 / sigma / (1 - tau * sigma / 2)
assert abs(last.x.square().mean() - expected) < 5 * expected * math.sqrt(2 / n)

# %%
# **2.** The same draws z in both:

epsilon, rng, mine = 0.3, SampleRng(range(n), stream=1), start
for _ in range(3):
    mine = mine + epsilon / 2 * normal(mine, torch.zeros(n)).score + math.sqrt(epsilon) * rng.normal((1,))
rng = SampleRng(range(n), stream=1)
*_, last = simulate(normal, Langevin(tau=epsilon / 2, steps=3), bottom, start, rng=rng, denoise=False)
assert torch.allclose(mine, last.x, rtol=1e-12, atol=1e-14)

# %%
# **3.** :math:`\mathbb{E}x'^2 = (1-\tau)^2 + 2\tau = 1 + \tau^2`, so that :math:`\mathbb{E}\log r = \tfrac\tau4(1 - 1 -
# \tau^2)`. From draws:

tau = 0.8
proposed = (1 - tau) * start + math.sqrt(2 * tau) * SampleRng(range(n), stream=5).normal((1,))
log_r = tau / 4 * (start**2 - proposed**2)
assert abs(log_r.mean() + tau**3 / 4) < 4 * log_r.std() / n**0.5
