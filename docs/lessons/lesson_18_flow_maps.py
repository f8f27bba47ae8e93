r"""
18. Flow maps: samples in one evaluation
========================================

A solver of the probability flow takes many small steps, because its field knows only the direction at each point. A network
that knew where the way *ends* would need one evaluation. This lesson says what it would have to be, why the denoiser is not it,
and how such a network is learned from a trained field without any data.
"""

# %%
# The map from one time to another
# --------------------------------
#
# Follow the flow :eq:`probability-flow` from x at time t to time s, and call the end :math:`X_{t \to s}(x)`: the **flow map**.
# Paths do not cross and do not end, so that
#
# .. theorem:: flow-map-composition
#
#    X_{s \to r}\bigl(X_{t \to s}(x)\bigr) = X_{t \to r}(x), \qquad X_{t \to t}(x) = x, \qquad X_{s \to t} = X_{t \to s}^{-1}.
#
# It carries the density :math:`p_t` to :math:`p_s`. For :math:`x_0 \sim \mathcal N(m, C)` it is known.
# :ref:`Lesson 17 <sphx_glr_book_lesson_17_fast_samplers.py>` found :math:`z - m \propto \sqrt{c + \lambda^2}` in each principal
# direction with variance c. Back in :math:`x = \alpha z`, where :math:`\alpha^2(c + \lambda^2) = \alpha^2 c + \sigma^2` is the
# variance of :math:`x_t`, the map is affine:
#
# .. theorem:: gaussian-flow-map
#
#    X_{t \to s}(x) = \alpha_s m + S_s^{1/2} S_t^{-1/2} (x - \alpha_t m), \qquad S_t = \alpha_t^2\, C + \sigma_t^2\, I.
#
# **The denoiser is another map.** :math:`D(x) = \mathbb E[x_0 | x_t = x]` also leads to time 0 in one evaluation. On N(m, c)
# and VE its slope is :math:`c/(c + \lambda^2)`, the flow map's is the *root* of that. From high noise D sends everything near
# the mean: it is the average over all :math:`x_0` that x may have come from, where the flow map picks one.

import matplotlib.pyplot as plt
import torch

from scorefield import VE, Gaussian, GaussianMixture, SampleRng
from scorefield.levels import ladder_of
from scorefield.samplers import ABM, simulate

field = GaussianMixture([0.7, 0.3], [[-1.0], [1.0]], [0.25, 0.25], VE(0.01, 20.0))


def flow_to_zero(x, level):
    """Follow the flow from a noise level to the lowest one."""
    top = field.process.time_of_sigma(torch.tensor(level, dtype=torch.float64))
    ladder = ladder_of(field, "log-cauchy", 80)
    ladder = torch.cat([top[None], ladder[ladder < top]])
    *_, last = simulate(field, ABM(), ladder, x, rng=SampleRng(range(len(x))), denoise=False)
    return last.x


level, x = 3.0, torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
t = field.process.time_of_sigma(torch.tensor(level, dtype=torch.float64))
rng = SampleRng(range(1000))
noisy = field.process.perturb(field.sample(rng), t.expand(1000), rng.normal((1,)))

figure, (left, right) = plt.subplots(1, 2)
left.plot(x, flow_to_zero(x, level), label="flow map")
left.plot(x, field(x, t.expand(len(x))).denoised, "--", label="denoiser")
left.set(xlabel="x at noise level 3", ylabel="where it is sent", title="Two maps to time 0", ylim=(-2, 2.8))
left.legend(ncols=2, loc="upper center")
bins = torch.linspace(-2, 2, 41).numpy()
ends = ((flow_to_zero(noisy, level), "C0", "flow map"), (field(noisy, t.expand(1000)).denoised, "C1", "denoiser"))
for values, colour, name in ends:
    right.hist(values[:, 0].numpy(), bins, density=True, histtype="step", linewidth=1.8, color=colour, label=name)
grid = torch.linspace(-2, 2, 200, dtype=torch.float64)[:, None]
right.plot(grid, field.log_prob(grid, torch.zeros(200)).exp(), ":", color="black", label="data")
right.set(xlabel="x", ylabel="density", title="1000 noisy points, sent there")
right.legend()

# %%
# Consistency
# -----------
#
# All points of one path are sent to the same end. So :math:`G(x, t) = X_{t \to 0}(x)` does not change along a path, and by the
# chain rule
#
# .. theorem:: consistency
#
#    \frac{\partial}{\partial t} X_{t \to s}(x) + \frac{\partial X_{t \to s}(x)}{\partial x}\, v(x, t) = 0, \qquad
#    \frac{\partial}{\partial s} X_{t \to s}(x) = v\bigl(X_{t \to s}(x), s\bigr).
#
# A **consistency model** (Song et al. 2023) is trained on the first equation, in steps: G at a point and G at the next one of
# its path shall agree, and G(x, 0) = x. A network of (x, t, s) can be trained on either. This is exact in the limit, but what a
# step teaches comes from the network itself, and errors add up along the path.
#
# Matching distributions instead of paths
# ---------------------------------------
#
# It is not needed that a sample ends where the flow would lead it, only that all samples together have the right distribution.
# Let a **generator** make :math:`x_0 = G_\theta(z)`, and noise it: :math:`x = \alpha x_0 + \sigma\,\mathrm{noise}`, of density
# :math:`p'_t`. The KL divergence :math:`\mathbb E[\log p'_t(x) - \log p_t(x)]` depends on :math:`\theta` through x and through
# :math:`p'_t`. The second part is zero:
# :math:`\mathbb E\, \partial_\theta \log p'_t = \int \partial_\theta p'_t = \partial_\theta 1`.
# The first is :math:`\mathbb E[(s' - s)\cdot \alpha\, \partial_\theta x_0]`, and by Tweedie
# :math:`s' - s = \alpha (D' - D)/\sigma^2`:
#
# .. theorem:: distribution-matching
#
#    \frac{\partial}{\partial\theta}\, \mathrm{KL}(p'_t \,\|\, p_t) = \mathbb E\Bigl[ \frac{\alpha^2}{\sigma^2}\,
#    \bigl(D'(x) - D(x)\bigr) \cdot \frac{\partial x_0}{\partial\theta} \Bigr].
#
# D is the field that we have. D' is the denoiser of the generator's own samples, which is learned beside it by an ordinary
# denoising loss. No data are needed, and no solver (Yin et al. 2024, Luo et al. 2023). In the smallest example,
# :math:`x_0 = a z + b`, the generator's own denoiser is known, so that the pull can be watched. It starts at three
# places, on the same two modes as above:


def descend(levels, b, steps=60, n=256):
    """Gradient descent of x0 = a·z + b on the mean KL over some noise levels, with weights (sigma/alpha)²."""
    a, b, way = torch.tensor(0.5, dtype=torch.float64), torch.tensor(b, dtype=torch.float64), []
    for step in range(steps):
        rng = SampleRng(range(n), stream=step)
        z, sigma = rng.normal((1,)), levels[torch.arange(n) % len(levels)]
        t, x0 = field.process.time_of_sigma(sigma), a * z + b
        x = field.process.perturb(x0, t, rng.normal((1,)))
        own = Gaussian([float(b)], [[float(a) ** 2]], field.process)
        pull = own(x, t).denoised - field(x, t).denoised
        a, b = a - 0.2 * (pull * z).mean(), b - 0.2 * pull.mean()
        way.append((float(a), float(b)))
    return torch.tensor(way, dtype=torch.float64)


figure, panels = plt.subplots(1, 2, sharey=True)
choices = (("one low level, 0.2", torch.tensor([0.2])), ("levels from 0.2 to 5", torch.logspace(-0.7, 0.7, 8)))
for axes, (name, levels) in zip(panels, choices, strict=True):
    for start, line in ((-1.5, "-"), (0.2, "--"), (1.5, ":")):
        axes.plot(descend(levels.double(), start)[:, 1], line, label=f"mean b from {start}")
    axes.axhline(float(field.data_mean), color="black", linewidth=0.8)
    axes.set(xlabel="step", ylabel="mean of the generator's samples", title=f"Matched at {name}", ylim=(-1.7, 2.6))
panels[0].legend()

# %%
# Where one low level alone is matched, the generator takes the mode beside it and leaves the other out: this KL divergence
# punishes samples where the data are not, and hardly data where no samples are. High levels, at which the modes have merged,
# pull the mean to the data's (black). So all levels are used. What a single bell cannot do, a network can; but rare modes
# remain the first to be lost.
#
# What ``scorefield distill`` does
# --------------------------------
#
# It begins with two copies of a trained network, one as the generator, one as D'. The generator first learns pairs: some
# noise, and where the run's own flow takes it in five evaluations. That is a regression, so its answers are blurred, but they
# are as varied as the data, where the copied denoiser has one blurred mean for all noise. Then it takes steps of both in turn.
# A generator for K evaluations knows K levels: it makes a sample, noises it to the next, lower level,
# :math:`x = \alpha_s x_0 + \sigma_s z`, and corrects it there. The levels are
#
# .. theorem:: generator-levels
#
#    \lambda_j = sd \cdot 5 \cdot (0.8/5)^{j/(K-1)}, \qquad j = 0..K-1,
#
# from noise that hides all but the coarsest of the data to noise that is nearly as large as they are. Measured
# (``benchmarks/results/distill.md``; the Fréchet distance to held-out images, less is better; seconds for 1,000 samples):
#
# ==========================  ==========  =========  =========  =========  ============
# data, drawn by              distance    precision  recall     coverage   s per 1,000
# ==========================  ==========  =========  =========  =========  ============
# MNIST, the run it is of     0.77        0.93       0.91       0.93       36.9
# MNIST, 1 evaluation         0.84        0.94       0.87       0.93       0.98
# MNIST, 2 evaluations        0.85        0.93       0.88       0.92       2.06
# digits, the run it is of    7.41        0.84       0.95       0.91       6.74
# digits, 1 evaluation        6.65        0.84       0.92       0.92       0.35
# digits, 2 evaluations       6.35        0.87       0.93       0.93       0.67
# ==========================  ==========  =========  =========  =========  ============
#
# One evaluation is twenty times faster on digits, and nearly forty on MNIST, whose run asks two networks at each of 20 levels
# (autoguidance, which the generator learns with it). In distance none is worse than the run that it was made of by more than
# chance (± 0.2 on MNIST, ± 0.7 on digits). One reason is that in training the generator sees its own errors, which a solver
# does not. Recall shows the price. Without the regression, matching alone for as long, one evaluation had 1.00 and 10.05,
# recall 0.84 on MNIST and coverage 0.84 on digits (``benchmarks/results/distill-search.md``). On the ring of eight modes with
# its exact field, one and two evaluations are as good as ``abm`` in ten (sliced Wasserstein distances 0.108 and 0.110 against
# 0.103, each with an error of 0.025).
#
# Latents
# -------
#
# Going up, the flow map gives each sample its **latent**, a point of N(0, I), and going down the sample again (``encode``,
# ``decode``). Between two samples one can mix their latents. A straight mixture :math:`(1 - v) a + v b` of independent latents
# has the variance :math:`(1-v)^2 + v^2`, halfway a half: no latent of a typical sample. On the **great circle** with the angle
# :math:`\varphi` between them it stays 1, since independent directions are nearly orthogonal, and
# :math:`\cos^2 + \sin^2 = 1`:
#
# .. theorem:: great-circle
#
#    w(v) = \frac{\sin((1 - v)\varphi)\, a + \sin(v\varphi)\, b}{\sin\varphi}.

from scorefield.likelihood.latents import decode, encode, great_circle

d, n = 16, 60
root = torch.eye(d, dtype=torch.float64) + 0.5 * torch.diag(torch.ones(d - 1, dtype=torch.float64), 1)
correlated = Gaussian(torch.zeros(d), root @ root.mT, VE(1e-3, 1e3))
ends = [correlated.sample(SampleRng(range(n), stream=stream)) for stream in (1, 2)]
a, b = (encode(correlated, end, tolerance=1e-3).x for end in ends)
shares = torch.linspace(0, 1, 9, dtype=torch.float64)
circle = torch.stack([great_circle(p, q, shares) for p, q in zip(a, b, strict=True)])
frames = decode(correlated, circle.flatten(0, 1), tolerance=1e-3).x.reshape(n, len(shares), d)
straight = (1 - shares)[:, None] * ends[0][:, None] + shares[:, None] * ends[1][:, None]

figure, axes = plt.subplots()
whole = correlated.covariance.diagonal().sum()
for values, marker, name in ((frames, "o", "latents on a great circle"), (straight, "s", "the samples themselves, mixed")):
    axes.plot(shares, values.square().sum(2).mean(0) / whole, marker=marker, label=name)
axes.plot(shares, (1 - shares) ** 2 + shares**2, ":", color="black", label="(1 - v)² + v²")
axes.set(xlabel="share v of the second end", ylabel="variance, of the data's", title="Frames between 60 pairs in 16 dimensions")
axes.set_ylim(0, 1.2)
axes.legend()

# %%
# What is often wrong
# -------------------
#
# - "Predict :math:`x_0` in one step" has two meanings. A denoiser's answer is a mean, blurred at high noise; a flow map's is a
#   sample.
# - A distilled network has no score. What asks for one (likelihood, restoration, guidance) needs the field that it was made of.
# - The gradient above holds for samples that move; D' and D are constants in it. Differentiating through them gives another
#   one.
#
# References
# ----------
#
# - Song, Dhariwal, Chen, Sutskever (2023), "Consistency models", arXiv 2303.01469.
# - Boffi, Albergo, Vanden-Eijnden (2024), "Flow map matching", arXiv 2406.07507.
# - Yin et al. (2024), "One-step diffusion with distribution matching distillation", arXiv 2311.18828.
# - Luo et al. (2023), "Diff-Instruct", arXiv 2305.18455. Zhou et al. (2024), "Score identity distillation", arXiv 2404.04057.
# - Shoemake (1985), "Animating rotation with quaternion curves". White (2016), "Sampling generative networks", arXiv
#   1609.04468.
#
# Exercises
# ---------
#
# 1. On N(0, c) and VE, what variance have the denoiser's answers, and what the flow map's, for :math:`x_t` of level
#    :math:`\lambda`? Check the slopes for c = 1 and level 3.
# 2. The first of two evaluations leaves the variance (1 + e)·c. What is left of e after the second at
#    :math:`\lambda = 0.8\sqrt c`, if that one is exact?
# 3. Show that on a great circle between orthogonal ends of equal norm the norm stays, and halfway on a straight line falls by
#    :math:`\sqrt 2`.
#
# Solutions
# ---------
#
# **1.** :math:`x_t` has the variance :math:`c + \lambda^2`. Times the slopes squared: :math:`c \cdot c/(c + \lambda^2)`, too
# little by the share of the signal, and c:

normal = Gaussian([0.0], [[1.0]], VE(1e-4, 20.0))
t = normal.process.time_of_sigma(torch.tensor([3.0]))
ladder = torch.cat([t, torch.zeros(1, dtype=torch.float64)])
one = torch.ones(1, 1, dtype=torch.float64)
*_, last = simulate(normal, ABM(), ladder, one, rng=SampleRng([0]), denoise=False)
assert abs(float(normal(one, t).denoised) - 1 / 10) < 1e-12
assert abs(float(last.x) - (1 / 10) ** 0.5) < 1e-8

# %%
# **2.** Noised, the variance is :math:`(1 + e) c + \lambda^2`, and the exact map multiplies it by :math:`c/(c + \lambda^2)`. So
# :math:`e/(1 + \lambda^2/c) = e/1.64` is left:

e, level = 0.3, torch.tensor([0.8])
t = normal.process.time_of_sigma(level)
*_, last = simulate(normal, ABM(), torch.cat([t, torch.zeros(1).double()]), one, rng=SampleRng([0]), denoise=False)
after = float(last.x) ** 2 * (1 + e + float(level) ** 2)
assert abs((after - 1) - e / 1.64) < 1e-6

# %%
# **3.** With :math:`\varphi = \pi/2`, :math:`w = \cos(v\varphi) a + \sin(v\varphi) b`, whose squared norm is
# :math:`(\cos^2 + \sin^2)|a|^2`. Halfway on the line, :math:`|a + b|/2 = |a|/\sqrt 2`:

a, b = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 3.0])
norms = great_circle(a, b, torch.linspace(0, 1, 5)).norm(dim=1)
assert torch.allclose(norms, torch.full((5,), 3.0, dtype=torch.float64), rtol=1e-12)
assert abs(float((a + b).norm() / 2) - 3.0 / 2**0.5) < 1e-6
