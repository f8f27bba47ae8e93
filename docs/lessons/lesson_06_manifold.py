r"""
6. Data on a curve: the manifold hypothesis
===========================================

Images of 64 pixels have 64 coordinates, but most points of that space are no image of a digit. The **manifold hypothesis**
says that real data lie on, or close to, a set of far fewer dimensions: a curve, a surface, a manifold. There the score of the
data does not exist, and this lesson shows what that does to learning and how noise repairs it.

**Where the density is gone.** Let the data lie on a line in the plane. Almost every point of the plane has density zero, and
:math:`\log 0` has no gradient. On the line itself the density is infinite. So :math:`\nabla\log p` is defined nowhere.

Add noise: :math:`x = x_0 + \sigma\,\text{noise}`. Let the data be normal on a **flat**, that is, on an m-dimensional plane
through the mean: :math:`x_0 \sim \mathcal N(0, v P)`, where the matrix P projects onto the flat (:math:`P^2 = P = P^\top`,
and its trace is m). Noise adds :math:`\sigma^2 I` to the covariance. Since :math:`I = P + (I - P)`,

.. math::

   \operatorname{Cov} x = (v + \sigma^2)\, P + \sigma^2\, (I - P).

P and :math:`I - P` have orthogonal ranges, so that the inverse inverts both numbers, and the score :math:`-(\operatorname{Cov}
x)^{-1} x` is

.. theorem:: score-across-a-flat

   s_\sigma(x) = -\frac{P x}{v + \sigma^2} - \frac{(I - P)\, x}{\sigma^2}.

The first part lies along the flat and stays as it is when :math:`\sigma \to 0`. The second is the distance from the flat
divided by :math:`\sigma^2`, and grows without bound.
"""

# %%
# A curved example with a formula
# -------------------------------
#
# Let the data be uniform on a circle of radius R. The density at distance r from the centre is the mean over all angles a of
# the noise's density,
#
# .. math::
#
#    p_\sigma(r) \propto \int_0^{2\pi} e^{-(r^2 + R^2 - 2 r R \cos a)/(2\sigma^2)}\, da
#    \propto e^{-r^2/(2\sigma^2)}\, I_0\!\left(\frac{rR}{\sigma^2}\right),
#
# because :math:`\int e^{z \cos a} da = 2\pi I_0(z)` defines the Bessel function :math:`I_0`, whose derivative is :math:`I_1`.
# Take the logarithm and its derivative along r. The score points along the radius, outwards by
#
# .. theorem:: circle-score
#
#    s_\sigma(r) = \frac{1}{\sigma^2} \left( R\, \frac{I_1(z)}{I_0(z)} - r \right), \qquad z = \frac{rR}{\sigma^2}.
#
# For large z the ratio is :math:`1 - 1/(2z)` up to terms of order :math:`1/z^2`. So :math:`\sigma^2 s_\sigma = R - r -
# \sigma^2/(2r) + \dots`: the way to the nearest point of the circle, up to :math:`\sigma^2`. This holds for every smooth
# curve or surface. Noise of level :math:`\sigma` can only come from a piece of the curve of about that size around the
# nearest point :math:`\Pi(x)`; a piece that small is straight up to :math:`\sigma^2`, and evenly filled, so that
# :eq:`score-across-a-flat` holds around :math:`\Pi(x)`:
#
# .. theorem:: score-off-a-curve
#
#    \sigma^2\, s_\sigma(x) = \Pi(x) - x + O(\sigma^2).
#
# By Tweedie's formula (:ref:`lesson 5 <sphx_glr_book_lesson_05_tweedie.py>`) the left side is :math:`\mathbb{E}[x_0 | x] - x`:
# for little noise, denoising is projection onto the manifold.

import math

import matplotlib.pyplot as plt
import torch
from torch.special import i0e, i1e

from scorefield import Field, Gaussian, GaussianMixture, LinearVE, Noiseless, SampleRng

process = LinearVE(sigma_min=0.001, sigma_max=10.0)  # its time is the noise level
u = torch.linspace(-2, 2, 2000, dtype=torch.float64)
curve = torch.stack([u, (2 * u).sin()], dim=1)
field = GaussianMixture.empirical(curve, process)

across = torch.linspace(-2.4, 2.4, 25, dtype=torch.float64)
grid = torch.cartesian_prod(across, across)
figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.6), sharey=True)
for axes, sigma in zip(panels, (0.4, 0.05), strict=True):
    score = field(grid, torch.full((len(grid),), sigma)).score
    size = score.norm(dim=1)
    unit = score / size[:, None]
    arrows = axes.quiver(*grid.T, *unit.T, size.log10(), scale=22, width=0.004, headwidth=5, pivot="mid", clim=(-1, 3))
    axes.plot(*curve.T, color="C1", label="data")
    axes.set(xlabel="first coordinate", ylabel="second coordinate", title=f"noise level {sigma}", aspect="equal")
panels[0].legend(loc="lower left", frameon=True)
figure.colorbar(arrows, ax=panels, label="log10 of the score's length")

# %%
# At the lower level all arrows point to the nearest point of the curve, and are up to a thousand units long. Where two points
# of the curve are equally near, the score turns from one to the other within a strip that narrows with the noise.
#
# The same along a radius of the circle, with the formula beside the field:

radius = 1.0
angle = 2 * math.pi * torch.arange(2000, dtype=torch.float64) / 2000
ring = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
noised_ring = GaussianMixture.empirical(ring, process)
r = torch.linspace(0.02, 2, 100, dtype=torch.float64)
places = torch.stack([r, torch.zeros_like(r)], dim=1)

figure, (left, right) = plt.subplots(1, 2)
for sigma, line in ((0.8, "-"), (0.4, "--"), (0.2, "-.")):
    score = noised_ring(places, torch.full((100,), sigma)).score[:, 0]
    z = r * radius / sigma**2
    assert torch.allclose(score, (radius * i1e(z) / i0e(z) - r) / sigma**2, atol=1e-9)
    left.plot(r, score, line, label=f"noise level {sigma}")
    right.plot(r, sigma**2 * score, line, label=f"noise level {sigma}")
right.plot(r, radius - r, color="black", linewidth=0.8, label="way to the circle")
left.set(xlabel="distance from the centre", ylabel="score along the radius", title="The score of a noised circle")
left.legend()
right.set(xlabel="distance from the centre", ylabel="score times its noise variance", title="Nearly the way to the circle")
right.legend()

# %%
# The interactive view shows what such a field does to a sampler (the subject of
# :ref:`lesson 8 <sphx_glr_book_lesson_08_langevin.py>`): a step that suits the surroundings is too large near the curve.
#
# .. field-view:: lesson=curve

# %%
# Implicit matching has no minimum on a manifold
# ----------------------------------------------
#
# Implicit score matching (:ref:`lesson 2 <sphx_glr_book_lesson_02_implicit.py>`) minimises :math:`J =
# \mathbb{E}[\operatorname{tr}\nabla s + \tfrac12\lVert s\rVert^2]` over clean data. Give it the pull of strength k towards
# the manifold, :math:`s_k(x) = k\,(\Pi(x) - x)`. On the manifold :math:`\Pi(x) = x`, so that the second term is zero. For the
# first, move x a little along one of the m tangent directions: :math:`\Pi(x) - x` stays zero. Move it along one of the
# :math:`d - m` normal directions: :math:`\Pi(x)` stays, and :math:`\Pi(x) - x` changes by minus the move. The trace is
# :math:`-k` times the **codimension** :math:`d - m`:
#
# .. theorem:: implicit-on-a-manifold
#
#    J(s_k) = -k\,(d - m) \;\longrightarrow\; -\infty \qquad \text{as } k \to \infty.
#
# There is no best network. Training finds an ever steeper field, until the numbers overflow or the network can bend no more.
# What it learns along the manifold, where the information is, hardly counts beside that. (Single points, m = 0, are the
# extreme case: 8-bit images are such data.)
#
# With noise the same family has a best member. For the flat, :math:`\mathbb{E}\lVert (I-P) x \rVert^2 = (d - m)\,\sigma^2`, so
#
# .. theorem:: implicit-on-a-flat
#
#    J_\sigma(s_k) = (d - m) \left( \tfrac12 \sigma^2 k^2 - k \right), \qquad
#    \min_k J_\sigma = -\frac{d - m}{2\sigma^2} \quad \text{at } k = \frac{1}{\sigma^2}.
#
# The minimum is the pull of the true noised score :eq:`score-across-a-flat`. Noise gives the data a width, and the best slope
# is one over its square. Here is the package's ``Implicit`` on a line in the plane, d - m = 1, beside the formula:

from scorefield.objectives.implicit import Implicit

n = 2000
line = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 0.0]], process)
clean = line.sample(SampleRng(range(n)))
strengths = torch.linspace(0, 60, 13, dtype=torch.float64)


def pull(k):
    """The field of strength k towards the line."""
    return Field.of_score(lambda x, sigma: -k * x * torch.tensor([0.0, 1.0], dtype=x.dtype), Noiseless(), (2,))


figure, axes = plt.subplots()
for sigma, marker in ((0.0, "o"), (0.15, "s"), (0.2, "^"), (0.3, "D")):
    x = clean + sigma * SampleRng(range(n), stream=1).normal((2,))
    with torch.no_grad():
        losses = [float(Implicit()(pull(k), x, rng=SampleRng(range(n))).mean()) for k in strengths]
    name = f"noise level {sigma}" if sigma else "no noise"
    (points,) = axes.plot(strengths, losses, marker, label=name)
    axes.plot(strengths, sigma**2 * strengths**2 / 2 - strengths, color=points.get_color(), linewidth=1)
axes.set(
    xlabel="strength k of the pull towards the line, in 1/(unit of x)²",
    ylabel="implicit loss",
    title="Without noise the loss has no minimum",
    ylim=(-60, 25),
)
axes.legend()

# %%
# The package refuses to train in that case, with a sentence (this model is for 8-bit data without noise):

from scorefield import ScorefieldError

try:
    Implicit().check(Gaussian([0.0], [[1.0]], Noiseless()), bounded=True)
except ScorefieldError as error:
    print(error)

# %%
# Real data
# ---------
#
# Are the 1,797 digits of 8 x 8 pixels such data? If a direction has the variance zero, all images lie on a flat across it.

from sklearn.datasets import load_digits

pixels = torch.tensor(load_digits().data) / 16
variances = torch.linalg.eigvalsh(torch.cov(pixels.T)).flip(0)

figure, axes = plt.subplots()
for sigma, marker in ((0.0, "o"), (0.05, "s"), (0.2, "^")):
    widths = (variances.clamp(min=1e-17) + sigma**2).sqrt()
    axes.semilogy(range(1, 65), widths, marker, markersize=4, label=f"noise level {sigma}" if sigma else "no noise")
axes.set(
    xlabel="principal direction",
    ylabel="standard deviation, in units of white",
    title="Digits: three directions have no width without noise",
    ylim=(1e-5, 3),
)
axes.legend()

# %%
# Three pixels at the edge are blank in every image: without noise, their directions are below the picture. Ten more have
# hardly any width. Noise of level :math:`\sigma` gives every direction at least the width :math:`\sigma`, and the largest
# slope of the score is then :math:`1/\sigma^2` and no more.
#
# What texts get wrong
# --------------------
#
# *"As the noise goes to zero, the noised score goes to the score of the data."* If the data lie on a manifold there is no
# such limit. What converges is the noised *density*, to that of the data. The score grows like :math:`1/\sigma`: its distance
# from the curve is about :math:`\sigma`, divided by :math:`\sigma^2`. For the same reason networks do not output the score
# itself but :math:`-\sigma s`, the predicted noise, whose size stays that of the noise at all levels (exercise 1).
#
# *"Uniform noise in [0, 1) makes 8-bit images continuous."* It gives them a density, but one with hard edges, where implicit
# matching fails as well. Normal noise has none.
#
# References
# ----------
#
# - Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", section 3.1, arXiv 1907.05600.
# - Hyvärinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6.
# - Alain, Bengio (2014), "What regularized auto-encoders learn from the data-generating distribution", arXiv 1211.4246.
#
# Exercises
# ---------
#
# 1. Show that on the flat :math:`\mathbb{E}\lVert\sigma s_\sigma\rVert^2 = d - m + m\,\sigma^2/(v + \sigma^2)`.
# 2. A point of the circle itself is noised and denoised: :math:`r = R` exactly. Where does the denoised point lie, to first
#    order in :math:`\sigma^2`? Why not on the circle?
# 3. How many of the digits' 64 pixels never change? Add noise of level 0.2: which is the largest slope of the score of the
#    Gaussian with the digits' covariance?
#
# Solutions
# ---------
#
# **1.** The covariance of :math:`Px` is :math:`(v + \sigma^2) P` and that of :math:`(I-P)x` is :math:`\sigma^2(I-P)`. Divide
# by the squares of the denominators of :eq:`score-across-a-flat` and take traces: :math:`m/(v+\sigma^2) + (d-m)/\sigma^2`;
# times :math:`\sigma^2`. On the line of before, with v = 1, d = 2, m = 1:

for sigma in (0.01, 0.5):
    level = torch.full((n,), sigma, dtype=torch.float64)
    x = process.perturb(clean, level, SampleRng(range(n), stream=2).normal((2,)))
    squares = (sigma * line(x, level).score).square().sum(dim=1)
    assert abs(squares.mean() - (1 + sigma**2 / (1 + sigma**2))) < 4 * squares.std() / n**0.5

# %%
# **2.** Tweedie gives :math:`r + \sigma^2 s_\sigma = R\, I_1(z)/I_0(z) \approx R - \sigma^2/(2R)` at :math:`z =
# R^2/\sigma^2`. The denoised point is a mean of points of the circle, and a mean of points of a circle lies inside it. The
# error is of the next order, :math:`\sigma^4`:

on_it = torch.tensor([[radius, 0.0]], dtype=torch.float64)
for sigma in (0.2, 0.1):
    inside = radius - noised_ring(on_it, torch.tensor([sigma])).denoised[0, 0]
    assert abs(inside - sigma**2 / (2 * radius)) < sigma**4 / radius**3

# %%
# **3.** The slope of the score :math:`-(C + \sigma^2 I)^{-1}x` is largest along the direction of the smallest variance, here
# zero, and is there :math:`1/\sigma^2 = 25`:

assert int((pixels.var(dim=0) == 0).sum()) == 3
digits = Gaussian(pixels.mean(dim=0), torch.cov(pixels.T), process)
blank = torch.zeros(1, 64, dtype=torch.float64)
blank[0, int(pixels.var(dim=0).argmin())] = 1.0
slope = digits(digits.mean + blank, torch.tensor([0.2])).score.norm()
assert torch.isclose(slope, torch.tensor(25.0, dtype=torch.float64), rtol=1e-6)
