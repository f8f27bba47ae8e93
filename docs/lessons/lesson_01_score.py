r"""
1. The score and the Fisher divergence
======================================

A density :math:`p(x)` says how probable each point is. Its **score** is the gradient of the log-density,

.. theorem:: score

   s(x) = \nabla_x \log p(x).

The score is a vector at each point. It points to where the density increases fastest, relative to the density itself. Two facts
make it more convenient than the density.

*It needs no normalising constant.* If :math:`p(x) = e^{-E(x)} / Z`, then :math:`\log p = -E - \log Z`, and the gradient of
:math:`\log Z` is zero:

.. theorem:: score-of-energy

   s(x) = -\nabla_x E(x).

*It still says everything.* Two densities on :math:`\mathbb{R}^d` with the same score have log-densities that differ by
a constant,
and both integrate to one, so that they are equal.
"""

# %%
# The score of a Gaussian and of a mixture
# ----------------------------------------
#
# For :math:`p = \mathcal N(m, v)` the log-density is :math:`-(x-m)^2/(2v)` plus a constant, so that :math:`s(x) = -(x-m)/v`: a
# straight line through the mean. For a mixture :math:`p = \sum_k w_k p_k`, the score is the mean of the parts' scores, each
# weighted by the probability that x comes from that part:
#
# .. theorem:: mixture-score
#
#    s(x) = \sum_k r_k(x)\, s_k(x), \qquad r_k(x) = \frac{w_k\, p_k(x)}{\sum_j w_j\, p_j(x)}.

import matplotlib.pyplot as plt
import torch

from scorefield import GaussianMixture, Noiseless

mixture = GaussianMixture(weights=[0.8, 0.2], means=[[-2.0], [2.0]], stds=[0.7, 0.7], process=Noiseless())
x = torch.linspace(-5, 5, 401, dtype=torch.float64)[:, None]
t = torch.zeros(len(x), dtype=torch.float64)
density, score = mixture.log_prob(x, t).exp(), mixture(x, t).score[:, 0]

figure, (left, right) = plt.subplots(1, 2)
left.plot(x, density)
left.set(xlabel="x", ylabel="density p(x)", title="Two modes, 0.8 and 0.2")
right.plot(x, score)
right.axhline(0, color="black", linewidth=0.8)
right.set(xlabel="x", ylabel="score s(x), in 1/(unit of x)", title="Its score")

# %%
# Near each mode the score is the straight line of that mode alone. The weights 0.8 and 0.2 only move the point, between
# the modes,
# where one line turns into the other. Lesson 9 shows what follows from that.

# %%
# How far is one score from another?
# ----------------------------------
#
# The **Fisher divergence** compares two densities by their scores, averaged over the first:
#
# .. theorem:: fisher-divergence
#
#    D(p, q) = \tfrac12\, \mathbb{E}_{x \sim p} \lVert \nabla\log p(x) - \nabla\log q(x) \rVert^2.
#
# It is zero exactly where the scores agree wherever p has mass. A network that is trained to make it small learns a
# score. For two
# Gaussians of one variance v it is :math:`(m_p - m_q)^2 / (2 v^2)`. Here it is computed from draws:

from scorefield import Gaussian, SampleRng

p = Gaussian([0.0], [[1.5]], Noiseless())
q = Gaussian([0.4], [[1.5]], Noiseless())
draws = p.sample(SampleRng(range(4000)))
still = torch.zeros(len(draws), dtype=torch.float64)
halves = 0.5 * (p(draws, still).score - q(draws, still).score).square().sum(1)
print(f"from draws {halves.mean():.4f}, in closed form {0.4**2 / (2 * 1.5**2):.4f}")

# %%
# Averages over p have a weakness: where p has no mass, a wrong score costs nothing. Take a q whose two modes have the
# weights 0.2 and
# 0.8 instead. Its density is very different, and its Fisher divergence from p falls to zero as the modes move apart.

distances = torch.linspace(0.5, 5, 19).tolist()
divergences = []
for half in distances:
    modes, widths = [[-half], [half]], [0.7, 0.7]
    one = GaussianMixture([0.8, 0.2], modes, widths, Noiseless())
    other = GaussianMixture([0.2, 0.8], modes, widths, Noiseless())
    draws = one.sample(SampleRng(range(4000)))
    divergences.append(float(0.5 * (one(draws, still).score - other(draws, still).score).square().sum(1).mean()))

figure, axes = plt.subplots()
axes.semilogy([2 * half for half in distances], divergences, marker="o")
axes.set(
    xlabel="distance of the two modes, in units of x (each is 0.7 wide)",
    ylabel="Fisher divergence",
    title="Weights 0.8, 0.2 against 0.2, 0.8",
    ylim=(1e-30, 10),
)

# %%
# Exercises
# ---------
#
# 1. Show that adding a constant to the energy does not change the score, and check it for :math:`E(x) = x^4/4`.
# 2. What is the Fisher divergence of :math:`\mathcal N(0, v)` from :math:`\mathcal N(0, u)`? Check it with draws.
#
# Solutions
# ---------
#
# **1.** :math:`-\nabla(E + c) = -\nabla E`. For :math:`E = x^4/4` both scores are :math:`-x^3`:

places = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
for constant in (0.0, 7.0):
    (gradient,) = torch.autograd.grad((places**4 / 4 + constant).sum(), places)
    assert torch.allclose(-gradient, -(places.detach() ** 3), rtol=1e-12, atol=1e-12)

# %%
# **2.** The scores are :math:`-x/v` and :math:`-x/u`, so that
# :math:`D = \tfrac12 (1/u - 1/v)^2\, \mathbb{E} x^2 = \tfrac{v}{2} (1/u - 1/v)^2`. Draws agree to within four of their
# standard errors:

v, u = 1.5, 0.8
p, q = Gaussian([0.0], [[v]], Noiseless()), Gaussian([0.0], [[u]], Noiseless())
draws = p.sample(SampleRng(range(4000)))
halves = 0.5 * (p(draws, still).score - q(draws, still).score).square().sum(1)
error = halves.std() / len(halves) ** 0.5
assert abs(halves.mean() - v / 2 * (1 / u - 1 / v) ** 2) < 4 * error
