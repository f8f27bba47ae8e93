r"""
16. Likelihood: how probable is a point?
========================================

A sampler shows what a model holds for probable. The **likelihood** says it of a given point: the model's log-density there. A
score is only a gradient, yet with scores at all noise levels the log-density itself follows, number and constant included. The
key is a second equation, without noise, that moves the same densities.
"""

# %%
# The probability flow
# --------------------
#
# The equation of Fokker and Planck (:ref:`lesson 15 <sphx_glr_book_lesson_15_sde.py>`, :eq:`fokker-planck-linear`) has two
# terms. The gradient of p is :math:`\nabla p = p\, \nabla\log p`, so the second is a divergence too,
# :math:`\tfrac12 g^2 \Delta p = \nabla\cdot(\tfrac12 g^2\, p\, \nabla \log p)`, and both together are
#
# .. math:: \partial_t p_t = -\nabla\cdot (v\, p_t).
#
# That is the **continuity equation**: it says how a density changes when every point moves with velocity v and nothing is
# random. So the points that follow
#
# .. theorem:: probability-flow
#
#    \frac{dx}{dt} = v(x, t) = f x - \tfrac12\, g^2\, \nabla\log p_t(x)
#
# have the density :math:`p_t` at every t, if they have it at one: the **probability flow** (Song et al. 2021). It has half of
# the reverse SDE's weight on the score, and no noise. There is a second way to write v. Along
# :math:`x_t = \alpha x_0 + \sigma\,\mathrm{noise}` a single pair moves at :math:`\alpha' x_0 + \sigma'\,\mathrm{noise}`, and v
# is the mean of that over all pairs that pass through x:
#
# .. theorem:: velocity
#
#    v(x, t) = \alpha'\, \mathbb E[x_0 \mid x_t = x] + \sigma'\, \mathbb E[\mathrm{noise} \mid x_t = x].
#
# To see it, put in Tweedie's :math:`\mathbb E[x_0|x] = (x + \sigma^2 s)/\alpha` and
# :math:`\mathbb E[\mathrm{noise}|x] = -\sigma s`: x gets :math:`\alpha'/\alpha = f`, and s gets
# :math:`f\sigma^2 - \sigma\sigma' = -\tfrac12 g^2`. A prediction has it as ``.velocity``; what is called flow matching learns
# it.

import math

import matplotlib.pyplot as plt
import torch

from scorefield import VE, VP, Gaussian, GaussianMixture, SampleRng, uniform
from scorefield.samplers import EulerMaruyama, Heun, simulate

field = GaussianMixture([0.7, 0.3], [[-2.0], [2.0]], [0.4, 0.4], VP())
ladder = uniform(field.process, 201)
start = torch.linspace(-2.2, 2.2, 15, dtype=torch.float64)[:, None]
x, t = torch.linspace(-4, 4, 121, dtype=torch.float64), torch.linspace(1, 1e-3, 150, dtype=torch.float64)
place, when = (grid.flatten() for grid in torch.meshgrid(x, t, indexing="ij"))
density = field.log_prob(place[:, None], when).exp().reshape(len(x), len(t))

figure, panels = plt.subplots(1, 2, sharey=True)
for axes, sampler, title in zip(panels, (EulerMaruyama(), Heun()), ("Reverse SDE", "Probability flow"), strict=True):
    run = list(simulate(field, sampler, ladder, start, rng=SampleRng(range(15)), denoise=False))
    axes.pcolormesh(t.numpy(), x.numpy(), density.sqrt().numpy(), shading="nearest")
    axes.plot([one.t for one in run], torch.cat([one.x for one in run], dim=1).mT, color="white", linewidth=0.8)
    axes.set(xlim=(1, 0), ylim=(-4, 4), xlabel="time t, falling", ylabel="x", title=title)
    axes.grid(visible=False)

# %%
# Paths of the flow never cross: through each point passes exactly one. So a sample has one latent at the top, and the way from
# one to the other can be gone in both directions (:ref:`lesson 18 <sphx_glr_book_lesson_18_flow_maps.py>`).
#
# .. field-view:: data=ring&sampler=heun&levels=40&n=800
#
# How volumes change on the way
# -----------------------------
#
# In a short time h every point moves to :math:`x + h\, v(x)`. A small volume around it is multiplied by the determinant of
# :math:`I + hJ`, where :math:`J = \partial v/\partial x`. All products in that determinant but the diagonal's have two factors
# of order h, so that it is :math:`1 + h\,\mathrm{tr} J` up to order :math:`h^2`. The probability in the volume stays what it
# is, so that the log-density *of the moving point* falls by :math:`h\, \mathrm{tr} J`. The trace of a Jacobian is the
# divergence:
#
# .. theorem:: instantaneous-change-of-variables
#
#    \frac{d}{dt} \log p_t(x_t) = -\nabla\cdot v(x_t, t), \qquad
#    \log p_t(x_t) = \log p_T(x_T) + \int_t^T \nabla\cdot v(x_u, u)\, du.
#
# At T the density is that of the prior, which is known. So: follow a point up to the noise, add up the divergence on the way,
# and read off the prior (Chen et al. 2018). ``log_prob`` does so, in coordinates in which Gaussian data stand still, with a
# solver of adaptive steps, and says how far the answer moved when the tolerance was made ten times smaller.

from scorefield.likelihood import Hutchinson, log_prob

field = GaussianMixture([0.7, 0.3], [[-2.0], [2.0]], [0.4, 0.4], VE(0.05, 500.0))
grid = torch.linspace(-4, 4, 33, dtype=torch.float64)[:, None]
lowest = torch.zeros(len(grid), dtype=torch.float64)
truth = field.log_prob(grid, lowest)

figure, (left, right) = plt.subplots(1, 2)
left.plot(grid, truth, label="in closed form")
for tolerance, marker in ((1e-3, "o"), (1e-4, "s")):
    found = log_prob(field, grid, rng=SampleRng(range(33)), tolerance=tolerance, within=None)
    cost = found.evaluations.double().mean()
    right.semilogy(grid, (found.value - truth).abs(), marker, markersize=4, label=f"tolerance {tolerance:g}, {cost:.0f} calls")
left.plot(grid, found.value, "s", markersize=4, label="by the flow")
left.set(xlabel="x", ylabel="log p(x), nats", ylim=(-14, 5))
left.set_title("The density at the lowest level")
left.legend(loc="upper center", ncols=2)
right.set(xlabel="x", ylabel="|error|, nats", ylim=(1e-6, 30))
right.set_title("What the solver leaves")
right.legend(loc="upper center")

# %%
# What is computed is the density of *noisy* data at ``t_min``. For data with a density of their own it tends to that one as
# sigma goes to 0. For data on a curve, or a finite set, it grows without bound: a likelihood can then be made as large as one
# likes by lowering ``sigma_min``, and says nothing (:ref:`lesson 6 <sphx_glr_book_lesson_06_manifold.py>`).
#
# A trace from random vectors
# ---------------------------
#
# The trace of J takes one backward pass for each of d coordinates. Hutchinson (1990) takes random vectors u with
# :math:`\mathbb E[uu^\top] = I` instead, one backward pass each:
# :math:`\mathbb E[u^\top J u] = \mathrm{tr}(J\,\mathbb E[uu^\top])`. Only the symmetric part :math:`S = (J + J^\top)/2` counts.
# With random signs :math:`u_i^2 = 1`, so the diagonal is not random, and each pair i < j adds :math:`2 S_{ij} u_i u_j` of
# variance :math:`4 S_{ij}^2`, uncorrelated with the other pairs. With normal u the diagonal adds :math:`2 S_{ii}^2` each, the
# variance of :math:`u_i^2` being 2. In short
#
# .. theorem:: hutchinson-trace
#
#    \mathbb E\,[u^\top J u] = \mathrm{tr}\, J, \qquad
#    \mathrm{Var}\,[u^\top J u] = \begin{cases} 2 \sum_{i \ne j} S_{ij}^2 & \text{signs} \\ 2 \sum_{i, j} S_{ij}^2 &
#    \text{normal.} \end{cases}
#
# Normal vectors pay for the diagonal, which is the largest part here: for the same error it takes some 300 times as many as
# signs. The same u is kept along the whole solve, so that the solver sees a smooth equation. Several of them give a standard
# error:

d, n, counts = 6, 40, (1, 4, 8)
root = torch.eye(d, dtype=torch.float64) + 0.5 * torch.diag(torch.ones(d - 1, dtype=torch.float64), 1)
correlated = Gaussian(torch.zeros(d), root @ root.mT, VE(0.05, 500.0))
point = correlated.sample(SampleRng([3])).expand(n, d)
figure, axes = plt.subplots()
for kind, marker in (("rademacher", "o"), ("gaussian", "s")):
    spreads = []
    for count in counts:
        divergence = Hutchinson(count, kind)
        found = log_prob(correlated, point, rng=SampleRng(range(n)), divergence=divergence, tolerance=1e-2, within=None)
        spreads.append(found.value.std())
    axes.loglog(counts, spreads, marker=marker, label={"rademacher": "signs", "gaussian": "normal"}[kind])
    print(f"{kind}: the last reports a standard error of {found.standard_error.mean():.3f}, and has {spreads[-1]:.3f}")
axes.loglog(counts, [float(spreads[0]) / count**0.5 for count in counts], ":", color="black", label="1/root of their number")
axes.set(xlabel="random vectors a solve", ylabel="spread of log p(x), nats", title="One point in 6 dimensions, 40 solves each")
axes.set_xticks(counts, [str(count) for count in counts])
axes.minorticks_off()
axes.legend()

# %%
# Bits per dimension
# ------------------
#
# Grey values are integers k = 0..255, and integers have probabilities, not densities. Spread each over its bin by
# :math:`u \sim U(-\tfrac12, \tfrac12)` in each coordinate (**uniform dequantisation**). The logarithm is concave, so by
# Jensen's inequality the mean log-density is a lower bound on the log-probability of the bin:
#
# .. theorem:: dequantisation
#
#    \mathbb E_u \log p(k + u) \le \log \mathbb E_u\, p(k + u) = \log P(k).
#
# A model sees :math:`x = (\mathrm{raw} - \mathrm{shift})/\mathrm{scale}`, whose density is larger by the factor scale in each
# coordinate. In bits, divided by the number of coordinates,
#
# .. theorem:: bits-per-dim
#
#    \mathrm{bits/dim} = -\frac{\log p(x)}{d \ln 2} + \log_2 \mathrm{scale},
#
# which is + 8 for values mapped to [0, 1] (scale 256) and + 7 for [-1, 1] (scale 128). A model that knows nothing but the range
# scores 8, whatever the map. That is worth a check, since an error of a bit shows nowhere else:

from scorefield.data import Normaliser
from scorefield.exact import Box
from scorefield.likelihood import bits_per_dim, dequantise

pixels = Normaliser.between(0.0, 255.0)  # sends 0 to -1 and 255 to 1, so that bins reach a little further
edge = 1 + 1 / 255
box = Box((1, 1, 2), -edge, edge, VE(1e-3, 500.0))
raw = (256 * SampleRng(range(4)).uniform((1, 1, 2))).floor().to(torch.uint8)
inside = pixels.encode(dequantise(raw, SampleRng(range(4), stream=1))).clamp(-0.99, 0.99)
found = log_prob(box, inside, rng=SampleRng(range(4)), tolerance=1e-4, within=None)
print("bits/dim of a uniform by the flow:", [round(float(bits), 2) for bits in bits_per_dim(found.value, raw, pixels)])

# %%
# A lower bound from the chain
# ----------------------------
#
# Another model with the same network is the *chain* of :ref:`lesson 14 <sphx_glr_book_lesson_14_ddpm.py>`, whose likelihood is
# bounded from below by the ELBO. Its steps can be summed up in one line. Both :math:`q(x_s | x_t, x_0)` and the model's step,
# which is the same with :math:`D(x_t)` for :math:`x_0`, are Gaussians of one variance. With :math:`\lambda = \sigma/\alpha` and
# :math:`r = \lambda_s^2/\lambda_t^2` that variance is :math:`\alpha_s^2\lambda_s^2(1 - r)` and :math:`x_0` enters the mean by
# the factor :math:`\alpha_s(1 - r)`. The KL divergence is the squared distance of the means over twice the variance, that is
# :math:`\tfrac12 (1 - r)/\lambda_s^2 \cdot \lVert x_0 - D\rVert^2`, and :math:`(1 - r)/\lambda_s^2` is a difference of
# signal-to-noise ratios :math:`\mathrm{SNR} = 1/\lambda^2` (Kingma et al. 2021):
#
# .. theorem:: elbo-snr
#
#    \log p(x_0) \ge -\mathrm{KL}_{\mathrm{prior}} - \sum_{t \to s} \tfrac12 (\mathrm{SNR}_s - \mathrm{SNR}_t)\,
#    \mathbb E\, \lVert x_0 - D(x_t) \rVert^2 + \mathbb E \log p(x_0 \mid x_{t_{\min}}).
#
# For the true D the right side is below the true log-density on average, and comes up to it as the steps get shorter. The limit
# is an integral over log SNR, and a random level in each step estimates it without bias on any ladder:

from scorefield import geometric
from scorefield.likelihood import elbo

mixture = GaussianMixture([0.7, 0.3], [[-2.0], [2.0]], [0.4, 0.4], VE(0.01, 100.0))
n, levels = 800, (20, 40, 80)
x0 = mixture.sample(SampleRng(range(n)))
truth = mixture.log_prob(x0, torch.zeros(n, dtype=torch.float64))
figure, axes = plt.subplots()
for continuous, marker in ((False, "o"), (True, "s")):
    lost = []
    for count in levels:
        rng = SampleRng(range(n), stream=1)
        lost.append(truth - elbo(mixture, x0, geometric(mixture.process, count), rng=rng, continuous=continuous).value)
    error = [float(one.std()) / n**0.5 for one in lost]
    name = "a random level in each step" if continuous else "the chain itself"
    axes.errorbar(levels, [float(one.mean()) for one in lost], error, marker=marker, capsize=3, label=name)
axes.axhline(0, color="black", linewidth=0.8)
axes.set(xscale="log", xlabel="levels", ylabel="mean of log p - bound, nats", title="The bound with the true denoiser")
axes.set_xticks(levels, [str(count) for count in levels])
axes.minorticks_off()
axes.legend()

# %%
# What is often wrong
# -------------------
#
# - The trace must run over *all* coordinates. Code that sums over the last axis of an image is off by many nats.
# - The variance of the prior at the top includes that of the data.
# - Bits per dimension are for 8-bit data. For real numbers they change with the unit of measurement: report nats and the unit.
#   For the 17 grey levels of small digits they would not compare with anybody's, and ``bits_per_dim`` refuses both.
# - The flow's density and the chain's ELBO belong to two models with one network. Neither bounds the other.
# - A high likelihood is no proof of good samples, nor the reverse (Theis et al. 2016).
#
# References
# ----------
#
# - Song et al. (2021), "Score-based generative modeling through stochastic differential equations", arXiv 2011.13456.
# - Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations", arXiv 1806.07366.
# - Grathwohl, Chen, Bettencourt, Sutskever, Duvenaud (2019), "FFJORD", arXiv 1810.01367.
# - Hutchinson (1990), "A stochastic estimator of the trace of the influence matrix", Commun. Stat. Simul. Comput. 19.
# - Theis, van den Oord, Bethge (2016), "A note on the evaluation of generative models", arXiv 1511.01844.
# - Kingma, Salimans, Poole, Ho (2021), "Variational diffusion models", arXiv 2107.00630.
#
# Exercises
# ---------
#
# 1. For N(0, c) in d coordinates and VE, integrate the divergence of the flow by hand, and get the log-density at the level
#    sigma.
# 2. A density is wide compared with a bin. Show that dequantisation costs :math:`1/(24 w^2)` nats for a normal density of width
#    w.
# 3. Rescale data from metres to millimetres. How do nats change, and "bits per dimension"?
#
# Solutions
# ---------
#
# **1.** The score is :math:`-x/(c + \sigma^2)` and :math:`g^2 = (\sigma^2)'`, so
# :math:`v = \tfrac12 (\sigma^2)' x/(c + \sigma^2)`. Its divergence is :math:`\tfrac d2 \frac{d}{dt}\log(c + \sigma^2)`, so the
# integral is :math:`\tfrac d2 \log \frac{c + \sigma_T^2}{c + \sigma^2}`. The point itself goes to
# :math:`x \sqrt{(c + \sigma_T^2)/(c + \sigma^2)}`, where the prior is
# :math:`-\tfrac12 |x|^2/(c + \sigma^2) - \tfrac d2 \log 2\pi(c + \sigma_T^2)`. In the sum, what belongs to T cancels:

c, d, sigma = 2.0, 3, 0.05
normal = Gaussian([0.0] * d, c * torch.eye(d), VE(sigma, 100.0))
point = normal.sample(SampleRng([0]))
by_hand = -0.5 * point.square().sum() / (c + sigma**2) - 0.5 * d * math.log(2 * math.pi * (c + sigma**2))
assert abs(float(log_prob(normal, point, rng=SampleRng([0]), tolerance=1e-9).value) - float(by_hand)) < 1e-7

# %%
# **2.** On a bin the log-density is nearly linear with slope :math:`-k/w^2`, and for a nearly constant X the gap of Jensen's
# inequality is :math:`\log \mathbb E e^X - \mathbb E X \approx \tfrac12 \mathrm{Var} X = \tfrac12 (k/w^2)^2/12`. The mean of
# :math:`k^2` is :math:`w^2`. The next term is smaller by a factor of order :math:`1/w^2`:


def gap(width):
    """What uniform dequantisation costs on average for a normal density of this width in bins, in nats."""
    k, u = torch.arange(-60.0, 61.0, dtype=torch.float64), (torch.arange(200, dtype=torch.float64) + 0.5) / 200 - 0.5
    mass = torch.special.ndtr((k + 0.5) / width) - torch.special.ndtr((k - 0.5) / width)
    logs = -0.5 * ((k[:, None] + u) / width) ** 2 - math.log(width * (2 * math.pi) ** 0.5)
    return float((mass * torch.nan_to_num(mass.log() - logs.mean(1), posinf=0.0, neginf=0.0)).sum())


for width in (4.0, 8.0):
    assert abs(24 * width**2 * gap(width) - 1) < 1 / width**2

# %%
# **3.** Numbers become 1000 times larger and densities 1000 times smaller in each coordinate: :math:`-\ln 1000` nats a
# coordinate, so :math:`+\log_2 1000 = 9.97` bits, for the same model of the same data:

from scorefield.likelihood import raw_nats

nats = torch.zeros(1, dtype=torch.float64)
metres, millimetres = (raw_nats(nats, Normaliser(shift=(0.0,), scale=(unit,)), (4,)) for unit in (2.0, 2000.0))
assert abs(float(metres - millimetres) / (4 * math.log(2)) - math.log2(1000)) < 1e-12
