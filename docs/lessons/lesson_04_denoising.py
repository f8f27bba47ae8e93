r"""
4. Denoising score matching
===========================

Implicit matching fails for real images, and noise is its remedy. Vincent (2011) saw that noise gives more: once we add it
ourselves, the loss needs no derivative of the score at all.

**Noise that we know.** Let :math:`x_t = \alpha\, x_0 + \sigma\, \epsilon`, with noise :math:`\epsilon \sim \mathcal N(0, I)`.
Given :math:`x_0`, the density of :math:`x_t` is :math:`\mathcal N(\alpha x_0, \sigma^2 I)`, whose score we can write down:

.. theorem:: noising-score

   \nabla_{x_t} \log p(x_t \mid x_0) = -\frac{x_t - \alpha\, x_0}{\sigma^2} = -\frac{\epsilon}{\sigma}.

Mind the minus: it points back to the data.

**From the known score to the unknown one.** The density of the noisy data is
:math:`p_t(x) = \int p(x_0)\, p(x \mid x_0)\, dx_0`. Take its gradient under the integral and use
:math:`\nabla p(x \mid x_0) = p(x \mid x_0)\, \nabla\log p(x \mid x_0)`:

.. math::

   \nabla\log p_t(x) = \frac{\nabla p_t(x)}{p_t(x)}
   = \int \frac{p(x_0)\, p(x \mid x_0)}{p_t(x)}\, \nabla\log p(x \mid x_0)\, dx_0.

The fraction is :math:`p(x_0 \mid x)`, by Bayes' rule. So the score of the noisy data is a conditional mean:

.. theorem:: score-is-a-mean

   \nabla\log p_t(x) = \mathbb{E}\Big[ -\frac{\epsilon}{\sigma} \;\Big|\; x_t = x \Big].

A regression finds conditional means. Regress :math:`-\epsilon/\sigma` on :math:`x_t`, and the best function of :math:`x_t` is
the score.

**The same with its constant.** Let y be the target, :math:`m(x) = \mathbb{E}[y \mid x]`. For every function s,
:math:`\mathbb{E}\lVert s - y \rVert^2 = \mathbb{E}\lVert s - m \rVert^2 + \mathbb{E}\lVert m - y \rVert^2`: the cross term
:math:`\mathbb{E}[(s - m)\cdot(m - y)]` is zero, since given x the first factor is fixed and the second has mean 0. With
:math:`y = -\epsilon/\sigma` and :math:`m = \nabla\log p_t` this is Vincent's theorem:

.. theorem:: denoising-loss

   \tfrac12\, \mathbb{E}\Big\lVert s(x_t) + \frac{\epsilon}{\sigma} \Big\rVert^2
   = \tfrac12\, \mathbb{E}\lVert s(x_t) - \nabla\log p_t(x_t) \rVert^2 + C.

C does not depend on the model. It is half the variance of the target around its mean. Since
:math:`\mathbb{E}\lVert y \rVert^2 = \mathbb{E}\lVert m \rVert^2 + \mathbb{E}\lVert m - y \rVert^2` and
:math:`\mathbb{E}\lVert\epsilon\rVert^2 = d`,

.. theorem:: denoising-constant

   C = \frac12 \Big( \frac{d}{\sigma^2} - \mathbb{E}\lVert \nabla\log p_t(x_t) \rVert^2 \Big).

For Gaussian data with variances :math:`v_i` along their axes, the score has the mean square
:math:`\sum_i 1/(\alpha^2 v_i + \sigma^2)`, so that
:math:`C = \frac12 \sum_i \frac{\alpha^2 v_i}{\sigma^2 (\alpha^2 v_i + \sigma^2)}`.
"""

# %%
# The constant, in closed form and from draws
# -------------------------------------------
#
# Gaussian data in three coordinates, at three noise levels. From the loss of two models - the true score, and the true score
# plus a constant vector h, whose divergence is :math:`\frac12 \lVert h \rVert^2` - the same C comes out, and it is that of the
# formula.

import matplotlib.pyplot as plt
import torch

from scorefield import EDM, VE, Field, Gaussian, GaussianMixture, Level, SampleRng, ScoreModel
from scorefield.nets.mlp import MLP
from scorefield.objectives import Denoising, ExplicitFisher
from scorefield.objectives.weightings import SigmaSquared, Unweighted

process, n = VE(0.01, 10.0), 4000
v, h = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64), torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
cloud = Gaussian([0.0, 0.0, 0.0], torch.diag(v), process)
# check=False, here and below: a score that is wrong on purpose may be refused
shifted = Field.of_score(lambda x, s: cloud(x, process.time_of_sigma(s)).score + h, process, (3,), check=False)
clean = cloud.sample(SampleRng(range(n)))
for level in (0.2, 0.5, 2.0):
    closed = 0.5 * (v / (level**2 * (v + level**2))).sum()
    found = []
    for model, divergence in ((cloud, 0.0), (shifted, 0.5 * h.square().sum())):
        losses = Denoising(Level(level), Unweighted())(model, clean, rng=SampleRng(range(n), stream=1)) - divergence
        found.append(f"{losses.mean():.3f} ± {losses.std() / n**0.5:.3f}")
    print(f"noise {level:3}: C = {closed:.3f} in closed form; from draws {' and '.join(found)}; d/(2σ²) = {1.5 / level**2:.3f}")

# %%
# The target is noisy, its mean is the score
# ------------------------------------------
#
# Below, left: pairs of :math:`x_t` and the target :math:`-\epsilon/\sigma` for a mixture at the noise level 0.6. No single
# target is near the score, but the means of the targets in narrow bins are.

sigma = 0.6
truth = GaussianMixture([0.7, 0.3], [[-1.5], [1.5]], [0.5, 0.5], process)
t = process.time_of_sigma(torch.full((n,), sigma, dtype=torch.float64))
x0, noise = truth.sample(SampleRng(range(n))), SampleRng(range(n), stream=1).normal((1,))
x_t = process.perturb(x0, t, noise)
target = -noise / sigma

grid = torch.linspace(-4, 4, 201, dtype=torch.float64)[:, None]
true_score = truth(grid, t[:201]).score
edges = torch.linspace(-3, 3, 25, dtype=torch.float64)
bins = torch.bucketize(x_t[:, 0], edges)
middles = (edges[1:] + edges[:-1]) / 2
means = torch.stack([target[bins == k].mean() for k in range(1, len(edges))])

# %%
# Below, right: the loss and the divergence of the models :math:`k\,\nabla\log p_t`. They differ by C, whatever k is.
# Here C is computed by an integral over x.

factors = torch.linspace(-0.25, 2.25, 11).tolist()
wide = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None]
density, score = truth.log_prob(wide, t[:2001]).exp(), truth(wide, t[:2001]).score[:, 0]
constant = 0.5 * (1 / sigma**2 - torch.trapezoid(density * score**2, wide[:, 0]))
denoising, explicit = [], []
for k in factors:
    model = Field.of_score(lambda x, s, k=k: k * truth(x, process.time_of_sigma(s)).score, process, (1,), check=False)
    rng = SampleRng(range(n), stream=2)
    denoising.append(float(Denoising(Level(sigma), Unweighted())(model, x0, rng=rng).mean()))
    explicit.append(float(ExplicitFisher(truth, Level(sigma))(model, x0, rng=SampleRng(range(n), stream=3)).mean()))

figure, (left, right) = plt.subplots(1, 2)
left.plot(x_t[:1000, 0], target[:1000, 0], ".", color="C0", markersize=2, alpha=0.5, label="targets")
left.plot(grid, true_score, color="black", label="score")
left.plot(middles, means, "o", color="C1", markersize=4, label="means of targets")
left.set(xlabel="noisy point $x_t$", ylabel="score, in 1/(unit of x)", title="A regression", xlim=(-4, 4), ylim=(-6, 8))
left.legend(fontsize=8, loc="upper right")
right.plot(factors, denoising, marker="o", label="denoising loss")
right.plot(factors, explicit, marker="s", linestyle="--", label="Fisher divergence")
right.plot(factors, [value + constant for value in explicit], ":", color="black", label="divergence + C")
right.set(xlabel="factor k of the model's score", ylabel="loss, in 1/(unit of x)²", title=f"C = {constant:.2f} for all models")
right.legend(fontsize=8, loc="upper center")
# %%
# **The loss of a perfect model is C, not 0.** A loss that stops at C has learned everything. C depends on the noise level and
# on the data, so that losses at two levels, or on two data sets, say nothing about which of the two models is better.

# %%
# Training a network
# ------------------
#
# With one noise level, four lines train a score. ``ScoreModel`` puts a network behind the ``Field`` interface; ``EDM`` is a
# choice of what the network's output means (:ref:`lesson 15 <sphx_glr_book_lesson_15_sde.py>` has all of them). Its loss must
# come down to C.

torch.manual_seed(0)  # the first weights
model = ScoreModel(MLP((1,), width=32, depth=2), EDM(data_std=truth.data_std), process, (1,))
objective = Denoising(Level(sigma), Unweighted())
optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for step in range(120):
    batch = x0[step % 8 :: 8].float()
    loss = objective(model, batch, rng=SampleRng(range(len(batch)), stream=100 + step)).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())

with torch.no_grad():
    learned = model(grid.float(), t[:201]).score
figure, (left, right) = plt.subplots(1, 2)
left.plot(losses, linewidth=1, label="denoising loss of a batch of 500")
left.axhline(float(constant), color="black", linestyle=":", label="C")
left.set(xlabel="training step", ylabel="loss, in 1/(unit of x)²", title="The loss comes down to C")
left.legend(fontsize=8)
right.plot(grid, true_score, color="black", label="true score")
right.plot(grid, learned, "--", label="learned")
right.set(xlabel="noisy point $x_t$", ylabel="score, in 1/(unit of x)", title=f"The score at noise level {sigma}")
right.legend(fontsize=8)

# %%
# The price of little noise
# -------------------------
#
# The target is right at *every* :math:`\sigma`, small or large: it is the score of the density at that level. But by
# :eq:`denoising-constant` its variance is :math:`2C`, which approaches :math:`d/\sigma^2` as :math:`\sigma \to 0`. The
# regression must average it away. What converges as :math:`\sigma \to 0` is the density :math:`p_t`, to that of the data; what
# diverges is the variance.
#
# For N(0, 1) the target less the true score is a Gaussian of variance :math:`u = 1/\sigma^2 - 1/(1 + \sigma^2)`, and the loss
# is half its square. So even the loss of the perfect model has a variance:
#
# .. theorem:: loss-variance
#
#    \operatorname{Var}\Big[ \tfrac12 \Big\lVert \nabla\log p_t(x_t) + \frac{\epsilon}{\sigma} \Big\rVert^2 \Big]
#    = \frac12 \Big( \frac{1}{\sigma^2} - \frac{1}{1 + \sigma^2} \Big)^2 \approx \frac{1}{2 \sigma^4}.
#
# **A control variate** removes it. Write the loss out:
# :math:`\frac12\lVert s \rVert^2 + \epsilon \cdot s/\sigma + \lVert\epsilon\rVert^2/(2\sigma^2)`. The last term does not depend
# on the model. In the second, :math:`\epsilon \cdot s(\alpha x_0)/\sigma` has mean 0 and nearly all of the variance, since
# :math:`s(x_t) \approx s(\alpha x_0)` for little noise. Subtract it, and put the last term's mean in its place:
#
# .. theorem:: control-variate
#
#    \mathbb{E}\Big[ \tfrac12 \lVert s(x_t) \rVert^2 + \frac{\epsilon}{\sigma} \cdot \big( s(x_t) - s(\alpha x_0) \big)
#    + \frac{d}{2\sigma^2} \Big] = \mathbb{E}\Big[ \tfrac12 \Big\lVert s(x_t) + \frac{\epsilon}{\sigma} \Big\rVert^2 \Big].
#
# The variance stays bounded as :math:`\sigma \to 0`, for two evaluations of the network instead of one. (At much noise the
# subtracted term is noise of its own, and the plain loss varies less.) As :math:`\sigma \to 0` the middle term becomes
# :math:`\epsilon^\top \nabla s\, \epsilon`: the trace estimate of :eq:`hutchinson`. Implicit matching is the limit of denoising
# matching.

# %%
# For N(0, 1) the limit of the variance is that of :math:`\frac12 x_0^2 - \epsilon^2`: 1/2 + 2 = 2.5.

line = Gaussian([0.0], [[1.0]], process)
x0 = line.sample(SampleRng(range(n)))
levels = torch.logspace(-1.7, 0.7, 9).tolist()
variances = {False: [], True: []}
for level in levels:
    for on in (False, True):
        objective = Denoising(Level(level), Unweighted(), control_variate=on)
        variances[on].append(float(objective(line, x0, rng=SampleRng(range(n), stream=5)).var()))
fine = torch.logspace(-1.7, 0.7, 100)
figure, axes = plt.subplots()
axes.loglog(levels, variances[False], "o", color="C0", label="denoising loss")
axes.loglog(fine, 0.5 * (1 / fine**2 - 1 / (1 + fine**2)) ** 2, color="C0", linewidth=1, label="in closed form")
axes.loglog(levels, variances[True], "s", color="C1", label="with the control variate")
axes.axhline(2.5, color="C1", linestyle="--", linewidth=1, label="its limit for little noise, 2.5")
axes.set(xlabel="noise level σ, in units of x", ylabel="variance of the loss", title="The loss of the true score of N(0, 1)")
axes.legend()

# %%
# One loss for many levels
# ------------------------
#
# With many levels in one loss, low noise would dominate by its :math:`d/\sigma^2`. The usual weight is
# :math:`\lambda = \sigma^2`. It makes the loss that of predicting the noise: a network whose output
# :math:`\hat\epsilon = -\sigma s` is read as noise has
#
# .. theorem:: noise-prediction
#
#    \sigma^2 \Big\lVert s(x_t) + \frac{\epsilon}{\sigma} \Big\rVert^2 = \lVert \hat\epsilon(x_t) - \epsilon \rVert^2.
#
# At its minimum this is :math:`2\sigma^2 C \le d` at every level. So a loss on the noise has the weight :math:`\sigma^2`
# already.
#
# The view below shows the score of noisy data. Drag the noise level: the score is finite and smooth everywhere at large noise,
# and steep near the data at little noise.
#
# .. field-view:: data=moons&sigma=0.3

# %%
# What is wrong in print
# ----------------------
#
# - A missing minus in :eq:`noising-score`. It has shipped in public libraries. The network then learns :math:`-\nabla\log p_t`
#   (exercise 3).
# - :math:`\sigma^2` as a weight on :math:`\lVert\hat\epsilon - \epsilon\rVert^2`. By :eq:`noise-prediction` the score then has
#   the weight :math:`\sigma^4`.
# - "Denoising matching is right for small :math:`\sigma` only." It is right at every :math:`\sigma`, for the density at that
#   level.
# - The energy of a ReLU network (:eq:`relu-has-no-curvature`): its score jumps, and the gradient misses that the jumps move.
#
# References: Vincent (2011), "A connection between score matching and denoising autoencoders", Neural Computation 23. Song,
# Ermon (2019), "Generative modeling by estimating gradients of the data distribution", arXiv 1907.05600. Wang, Cheng, Li, Zhu,
# Zhang (2020), "A Wasserstein minimum velocity approach to learning unnormalized models", arXiv 2002.07501. Song, Kingma
# (2021), "How to train your energy-based models", arXiv 2101.03288.

# %%
# Exercises
# ---------
#
# 1. Data are N(0, v). What is the least possible loss with the weight :math:`\sigma^2`? What does it approach for little and
#    for much noise? Check one level with draws.
# 2. A network's guess of the noise is c times too long: :math:`\hat\epsilon = c\, \mathbb{E}[\epsilon \mid x_t]`. With
#    :math:`N = \mathbb{E}\lVert\mathbb{E}[\epsilon \mid x_t]\rVert^2/d`, what is
#    :math:`(\mathbb{E}\lVert\hat\epsilon - \epsilon\rVert^2 + \mathbb{E}\lVert\hat\epsilon\rVert^2)/d`, and for which c is it
#    1?
# 3. What does a model learn with the wrong sign, from the target :math:`+\epsilon/\sigma`? What is the loss of the right score
#    under it?
#
# Solutions
# ---------
#
# **1.** :math:`\sigma^2 C = \frac12 v/(v + \sigma^2)`: it approaches 1/2 for little noise, where noise cannot be told from
# data, and 0 for much noise, where :math:`x_t` is the noise.

v, level = 1.7, 0.5
field = Gaussian([0.0], [[v]], process)
losses = Denoising(Level(level), SigmaSquared())(field, field.sample(SampleRng(range(n))), rng=SampleRng(range(n), stream=6))
assert abs(losses.mean() - 0.5 * v / (v + level**2)) < 4 * losses.std() / n**0.5

# %%
# **2.** As in the proof of :eq:`denoising-loss`, the first mean is :math:`(1 - c)^2 N + (1 - N)`, and the second is
# :math:`c^2 N`. The sum is
#
# .. theorem:: wrong-length
#
#    \frac{\mathbb{E}\lVert\hat\epsilon - \epsilon\rVert^2 + \mathbb{E}\lVert\hat\epsilon\rVert^2}{d} = 1 + 2c\,(c - 1)\,N,
#
# which is 1 for c = 1 (and for c = 0, a network that says nothing). It needs no knowledge of the truth: ``scorefield`` uses it
# to find scores that are too long or too short.

c, N = 1.3, level**2 / (v + level**2)  # for N(0, v) the guess is sigma·x/(v + sigma²)
noise = SampleRng(range(n), stream=7).normal((1,))
x = field.sample(SampleRng(range(n))) + level * noise
guess = c * field(x, process.time_of_sigma(torch.full((n,), level, dtype=torch.float64))).noise
sums = ((guess - noise) ** 2 + guess**2)[:, 0]
assert abs(sums.mean() - (1 + 2 * c * (c - 1) * N)) < 4 * sums.std() / n**0.5

# %%
# **3.** The conditional mean of the target is :math:`-\nabla\log p_t`, and that is what it learns. The right score has the
# divergence :math:`\frac12\mathbb{E}\lVert 2\nabla\log p_t \rVert^2` from it: for N(0, v) the loss
# :math:`2/(v + \sigma^2) + C`.

score = field(x, process.time_of_sigma(torch.full((n,), level, dtype=torch.float64))).score
wrong = (0.5 * (score - noise / level) ** 2)[:, 0]
C = 0.5 * v / (level**2 * (v + level**2))
assert abs(wrong.mean() - (2 / (v + level**2) + C)) < 4 * wrong.std() / n**0.5
