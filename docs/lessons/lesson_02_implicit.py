r"""
2. Implicit score matching
==========================

The Fisher divergence of :ref:`lesson 1 <sphx_glr_book_lesson_01_score.py>` compares a model's score :math:`s(x)` with that of
the data, :math:`\nabla\log p(x)`. Nobody knows the second one. Hyvärinen (2005) found that a mean over the data is enough.

**The derivation.** Write the square of the divergence out:

.. math::

   \tfrac12\, \mathbb{E}\lVert s - \nabla\log p \rVert^2
   = \tfrac12\, \mathbb{E}\lVert s \rVert^2 - \mathbb{E}[s \cdot \nabla\log p]
   + \tfrac12\, \mathbb{E}\lVert\nabla\log p\rVert^2.

All means are over :math:`x \sim p`. The first is a mean of something that we can compute. The last does not depend on the
model. The middle one holds the unknown score. Since :math:`p\, \nabla\log p = \nabla p`, its part from coordinate i is

.. math::

   \int s_i(x)\, \partial_i p(x)\, dx.

Integrate by parts along :math:`x_i`, with all other coordinates held fixed:

.. math::

   \int_a^b s_i\, \partial_i p\; dx_i = \big[\, p\, s_i \,\big]_{x_i = a}^{x_i = b} - \int_a^b p\, \partial_i s_i\; dx_i.

Let a and b go to :math:`\mp\infty`. The bracket is the **boundary term**. If :math:`p(x)\, s(x) \to 0` as
:math:`\lVert x\rVert \to \infty`, it vanishes. Sum over i, and write
:math:`\operatorname{tr}\nabla s = \sum_i \partial_i s_i` for the trace of the Jacobian, that is, the divergence of s:

.. theorem:: stein-identity

   \mathbb{E}_{x \sim p}\big[ s(x) \cdot \nabla\log p(x) \big]
   = -\,\mathbb{E}_{x \sim p}\big[ \operatorname{tr}\nabla s(x) \big] \qquad \text{if } p(x)\, s(x) \to 0.

This is Stein's identity. Put it into the middle term, and the unknown score is gone:

.. theorem:: implicit-loss

   J(s) = \mathbb{E}_{x \sim p}\Big[ \operatorname{tr}\nabla s(x) + \tfrac12 \lVert s(x) \rVert^2 \Big]
   = \tfrac12\, \mathbb{E}\lVert s - \nabla\log p \rVert^2 - \tfrac12\, \mathbb{E}\lVert\nabla\log p\rVert^2.

J differs from the Fisher divergence by a constant, so that both have the same minimum. Note the sign of the constant: the loss
of a perfect model is *negative*. A negative loss is no mistake here.
"""

# %%
# The loss of many models
# -----------------------
#
# Take a mixture whose score we know, and the models :math:`s = k\,\nabla\log p` for many k. ``ExplicitFisher`` is the
# divergence from a known truth, and ``Implicit`` is J, from draws alone. Both are quadratic in k, and one must be the other,
# shifted.

import matplotlib.pyplot as plt
import torch

from scorefield import Field, GaussianMixture, Noiseless, SampleRng
from scorefield.objectives import ExplicitFisher, Implicit


def field_of(score):
    """A field without noise, in one coordinate, from a function of x."""
    return Field.of_score(lambda x, sigma: score(x), Noiseless(), (1,))


truth = GaussianMixture([0.7, 0.3], [[-1.5], [1.5]], [0.7, 0.5], Noiseless())
x0 = truth.sample(SampleRng(range(4000)))
still = torch.zeros(len(x0), dtype=torch.float64)
half_square = 0.5 * truth(x0, still).score.square().mean()

factors = torch.linspace(-0.5, 2.5, 13).tolist()
models = [field_of(lambda x, k=k: k * truth(x, torch.zeros(len(x))).score) for k in factors]
with torch.no_grad():
    implicit = [float(Implicit()(model, x0, rng=SampleRng(range(4000), stream=1)).mean()) for model in models]
    explicit = [float(ExplicitFisher(truth)(model, x0, rng=SampleRng(range(4000), stream=1)).mean()) for model in models]

figure, axes = plt.subplots()
axes.plot(factors, explicit, marker="o", label="Fisher divergence (needs the true score)")
axes.plot(factors, implicit, marker="s", linestyle="--", label="J (needs draws only)")
axes.axhline(-float(half_square), color="black", linewidth=0.8, linestyle=":", label="minus half the mean squared score")
axes.set(xlabel="factor k of the model's score", ylabel="loss, in 1/(unit of x)²", title="The same minimum, another height")
axes.set_ylim(-1.5, 4.5)
axes.legend()

# %%
# A score from draws, by solving one linear system
# ------------------------------------------------
#
# Let the model be a sum of fixed functions, :math:`s(x) = \sum_j w_j\, \varphi_j(x)`. Then J is quadratic in the weights,
#
# .. math::
#
#    J(w) = b \cdot w + \tfrac12\, w^\top G\, w, \qquad b_j = \mathbb{E}\,\varphi_j'(x), \quad
#    G_{ij} = \mathbb{E}\,\varphi_i(x)\,\varphi_j(x),
#
# so that the best weights solve :math:`G w = -b`. No true score enters. We use bumps
# :math:`\varphi_j(x) = e^{-2 (x - c_j)^2}` and 2,000 draws.

centres = torch.linspace(-4.5, 4.5, 19, dtype=torch.float64)
draws = x0[:2000]
bumps = torch.exp(-2 * (draws - centres) ** 2)
slopes = -4 * (draws - centres) * bumps
G = bumps.mT @ bumps / len(draws) + 1e-4 * torch.eye(len(centres), dtype=torch.float64)  # for bumps without data
w = torch.linalg.solve(G, -slopes.mean(dim=0))
learned = field_of(lambda x: torch.exp(-2 * (x - centres) ** 2) @ w[:, None])

with torch.no_grad():
    by_package = Implicit()(learned, draws, rng=SampleRng(range(2000), stream=1)).mean()
by_hand = slopes.mean(dim=0) @ w + 0.5 * (bumps @ w).square().mean()
print(f"J by the package {by_package:.6f}, by the quadratic form {by_hand:.6f}")

grid = torch.linspace(-4.5, 4.5, 301, dtype=torch.float64)[:, None]
zeros = torch.zeros(len(grid), dtype=torch.float64)
figure, axes = plt.subplots()
axes.plot(grid, truth(grid, zeros).score, color="black", label="true score")
axes.plot(grid, learned(grid, zeros).score, linestyle="--", label="learned from 2,000 draws")
axes.plot(draws[:500, 0], torch.full((500,), -7.5), "|", color="C1", markersize=9, alpha=0.35, label="500 of the draws")
axes.set(xlabel="x", ylabel="score, in 1/(unit of x)", title="Implicit matching of a sum of bumps", ylim=(-8, 8))
axes.legend()

# %%
# The learned score is good where there are draws and arbitrary where there are none: J is a mean over the data.
# :ref:`Lesson 7 <sphx_glr_book_lesson_07_thin_data.py>` is about that.

# %%
# For a Gaussian it is maximum likelihood
# ---------------------------------------
#
# Let the model be the score of a Gaussian of mean m and precision matrix K (the inverse of the covariance):
# :math:`s(x) = -K(x - m)`. Its Jacobian is :math:`-K`, so that over draws with mean :math:`\bar x` and covariance C
#
# .. math::
#
#    J = -\operatorname{tr} K + \tfrac12 \operatorname{tr}\big(K^2 C\big) + \tfrac12 \lVert K(\bar x - m)\rVert^2.
#
# The last term is zero at :math:`m = \bar x`. The derivative of the others by K is :math:`-I + \tfrac12 (KC + CK)`, which is
# zero at
#
# .. theorem:: gaussian-by-matching
#
#    m = \bar x, \qquad K = C^{-1}, \qquad \text{with } C = \tfrac1n \sum_i (x_i - \bar x)(x_i - \bar x)^\top.
#
# These are the estimates of maximum likelihood, exactly, for every finite set of draws. For other families the two methods
# differ.

# %%
# Where it fails, first: hard bounds
# ----------------------------------
#
# Let the data be uniform on [0, 1]. Inside, the true score is zero. At the ends the density does not fall to zero, so that the
# boundary term stays: :math:`[p\,s]_0^1 = s(1) - s(0)`. The loss is :math:`J = s(1) - s(0) + \tfrac12\,\mathbb{E}\,s^2`, and a
# model can make the first part as negative as it wants, at little cost. Take :math:`s(x) = -k\,(2x - 1)^n` with n odd, which is
# steep near the ends alone. Then :math:`\mathbb{E}\,s' = -2k` and :math:`\mathbb{E}\,s^2 = k^2/(2n + 1)`. The best k is
# :math:`2(2n + 1)`:
#
# .. theorem:: unbounded-at-bounds
#
#    x \sim U(0, 1): \qquad J(s_n) = -2\,(2n + 1) \to -\infty, \qquad s_n(x) = -2\,(2n + 1)\,(2x - 1)^n.
#
# The loss has no minimum. Training would look like progress for ever, towards scores that are zero inside and infinite at the
# ends. An 8-bit image has such bounds: many of its pixels are 0 or 255.

from scorefield import VE, ScorefieldError
from scorefield.exact import Box

uniform = SampleRng(range(4000), stream=2).uniform((1,))
inside = torch.linspace(0, 1, 201, dtype=torch.float64)[:, None]
figure, (left, right) = plt.subplots(1, 2)
for n, style in ((1, "-"), (5, "--"), (25, "-.")):
    steep = field_of(lambda x, n=n: -2 * (2 * n + 1) * (2 * x - 1) ** n)
    loss = Implicit()(steep, uniform, rng=SampleRng(range(4000), stream=3)).detach()
    print(f"n = {n:2}: J = {loss.mean():8.2f} from draws, {-2 * (2 * n + 1)} in closed form")
    left.plot(inside, steep(inside, torch.zeros(201)).score, style, label=f"n = {n}, J = {-2 * (2 * n + 1)}")
left.set(xlabel="x", ylabel="score, in 1/(unit of x)", title="Uniform data: ever lower losses", ylim=(-45, 45))
left.legend(fontsize=8)

noised = Box((1,), 0.0, 1.0, VE(0.02, 1.0))
wide = torch.linspace(-0.25, 1.25, 301, dtype=torch.float64)[:, None]
for sigma, style in ((0.2, "-"), (0.1, "--"), (0.05, "-.")):
    t = noised.process.time_of_sigma(torch.full((301,), sigma, dtype=torch.float64))
    right.plot(wide, noised(wide, t).score, style, label=f"noise {sigma:g}")
right.set(xlabel="x", ylabel="score, in 1/(unit of x)", title="With noise: a true score", ylim=(-45, 45))
right.legend(fontsize=8)

# %%
# **The remedy is noise.** Data plus Gaussian noise have a smooth density on the whole line, which falls to zero faster than any
# score grows. The identity then holds, for the density of the noisy data. The package refuses what cannot work and says why:

try:
    Implicit().check(steep, bounded=True)
except ScorefieldError as refusal:
    print(refusal)
Implicit().check(noised, bounded=True)

# %%
# Second: atoms
# -------------
#
# An **atom** is a single value that has a positive probability, such as the value 0 of a pixel, or every point of a finite
# training set. Near each atom :math:`a` a model can say :math:`s(x) = -k\,(x - a)`: zero at the atom itself, and as steep as it
# likes:
#
# .. theorem:: unbounded-at-atoms
#
#    s(a) = 0, \quad s'(a) = -k \text{ at every atom } a: \qquad J(s) = -k \to -\infty \text{ as } k \to \infty.
#
# (In d coordinates with :math:`\nabla s(a) = -k\,I` it is :math:`-k\,d`.) So J over a finite training set has no minimum for a
# model that is flexible enough. What keeps a network from it is only that it is not steep enough yet. Noise helps here, too:
# :ref:`lesson 4 <sphx_glr_book_lesson_04_denoising.py>` builds a loss on it.

# %%
# Third: networks with kinks
# --------------------------
#
# A ReLU, :math:`\max(0, u)`, is piecewise linear. If an *energy* :math:`E(x)` is made of ReLUs, it is piecewise linear too, and
# its score :math:`-\nabla E` is piecewise constant:
#
# .. theorem:: relu-has-no-curvature
#
#    v^\top\, \nabla^2 E(x)\, v = 0 \quad \text{for almost every } x \text{ and every } v.
#
# Automatic differentiation then finds :math:`\operatorname{tr}\nabla s = 0` at every draw, and what is left of the loss is
# :math:`\tfrac12\lVert s\rVert^2`. Its minimum is :math:`s = 0`. The true trace is not zero: it sits in the jumps, which no
# draw hits.
#
# A *score* network of ReLUs fails in a quieter way. It has bends and no jumps, so that its loss is right. But the bends move
# when the weights change, and automatic differentiation does not see them move. Take :math:`s(x) = w \max(0, x - b)` and
# data of N(0, 1), with density :math:`\phi` and distribution function :math:`\Phi`:
#
# .. math::
#
#    J(b) = w\,\Phi(-b) + \tfrac12 w^2\, \mathbb{E}\max(0, x - b)^2.
#
# .. theorem:: moving-bend
#
#    \frac{dJ}{db} = \underbrace{-\,w\,\phi(b)}_{\text{autograd: } 0} - w^2\, \mathbb{E}\max(0, x - b).

weight = 0.8
normal = SampleRng(range(4000), stream=4).normal((1,))
places = torch.linspace(-2, 2.5, 19, dtype=torch.float64)
seen = []
for place in places:
    b = place.clone().requires_grad_(True)
    bent = field_of(lambda x, b=b: weight * torch.relu(x - b))
    (slope,) = torch.autograd.grad(Implicit()(bent, normal, rng=SampleRng(range(4000), stream=5)).mean(), b)
    seen.append(float(slope))
density = torch.exp(-(places**2) / 2) / (2 * torch.pi) ** 0.5
tail = density - places * torch.special.ndtr(-places)  # E max(0, x - b)
figure, axes = plt.subplots()
axes.plot(places, -weight * density - weight**2 * tail, color="black", label="slope of J")
axes.plot(places, seen, "o", color="C1", label="slope by automatic differentiation")
axes.plot(places, -(weight**2) * tail, "--", color="C1", linewidth=1, label="slope of J without the moving bend")
axes.set(
    xlabel="place b of the bend", ylabel="derivative of the loss by b", title="A ReLU score network descends something else"
)
axes.legend()

# %%
# Smooth activations have neither problem: the package's networks for vectors use SiLU, and ``Implicit().check`` refuses kinks.
#
# What is wrong in print
# ----------------------
#
# - The boundary condition is often left out, and J is used on 8-bit images without noise.
# - The trace runs over *all* coordinates of an image: channels, rows and columns. A trace over the last axis alone is another
#   loss.
# - Dropout changes the network between two evaluations, so that the trace is not that of one function.
# - The exact trace costs one backward pass a coordinate. :ref:`Lesson 3 <sphx_glr_book_lesson_03_sliced.py>` makes that cheap.
#
# References: Hyvärinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6. Hyvärinen (2007),
# "Some extensions of score matching", Computational Statistics & Data Analysis 51. Stein (1981), "Estimation of the mean of a
# multivariate normal distribution", Annals of Statistics 9.

# %%
# Exercises
# ---------
#
# 1. The exponential density is :math:`p(x) = e^{-x}` for :math:`x \ge 0`. By how much does the right side of
#    :eq:`implicit-loss` miss the left one, for a smooth s? Check it for :math:`s(x) = -2 + x`.
# 2. Repair it: put a weight h(x) with :math:`h(0) = 0` into the divergence, :math:`\tfrac12\,\mathbb{E}\,h\,(s - (\log p)')^2`,
#    and find the implicit form. With h(x) = x, what does it estimate for the model :math:`s = -r` (a rate r), from draws?
# 3. The draws of a Gaussian are (2, 4, 9). Find the m and K of :eq:`gaussian-by-matching`, and check that the slopes of J are
#    zero.
#
# Solutions
# ---------
#
# **1.** The bracket is :math:`[p\,s]_0^\infty = -p(0)\,s(0) = -s(0)`, so that
# :math:`\mathbb{E}[s\,(\log p)'] = -s(0) - \mathbb{E}\,s'`. J is too large by :math:`-s(0)`, which is 2 here. Draws agree to
# within four of their standard errors:

x = -torch.log(SampleRng(range(4000), stream=6).uniform((1,)))
J = Implicit()(field_of(lambda x: x - 2), x, rng=SampleRng(range(4000))).detach()
expected = (0.5 * (x - 2 + 1) ** 2 - 0.5)[:, 0]  # of the divergence less half the mean squared true score
assert abs((J - expected).mean() - 2) < 4 * (J - expected).std() / 4000**0.5

# %%
# **2.** The cross term is :math:`\int h\,s\,p'\,dx = [h\,s\,p] - \mathbb{E}\,(h\,s)'`, and the bracket is zero at both ends.
# The loss is :math:`\mathbb{E}[(h\,s)' + \tfrac12\,h\,s^2]`. For h = x and s = -r it is
# :math:`-r + \tfrac12 r^2\,\mathbb{E}\,x`, with its minimum at :math:`r = 1/\mathbb{E}\,x`: the estimate of maximum likelihood.
# This is Hyvärinen (2007).

waiting = -torch.log(SampleRng(range(4000), stream=7).uniform()) / 3.0  # of rate 3
rate = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
(slope,) = torch.autograd.grad((-rate + 0.5 * rate**2 * waiting).mean(), rate)
found = 1 / waiting.mean()
assert abs((slope + 1) * found - 1) < 1e-12  # slope at r = 1 is E x - 1, so that the root is 1/(slope + 1)
assert abs(found - 3) < 4 * 3 / 4000**0.5  # the mean of n draws has the relative standard error 1/sqrt(n)

# %%
# **3.** The mean is 5 and the variance (9 + 1 + 16)/3 = 26/3, so that K = 3/26. Note the division by 3 and not by 2.

three = torch.tensor([[2.0], [4.0], [9.0]], dtype=torch.float64)
m, K = torch.tensor(5.0, dtype=torch.float64, requires_grad=True), torch.tensor(3 / 26, dtype=torch.float64, requires_grad=True)
loss = Implicit()(field_of(lambda x: -K * (x - m)), three, rng=SampleRng(range(3))).mean()
assert all(abs(slope) < 1e-12 for slope in torch.autograd.grad(loss, [m, K]))
