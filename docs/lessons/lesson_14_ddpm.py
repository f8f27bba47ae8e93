r"""
14. Denoising diffusion
=======================

Sohl-Dickstein et al. (2015) and Ho, Jain and Abbeel (2020) came to score models from another side: noise is added in many
small steps, and a network learns to undo each of them. Their loss is a bound on the likelihood. This lesson derives it term
by term and finds the denoising score matching of lesson :ref:`4 <sphx_glr_book_lesson_04_denoising.py>` in it, with other
weights.
"""

# %%
# The chain that adds noise
# -------------------------
#
# Step n = 1, ..., T shrinks x a little and adds a little noise, with a small :math:`\beta_n` and
# :math:`z_n \sim \mathcal N(0, I)`:
#
# .. math::
#
#    x_n = \sqrt{1 - \beta_n}\; x_{n-1} + \sqrt{\beta_n}\; z_n .
#
# If :math:`x_{n-1}` has unit variance, so has :math:`x_n`: :math:`(1-\beta_n) + \beta_n = 1`. How is :math:`x_n`
# distributed given the data point? Suppose
# :math:`x_{n-1} = \sqrt{\bar\alpha_{n-1}}\,x_0 + \sqrt{1 - \bar\alpha_{n-1}}\,\varepsilon'`. Then :math:`x_n` has the
# factor :math:`\sqrt{(1-\beta_n)\bar\alpha_{n-1}}` on :math:`x_0` and a noise of variance
# :math:`(1-\beta_n)(1 - \bar\alpha_{n-1}) + \beta_n = 1 - (1-\beta_n)\bar\alpha_{n-1}`. So, by induction from
# :math:`\bar\alpha_0 = 1`,
#
# .. theorem:: ddpm-marginal
#
#    x_n = \sqrt{\bar\alpha_n}\, x_0 + \sqrt{1 - \bar\alpha_n}\;\varepsilon, \qquad
#    \bar\alpha_n = \prod_{m=1}^{n} (1 - \beta_m).
#
# Any step is reached in one draw. In this book's letters :math:`\alpha = \sqrt{\bar\alpha_n}` and
# :math:`\sigma = \sqrt{1-\bar\alpha_n}`. (DDPM writes :math:`\alpha_n` for :math:`1 - \beta_n`. Look twice.)

import math

import matplotlib.pyplot as plt
import torch

from scorefield import DDPMChain, GaussianMixture, SampleRng
from scorefield.bound import Chain, bound, bound_terms, pixel_log_prob, prior_kl
from scorefield.levels import chain_times

process = DDPMChain(40, beta_first=0.005, beta_last=0.25)
data = GaussianMixture([0.7, 0.3], [[-1.0], [1.2]], [0.25, 0.4], process)
x = torch.linspace(-4, 4, 401, dtype=torch.float64)[:, None]
figure, axes = plt.subplots()
for n, style in ((1, "-"), (5, "--"), (15, "-."), (40, ":")):
    t = torch.full((401,), float(n), dtype=torch.float64)
    label = f"n = {n}, $\\bar\\alpha$ = {float(process.alpha(t)[0]) ** 2:.3f}"
    axes.plot(x[:, 0], data.log_prob(x, t).exp(), style, label=label)
axes.set(xlabel="$x_n$", ylabel="density", title="Forty steps from the data to N(0, 1)")
axes.legend()

# %%
# One step back, given the end
# ----------------------------
#
# The density of :math:`x_{n-1}` given :math:`x_n` is unknown. Given :math:`x_0` as well, it is the product of two Gaussians
# in :math:`x_{n-1}`: the step :math:`\exp(-(x_n - \sqrt{1-\beta_n}\,x_{n-1})^2/2\beta_n)` and the marginal
# :math:`\exp(-(x_{n-1} - \sqrt{\bar\alpha_{n-1}}\,x_0)^2/2(1-\bar\alpha_{n-1}))`. Precisions add up:
#
# .. math::
#
#    \frac{1}{\tilde\beta_n} = \frac{1-\beta_n}{\beta_n} + \frac{1}{1 - \bar\alpha_{n-1}}
#    = \frac{(1-\beta_n)(1-\bar\alpha_{n-1}) + \beta_n}{\beta_n (1-\bar\alpha_{n-1})}
#    = \frac{1 - \bar\alpha_n}{\beta_n (1-\bar\alpha_{n-1})},
#
# and the mean is :math:`\tilde\beta_n` times the sum of the two pulls,
# :math:`\sqrt{1-\beta_n}\,x_n/\beta_n + \sqrt{\bar\alpha_{n-1}}\,x_0/(1-\bar\alpha_{n-1})`:
#
# .. theorem:: ddpm-posterior
#
#    q(x_{n-1} | x_n, x_0) &= \mathcal N\left( \frac{\sqrt{\bar\alpha_{n-1}}\,\beta_n}{1-\bar\alpha_n}\, x_0 +
#    \frac{\sqrt{1-\beta_n}\,(1-\bar\alpha_{n-1})}{1-\bar\alpha_n}\, x_n,\; \tilde\beta_n I\right), \\
#    \tilde\beta_n &= \frac{1-\bar\alpha_{n-1}}{1-\bar\alpha_n}\,\beta_n.
#
# The model's step :math:`p(x_{n-1}|x_n)` is this formula with a guess for :math:`x_0`. The best guess is the posterior mean
# (lesson :ref:`5 <sphx_glr_book_lesson_05_tweedie.py>`), which a network supplies in any of its forms. DDPM's network
# predicts the noise, which is the scaled score, :math:`\hat\varepsilon = -\sigma s` of formula :eq:`noise-error`. With
# :math:`\hat x_0 = (x_n - \sigma\hat\varepsilon)/\sqrt{\bar\alpha_n}` the mean becomes the form that is printed everywhere,
# :math:`(x_n - \beta_n \hat\varepsilon/\sqrt{1-\bar\alpha_n})/\sqrt{1-\beta_n}`:

chain, n = Chain(process), 15
beta, abar, before = process.betas[n - 1], chain.alpha[n] ** 2, chain.alpha[n - 1] ** 2
seen = data(x, torch.full((401,), float(n), dtype=torch.float64))
mean = before.sqrt() * beta / (1 - abar) * seen.denoised + (1 - beta).sqrt() * (1 - before) / (1 - abar) * x
assert torch.allclose(mean, (x - beta / (1 - abar).sqrt() * seen.noise) / (1 - beta).sqrt())

# %%
# The bound, term by term
# -----------------------
#
# The model draws :math:`x_T` from a Gaussian and walks down: :math:`p(x_{0:T}) = p(x_T) \prod_n p(x_{n-1}|x_n)`. Its
# density of :math:`x_0` is an integral over all paths. Put the known chain q into it and use that the logarithm is concave
# (Jensen):
#
# .. math::
#
#    -\log p(x_0) = -\log \mathbb{E}_q \frac{p(x_{0:T})}{q(x_{1:T}|x_0)}
#    \le \mathbb{E}_q \left[ -\log p(x_T) - \sum_{n=1}^{T} \log\frac{p(x_{n-1}|x_n)}{q(x_n|x_{n-1})} \right].
#
# The fractions compare a step back with a step forth. Turn q round by Bayes' rule, for n > 1:
# :math:`q(x_n|x_{n-1}) = q(x_{n-1}|x_n, x_0)\, q(x_n|x_0)/q(x_{n-1}|x_0)`. In the sum of logarithms the last fraction
# cancels between neighbours, all but :math:`q(x_T|x_0)`, and the means are Kullback-Leibler divergences:
#
# .. theorem:: ddpm-elbo
#
#    -\log p(x_0) &\le KL\bigl(q(x_T|x_0) \,\|\, p(x_T)\bigr) + \sum_{n=2}^{T} \mathbb{E}\, KL_n
#    - \mathbb{E} \log p(x_0|x_1), \\
#    KL_n &= KL\bigl(q(x_{n-1}|x_n, x_0) \,\|\, p(x_{n-1}|x_n)\bigr).
#
# The three parts are called the prior's, the steps' and the decoder's. Each KL is between two Gaussians:
# :math:`\tilde\beta_n` against the model's variance :math:`w_n`, and means that differ in :math:`\hat x_0 - x_0` only. By
# Tweedie, :math:`\hat x_0 - x_0 = (\sigma^2/\alpha)(s + \varepsilon/\sigma)`. Times the factor
# :math:`\sqrt{\bar\alpha_{n-1}}\,\beta_n/\sigma^2` of :eq:`ddpm-posterior` that is
# :math:`\beta_n/\sqrt{1-\beta_n}\;(s + \varepsilon/\sigma)`. In d dimensions
#
# .. theorem:: ddpm-term
#
#    KL_n = \frac d2 \left( \frac{\tilde\beta_n}{w_n} - 1 - \ln\frac{\tilde\beta_n}{w_n} \right) + \frac{\lambda_n}{2}
#    \left\lVert s(x_n, n) + \frac{\varepsilon}{\sigma_n} \right\rVert^2, \qquad
#    \lambda_n = \frac{\beta_n^2}{(1-\beta_n)\, w_n}.
#
# The bound *is* denoising score matching: the second part is its loss with the weight :math:`\lambda_n`, and the first does
# not depend on the network. Here are all the terms for the exact field:

steps, count = torch.arange(1, 41), 2000
x0 = data.sample(SampleRng(range(count)))
terms = {
    variance: [
        float(bound_terms(data, x0, n.expand(count), rng=SampleRng(range(count), stream=1), variance=variance).mean())
        for n in steps
    ]
    for variance in ("posterior", "transition")
}
figure, axes = plt.subplots()
for (variance, values), style in zip(terms.items(), ("o-", "s--"), strict=True):
    axes.semilogy(steps[1:], values[1:], style, markersize=3, label=f"$w_n$: {variance}")
    total = sum(values) + float(prior_kl(data, x0).mean())
    parts = f"decoder {values[0]:.3f}, KLs {sum(values[1:]):.3f}, prior {total - sum(values):.5f}"
    print(f"{variance:10}: {parts}, sum {total:.3f} nats")
print(f"-log p of the data: {float(-data.log_prob(x0, torch.zeros(count)).mean()):.3f} nats")
axes.set(xlabel="step n", ylabel="$KL_n$, in nats", title="The terms of the bound, for the exact score")
axes.legend()

# %%
# Both sums are above :math:`-\log p`, although the score is exact: a reverse step of finite length is no Gaussian of the
# given variance. (At n = 1 the posterior's variance would be 0, and that of n = 2 is taken.)
#
# Two variances
# -------------
#
# Which :math:`w_n` is right? If the data are one point, :math:`x_{n-1}` given :math:`x_n` has the variance
# :math:`\tilde\beta_n`, since :math:`x_0` is known. If they are :math:`\mathcal N(0, I)`, all :math:`x_n` are, with the
# covariance :math:`\sqrt{1-\beta_n}` of neighbours, and the variance of one given the other is
# :math:`1 - (1-\beta_n) = \beta_n`. Then the bound is no bound but the density itself. Data are in between, and both are
# published: :math:`\tilde\beta_n` ("posterior", "small") and :math:`\beta_n` ("transition", "large"). Name yours. With few
# steps they make a difference:

from scorefield import Gaussian
from scorefield.samplers import Ancestral, simulate

short = DDPMChain(15, beta_first=0.02, beta_last=0.6)
down, spreads = chain_times(short).flip(0), [0.05, 0.2, 0.5, 1.0, 2.0, 4.0]
figure, axes = plt.subplots()
for variance, style in (("posterior", "o-"), ("transition", "s--")):
    ratios = []
    for v in spreads:
        field = Gaussian([0.0], [[v]], short)
        *_, last = simulate(field, Ancestral(variance), down, rng=SampleRng(range(3000)), denoise=False)
        ratios.append(float(last.x.var() / (short.alpha(down[-1]) ** 2 * v + short.sigma(down[-1]) ** 2)))
    axes.semilogx(spreads, ratios, style, label=f"{variance} variance")
axes.axhline(1, color="black", linewidth=0.8)
axes.set(xlabel="variance v of the data N(0, v)", ylabel="variance of $x_1$, over the true", title="Fifteen ancestral steps")
axes.legend()

# %%
# The transition's variance is right at v = 1, as it must be; the posterior's is too small for all data that have a spread.
#
# The simple loss is not the bound
# --------------------------------
#
# Ho et al. found better pictures with :math:`L_{simple} = \tfrac12 \mathbb{E}\lVert\hat\varepsilon - \varepsilon\rVert^2`
# at a uniform n. In :eq:`noise-error` that is the weight :math:`\sigma_n^2` on the score instead of :math:`\lambda_n`. For
# :math:`w_n = \beta_n` the ratio of the two is :math:`\beta_n/((1-\beta_n)(1-\bar\alpha_n))`, which changes by a factor of
# a hundred and more along the chain: no constant makes one loss the other. The simple loss has the same minimum for a
# network that can be right everywhere. But its value is no likelihood, and numbers from it in nats or bits are wrong.
#
# The betas
# ---------
#
# DDPM's betas grow linearly from 0.0001 to 0.02 in 1,000 steps, which leaves hardly any signal in the last third. Nichol
# and Dhariwal prescribe the signal instead:
#
# .. theorem:: cosine-schedule
#
#    \bar\alpha_n = \frac{f(n)}{f(0)}, \quad f(n) = \cos^2\left(\frac{n/T + c}{1 + c}\cdot\frac\pi2\right), \quad c = 0.008,
#    \qquad \beta_n = \min\left(1 - \frac{\bar\alpha_n}{\bar\alpha_{n-1}},\; 0.999\right).
#
# The clip acts at the last step only, where :math:`f(T) = 0` would make :math:`\beta_T = 1`.

figure, (left, right) = plt.subplots(1, 2)
for kind, style in (("linear", "-"), ("cosine", "--")):
    long = Chain(DDPMChain(1000, kind=kind))
    left.plot(long.alpha**2, style, label=kind)
    weight = long.process.betas / ((1 - long.process.betas) * long.sigma[1:] ** 2)
    right.semilogy(torch.arange(1, 1001), weight, style, label=kind)
left.set(xlabel="step n", ylabel="share of the signal, $\\bar\\alpha_n$", title="Two schedules")
right.set(xlabel="step n", ylabel="ratio of weights, $\\lambda_n/\\sigma_n^2$", title="Bound over simple loss")
left.legend()
right.legend()

# %%
# The decoder of pixels
# ---------------------
#
# Pixels are whole numbers; a density of them can be made as large as one likes. The bound needs a *probability* for
# :math:`x_0` given :math:`x_1`. With the 256 values at :math:`-1, -1 + 2/255, \dots, 1`, take the mass of the Gaussian
# between the midpoints to the neighbours, and let the first and the last bin reach to infinity, so that the sum is 1:
#
# .. theorem:: pixel-decoder
#
#    p(x_0 | x_1) = \int_{x_0 - 1/255}^{x_0 + 1/255} \mathcal N(x;\, \hat x_0, w_1)\, dx, \qquad
#    \text{open to } -\infty \text{ at } x_0 = -1 \text{ and to } \infty \text{ at } x_0 = 1.
#
# Written as :math:`\Phi(b) - \Phi(a)` it is 0 in floating point for values a few deviations away, and its logarithm is
# minus infinity. The package subtracts in the logarithm, in the tail where :math:`\Phi` has digits.

values = (2 * torch.arange(256, dtype=torch.float64) / 255 - 1)[:, None]
figure, axes = plt.subplots()
for centre, style in ((0.3, "-"), (0.98, "--")):
    log_p = pixel_log_prob(values, torch.full_like(values, centre), torch.full((256,), 0.03, dtype=torch.float64))
    axes.semilogy(values[:, 0], log_p.exp(), style, label=f"mean {centre}, sum {float(log_p.exp().sum()):.6f}")
axes.set(xlabel="pixel value", ylabel="probability", title="Decoder of standard deviation 0.03", ylim=(1e-12, 1))
axes.legend(loc="upper left")

# %%
# References: Sohl-Dickstein, Weiss, Maheswaranathan, Ganguli (2015), "Deep unsupervised learning using nonequilibrium
# thermodynamics", arXiv 1503.03585. Ho, Jain, Abbeel (2020), "Denoising diffusion probabilistic models", arXiv 2006.11239.
# Nichol, Dhariwal (2021), "Improved denoising diffusion probabilistic models", arXiv 2102.09672. Bao, Li, Zhu, Zhang
# (2022), "Analytic-DPM", arXiv 2201.06503.

# %%
# Exercises
# ---------
#
# 1. A network predicts the noise. Write a Langevin step with it, and check that ``NoisePrediction`` says the same.
# 2. Show by numbers that for data :math:`\mathcal N(0, 1)` with :math:`w_n = \beta_n` the bound is :math:`-\log p`, and
#    that with :math:`w_n = \tilde\beta_n` it is above.
# 3. Which :math:`w_n` makes :math:`\mathbb{E}\,KL_n` smallest, for a given network? (Differentiate :eq:`ddpm-term` by
#    :math:`w_n`.)
#
# Solutions
# ---------
#
# **1.** :math:`s = -\hat\varepsilon/\sigma`, so the step is :math:`x - (\tau/\sigma)\,\hat\varepsilon + \sqrt{2\tau}\,z`.
# Without the division by :math:`\sigma` the drift is too weak by that factor, and the samples are too wide:

from scorefield import NoisePrediction, ScoreModel


class Exact(torch.nn.Module):
    """A network that predicts the true noise at step n = 15."""

    def forward(self, x, label, cond=None):
        return data(x, torch.full((len(x),), 15.0, dtype=torch.float64)).noise


model, times = ScoreModel(Exact(), NoisePrediction(), process, (1,)), torch.full((401,), 15.0, dtype=torch.float64)
drift = -Exact()(x, times) / process.sigma(times)[:, None]
assert torch.allclose(drift, model(x, times).score) and torch.allclose(drift, data(x, times).score)

# %%
# **2.** The bound of each point is an estimate, the mean over many is compared:

normal = Gaussian([0.0], [[1.0]], DDPMChain(12, 0.02, 0.7))
x0 = normal.sample(SampleRng(range(4000)))
for variance, tight in (("transition", True), ("posterior", False)):
    gaps = bound(normal, x0, rng=SampleRng(range(4000), stream=1), variance=variance)
    gaps = gaps + normal.log_prob(x0, torch.zeros(4000))
    error = gaps.std() / math.sqrt(4000)
    assert (abs(gaps.mean()) < 4 * error) if tight else (gaps.mean() > 4 * error)

# %%
# **3.** With the mean square :math:`m_n = \tfrac{1}{d}\,\mathbb{E}\lVert s + \varepsilon/\sigma\rVert^2` the derivative by
# :math:`w` is :math:`\tfrac d2(-\tilde\beta/w^2 + 1/w - \beta^2 m/((1-\beta) w^2))`. It vanishes at
# :math:`w = \tilde\beta_n + \beta_n^2 m_n/(1-\beta_n)`. For data :math:`\mathcal N(0, 1)` the score is :math:`-x_n`, the
# mean square is :math:`m = 1/\sigma^2 - 1 = \bar\alpha/(1-\bar\alpha)` (lesson
# :ref:`11 <sphx_glr_book_lesson_11_ncsn.py>`), and the best variance is :math:`\beta_n`:

chain = Chain(normal.process)
beta, abar = normal.process.betas, chain.alpha[1:] ** 2
assert torch.allclose(chain.posterior[1:] + beta**2 / (1 - beta) * abar / (1 - abar), beta)
