r"""
22. The odd one out
===================

Which rows do not belong: a fault, a fraud, a wrong label? "Those of low density" is the obvious answer and a wrong one; this
lesson shows why, and what the score at several noise levels sees instead.

Where the draws of a density are
--------------------------------

Let x be a draw of a Gaussian in d dimensions with the mean :math:`\mu` and the covariance S. Then
:math:`q = (x - \mu)^\top S^{-1} (x - \mu)` is a sum of d squares of independent N(0, 1) numbers: its mean is d and its
variance 2d. Since :math:`\log p(x) = \log p(\mu) - q/2`,

.. theorem:: typical-set

   \mathbb E \log p(x) = \log p(\mu) - \frac d2, \qquad \mathrm{std} \log p(x) = \sqrt{\frac d2}.

The densest point of all is the mean, and in 100 dimensions its log-density is 50 above that of a draw, which is 7 standard
deviations. No draw is ever near it: all of them lie on a shell, the **typical set**. An image of 64 x 64 numbers has d = 4,096.
"""

import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from scorefield import VE, Gaussian, SampleRng
from scorefield.anomaly.detector import Detector
from scorefield.conformal import p_values

process = VE(0.01, 50.0)
figure, axes = plt.subplots()
for d, style in ((1, "-"), (10, "--"), (100, ":")):
    field = Gaussian(torch.zeros(d), torch.eye(d), process)
    draws = field.sample(SampleRng(range(4000)))
    t = torch.full((4000,), process.t_min, dtype=torch.float64)
    below = field.log_prob(0 * draws, t) - field.log_prob(draws, t)
    axes.hist(below / d, 80, range=(0, 2), density=True, histtype="step", linestyle=style, linewidth=1.8, label=f"d = {d}")
axes.axvline(0, color="black", linewidth=0.8)
axes.set(
    xlabel="(log p(mean) - log p(draw)) / d, nats", ylabel="density", title="No draw is near the densest point", ylim=(0, 6)
)
axes.legend()

# %%
# The likelihood trap
# -------------------
#
# Take the mean of two draws. The log-density of a Gaussian is a quadratic function, so that its value in the middle exceeds
# the mean of its values at the ends by an eighth of the squared distance. Between two independent draws that is 2d on average:
#
# .. theorem:: mean-of-two
#
#    \log p\Bigl(\frac{x + y}{2}\Bigr) - \frac{\log p(x) + \log p(y)}{2} = \tfrac18\, (x - y)^\top S^{-1} (x - y), \qquad
#    \mathbb E = \frac d4.
#
# A mean of two digits is no digit. Under a Gaussian of the digits, and under many learned densities, it is more probable than
# digits are; so is one with less contrast; and the mean of all is the most probable of all. In photographs smooth images are,
# too. (Digits of 8 x 8 pixels that are blurred are not: the blur reaches their border, which is always empty.)

digits = torch.from_numpy(load_digits().data) / 8 - 1
digits = digits[SampleRng([0]).uniform((len(digits),))[0].argsort()]
train, unseen, real = digits[:500], digits[500:800], digits[800:900]
field = Gaussian(train.mean(dim=0), train.mT.cov(), process)
strange = {
    "mean of two": (digits[900:1000] + digits[1000:1100]) / 2,
    "half contrast": 0.5 * real + 0.5 * train.mean(dim=0),
    "mirrored": real.reshape(-1, 8, 8).flip(2).flatten(1),
}
low = process.time_of_sigma(torch.full((100,), 0.1, dtype=torch.float64))
groups = {"real digits": real, **strange}
logs = {name: field.log_prob(x, low) for name, x in groups.items()}

figure, panels = plt.subplots(1, 5, figsize=(7.2, 2.0))
shown = {name: (x[0], logs[name][0]) for name, x in groups.items()}
shown["mean of all"] = train.mean(dim=0), field.log_prob(train.mean(dim=0)[None], low[:1])[0]
for axes, (name, (image, log)) in zip(panels, shown.items(), strict=True):
    axes.imshow(image.reshape(8, 8).numpy(), vmin=-1, vmax=1)
    axes.set_title(f"{name}\nlog p = {float(log):.0f}", fontsize=9)
    axes.axis("off")

# %%
# It is so with nearly all of them:

figure, axes = plt.subplots()
for index, (name, log) in enumerate(logs.items()):
    axes.hist(log, 50, range=(-150, 50), histtype="step", color=f"C{index}", linestyle="-" if not index else "--", label=name)
axes.set(xlabel="log p at noise 0.1, nats", ylabel="images of 100", title="Means and pale images look better than real ones")
axes.legend(loc="upper left")

# %%
# What denoising errors see
# -------------------------
#
# Look at a row x at many noise levels. Let :math:`r = (x - D(x + \lambda\,\mathrm{noise}))/\lambda` be its **denoising
# error** in units of the noise. First, the errors contain the density. Let :math:`q_\lambda = N(x, \lambda^2 I)`, the row
# with noise, and :math:`p_\lambda` the data with noise. Both follow the heat equation in :math:`v = \lambda^2`, and by parts
#
# .. math::
#
#    \frac{d}{dv} \mathrm{KL}(q_\lambda \,\|\, p_\lambda) = \int \tfrac12 \Delta q \log\frac qp - \tfrac12 \frac qp \Delta p
#    = -\tfrac12 \int q\, \Bigl\lvert \nabla \log \frac qp \Bigr\rvert^2.
#
# At z the two scores are :math:`(x - z)/v` and :math:`(D(z) - z)/v`: their difference is :math:`r/\lambda`. With
# :math:`dv = 2 v\, d\ln\lambda` the KL divergence falls by :math:`\mathbb E \lvert r \rvert^2` for each unit of ln(lambda), and
# to 0 at the top. The divergence is :math:`\mathbb E[-\log p_{\lambda_0}(x + \lambda_0\,\mathrm{noise})]` less the entropy of
# the noise:
#
# .. theorem:: density-from-denoising
#
#    \mathbb E\bigl[-\log p_{\lambda_0}(x + \lambda_0\,\mathrm{noise})\bigr] = \int_{\lambda_0}^\infty \mathbb E \lvert r
#    \rvert^2\, \frac{d\lambda}{\lambda} + \frac d2 \ln(2 \pi e \lambda_0^2).
#
# So the density is one number made of many: the sum over levels. A row whose errors are too *small* at some level is as
# strange as one whose errors are too large, but in the sum it only looks better.

levels = torch.logspace(-1.2, 0.9, 15, dtype=torch.float64)
figure, axes = plt.subplots()
for name, style in zip(groups, ("-", "--", "-.", ":"), strict=True):
    norms = []
    for level in levels:
        t = process.time_of_sigma(level.expand(100))
        norms.append(float(((groups[name] - field(groups[name], t).denoised) / level).square().sum(1).mean()))
    axes.loglog(levels, norms, style, label=name)
axes.set(xlabel="noise level (pixels are -1 to 1)", ylabel="mean of |x - D(x)|² / level²", title="Errors across levels")
axes.legend()

# %%
# A pale image or a mean has errors that are too small at *every* level, a mirrored one too large. The ``Detector`` of the
# package so takes the vector of the log-errors at 12 levels, with noise and without, and asks how unusual it is among
# training rows ("norms"). It takes the density, too, and listens to the louder of the two.

detector = Detector(field, train, unseen)
usual = detector(real)
area: dict[str, list[float]] = {"density": [], "norms": [], "surprise": []}
for rows in strange.values():
    found = detector(rows)
    for voice, areas in area.items():
        both = torch.cat([getattr(usual, voice), getattr(found, voice)])
        areas.append(float(roc_auc_score([0] * 100 + [1] * 100, both)))

figure, axes = plt.subplots()
for index, (voice, areas) in enumerate(area.items()):
    bars = axes.bar(torch.arange(3) + 0.27 * (index - 1), areas, 0.25, label={"surprise": "both"}.get(voice, voice))
    axes.bar_label(bars, fmt="%.2f", fontsize=8)
axes.axhline(0.5, color="black", linestyle=":", label="guessing")
axes.set(xlabel="100 strange images against 100 real ones", ylabel="area under the ROC curve", ylim=(0, 1.35))
axes.set(title="The density prefers pale images to real ones", xticks=range(3), xticklabels=strange)
axes.legend(ncols=4, loc="upper center", fontsize=8)

# %%
# How often is a normal row called odd?
# -------------------------------------
#
# Any number that is high for odd rows can be made a p-value with m rows that nothing was learned from. If a new row is like
# these, its rank among the m + 1 is any of them with the same probability, whatever the model:
#
# .. theorem:: conformal-p-value
#
#    p = \frac{1 + \#\{i : e_i \ge e\}}{m + 1}, \qquad P(p \le r) \le r.
#
# The smallest p-value is 1/(m + 1): with 40 rows nothing can be odd at 1 %.
#
# **Which number of a row is it?** Given the others, coordinate i of a Gaussian with the precision P has the mean
# :math:`x_i + s_i / P_{ii}` and the variance :math:`1/P_{ii}`: complete the square in :math:`x_i`, with the score
# :math:`s = -P(x - \mu)`. Since :math:`\mathbb E\, s s^\top = P`, no precision is needed, only the mean of squares over
# normal rows:
#
# .. theorem:: conditional-surprisal
#
#    \frac{\bigl(x_i - \mathbb E[x_i \mid x_{\text{others}}]\bigr)^2}{\mathrm{Var}[x_i \mid x_{\text{others}}]} =
#    \frac{s_i^2}{\mathbb E\, s_i^2}.

pair = Gaussian([0.0, 0.0, 0.0], [[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]], process)
rows = pair.sample(SampleRng(range(700)))
found = Detector(pair, rows[:300], rows[300:])(torch.tensor([[1.0, -1.0, 0.5], [1.0, 1.0, 0.5]], dtype=torch.float64))
for row, p, shares in zip(("breaks the correlation", "keeps it"), found.p_value, found.shares, strict=True):
    print(f"{row}: p = {float(p):.3f}, shares of the columns {[round(float(v), 2) for v in shares]}")

# %%
# **What goes wrong elsewhere.** Densities of images that were learned on one set give higher likelihoods to another, smoother
# one (Nalisnick et al. 2019). Subtracting a constant or dividing by d changes no rank. And a threshold that was chosen on
# rows of the training set is kept by no other row: the model has seen them.

# %%
# Exercises
# ---------
#
# 1. By how much does the mean of k draws of N(0, I) exceed one draw in log-density, on average? Check it for k = 4, d = 50.
# 2. What is :math:`\mathbb E \lvert x - D \rvert^2/\lambda^2` of draws of N(0, v) with noise, in d dimensions, and where is
#    it d/2?
# 3. Check that alarms of ``p_values`` at r = 0.1 come at this rate, with scores of a distribution without a mean.
#
# Solutions
# ---------
#
# **1.** The mean of k draws is N(0, I/k), so that q has the mean d/k: the difference is :math:`\tfrac d2 (1 - 1/k)`.

k, d, n = 4, 50, 2000
numbers = SampleRng(range(n)).normal((k, d))
gain = 0.5 * (numbers[:, 0].square().sum(1) - numbers.mean(1).square().sum(1))
assert abs(float(gain.mean()) - d / 2 * (1 - 1 / k)) < 4 * float(gain.std()) / n**0.5

# %%
# **2.** x - D has the variance :math:`v\lambda^2/(v + \lambda^2)` in each dimension: the answer is :math:`d\,v/(v +
# \lambda^2)`, and d/2 at :math:`\lambda^2 = v`:

v, rng = 2.0, SampleRng(range(4000))
plain = Gaussian([0.0, 0.0, 0.0], v * torch.eye(3), process)
x = plain.sample(rng)
t = process.time_of_sigma(torch.full((4000,), math.sqrt(v), dtype=torch.float64))
errors = (x - plain(x + math.sqrt(v) * rng.normal((3,)), t).denoised).square().sum(1) / v
assert abs(float(errors.mean()) - 1.5) < 4 * float(errors.std()) / 4000**0.5

# %%
# **3.** Given the 999 rows the rate is a Beta variable of variance about r(1 - r)/1001, and 2,000 new rows scatter around it:

cauchy = torch.tan(math.pi * (SampleRng(range(2999)).uniform() - 0.5))
alarms = float((p_values(cauchy[:2000], cauchy[2000:]) <= 0.1).double().mean())
assert abs(alarms - 0.1) < 4 * (0.09 * (1 / 1001 + 1 / 2000)) ** 0.5

# %%
# References
# ----------
#
# - E. Nalisnick, A. Matsukawa, Y. W. Teh, D. Gorur, B. Lakshminarayanan (2019), "Do deep generative models know what they don't
#   know?", arXiv 1810.09136.
# - A. Mahmood, J. Oliva, M. Styner (2021), "Multiscale score matching for out-of-distribution detection", arXiv 2010.13132.
# - X. Kong, R. Brekelmans, G. Ver Steeg (2023), "Information-theoretic diffusion", arXiv 2302.03792.
# - S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia (2023), "Testing for outliers with conformal p-values", arXiv 2104.08279.
