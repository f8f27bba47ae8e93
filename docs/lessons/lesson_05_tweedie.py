r"""
5. Tweedie's formula: from the score to the clean data
======================================================

:ref:`Lesson 4 <sphx_glr_book_lesson_04_denoising.py>` went from denoising to the score. This lesson goes back: a score is a
denoiser, its derivative says how uncertain the answer is, and the score even tells how much noise there was.

**The mean.** Let :math:`x = \alpha\, x_0 + n` with Gaussian noise n of mean 0 and any covariance S, known and invertible. Given
:math:`x_0`, the score of x is :math:`-S^{-1}(x - \alpha\, x_0)`. By the argument of :eq:`score-is-a-mean`, which did not use
that the noise was white, the score of the noisy data is its mean given x:

.. math::

   \nabla\log p(x) = -S^{-1}\big( x - \alpha\, \mathbb{E}[x_0 \mid x] \big).

Solve for the mean:

.. theorem:: tweedie-covariance

   \mathbb{E}[x_0 \mid x] = \frac{x + S\, \nabla\log p(x)}{\alpha}.

For white noise, :math:`S = \sigma^2 I`, and with :math:`\epsilon = (x - \alpha\, x_0)/\sigma`, this says two things:

.. theorem:: tweedie

   D(x) := \mathbb{E}[x_0 \mid x] = \frac{x + \sigma^2\, \nabla\log p(x)}{\alpha}, \qquad
   \mathbb{E}[\epsilon \mid x] = -\sigma\, \nabla\log p(x).

Nothing was assumed about the data: the noise gives x a density, whatever :math:`x_0` is. No prior has to be known,
only the score of the noisy data, which can be learned from noisy data alone. Robbins (1956) published the formula and credits
Tweedie; Miyasawa (1961) has it for vectors. The conditional mean is the function of x with the least mean squared error, so
that D is the best denoiser in this sense.
"""

# %%
# One formula, every noise level
# ------------------------------
#
# A mixture on the line. The curves are D by :eq:`tweedie`; the marks are the means of Bayes' rule, integrated numerically. With
# little noise D returns x. With much noise it returns the mean of the data. Between, it pulls towards the modes.

import matplotlib.pyplot as plt
import torch

from scorefield import VE, Field, Gaussian, GaussianMixture, SampleRng
from scorefield.denoising import denoised_at, posterior_draws
from scorefield.objectives.denoising import DenoisingMatrix

process = VE(0.01, 10.0)
line = GaussianMixture([0.7, 0.3], [[-1.5], [1.5]], [0.3, 0.3], process)
x = torch.linspace(-4, 4, 161, dtype=torch.float64)[:, None]
clean = torch.linspace(-4, 4, 2001, dtype=torch.float64)
prior = line.log_prob(clean[:, None], torch.zeros(2001)).exp()  # noise 0.01: as good as none here
figure, axes = plt.subplots()
for number, sigma in enumerate((0.2, 0.8, 3.0)):
    level, colour = torch.full((161,), sigma, dtype=torch.float64), ("C0", "C1", "C5")[number]
    axes.plot(x, denoised_at(line, x, level), color=colour, linestyle=("-", "--", "-.")[number], label=f"noise {sigma}")
    posterior = prior * torch.exp(-((x[::10] - clean) ** 2) / (2 * sigma**2))
    axes.plot(x[::10], (posterior @ clean) / posterior.sum(dim=1), "o", color=colour, markersize=4)
axes.plot([], [], "o", color="black", markersize=4, label="Bayes' rule")
axes.set(
    xlabel="noisy value x, in units of the data", ylabel="E[x0 | x], in units of the data", title="Tweedie and Bayes agree"
)
axes.legend()

# %%
# **A mean is no typical point.** At x = 0 and noise 0.8 the answer lies between the modes, where there are no data. It is right
# on average, and blurred. For a sharp picture, take a *draw* of :math:`x_0` given x.

# %%
# Noise with a covariance
# -----------------------
#
# Errors of neighbouring sensors are often correlated. Then :math:`\sigma^2 \nabla\log p` is the wrong step, and
# :math:`S\, \nabla\log p` is the right one. ``DenoisingMatrix`` learns such scores. Here the score is known: for Gaussian data
# of covariance K, the noisy data have the covariance K + S.

K = torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64)
C = torch.tensor([[1.0, -0.8], [-0.8, 1.0]], dtype=torch.float64)
sigma, n = 0.7, 2000
S = sigma**2 * C
t = process.time_of_sigma(torch.full((n,), sigma, dtype=torch.float64))
coloured = Field.of_score(lambda x, s: -x @ torch.linalg.inv(K + S), process, (2,), check=False)
x0 = Gaussian([0.0, 0.0], K, process).sample(SampleRng(range(n)))
x = x0 + SampleRng(range(n), stream=1).normal((2,)) @ torch.linalg.cholesky(S).mT
answers = {
    "with S": DenoisingMatrix(covariance=tuple(map(tuple, C.tolist()))).denoised(coloured, x, t),
    "with σ² in the place of S": coloured(x, t).denoised,
}
figure, both = plt.subplots(1, 2, sharex=True, sharey=True)
for axes, (name, answer) in zip(both, answers.items(), strict=True):
    few = slice(0, 60)
    axes.plot(*torch.stack([x0[few], answer[few]]).permute(2, 0, 1), color="0.7", linewidth=1)
    axes.plot(*x[few].mT, "^", color="C4", markersize=3, label="noisy")
    axes.plot(*x0[few].mT, "o", color="black", markersize=3, label="clean")
    axes.plot(*answer[few].mT, "s", color="C1", markersize=3, label="denoised")
    error = (answer - x0).square().sum(dim=1).mean()
    axes.set(xlabel="first coordinate", ylabel="second coordinate", title=f"{name}: error {error:.2f}")
both[0].legend(fontsize=8)
print(f"least possible error tr(K - K (K + S)^-1 K) = {(K - K @ torch.linalg.inv(K + S) @ K).trace():.2f}")

# %%
# The covariance
# --------------
#
# How far may the clean point be from D(x)? Differentiate the mean by x. First the logarithm of Bayes' rule, with the scores
# above:
#
# .. math::
#
#    \nabla_x \log p(x_0 \mid x) = \nabla_x \log p(x \mid x_0) - \nabla_x \log p(x) = \alpha\, S^{-1} \big( x_0 - D(x) \big).
#
# So :math:`D(x) = \int x_0\, p(x_0 \mid x)\, dx_0` has the Jacobian
#
# .. math::
#
#    \nabla D(x) = \mathbb{E}\big[ x_0\, (x_0 - D)^\top \,\big|\, x \big]\, \alpha\, S^{-1}
#    = \alpha \operatorname{Cov}[x_0 \mid x]\, S^{-1}.
#
# Multiply by :math:`S/\alpha`, and put :eq:`tweedie-covariance` in for D:
#
# .. theorem:: posterior-covariance
#
#    \operatorname{Cov}[x_0 \mid x] = \tfrac1\alpha\, \nabla D(x)\; S
#    = \tfrac{1}{\alpha^2} \big( S + S\, \nabla^2 \log p(x)\, S \big)
#    = \tfrac{\sigma^2}{\alpha^2} \big( I + \sigma^2\, \nabla^2 \log p(x) \big) \text{ for } S = \sigma^2 I.
#
# A covariance is symmetric and has no negative eigenvalue. So the Jacobian of an exact denoiser of white noise is symmetric and
# has none either; that of a network may break both. The mean of the trace is the error of the best denoiser:
#
# .. theorem:: least-error
#
#    \mathbb{E}\lVert x_0 - D(x) \rVert^2 = \mathbb{E}\, \operatorname{tr} \operatorname{Cov}[x_0 \mid x].
#
# Three modes in the plane, noise 0.8, and two noisy points. Dots are draws from the posterior; the ellipses, two standard
# deviations wide, come from the derivative of the denoiser alone.

plane = GaussianMixture([0.4, 0.3, 0.3], [[-2.0, 0.0], [1.0, 1.2], [1.0, -1.2]], [0.35, 0.35, 0.35], process)
level = torch.tensor([0.8], dtype=torch.float64)
turn = torch.linspace(0, 2 * torch.pi, 100, dtype=torch.float64)
circle = torch.stack([turn.cos(), turn.sin()])
figure, axes = plt.subplots(figsize=(7.2, 3.8))
for number, place in enumerate(([-2.2, 0.6], [0.8, 0.2])):
    z = torch.tensor([place], dtype=torch.float64)
    draws = posterior_draws(plane, z.expand(400, 2), 0.8, rng=SampleRng(range(400)))
    mean = denoised_at(plane, z, level)[0]
    jacobian = torch.autograd.functional.jacobian(lambda one: denoised_at(plane, one, level)[0], z)[:, 0]
    covariance = 0.8**2 * jacobian
    ellipse = mean[:, None] + 2 * torch.linalg.cholesky(covariance) @ circle
    axes.plot(*draws.mT, ".", color=f"C{number}", markersize=2, alpha=0.5)
    axes.plot(*ellipse, color=f"C{number}", linestyle=("-", "--")[number], label=f"posterior of x = ({place[0]}, {place[1]})")
    axes.plot(*z[0], "x", color=f"C{number}", markersize=9, markeredgewidth=2)
    axes.plot(*mean, "s", color=f"C{number}", markeredgecolor="black")
axes.plot([], [], "x", color="black", label="noisy point x")
axes.plot([], [], "s", color="white", markeredgecolor="black", label="D(x)")
axes.set(
    xlabel="first coordinate",
    ylabel="second coordinate",
    title="Mean and covariance from the score",
    aspect="equal",
    xlim=(-4, 5),
)
axes.legend(fontsize=8, loc="upper right")

# %%
# For the point between two modes the ellipse is right, as a covariance, and yet says little: the posterior has two modes.

# %%
# Blind: the noise level itself
# -----------------------------
#
# Let :math:`z = x_0 + \sigma\epsilon` with an unknown :math:`\sigma`, and :math:`p_\sigma` its density. The density of the
# noise obeys the heat equation
# :math:`\partial_\sigma \mathcal N(u; 0, \sigma^2 I) = \sigma \Delta \mathcal N(u; 0, \sigma^2 I)`, and so does its mean over
# the data, :math:`\partial_\sigma p_\sigma = \sigma \Delta p_\sigma`. Divide by :math:`p_\sigma`, multiply by :math:`\sigma`,
# and use :math:`\Delta p/p = \lVert\nabla\log p\rVert^2 + \operatorname{tr}\nabla^2\log p`:
#
# .. math::
#
#    \frac{\partial \log p_\sigma(z)}{\partial \log\sigma} = \sigma^2 \big( \lVert s \rVert^2 + \operatorname{tr}\nabla s \big),
#    \qquad s = \nabla\log p_\sigma(z).
#
# By :eq:`tweedie`, :math:`s = (D - z)/\sigma^2` and :math:`\nabla s = (J - I)/\sigma^2` with :math:`J = \nabla D`:
#
# .. theorem:: noise-evidence
#
#    \frac{\partial \log p_\sigma(z)}{\partial \log\sigma}
#    = \frac{\lVert z - D(z) \rVert^2}{\sigma^2} - \big( d - \operatorname{tr} J \big).
#
# It is zero where what the denoiser takes away is as large as noise of that level would be: :math:`\operatorname{tr} J` of the
# d numbers are explained by the data, and the rest are noise. Everything in it comes from the denoiser. So a denoiser knows the
# density of z as a function of :math:`\sigma`, and the most likely :math:`\sigma` with it.
#
# How sure is that? For Gaussian data with variances :math:`v_i` the two sides are
# :math:`\sum_i \frac{\sigma^2}{v_i + \sigma^2} \big( \frac{z_i^2}{v_i + \sigma^2} - 1 \big)`, of variance
# :math:`2 \sum_i \big( \frac{\sigma^2}{v_i + \sigma^2} \big)^2 = 2 \lVert I - J \rVert^2`. The variance of the slope of a
# log-density is the Fisher information, and its inverse is the variance of the estimate:
#
# .. theorem:: noise-level-error
#
#    \text{standard error of } \log\sigma = \frac{1}{\sqrt{2\, \lVert I - J \rVert^2}}.
#
# Handwritten digits, 8 by 8 pixels. The field is that of a mixture with a narrow mode at each of 600 digits; the clean
# pictures are draws of it. Nobody tells the noise, 0.3.

from sklearn.datasets import load_digits

from scorefield.denoising import Seen, estimate_sigma

images = torch.tensor(load_digits().images[:600] / 16)[:, None]
digits = GaussianMixture(torch.ones(len(images)), images, torch.full((len(images),), 0.1), process)
pictures = digits.sample(SampleRng(range(100)))
noisy = pictures + 0.3 * SampleRng(range(100), stream=5).normal((1, 8, 8))
found = estimate_sigma(digits, Seen.all_of(noisy[:1]), rng=SampleRng([0]))
estimate, error = float(found.sigma), float(found.standard_error)
print(f"estimated noise {estimate:.3f} ± {error:.3f}")

fine = torch.logspace(-0.85, -0.2, 100, dtype=torch.float64)
exact = digits.log_prob(noisy[:1].expand(100, 1, 8, 8), process.time_of_sigma(fine))
slope = (
    found.evidence[0]
    - found.evidence[0].max()
    + digits.log_prob(noisy[:1], process.time_of_sigma(found.levels[found.evidence[0].argmax()][None]))
)
figure, axes = plt.subplots()
axes.plot(found.levels, slope, "o", label="by integrating the slope over levels")
axes.plot(fine, exact, color="C1", label="exact log-density")
axes.axvline(0.3, color="black", linestyle=":", label="true noise")
axes.axvspan(estimate - error, estimate + error, color="C4", alpha=0.4, label="estimate and its standard error")
axes.set(xlabel="noise level σ, in units of the pixels", ylabel="log p(z), in nats", title="How noisy is z?")
axes.set(xlim=(0.12, 0.6), ylim=(float(exact.max()) - 60, float(exact.max()) + 5))
axes.legend(loc="lower right")

# %%
# And then Tweedie at the estimate, and at half and at twice of it. The errors are root mean squares over 100 pictures: the
# right level has the least.

panels = {"clean": pictures[0, 0], "noisy": noisy[0, 0]}
for name, factor in (("σ/2", 0.5), ("σ", 1.0), ("2σ", 2.0)):
    answers = denoised_at(digits, noisy, torch.full((100,), factor * estimate, dtype=torch.float64))
    panels[f"D at {name}:\nerror {(answers - pictures).square().mean().sqrt():.3f}"] = answers[0, 0]
figure, row = plt.subplots(1, 5, figsize=(7.2, 2.0))
for axes, (name, image) in zip(row, panels.items(), strict=True):
    axes.imshow(image.numpy(), vmin=0, vmax=1)
    axes.axis("off")
    axes.set_title(name, fontsize=9)

# %%
# A **blind denoiser** is a network that is not told :math:`\sigma`. Trained on many levels, it learns the mean over what it
# cannot see, :math:`\mathbb{E}[x_0 \mid z] = z + \mathbb{E}[\sigma^2 s_\sigma(z) \mid z]`, the second mean over :math:`\sigma`
# given z. By :eq:`noise-level-error`, z tells :math:`\sigma` within :math:`1/\sqrt{2d}` of itself or so. So in many dimensions
# it loses little.
#
# What is wrong in print
# ----------------------
#
# - :math:`\mathbb{E}[\epsilon \mid x] = -\sigma^2\, \nabla\log p`: the factor is :math:`\sigma`.
# - :math:`x + \sigma^2\,\nabla\log p` without the division by :math:`\alpha`, for processes that shrink the data.
# - :math:`\sigma^2` for S, where the noise has a covariance.
# - "Tweedie holds for small noise." It is exact at every level.
#
# References: Robbins (1956), "An empirical Bayes approach to statistics". Miyasawa (1961), "An empirical Bayes estimator of the
# mean of a normal population". Efron (2011), "Tweedie's formula and selection bias", JASA 106. Raphan, Simoncelli (2011),
# "Least squares estimation without priors or supervision", Neural Computation 23. Manor, Michaeli (2024), "On the posterior
# distribution in denoising: application to uncertainty quantification", arXiv 2309.13598. Stein (1981), "Estimation of the mean
# of a multivariate normal distribution", Annals of Statistics 9.

# %%
# Exercises
# ---------
#
# 1. Robbins' own case: a count x is Poisson with the mean :math:`x_0`, and :math:`x_0` has an unknown density. Show that
#    :math:`\mathbb{E}[x_0 \mid x] = (x + 1)\, p(x + 1)/p(x)`, with p the probabilities of the counts. Estimate it from counts
#    alone, for :math:`x_0` with the density :math:`e^{-x_0}`.
# 2. Show Stein's formula, for any smooth D and :math:`z = x_0 + \sigma\epsilon`: the error
#    :math:`\mathbb{E}\lVert D - x_0 \rVert^2` is the mean of
#    :math:`\lVert z - D \rVert^2 + 2\sigma^2 \operatorname{tr}\nabla D - d\,\sigma^2`, which needs no clean data. Find the best
#    factor c of :math:`D = c z` for data of N(0, v) by it.
# 3. Data lie close to a line in the plane. What does :math:`\operatorname{tr} J` approach for noise that is small along the
#    line and large across it? Check it for the variances 1 and :math:`10^{-8}` and the noise 0.01.
#
# Solutions
# ---------
#
# **1.** :math:`x_0\, p(x \mid x_0) = x_0^{x+1} e^{-x_0}/x! = (x + 1)\, p(x + 1 \mid x_0)`. Take the mean over :math:`x_0` and
# divide by p(x). Here :math:`p(x) = 2^{-(x+1)}`, so that the mean is (x + 1)/2. The ratio of two counts of draws has the
# relative standard error :math:`\sqrt{1/n_x + 1/n_{x+1}}`.

means = -torch.log(SampleRng(range(4000), stream=2).uniform())
counts = torch.bincount(torch.poisson(means, generator=torch.Generator().manual_seed(0)).long(), minlength=4)
for x in range(3):
    robbins = (x + 1) * counts[x + 1] / counts[x]
    assert abs(robbins - (x + 1) / 2) < 4 * robbins * (1 / counts[x] + 1 / counts[x + 1]).sqrt()

# %%
# **2.** Write :math:`D - x_0 = (D - z) + \sigma\epsilon`, and its square out. The cross term is
# :math:`2\sigma\,\epsilon \cdot (D - z)`. By :eq:`stein-identity` for :math:`\epsilon`, whose score is :math:`-\epsilon`,
# :math:`\mathbb{E}[\epsilon \cdot D] = \sigma\,\mathbb{E} \operatorname{tr}\nabla D`; and
# :math:`\mathbb{E}[\epsilon \cdot z] = \sigma d`. With :math:`\sigma^2\,\mathbb{E}\lVert\epsilon\rVert^2 = \sigma^2 d` this is
# the formula. For :math:`D = c z` it is :math:`(1 - c)^2\, \mathbb{E} z^2 + 2 c\,\sigma^2 - \sigma^2`, with its minimum at
# :math:`c = 1 - \sigma^2/\mathbb{E} z^2`: for N(0, v) the :math:`v/(v + \sigma^2)` of Tweedie.

v, sigma, n = 1.5, 0.8, 4000
clean = v**0.5 * SampleRng(range(n), stream=3).normal()
z = clean + sigma * SampleRng(range(n), stream=4).normal()
best = 1 - sigma**2 / z.square().mean()
assert abs(best - v / (v + sigma**2)) < 4 * (2 / n) ** 0.5 * sigma**2 / (v + sigma**2)  # a mean of squares varies by sqrt(2/n)
gap = (best * z - clean) ** 2 - ((z - best * z) ** 2 + 2 * sigma**2 * best - sigma**2)  # the true error less Stein's
assert abs(gap.mean()) < 4 * gap.std() / n**0.5

# %%
# **3.** :math:`J = K (K + \sigma^2 I)^{-1}` has the eigenvalues :math:`v_i/(v_i + \sigma^2)`: 1/1.0001 along the line, about 0
# across. So :math:`\operatorname{tr} J` counts the directions in which the data vary by more than the noise, here 1.

from scorefield.denoising import jacobian_diagonal

thin = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1e-8]], process)
diagonal = jacobian_diagonal(thin, torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0.01]), rng=SampleRng([0])).diagonal
assert abs(diagonal.sum() - (1 / 1.0001 + 1e-8 / (1e-8 + 1e-4))) < 1e-6
