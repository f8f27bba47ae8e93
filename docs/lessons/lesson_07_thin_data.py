r"""
7. Where data are few
=====================

A network learns the score from data. Between two modes there may be no data at all, and a sampler that starts at random passes
exactly there. This lesson shows how wrong a learned score is in such places, and what a larger noise level changes.

**The loss does not look there.** Denoising score matching (:ref:`lesson 4 <sphx_glr_book_lesson_04_denoising.py>`) at the
noise level :math:`\sigma` minimises, up to a constant, the Fisher divergence :eq:`fisher-divergence`

.. math::

   \tfrac12 \int p_\sigma(x)\, \lVert \hat s(x) - s_\sigma(x) \rVert^2\, dx,

where :math:`s_\sigma = \nabla\log p_\sigma` is the score of the noised data and :math:`\hat s` the network. An error at x costs
:math:`p_\sigma(x)` times its square. Where :math:`p_\sigma` is :math:`10^{-9}`, any error is free.

**How wrong is the best answer from n data?** No network can know more than the data. The minimum of the loss over *all*
functions, for a finite data set :math:`x_1, \dots, x_n`, is a weighted mean of the targets :math:`g_i = (x_i - x)/\sigma^2`,

.. math::

   \hat s(x) = \frac{\sum_i k_i\, g_i}{\sum_i k_i}, \qquad k_i = \mathcal N(x;\, x_i,\, \sigma^2 I),

the score of the smoothed data set. Subtract the true score :math:`s = s_\sigma(x)`: :math:`\hat s - s = \sum_i k_i (g_i - s)
/ \sum_i k_i`. The upper sum has the mean :math:`n\, \mathbb{E}[k g] - n\, s\, \mathbb{E}[k] = 0`, because
:math:`\mathbb{E}[k] = p_\sigma` and :math:`\mathbb{E}[k g] = \nabla p_\sigma`. The lower sum is near its own mean
:math:`n\,p_\sigma(x)`. So the variance is that of the upper sum over :math:`n^2 p_\sigma^2`. For little noise, k is narrow: p
is constant across it and s is small beside g, so that :math:`\mathbb{E}[k^2 g^2] \approx p \int k^2 g^2 = p\,
(2\sqrt\pi\,\sigma)^{-d}/(2\sigma^2)` in each of d coordinates:

.. theorem:: few-data-variance

   \operatorname{Var} \hat s(x) \approx \frac{\mathbb{E}\big[k^2\, (g - s)^2\big]}{n\, p_\sigma(x)^2}
   \approx \frac{1}{2 \sigma^2 N(x)}, \qquad N(x) = n\, p(x)\, (2 \sqrt\pi\, \sigma)^d.

N(x) is the number of data within about :math:`\sigma` of x. In units of :math:`1/\sigma`, which is the size of the score of
the noise, the error is :math:`1/\sqrt{2N}`. A place with one neighbour knows its score to 70 %, one without neighbours not at
all.
"""

# %%
# Two modes and 300 points
# ------------------------

import math

import matplotlib.pyplot as plt
import torch

from scorefield import GaussianMixture, Level, LinearVE, NoisePrediction, SampleRng, ScoreModel
from scorefield.nets.mlp import MLP
from scorefield.objectives.denoising import Denoising

process = LinearVE(sigma_min=0.01, sigma_max=10.0)  # its time is the noise level
truth = GaussianMixture([0.5, 0.5], [[-2.5, -1.0], [2.5, 1.0]], [0.5, 0.5], process)
n = 300
data = truth.sample(SampleRng(range(n)))
LOW, HIGH = 0.1, 2.5

across = torch.linspace(-5, 5, 41, dtype=torch.float64)
grid = torch.cartesian_prod(across, across)
figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.8), sharey=True)
for axes, sigma in zip(panels, (LOW, HIGH), strict=True):
    density = truth.log_prob(grid, torch.full((len(grid),), sigma)) / math.log(10)
    levels = axes.contourf(across, across, density.reshape(41, 41).T, levels=range(-30, 1, 3))
    x = process.perturb(data, torch.full((n,), sigma), SampleRng(range(n), stream=1).normal((2,)))
    axes.plot(*x.T, ".", color="white", markersize=3)
    axes.grid(False)
    axes.set(
        xlabel="first coordinate",
        ylabel="second coordinate",
        title=f"noise level {sigma}",
        aspect="equal",
        xlim=(-5, 5),
        ylim=(-5, 5),
    )
figure.colorbar(levels, ax=panels, label="log10 of the density")

# %%
# At the low level the density in the middle is a millionth of that in the modes, and falls further outside. None of the 300
# noised points (white) is there. At the high level they are everywhere.
#
# Train a small network at each of the two levels
# -----------------------------------------------
#
# The network predicts the noise, :math:`-\sigma\hat s`. The error map shows :math:`\sigma\lVert\hat s - s_\sigma\rVert`, the
# error in the unit in which the noise is 1.


def trained(sigma, steps=100):
    """A network that has learned the score at one noise level from the data."""
    torch.manual_seed(0)
    model = ScoreModel(MLP((2,), width=48, depth=2), NoisePrediction(), process, (2,))
    objective, optimiser = Denoising(Level(sigma)), torch.optim.Adam(model.parameters(), lr=6e-3)
    for step in range(steps):
        optimiser.zero_grad()
        objective(model, data.float(), rng=SampleRng(range(n), stream=step)).mean().backward()
        optimiser.step()
    return model.requires_grad_(False)


def error_of(field, x, sigma):
    """The error of a field's predicted noise at some places."""
    t = torch.full((len(x),), sigma, dtype=torch.float64)
    return sigma * (field(x, t).score - truth(x, t).score).norm(dim=1)


models = {sigma: trained(sigma) for sigma in (LOW, HIGH)}
figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.8), sharey=True)
for axes, (sigma, model) in zip(panels, models.items(), strict=True):
    errors = error_of(model, grid, sigma).log10().reshape(41, 41).T
    mesh = axes.pcolormesh(across.numpy(), across.numpy(), errors.numpy(), vmin=-2, vmax=0.5, shading="nearest")
    axes.plot(*data.T, ".", color="white", markersize=2)
    axes.grid(False)
    axes.set(xlabel="first coordinate", ylabel="second coordinate", title=f"noise level {sigma}", aspect="equal")
figure.colorbar(mesh, ax=panels, label="log10 of the error, in units of the noise")

for sigma, model in models.items():
    seen = process.perturb(
        truth.sample(SampleRng(range(500), stream=9)), torch.full((500,), sigma), SampleRng(range(500)).normal((2,))
    )
    middle = SampleRng(range(100), stream=3).normal((2,)) * 0.3
    print(
        f"noise level {sigma}: error {error_of(model, seen, sigma).mean():.2f} at fresh data, "
        f"{error_of(model, middle, sigma).mean():.2f} between the modes"
    )

# %%
# At the low level the error is small on the data (white), where the loss looks. Between the modes it is about as large as the
# score itself, which is 1 there in these units: the network knows nothing, and the loss does not tell. At the high level the
# error is small in the whole region that a sampler visits.
#
# The view shows the same data. Move the level from 0.05 to 3:
#
# .. field-view:: lesson=thin

# %%
# The network against the best of all functions
# ---------------------------------------------
#
# ``GaussianMixture.empirical`` is the best :math:`\hat s` for these data. Along the line from mode to mode:

steps = torch.linspace(-1.6, 1.6, 81, dtype=torch.float64)
path = steps[:, None] * torch.tensor([[2.5, 1.0]], dtype=torch.float64)
along = torch.tensor([2.5, 1.0], dtype=torch.float64) / math.hypot(2.5, 1.0)
memory = GaussianMixture.empirical(data, process)

figure, panels = plt.subplots(1, 2)
for axes, sigma in zip(panels, (LOW, HIGH), strict=True):
    t = torch.full((81,), sigma, dtype=torch.float64)
    for name, field, line in (("true", truth, "-"), ("network", models[sigma], "--"), ("best for 300 data", memory, ":")):
        axes.plot(steps, sigma * field(path, t).score @ along, line, label=name)
    axes.set(xlabel="place (modes at -1 and 1)", ylabel="score on the path, in 1/σ", title=f"noise level {sigma}")
panels[1].legend()

# %%
# Look at the dotted line at the low level. It says "go to the nearest data point" everywhere, with all its strength, and in
# the modes it jumps from point to point: the best function for 300 data has learned them by heart. The network is smoother
# than that, and this is luck that we count on: where there are no data, what it says comes from its shape and not from the
# data.
#
# What a larger level does, and what it costs
# -------------------------------------------
#
# Two equal modes at :math:`\pm a`, each of variance v, have at the noise level :math:`\sigma` the variance :math:`w = v +
# \sigma^2`. By :eq:`mixture-score` the score on the line between them is :math:`(a \tanh(a x/w) - x)/w`. Its slope in the
# middle is
#
# .. theorem:: modes-merge
#
#    s_\sigma'(0) = \frac{a^2 - w}{w^2}, \qquad w = v + \sigma^2.
#
# While :math:`w < a^2` it is positive and pushes away from the middle: two modes. From :math:`w = a^2` on, the two have
# melted into one. Then no region between them is empty, and the score there is learned. But it is the score of *another
# density*. For :math:`\mathcal N(0, v)` the two scores are :math:`-x/(v + \sigma^2)` and :math:`-x/v`. Their Fisher
# divergence is :math:`\tfrac{v}{2}\left(\tfrac1v - \tfrac1{v + \sigma^2}\right)^2`, that is
#
# .. theorem:: price-of-noise
#
#    D(p, p_\sigma) = \frac{\sigma^4}{2 v\, (v + \sigma^2)^2}.
#
# It starts with the fourth power of :math:`\sigma`: a little noise costs hardly anything. Much noise costs all,
# :math:`D \to 1/(2v)`, which is what a score of zero has.
#
# Both together: the mean error of the best score in the middle, over 20 data sets, and the price.

sets = [GaussianMixture.empirical(truth.sample(SampleRng(range(n), stream=100 + k)), process) for k in range(20)]
sigmas = torch.logspace(-1, 1, 21, dtype=torch.float64).tolist()
place = torch.zeros(1, 2, dtype=torch.float64)
few = [sum(float(error_of(field, place, sigma)) ** 2 for field in sets) / 20 for sigma in sigmas]
v = 0.25
price = [(sigma**2 / (v + sigma**2)) ** 2 for sigma in sigmas]

figure, axes = plt.subplots()
axes.loglog(sigmas, few, marker="o", markersize=4, label="between the modes: squared error, in units of the noise")
axes.loglog(sigmas, price, "--", label="price of the noise: share of a mode's score that is lost")
axes.axvline(math.sqrt(2.5**2 + 1 - v), ymax=0.72, color="black", linewidth=0.8, linestyle=":", label="the modes merge")
axes.set(xlabel="noise level", ylabel="error", title="Few data against the wrong density", ylim=(1e-4, 3e3))
axes.legend(loc="upper right")

# %%
# At every level one of the two errors is large. No level is right everywhere. That is why the next lessons use many:
# :ref:`lesson 10 <sphx_glr_book_lesson_10_one_level.py>`.
#
# What texts get wrong
# --------------------
#
# *"The score is undefined where there are no data."* Here p is positive everywhere and so the true score is defined
# everywhere. It is the *learned* one that is arbitrary. (The undefined scores are those of :ref:`lesson 6
# <sphx_glr_book_lesson_06_manifold.py>`.)
#
# *"A small loss means a good score."* It means one on the data. Whoever wants to know about the space between must measure
# there.
#
# References
# ----------
#
# - Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", section 3.2, arXiv 1907.05600.
# - Vincent (2011), "A connection between score matching and denoising autoencoders", Neural Computation 23(7).
# - Wenliang, Kanagawa (2020), "Blindness of score-based methods to isolated components and mixing proportions", arXiv
#   2008.10087.
#
# Exercises
# ---------
#
# 1. At which noise level do the two modes of this lesson merge?
# 2. One coordinate, :math:`p = \mathcal N(0, 1)`, noise level 0.1. How many data make the score at 0 right to 10 % of
#    :math:`1/\sigma`? How many at 3?
# 3. At which noise level is a hundredth of a Gaussian's score lost, that is :math:`D(p, p_\sigma) = 0.01 \cdot 1/(2v)`?
#
# Solutions
# ---------
#
# **1.** Along the line through the modes, :math:`a^2 = 2.5^2 + 1 = 7.25` and :math:`v = 0.25`, so that
# :math:`\sigma = \sqrt{7} = 2.65`. Just below it the score pushes away from the middle, just above it towards the middle:

for sigma, sign in ((2.6, 1), (2.7, -1)):
    beside = 0.01 * along[None]
    assert torch.sign(truth(beside, torch.tensor([sigma])).score[0] @ along) == sign

# %%
# **2.** :math:`1/\sqrt{2N} = 0.1` needs :math:`N = 50` neighbours. With :math:`N = n\,p(x)\,2\sqrt\pi\,\sigma`, 0 needs
# n = 354 and 3 needs :math:`e^{9/2} = 90` times as many. Check with 100 data sets at 0:

n = round(50 / (2 * math.sqrt(math.pi) * 0.1 / math.sqrt(2 * math.pi)))
assert n == 354
origin, t = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([0.1])
squares = torch.stack(
    [
        (0.1 * GaussianMixture.empirical(SampleRng(range(n), stream=k).normal((1,)), process)(origin, t).score).square()
        for k in range(100)
    ]
)
assert abs(squares.mean() - 0.1**2) < 4 * squares.std() / 100**0.5

# %%
# **3.** By :eq:`price-of-noise`, :math:`\sigma^2/(v + \sigma^2) = 0.1`, so that :math:`\sigma = \sqrt{v}/3`: noise of a third
# of the data's own width.

sigma = math.sqrt(v) / 3
assert math.isclose(sigma**4 / (2 * v * (v + sigma**2) ** 2), 0.01 / (2 * v), rel_tol=1e-12)
