r"""
15. Stochastic differential equations
=====================================

:ref:`Lesson 11 <sphx_glr_book_lesson_11_ncsn.py>` noised data in ten levels and
:ref:`lesson 14 <sphx_glr_book_lesson_14_ddpm.py>` in a thousand steps. With ever shorter steps both become one equation in
continuous time, and that equation can be run backwards, from noise to data, as soon as the score is known.

**Brownian motion** w is the limit of many small independent steps: over a time h it moves by :math:`\sqrt h\, z` with
:math:`z \sim \mathcal N(0, I)`. A **stochastic differential equation** (SDE) adds a deterministic motion to it. Ours is linear,

.. math:: dx = f(t)\, x\, dt + g(t)\, dw,

and says what happens in a short time: :math:`x_{t+h} = x_t + f x_t h + g \sqrt h\, z`, up to terms that are smaller than h. The
function f is the **drift** rate, g the **diffusion**. To compute a path by such steps is the method of **Euler and Maruyama**.
"""

# %%
# The moments of the SDE are alpha and sigma
# ------------------------------------------
#
# Start all paths at one point. One short step takes the mean m to :math:`m + f m h`, and the variance v to
# :math:`(1 + f h)^2 v + g^2 h`, because z is independent of x. Divide the changes by h and let h go to 0:
#
# .. theorem:: sde-moments
#
#    m' = f\, m, \qquad v' = 2 f\, v + g^2.
#
# A linear equation with Gaussian steps keeps a Gaussian a Gaussian, so that mean and variance are all. In
# :math:`x_t = \alpha x_0 + \sigma\, \mathrm{noise}` the mean is :math:`\alpha x_0` and the variance :math:`\sigma^2`. Put them
# in, and solve for f and g:
#
# .. theorem:: drift-and-diffusion
#
#    f = \frac{d \log \alpha}{dt}, \qquad g^2 = \frac{d \sigma^2}{dt} - 2 f \sigma^2.
#
# So two functions, alpha and sigma, are a whole process; nothing else has to be stored. With
# :math:`B(t) = \int_0^t \beta` the three of Song et al. (2021) are
#
# ==================== ===================== ============================= ============= ============================
# name                 alpha                 sigma                         f             g²
# ==================== ===================== ============================= ============= ============================
# variance exploding   1                     rises to far above the data   0             dσ²/dt
# variance preserving  :math:`e^{-B/2}`      :math:`\sqrt{1 - \alpha^2}`   −β/2          β
# sub-VP               :math:`e^{-B/2}`      :math:`1 - \alpha^2`          −β/2          :math:`\beta(1 - \alpha^4)`
# ==================== ===================== ============================= ============= ============================
#
# The last entry, step by step: :math:`\sigma' = -2\alpha\alpha' = \beta\alpha^2`, so
# :math:`(\sigma^2)' = 2(1-\alpha^2)\beta\alpha^2`; and :math:`-2f\sigma^2 = \beta(1-\alpha^2)^2`. Their sum is
# :math:`\beta(1-\alpha^2)(2\alpha^2 + 1 - \alpha^2) = \beta(1-\alpha^4)`.
#
# From a time s on instead of 0, the same two equations give how x moves from one noisy state to a later one:
#
# .. theorem:: transition
#
#    x_t \mid x_s \sim \mathcal N\bigl(k\, x_s,\ (\sigma_t^2 - k^2 \sigma_s^2)\, I\bigr), \qquad k = \alpha_t/\alpha_s,\ s < t.
#
# (Noise of two independent stages adds in variance: :math:`k^2\sigma_s^2` is what is left at t of the noise at s.)
#
# A path by Euler and Maruyama takes five lines. At every time its mean and spread are those of ``perturb``, which gets there at
# once:

import matplotlib.pyplot as plt
import torch

from scorefield import VE, VP, GaussianMixture, SampleRng, SubVP

process, steps = VP(), 400
rng = SampleRng(range(400))
times = torch.linspace(process.t_min, 1, steps + 1, dtype=torch.float64)
path = [torch.full((400,), 2.0, dtype=torch.float64)]
for t, h in zip(times[:-1], times.diff(), strict=True):
    path.append(path[-1] + process.drift(t) * path[-1] * h + process.diffusion(t) * h.sqrt() * rng.normal())
paths = torch.stack(path)

figure, (left, right) = plt.subplots(1, 2)
t = torch.linspace(1e-3, 1, 200, dtype=torch.float64)
for name, one, line in (("VE to 3", VE(0.01, 3.0), "-"), ("VP", VP(), "--"), ("sub-VP", SubVP(), ":")):
    left.plot(t, one.sigma(t), line, label=f"sigma, {name}")
left.plot(t, VP().alpha(t), "-.", label="alpha, VP and sub-VP")
left.set(xlabel="time t", ylabel="alpha, sigma", title="Two functions are a process", ylim=(0, 3))
left.legend()
right.plot(times, paths[:, :20], color="C0", alpha=0.3, linewidth=0.8)
mean, spread = 2.0 * process.alpha(times), process.sigma(times)
right.plot(times, mean, color="C1", label="alpha·x0")
right.plot(times, mean + spread, "--", color="C1", label="one sigma beside it")
right.plot(times, mean - spread, "--", color="C1")
right.set(xlabel="time t", ylabel="x", title="Paths of VP from x0 = 2")
right.legend()
print(f"at t = 1: mean {paths[-1].mean():+.3f}, spread {paths[-1].std():.3f}; in closed form {mean[-1]:+.3f}, {spread[-1]:.3f}")

# %%
# How a density moves: Fokker and Planck
# --------------------------------------
#
# Let :math:`\varphi` be any smooth function that vanishes far away. In one coordinate, Taylor's formula in one short step gives
#
# .. math::
#
#    \mathbb E\, \varphi(x_{t+h}) = \mathbb E\bigl[\varphi + \varphi' \cdot (f x h + g \sqrt h\, z)
#    + \tfrac12 \varphi'' \cdot g^2 h\, z^2\bigr] + o(h) = \mathbb E\bigl[\varphi + h f x \varphi'
#    + \tfrac h2 g^2 \varphi''\bigr] + o(h),
#
# since :math:`\mathbb E z = 0` and :math:`\mathbb E z^2 = 1`. Written with the density this is
# :math:`\int \varphi\, \partial_t p = \int (f x \varphi' + \tfrac12 g^2 \varphi'')\, p`. Integrate by parts, once in the first
# term and twice in the second, so that :math:`\varphi` stands alone. It is arbitrary, so what it is multiplied by must agree:
#
# .. theorem:: fokker-planck-linear
#
#    \partial_t\, p_t = -\nabla \cdot (f x\, p_t) + \tfrac12\, g^2\, \Delta p_t.
#
# (In d coordinates the same holds in each; the divergence and the Laplacian are the sums.)
#
# Backwards in time
# -----------------
#
# Take one short step of noising, from x at time t - h to :math:`x_t`, and ask by Bayes' rule where x was:
# :math:`p(x \mid x_t) \propto p(x_t \mid x)\, p_{t-h}(x)`. The first factor is Gaussian. The second is
# :math:`p(x_t)\, e^{s \cdot (x - x_t)}` to first order, s being the score at :math:`x_t`. So, up to terms without x,
#
# .. math::
#
#    \log p(x \mid x_t) = -\frac{\lVert x - (x_t - f x_t h) \rVert^2}{2 g^2 h} + s \cdot x
#    = -\frac{\lVert x - (x_t - f x_t h + g^2 s\, h) \rVert^2}{2 g^2 h},
#
# where the second equality completes the square. (What was left out, the second derivative of log p, changes the variance
# :math:`g^2 h` by a part of order h only.) That is again a Gaussian step, with the same :math:`g^2 h` of noise: the
# **reverse SDE** (Anderson 1982)
#
# .. theorem:: reverse-sde
#
#    dx = \bigl(f x - g^2\, \nabla \log p_t(x)\bigr)\, dt + g\, d\bar w, \qquad t \text{ from } t_{\max} \text{ down}.
#
# Its densities agree with the forward ones as well: write :math:`\tfrac12 g^2 \Delta p = g^2\Delta p - \tfrac12 g^2\Delta p` in
# :eq:`fokker-planck-linear`, and :math:`\Delta p = \nabla\cdot(p\,\nabla\log p)` in the first part. With time turned round it
# is the Fokker-Planck equation of :eq:`reverse-sde`. Bayes' rule says more: forward and backward paths have one joint law, so
# that a pair :math:`(x_s, x_t)` cannot tell in which direction it was made.

from scorefield import uniform
from scorefield.samplers import EulerMaruyama, simulate

field = GaussianMixture([0.7, 0.3], [[-2.0], [2.0]], [0.4, 0.4], VP())
snapshots = list(simulate(field, EulerMaruyama(), uniform(field.process, 301), rng=SampleRng(range(300)), denoise=False))
backward = torch.stack([snapshot.x[:, 0] for snapshot in snapshots])

x, t = torch.linspace(-4, 4, 121, dtype=torch.float64), torch.linspace(1, 1e-3, 150, dtype=torch.float64)
place, when = (grid.flatten() for grid in torch.meshgrid(x, t, indexing="ij"))
density = field.log_prob(place[:, None], when).exp().reshape(len(x), len(t))

figure, (left, right) = plt.subplots(1, 2, width_ratios=(2, 1), sharey=True)
left.pcolormesh(t.numpy(), x.numpy(), density.sqrt().numpy(), shading="nearest")
left.plot([snapshot.t for snapshot in snapshots], backward[:, :25], color="white", alpha=0.5, linewidth=0.7)
left.set(xlim=(1, 0), ylim=(-4, 4), xlabel="time t, falling", ylabel="x", title="Reverse paths over the root of p(x)")
left.grid(visible=False)
right.hist(backward[-1].numpy(), 40, range=(-4, 4), density=True, orientation="horizontal", color="C5", label="300 paths")
right.plot(field.log_prob(x[:, None], torch.full((121,), 1e-3)).exp(), x, color="C1", label="data")
right.set(xlabel="density at the end", ylabel="x", title="Where they end")
right.legend()
print(f"share below 0: {(backward[-1] < 0).double().mean():.3f}, of the data 0.700")

# %%
# .. field-view:: data=ring&sampler=sde&levels=80&n=800
#
# What a finite step costs
# ------------------------
#
# On Gaussian data the score is a straight line, so that every step is affine: mean and variance after a whole run can be
# computed without drawing a sample (``scorefield.verification.affine``). Take VE and data of variance c, so that
# :math:`V_t = c + \sigma_t^2` is the true variance, and let each step add the forward step's own variance
# :math:`d = \sigma_t^2 - \sigma_s^2` (``ReverseDiffusion``). The score is :math:`-(x - m)/V_t`, and the variance v of the
# samples becomes
#
# .. math:: v_s = (1 - d/V_t)^2\, v_t + d.
#
# From the right :math:`v_t = V_t` the result is :math:`V_s + d^2/V_t`: too wide, always. Where all steps shrink V by
# one share :math:`\delta = d/V_t`, divide by :math:`V_s = (1-\delta) V_t` to get the recursion
# :math:`u \leftarrow (1-\delta) u + \delta/(1-\delta)` of the ratio :math:`u = v/V`. Its fixed point is :math:`1/(1-\delta)`,
# and the distance from it shrinks by :math:`1-\delta` in each step:
#
# .. theorem:: reverse-diffusion-bias
#
#    \frac{v_n}{V_n} = \frac{1}{1-\delta} - \Bigl(\frac{1}{1-\delta} - 1\Bigr)(1-\delta)^n.
#
# A variance that is right to a twentieth takes steps of a twentieth. From sigma = 50 down to data of variance 1 these are
# :math:`\ln 2501 / 0.05 = 156`: the reverse SDE needs hundreds of plain steps, not tens. The bias is of the same kind as that
# of Langevin dynamics at one level (:ref:`lesson 8 <sphx_glr_book_lesson_08_langevin.py>`).

from scorefield import Gaussian, geometric
from scorefield.samplers import Ancestral, PredictorCorrector, ReverseDiffusion
from scorefield.verification.affine import affine_map, push
from scorefield.verification.affine import snapshots as moments

line = Gaussian([0.0], [[1.0]], VE(0.01, 10.0))


def variance_ratio(sampler, ladder, field=line):
    """Variance of the samples at the end of a ladder over the true one, from the true one at its start."""
    _, variance = push(*moments(field, float(ladder[0])), affine_map(field, sampler, ladder))
    return float(variance / moments(field, float(ladder[-1]))[1])


figure, (left, right) = plt.subplots(1, 2)
counts = torch.tensor([10, 20, 40, 80])
for sampler, marker in ((ReverseDiffusion(), "o"), (Ancestral(), "s"), (EulerMaruyama(), "^"), (PredictorCorrector(), "d")):
    off = torch.tensor([abs(variance_ratio(sampler, geometric(line.process, int(n) + 1)) - 1) for n in counts])
    cost = counts * (2 if isinstance(sampler, PredictorCorrector) else 1)
    left.loglog(cost, off, marker=marker, label=type(sampler).__name__)
left.set(xlabel="evaluations of the score", ylabel="|variance/true - 1|", title="VE, geometric levels")
left.legend(fontsize=8)
for delta, marker in ((0.2, "o"), (0.1, "s")):
    variances = 101.0 * (1 - delta) ** torch.arange(16, dtype=torch.float64)
    ladder = line.process.time_of_sigma((variances - 1).sqrt())
    n = range(1, 16)
    right.plot(n, [variance_ratio(ReverseDiffusion(), ladder[: k + 1]) for k in n], marker, label=f"delta = {delta}")
    right.plot(n, [(1 - delta * (1 - delta) ** k) / (1 - delta) for k in n], "-", color="black", linewidth=0.8)
right.set(xlabel="steps n", ylabel="variance/true", title="Equal shares (lines: formula)")
right.legend()

# %%
# The ancestral step (:ref:`lesson 14 <sphx_glr_book_lesson_14_ddpm.py>`) is too narrow by about as much as ``ReverseDiffusion``
# is too wide: it is exact on data that are one point. Euler and Maruyama's line is steeper, which is an accident of this
# process and ladder: exercise 3.
#
# **Predictor-corrector** sampling adds Langevin steps at the level that a step, the predictor, has reached (Song et al. 2021).
# They leave :math:`p_s` alone but for their own bias, and bring x nearer to it. Here they roughly halve the error at twice the
# evaluations, as twice as many plain steps do. So the gain that was published for them is a matter of the field and the ladder.
#
# What is often wrong
# -------------------
#
# - For VE it is :math:`g^2 = d\sigma^2/dt`, not :math:`\sigma^2` nor :math:`(d\sigma/dt)^2`. For sub-VP,
#   :math:`1 - \alpha^2` is a *standard deviation*, without a root.
# - A step of Euler and Maruyama uses the actual spacing of the grid, also where the grid is not even.
# - The top of a VE process is :math:`\mathcal N(\mathrm{mean}, \sigma_{\max}^2 + \mathrm{Var})`. A start at
#   :math:`\mathcal N(0, \sigma_{\max}^2)` is right only for :math:`\sigma_{\max}` far above the data (``Process.prior``).
# - The published corrector divides norms of noise and score that are averaged over the batch. A sample then depends on the
#   others in its batch; ours uses sigma of the level.
# - The noise of the reverse SDE and :math:`g^2` in front of the score belong together. Half of the score's weight and no noise
#   is also right: :ref:`lesson 16 <sphx_glr_book_lesson_16_likelihood.py>`.
#
# References
# ----------
#
# - Anderson (1982), "Reverse-time diffusion equation models", Stochastic Processes and their Applications 12.
# - Song, Sohl-Dickstein, Kingma, Kumar, Ermon, Poole (2021), "Score-based generative modeling through stochastic differential
#   equations", arXiv 2011.13456.
# - Karras, Aittala, Aila, Laine (2022), "Elucidating the design space of diffusion-based generative models", arXiv 2206.00364.
#
# Exercises
# ---------
#
# 1. Show that :math:`\alpha^2 + \sigma^2 = 1` implies :math:`g^2 = -2f`. Check it on ``Cosine``.
# 2. Noise :math:`x_0 \sim \mathcal N(0, 1)` by VP. Show that the reverse SDE is the forward one. What does one step of
#    ``EulerMaruyama`` multiply x by?
# 3. On VE with geometric levels, let :math:`\rho = d\sigma^2/\sigma^2` be the relative length of a step. Show that one step of
#    Euler and Maruyama leaves the excess :math:`\rho^2\sigma^2(\sigma^2/V - \tfrac12)` of variance, that an excess e decreases
#    as :math:`V^2`, and that the sum over a ladder from :math:`\sigma = \infty` to 0 vanishes: the error is of second order
#    there.
#
# Solutions
# ---------
#
# **1.** :math:`d\sigma^2/dt = -2\alpha\alpha' = -2 f \alpha^2`, so
# :math:`g^2 = -2f\alpha^2 - 2f\sigma^2 = -2f(\alpha^2 + \sigma^2) = -2f`:

from scorefield import Cosine

t = torch.linspace(0.01, 0.98, 50, dtype=torch.float64)
assert torch.allclose(Cosine().diffusion(t) ** 2, -2 * Cosine().drift(t), rtol=1e-10)

# %%
# **2.** The law is N(0, 1) at all times, so the score is -x. Backwards, x moves by
# :math:`-(f x - g^2 s) h = (\beta/2 - \beta) x h = -\tfrac{\beta h}{2} x` with :math:`g^2 = \beta` of noise, as forwards:

unit = Gaussian([0.0], [[1.0]], VP())
ladder = torch.tensor([0.5, 0.49], dtype=torch.float64)
beta = -2 * unit.process.drift(ladder[0])
factor, noise, _ = affine_map(unit, EulerMaruyama(), ladder)
assert torch.allclose(factor, 1 - beta * 0.01 / 2, rtol=1e-12)
assert torch.allclose(noise, (beta * 0.01).sqrt(), rtol=1e-12)

# %%
# **3.** In log sigma a step of Euler and Maruyama takes :math:`d_{\mathrm{EM}} = \rho\sigma^2`, where the true difference of
# variances is :math:`\sigma^2(1 - e^{-\rho}) \approx \rho\sigma^2 - \tfrac12\rho^2\sigma^2`. So it goes down too far by
# :math:`\tfrac12\rho^2\sigma^2`, and up by :math:`d^2/V = \rho^2\sigma^4/V`. The factor :math:`(1 - d/V)^2` of an excess is
# :math:`(V_s/V_t)^2` to first order. With :math:`\rho\sigma^2 = -dV` and :math:`\sigma^2 = V - c` the sum is
#
# .. math::
#
#    \rho\, V_0^2 \int_c^\infty \Bigl(\frac{V - c}{V^3} - \frac{1}{2V^2}\Bigr) dV
#    = \rho\, V_0^2 \Bigl[-\frac{1}{2V} + \frac{c}{2V^2}\Bigr]_c^\infty = 0.
#
# Over the whole range twice the steps leave a quarter of the error; over a part of it, a half:

far = Gaussian([0.0], [[1.0]], VE(0.01, 1000.0))
for low, high, order in ((0.0, 1.0, 2), (0.4, 0.8, 1)):
    ladders = [torch.linspace(high, low, n + 1, dtype=torch.float64) for n in (60, 120)]
    coarse, fine = (variance_ratio(EulerMaruyama(), ladder, far) - 1 for ladder in ladders)
    found = torch.tensor(coarse / fine).log2()
    print(f"t from {high} to {low}: measured order {found:.2f}")
    assert abs(found - order) < 0.15
