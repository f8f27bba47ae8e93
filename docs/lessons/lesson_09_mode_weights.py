r"""
9. Two modes and their weights
==============================

A density with 80 % of its mass in one mode and 20 % in another should give 80 samples here and 20 there. Langevin dynamics
gives whatever its start gave, because the score hardly knows the weights. This lesson shows why, how long it takes in fact,
and how noise helps.

**What the score knows.** Take the pair :math:`p = w_1\, \mathcal N(-a, v) + w_2\, \mathcal N(a, v)` in one coordinate. By
:eq:`mixture-score` the score is the mean of :math:`-(x + a)/v` and :math:`-(x - a)/v` with the weights :math:`r_1(x)` and
:math:`r_2(x)`, the probabilities of the modes given x. So

.. math::

   s(x) = \frac{a\,(r_2 - r_1) - x}{v}, \qquad \log\frac{r_1}{r_2} = \log\frac{w_1}{w_2} + \frac{(x-a)^2 - (x+a)^2}{2v}
   = \log\frac{w_1}{w_2} - \frac{2 a x}{v}.

Write :math:`x^\ast` for the place where both are 1/2. Then :math:`\log(r_1/r_2) = -2a(x - x^\ast)/v`, and since
:math:`r_2 - r_1 = \tanh\big(\tfrac12 \log(r_2/r_1)\big)`,

.. theorem:: weights-move-the-boundary

   s(x) = \frac1v \left( a \tanh\frac{a\,(x - x^\ast)}{v} - x \right), \qquad x^\ast = \frac{v}{2a} \log\frac{w_1}{w_2}.

The weights enter by :math:`x^\ast` alone. They move the place where the score turns from one mode to the other, by the
logarithm of their ratio times :math:`v/(2a)`. For modes of width 1 at :math:`\pm 5` and the weights 0.8 and 0.2 that is 0.14,
in a region where there are no data.
"""

# %%
# Two densities, one score
# ------------------------

import math

import matplotlib.pyplot as plt
import torch

from scorefield import VE, GaussianMixture, Noiseless, SampleRng, geometric
from scorefield.samplers import Annealed, Langevin, simulate
from scorefield.samplers.base import sample


def pair(left, a, process=None):
    """Two modes of width 1 at -a and a, with the given weight of the left one."""
    return GaussianMixture([left, 1 - left], [[-a], [a]], [1.0, 1.0], process or Noiseless())


x = torch.linspace(-8, 8, 801, dtype=torch.float64)[:, None]
zero = torch.zeros(len(x), dtype=torch.float64)
figure, (top, bottom) = plt.subplots(1, 2)
for left, line in ((0.8, "-"), (0.2, "--")):
    field = pair(left, 5.0)
    top.plot(x, field.log_prob(x, zero).exp(), line, label=f"weights {left}, {1 - left:.1f}")
    bottom.plot(x, field(x, zero).score, line, label=f"weights {left}, {1 - left:.1f}")
top.set(xlabel="x", ylabel="density", title="Two densities ...", ylim=(0, 0.42))
bottom.set(xlabel="x", ylabel="score, in 1/(unit of x)", title="... and their scores")
top.legend()

# %%
# How small is the difference for the loss? With the probabilities of the left mode :math:`r_p` and :math:`r_q` under the two
# weightings, the scores differ by :math:`\tfrac{2a}{v}(r_q - r_p)`, and the Fisher divergence is :math:`\tfrac{2 a^2}{v^2}
# \int p\, (r_p - r_q)^2 dx`. The integrand lives near zero, where :math:`p(x) = \mathcal N(a; 0, v)\, e^{-x^2/(2v)} \left(w_1
# e^{-ax/v} + w_2 e^{ax/v}\right)`. Substitute :math:`u = 2ax/v`. For far modes :math:`e^{-x^2/(2v)}` is 1 in that region:
#
# .. theorem:: fisher-of-weights
#
#    D(p, q) \approx \frac{a}{v}\, \frac{e^{-a^2/(2v)}}{\sqrt{2\pi v}}
#    \int \left(w_1 e^{-u/2} + w_2 e^{u/2}\right) \big(r_p(u) - r_q(u)\big)^2 du.
#
# The integral is a number of the size of 1. The factor in front is the density of a mode in the middle: at :math:`a = 5` it is
# 0.000007. A network would have to learn its loss to the sixth digit to know the weights.
#
# Langevin dynamics keeps the weights of its start
# ------------------------------------------------
#
# A particle goes to the mode on its side of the boundary, and stays there. "Stays" is a matter of time. In the density
# :math:`\rho` of particles, the flow through x is :math:`s\rho - \rho'` (:ref:`lesson 8
# <sphx_glr_book_lesson_08_langevin.py>`). The mean time T(x) from x to a place b obeys :math:`s\, T' + T'' = -1`: in a short
# time dt the mean of T changes by :math:`(sT' + T'')\, dt`, and that must be minus the time that has passed. Multiply by p:
# since :math:`p\,s = p'`, the left side is :math:`(p\, T')'`. Integrate twice:
#
# .. theorem:: passage-time
#
#    T(x \to b) = \int_x^b \frac{1}{p(y)} \int_{-\infty}^{y} p(z)\, dz\, dy.
#
# The inner integral is the mass of the left mode, :math:`w_1`, for y between the modes. The outer one is dominated by the
# middle, where p is smallest; with the same substitution, :math:`\int du/(w_1 e^{-u/2} + w_2 e^{u/2}) = \pi/\sqrt{w_1 w_2}`.
# Particles pass from left to right at the rate :math:`1/T_{12}` and back at :math:`1/T_{21}`, so that the shares approach the
# weights like :math:`e^{-t/T}` with :math:`1/T = 1/T_{12} + 1/T_{21}`, and
#
# .. theorem:: relaxation-of-a-pair
#
#    T \approx \frac{\pi v}{2a}\, \sqrt{2\pi v\, w_1 w_2}\;\; e^{a^2/(2v)}.
#
# Exponential in the squared distance. A pair at :math:`\pm 2` relaxes within the 300 steps of the figure, and one at
# :math:`\pm 5` does not move. (Thin lines: the double integral, computed.)


def far(a):
    """The relaxation time of a pair of width 1 and weights 0.8 and 0.2, by the approximation for far modes."""
    return math.pi / (2 * a) * math.sqrt(2 * math.pi * 0.16) * math.exp(a**2 / 2)


def relaxation(a):
    """The same by the double integral, there and back: the way back is that of the mirrored pair."""
    grid, times = torch.linspace(-a - 8, a, 20001, dtype=torch.float64)[:, None], []
    for left in (0.8, 0.2):
        density = pair(left, a).log_prob(grid, torch.zeros(len(grid))).exp()
        mass = torch.cumulative_trapezoid(density, grid[:, 0])
        inside = grid[1:, 0] >= -a
        times.append(float(torch.trapezoid((mass / density[1:])[inside], grid[1:, 0][inside])))
    return 1 / (1 / times[0] + 1 / times[1])


n, tau, steps = 1000, 0.05, 300  # a step this small has hardly a bias
figure, axes = plt.subplots()
for a, line in ((2.0, "-"), (3.0, "--"), (5.0, "-.")):
    field, rng = pair(0.8, a), SampleRng(range(n))
    start = a + rng.normal((1,))  # all in the mode of 0.2
    states = simulate(field, Langevin(tau=tau, steps=steps), zero[:1], start, rng=rng, denoise=False)
    shares = [float((state.x < 0).double().mean()) for state in states]
    (drawn,) = axes.plot([tau * k for k in range(steps + 1)], shares, line, label=f"modes at ±{a:g}")
    T = relaxation(a)
    expected = [0.8 - (0.8 - shares[0]) * math.exp(-tau * k / T) for k in range(steps + 1)]
    axes.plot([tau * k for k in range(steps + 1)], expected, color=drawn.get_color(), linewidth=0.8)
    print(f"modes at ±{a:g}: T = {T:,.0f}, {T / tau:,.0f} steps; the approximation gives {far(a):,.0f}")
axes.axhline(0.8, color="black", linewidth=0.8, linestyle=":")
axes.set(
    xlabel="time, steps times τ, in units of x²", ylabel="share of the left mode", title="All samples start in the right mode"
)
axes.legend(loc="center right")

# %%
# Within any time that one would wait, the samples of far modes have the shares of their start:
#
# .. theorem:: share-of-the-start
#
#    \Pr(x_k \text{ in the left mode}) \approx \Pr(x_0 < x^\ast) \qquad \text{for } \tau k \ll T.
#
# More exactly, :math:`x^\ast` stands for the zero of the score between the modes, which is next to it. In the view the
# particles start evenly over the picture:
#
# .. field-view:: lesson=weights

# %%
# Annealing
# ---------
#
# Noise of level :math:`\sigma` turns v into :math:`v + \sigma^2`. Put this into :eq:`relaxation-of-a-pair`: at :math:`\sigma
# = 5` the exponent falls from 12.5 to 0.48, and particles cross freely. And the noised density still has the right weights:
# the mode's probability given the noised x, averaged over the noised density, is its weight,
#
# .. theorem:: weights-at-every-level
#
#    \mathbb{E}_{x \sim p_\sigma}\, r_k(x) = \int p_\sigma(x)\, \frac{w_k\, p_{\sigma,k}(x)}{p_\sigma(x)}\, dx = w_k.
#
# So start at a high level, where the shares become right, and lower it slowly: **annealed Langevin dynamics**
# (:ref:`lesson 11 <sphx_glr_book_lesson_11_ncsn.py>`). The shares freeze at the level where the modes separate. Slowly is the
# point: in the limit of many levels L and many steps k on each,
#
# .. theorem:: annealed-share
#
#    \Pr(x \text{ ends in mode } j) \longrightarrow w_j \qquad (L, k \to \infty).

plane = GaussianMixture([0.8, 0.2], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0], VE(0.01, 10.0))
n = 1000
budgets, found = [(10, 10), (20, 10), (40, 10), (100, 10)], []
for levels, each in budgets:
    ends = sample(plane, Annealed(each), geometric(plane.process, levels), rng=SampleRng(range(n)))
    found.append(float((ends[:, 0] < 0).double().mean()))
names = [f"{levels} levels,\n{each} steps each" for levels, each in budgets]
default = sample(plane, rng=SampleRng(range(n)))

figure, axes = plt.subplots()
axes.errorbar(range(4), found, yerr=2 * math.sqrt(0.16 / n), fmt="o", capsize=4, label="annealed Langevin, two standard errors")
axes.axhline(0.8, color="black", linewidth=0.8, linestyle=":", label="true weight")
axes.axhline(0.5, color="C1", linewidth=1.2, linestyle="--", label="plain Langevin from an even start")
axes.set_xticks(range(4), names)
axes.set(xlabel="ladder", ylabel="share of the left mode", title="Weights of 0.8 and 0.2 by annealing", ylim=(0.45, 0.9))
axes.legend(loc="center right", fontsize=9)
print(f"the default sampler, 20 evaluations: {float((default[:, 0] < 0).double().mean()):.3f}")

# %%
# The samples lag behind the levels, and the lag costs weight. With 20,000 samples instead of 1,000 the four shares are 0.714,
# 0.749, 0.764 and 0.783, and with 200 levels of 20 steps each 0.79: good, and not exact. The samplers of :ref:`lesson 17
# <sphx_glr_book_lesson_17_fast_samplers.py>`, which follow the levels by a differential equation instead, have no such lag.
#
# .. field-view:: lesson=annealing

# %%
# What papers and code get wrong
# ------------------------------
#
# - *"The weights cancel in the score, so Langevin dynamics cannot know them."* Nearly. They do not cancel: :math:`x^\ast`
#   moves, and in infinite time the weights come out right. In practice :eq:`relaxation-of-a-pair` decides, and it should be
#   computed.
# - *Metropolis' test as the remedy.* It removes the bias of the step and leaves the time between the modes as it is.
# - *A low score-matching loss as a proof of the weights.* By :eq:`fisher-of-weights` it proves nothing about them. Count
#   samples.
#
# References
# ----------
#
# - Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", section 3.2.2, arXiv 1907.05600.
# - Kramers (1940), "Brownian motion in a field of force and the diffusion model of chemical reactions", Physica 7(4).
# - Wenliang, Kanagawa (2020), "Blindness of score-based methods to isolated components and mixing proportions", arXiv
#   2008.10087.
#
# Exercises
# ---------
#
# 1. The left mode has the weight 0.999. By how much does the boundary move, for modes of width 1 at :math:`\pm 5`?
# 2. How many steps of :math:`\tau = 0.1` does the pair at :math:`\pm 5` need to come within 1 % of 0.8 and 0.2, when all
#    samples start in the right mode?
# 3. Which noise level divides the relaxation time of that pair by a thousand?
#
# Solutions
# ---------
#
# **1.** :math:`x^\ast = \tfrac{1}{10} \log 999 = 0.69`. At that place both modes are equally probable:

boundary = math.log(0.999 / 0.001) / 10
both = pair(0.999, 5.0).responsibilities(torch.tensor([[boundary]], dtype=torch.float64), zero[:1])
assert torch.allclose(both, torch.full((1, 2), 0.5, dtype=torch.float64), atol=1e-10)

# %%
# **2.** :math:`0.8\, e^{-t/T} = 0.01` gives :math:`t = T \log 80 = 4.4\, T`. The approximation says T = 84,500, hence 3.7
# million steps. It differs from the double integral by terms of the order :math:`v/a^2`:

assert abs(far(5.0) / relaxation(5.0) - 1) < 2 / 5.0**2
assert abs(far(10.0) / relaxation(10.0) - 1) < 2 / 10.0**2
assert round(far(5.0) * math.log(80) / 0.1, -5) == 3.7e6

# %%
# **3.** Solve :eq:`relaxation-of-a-pair` with :math:`v = 1 + \sigma^2` by bisection: 1.5 is enough, while the modes are still
# apart.


def noised(sigma):
    w = 1 + sigma**2
    return math.pi * w / 10 * math.sqrt(2 * math.pi * w * 0.16) * math.exp(25 / (2 * w))


low, high = 0.0, 3.0
for _ in range(50):
    middle = (low + high) / 2
    low, high = (middle, high) if noised(middle) > far(5.0) / 1000 else (low, middle)
print(f"noise level {low:.2f}")
assert math.isclose(noised(low), far(5.0) / 1000, rel_tol=1e-9)
