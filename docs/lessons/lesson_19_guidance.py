r"""
19. Guidance and temperature
============================

A person seldom wants any sample: it should be of one class, or more typical than most. **Guidance** changes the score for that
while samples are drawn, without training again; this lesson derives how, and what the samples then really are.

Let c be a class and :math:`p_t(x \mid c)` the density of :math:`x_t = \alpha x_0 + \sigma\,\mathrm{noise}` of that class. By
Bayes' rule :math:`p_t(x \mid c) = p_t(x)\, p_t(c \mid x) / p(c)`, where :math:`p_t(c \mid x)` is the probability that the noisy
x comes from class c. Take the logarithm and then the gradient; p(c) does not depend on x:

.. theorem:: classifier-guidance

   \nabla \log p_t(x \mid c) = \nabla \log p_t(x) + \nabla \log p_t(c \mid x).

So a score without classes and a classifier *of noisy data* make a score of the class. A classifier of clean data will not do:
at a noisy x its gradient says nothing. Multiply the gradient by a **strength** g, and put Bayes' rule back in:

.. theorem:: classifier-free-guidance

   s_g(x) = (1 - g)\, s(x) + g\, s(x \mid c) = s(x \mid c) + (g - 1)\, \nabla \log p_t(c \mid x).

The left form needs no classifier. One network that is trained with the class, and sometimes without, knows both scores. This is
**classifier-free guidance**. For g = 1 it is the score of the class; for g > 1 it asks for the class more than Bayes does.
**Autoguidance** puts a worse version of the same network in the place of s(x): :math:`s_{worse} + g\,(s_{better} - s_{worse})`.
Papers that write :math:`s(x \mid c) + w\,(s(x \mid c) - s(x))` have w = g - 1; most programs call g the guidance scale.
"""

# %%
# ``Labelled`` is a mixture of classes in closed form: it knows its score with a class and without, and the exact classifier.
# Both ways of guidance give the same score.

import math

import matplotlib.pyplot as plt
import torch

from scorefield import VE, Gaussian, GaussianMixture, LinearVE, SampleRng, geometric
from scorefield.exact import Labelled
from scorefield.guidance import Autoguidance, Classified, ClassifierFree, Tempered, feynman_kac
from scorefield.levels import ladder_of
from scorefield.samplers import Ancestral, Heun, Langevin, simulate

process = VE(0.01, 50.0)
first = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.7], process)
second = GaussianMixture([0.3, 0.7], [[1.5], [5.0]], [0.5, 0.5], process)
field = Labelled([0.4, 0.6], [first, second])

x = torch.linspace(-5, 7, 601, dtype=torch.float64)[:, None]
zeros, low = torch.zeros(601, dtype=torch.int64), torch.full((601,), process.t_min, dtype=torch.float64)
by_classifier = Classified(field, field.classify, 3.0)(x, low, zeros).score.detach()
free = ClassifierFree(field, 3.0)(x, low, zeros).score
print(f"largest difference of the two ways {float((by_classifier - free).abs().max()):.1e}")

# %%
# What is the density of guided samples?
# --------------------------------------
#
# Call the two fields *worse* and *better*. Without noise, :math:`(1-g)\, s_{worse} + g\, s_{better}` is the score of the
# **tilted density** :math:`q_0 \propto p_{worse}^{1-g}\, p_{better}^{g}`. It is often said that guided sampling draws from
# it. It does not. At t > 0 the guided score is that of :math:`q_t \propto p_{worse,t}^{1-g}\, p_{better,t}^{g}`, and this is
# not :math:`q_0` with noise added.
#
# Let us see how far it is from that. Write z = x/alpha and :math:`v = \sigma^2/\alpha^2`. To add noise is to follow the heat
# equation :math:`\partial_v p = \tfrac12 \Delta p`, so that :math:`u = \log p` follows
# :math:`\partial_v u = \tfrac12 (\Delta u + \lvert\nabla u\rvert^2)`. Take the same combination of both:
#
# .. math:: \partial_v \log q_v = \tfrac12 \bigl(\Delta \log q_v + (1-g)\lvert s_{worse}\rvert^2
#    + g \lvert s_{better}\rvert^2\bigr).
#
# For any two vectors
# :math:`(1-g)\lvert a\rvert^2 + g\lvert b\rvert^2 = \lvert (1-g)a + gb \rvert^2 - g(g-1)\lvert b - a\rvert^2`: multiply both
# sides out. The first term on the right is :math:`\lvert\nabla\log q_v\rvert^2`. With
# :math:`\Delta q = q\,(\Delta\log q + \lvert\nabla\log q\rvert^2)`:
#
# .. theorem:: tilted-equation
#
#    \partial_v q_v = \tfrac12 \Delta q_v - \tfrac12\, g(g-1)\, \lvert s_{better} - s_{worse} \rvert^2\, q_v.
#
# The last term is what guidance forgets. It is zero only for g = 0, for g = 1, and where the fields agree.

q = ((1 - 2) * field.log_prob(x, low) + 2 * field.log_prob(x, low, zeros)).softmax(0)
level = process.time_of_sigma(torch.full((601,), 1.0, dtype=torch.float64))
q_level = ((1 - 2) * field.log_prob(x, level) + 2 * field.log_prob(x, level, zeros)).softmax(0)
kernel = torch.exp(-0.5 * (x - x.mT) ** 2)  # noise of standard deviation 1
noised = kernel @ q / (kernel @ q).sum()

figure, (left, right) = plt.subplots(1, 2)
left.plot(x, field.log_prob(x, low, zeros).exp(), label="p(x | c)")
left.plot(x, q / 0.02, linestyle="--", label="tilted, g = 2")
left.set(xlabel="x", ylabel="density", title="Without noise")
left.legend()
right.plot(x, noised / 0.02, label="tilted density, noised")
right.plot(x, q_level / 0.02, linestyle="--", label="what guidance follows")
right.set(xlabel="x", ylabel="density", title="At sigma = 1", ylim=(0, 0.5))
right.legend(loc="upper right")

# %%
# Weights draw the tilted density
# -------------------------------
#
# Let particles follow :math:`dz = S\,d\tau + dW` with the guided score :math:`S = \nabla \log q_v`, down the levels:
# :math:`d\tau = -dv`. If their density is q, it changes by
# :math:`-\nabla\cdot(q S) + \tfrac12\Delta q = -\Delta q + \tfrac12\Delta q = -\tfrac12 \Delta q`. By :eq:`tilted-equation` it
# should change by :math:`-\partial_v q = -\tfrac12\Delta q + \tfrac12 g(g-1)\lvert s_{better} - s_{worse}\rvert^2 q`. What is
# missing is a growth in proportion to q. So each particle carries a weight w with
#
# .. theorem:: feynman-kac
#
#    d\log w = \tfrac12\, g(g-1)\, \lvert s_{better} - s_{worse} \rvert^2\, d\tau,
#
# and the weighted particles stay draws of :math:`q_v`, up to its normalising constant. ``feynman_kac`` does this, and draws the
# particles anew by weight where few of them count (:ref:`sphx_glr_book_lesson_20_inverse.py` says how many do). Far above
# g = 3 the weights need more particles than one has.

n = 2000
cond = torch.zeros(n, dtype=torch.int64)
guided = ClassifierFree(field, 2.0)
weighted = feynman_kac(guided, rng=SampleRng(range(n)), cond=cond, levels=40).x[:, 0]
*_, last = simulate(guided, Ancestral(), ladder_of(guided, "log-cauchy", 40), rng=SampleRng(range(n)), cond=cond)
on_left = [float(share) for share in (q[x[:, 0] < 0].sum(), (weighted < 0).double().mean(), (last.x < 0).double().mean())]
print("share of the left mode: tilted {:.2f}, weighted {:.2f}, without weights {:.2f}".format(*on_left))

figure, axes = plt.subplots()
axes.plot(x, q / 0.02, color="black", label="tilted density, by quadrature")
axes.hist(weighted, 60, range=(-5, 7), density=True, alpha=0.6, label="feynman_kac")
axes.hist(last.x[:, 0], 60, range=(-5, 7), density=True, histtype="step", linewidth=1.5, label="guided, no weights")
axes.set(xlabel="x", ylabel="density", title=f"{n:,} draws of each, g = 2")
axes.legend()

# %%
# Gaussians show it without chance
# --------------------------------
#
# Let better be N(0, 1) and worse N(0, 2), so that :math:`S = -a(v)\,z` with :math:`a(v) = \frac{1-g}{2+v} + \frac{g}{1+v}`.
# The variance V of the samples obeys
#
# - on the probability flow, :math:`dz/dv = -S/2`, :math:`d\log V/dv = a`. From V = v at the top, where v is large, this gives
#   :math:`2^{1-g}`.
# - on the reverse SDE :math:`dV/dv = 2aV - 1`. Multiply by :math:`1/m` with :math:`m = (2+v)^{2-2g}(1+v)^{2g}`, whose
#   :math:`d\log m/dv` is 2a: :math:`d(V/m)/dv = -1/m`. Hence :math:`V(0) = m(0)\int_0^\infty dv/m`, and with
#   :math:`r = (2+v)/(1+v)` the integral is :math:`\int_1^2 r^{2g-2}\,dr`.
# - of the tilted density :math:`1/V = (1-g)/2 + g`.
#
# .. theorem:: guided-variance
#
#    V_{flow} = 2^{1-g}, \qquad V_{SDE} = \frac{2 - 2^{2-2g}}{2g-1}, \qquad V_{tilted} = \frac{2}{1+g}.


def pair(g: float) -> Autoguidance:
    return Autoguidance(Gaussian([0.0], [[1.0]], process), Gaussian([0.0], [[2.0]], process), g)


strengths, many = [0.25, 1.0, 2.0, 3.0], 1000
found: dict[str, list[float]] = {"flow": [], "SDE": [], "weighted": []}
for g in strengths:
    for name, sampler in (("flow", Heun()), ("SDE", Ancestral())):
        *_, last = simulate(pair(g), sampler, ladder_of(pair(g), "log-cauchy", 80), rng=SampleRng(range(many)))
        found[name].append(float(last.x.var()))
    found["weighted"].append(float(feynman_kac(pair(g), rng=SampleRng(range(many))).x.var()))

g = torch.linspace(0.01, 3, 300)
figure, axes = plt.subplots()
lines = (2 ** (1 - g), "-", "o"), ((2 - 2 ** (2 - 2 * g)) / (2 * g - 1), "--", "s"), (2 / (1 + g), ":", "^")
for index, (name, (line, style, marker)) in enumerate(zip(found, lines, strict=True)):
    axes.plot(g, line, linestyle=style, color=f"C{index}", label="tilted density" if name == "weighted" else name)
    axes.plot(strengths, found[name], marker, color=f"C{index}", label=f"{name}, {many:,} draws")
axes.set(xlabel="strength g", ylabel="variance of the samples", title="Every sampler makes something else of a guided field")
axes.legend(ncols=2)

# %%
# For g > 1 flow and SDE are too narrow. On MNIST (``benchmarks/results/guidance.md``) guidance of 1.5 brings the Fréchet
# distance of the samples from 3.0 to 2.4; 3 makes it 4.8 and leaves half of the variance within a class. Guided in an interval
# of levels only, sigma/alpha from 0.2 to 2, a strength of 3 keeps 0.85 of it. But then there is no tilted density at all:
# ``feynman_kac`` refuses an interval.

# %%
# Temperature
# -----------
#
# **Temperature** T asks for :math:`p_0^{1/T}`, normalised: likelier samples for T < 1. Its score is s/T without noise, and far
# above the data's spread it is that of the noise alone, whatever T is. For :math:`N(m, v I)` it is known between these: the
# power is :math:`N(m, T v I)`, whose score at t is :math:`-(x - \alpha m)/(\alpha^2 T v + \sigma^2)`, hence
#
# .. theorem:: temperature
#
#    s_T(x) = k(t)\, s(x), \qquad k(t) = \frac{\alpha^2 v + \sigma^2}{\alpha^2 T v + \sigma^2}.
#
# ``Tempered`` uses this k, with v the variance of the data, for every field (Ingraham et al. 2023). For other data it is
# guidance again: around a mode of variance :math:`s^2` far below v, k is 1/T, the SDE is solved by
# :math:`V = c\,(s^2 + \sigma^2)` with :math:`c = 2c/T - 1`, and the flow by :math:`V \propto (s^2 + \sigma^2)^{1/T}`. In units
# of :math:`s^2`, the samples in such a mode end with
#
# .. theorem:: tempered-variance
#
#    V_{Langevin} = T, \qquad V_{SDE} = \frac{T}{2 - T}, \qquad V_{flow} \to 0 \quad (T < 1).

modes = GaussianMixture([0.5, 0.5], [[-20.0], [20.0]], [0.1, 0.1], LinearVE(0.002, 200.0))
shares = {}
for name, sampler, levels in (("flow", Heun(), 100), ("SDE", Ancestral(), 250), ("Langevin", Langevin(tau=3e-4, steps=60), 1)):
    cold = Tempered(modes, 0.5)
    start = modes.sample(SampleRng(range(many), stream=1)) if name == "Langevin" else None
    *_, last = simulate(cold, sampler, ladder_of(cold, sampler.ladder, levels), start, rng=SampleRng(range(many)))
    shares[name] = float((last.x.abs() - 20).square().mean()) / 0.01
print({name: f"{share:.3f}" for name, share in shares.items()}, "expected 0, 0.333 and 0.5 (plus the bias of a Langevin step)")

# %%
# Exercises
# ---------
#
# 1. Let the worse field be *narrower* than the better one: N(0, 1/2) and N(0, 1). Up to which g is there a tilted density?
# 2. Follow one particle down the flow of ``pair(3)``, and find :math:`2^{1-g}` in it.
# 3. Show that two temperatures multiply, :math:`T = T_1 T_2`, on N(0, 1) at every level, and find the score at T = 0.2.
#
# Solutions
# ---------
#
# **1.** The precision of the tilted density is :math:`(1-g)\,2 + g = 2 - g`: there is one for g < 2 only. From g = 2 on the
# guided score no longer points back:

for g, slope in ((1.5, -0.5), (2.0, 0.0), (3.0, 1.0)):
    narrow = Autoguidance(Gaussian([0.0], [[1.0]], LinearVE(1e-6, 50.0)), Gaussian([0.0], [[0.5]], LinearVE(1e-6, 50.0)), g)
    at = narrow(torch.ones(1, 1, dtype=torch.float64), torch.full((1,), 1e-6, dtype=torch.float64))
    assert abs(float(at.score) - slope) < 1e-9

# %%
# **2.** The flow is linear: z is multiplied by one factor, whose square times the variance at the top is the variance at the
# end. With T = 2500 at the top the rest is of size 1/T, and the last level and the error of the steps are below that:

top, start = 50.0, torch.full((1, 1), 50.0, dtype=torch.float64)
*_, last = simulate(pair(3.0), Heun(), geometric(process, 200), start, rng=SampleRng([0]))
assert abs(float(last.x) ** 2 / 2 ** (1 - 3.0) - 1) < 5 * (1 + 3) / top**2

# %%
# **3.** The second factor sees data of variance :math:`T_1 v`, so that the numerator of its k is the denominator of the first:

twice = Tempered(Tempered(Gaussian([0.0], [[1.0]], process), 0.5), 0.4)
for sigma in (0.01, 1.0, 30.0):
    t = process.time_of_sigma(torch.tensor([sigma], dtype=torch.float64))
    assert math.isclose(float(twice(torch.ones(1, 1, dtype=torch.float64), t).score), -1 / (0.2 + sigma**2), rel_tol=1e-9)

# %%
# References
# ----------
#
# - P. Dhariwal, A. Nichol (2021), "Diffusion models beat GANs on image synthesis", arXiv 2105.05233.
# - J. Ho, T. Salimans (2022), "Classifier-free diffusion guidance", arXiv 2207.12598.
# - T. Karras, M. Aittala, T. Kynkäänniemi, J. Lehtinen, T. Aila, S. Laine (2024), "Guiding a diffusion model with a bad version
#   of itself", arXiv 2406.02507.
# - T. Kynkäänniemi et al. (2024), "Applying guidance in a limited interval improves sample and distribution quality in
#   diffusion models", arXiv 2404.07724.
# - M. Skreta et al. (2025), "Feynman-Kac correctors in diffusion: annealing, guidance, and product of experts", arXiv
#   2503.02819.
# - J. Ingraham et al. (2023), "Illuminating protein space with a programmable generative model", Nature 623.
