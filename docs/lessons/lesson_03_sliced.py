r"""
3. Sliced score matching
========================

The implicit loss :eq:`implicit-loss` needs the trace of the Jacobian of the score, and automatic differentiation pays one
backward pass for each of its d diagonal entries. Song, Garg, Shi and Ermon (2019) look along one random direction instead, at
the price of a few passes whatever d is.

**A trace from random directions.** Let v be a random vector, independent of x, and A any matrix. The mean of
:math:`v^\top A v = \sum_{ij} A_{ij}\, v_i v_j` is :math:`\sum_{ij} A_{ij}\, \mathbb{E}[v_i v_j]`, so that

.. theorem:: hutchinson

   \mathbb{E}_v\big[ v^\top A\, v \big] = \operatorname{tr}\big( A\; \mathbb{E}[v v^\top] \big)
   = \operatorname{tr} A \qquad \text{if } \mathbb{E}[v v^\top] = I.

This is Hutchinson's estimate (1989). With :math:`A = \nabla s(x)` the product costs one backward pass: :math:`v^\top \nabla s`
is the gradient of the number :math:`v \cdot s(x)`.

**The whole loss along one direction.** Project both scores onto v and take the Fisher divergence of these numbers:

.. math::

   \tfrac12\, \mathbb{E}\big( v \cdot s - v \cdot \nabla\log p \big)^2.

If :math:`\mathbb{E}[v v^\top] = I`, its mean over v is the Fisher divergence itself, by :eq:`hutchinson` with
:math:`A = e\,e^\top`, :math:`e = s - \nabla\log p`. The cross term is :math:`\mathbb{E}[(v \cdot s)\, v \cdot \nabla\log p]`:
by :eq:`stein-identity`, for the field :math:`(v \cdot s)\, v`, it is :math:`-\mathbb{E}[v^\top \nabla s\, v]`. Hence

.. theorem:: sliced-loss

   \mathbb{E}_{x, v}\Big[ v^\top \nabla s(x)\, v + \tfrac12 \big( v \cdot s(x) \big)^2 \Big]
   = \tfrac12\, \mathbb{E}\lVert s - \nabla\log p \rVert^2 - \tfrac12\, \mathbb{E}\lVert \nabla\log p \rVert^2.

**The variance-reduced form.** The mean of :math:`(v \cdot s)^2` over v is :math:`\lVert s \rVert^2`, which costs nothing to
compute. So there is no need to estimate it:

.. theorem:: sliced-reduced

   \mathbb{E}_{x, v}\Big[ v^\top \nabla s(x)\, v + \tfrac12 \lVert s(x) \rVert^2 \Big]
   = \tfrac12\, \mathbb{E}\lVert s - \nabla\log p \rVert^2 - \tfrac12\, \mathbb{E}\lVert \nabla\log p \rVert^2.

The mean is the same. The variance is mostly smaller, but not always, as we shall see.
"""

# %%
# Which directions?
# -----------------
#
# Three laws have :math:`\mathbb{E}[v v^\top] = I`: independent signs :math:`\pm 1` (Rademacher), independent N(0, 1), and the
# sphere of radius :math:`\sqrt d`. They differ in variance. Only the symmetric part :math:`B = (A + A^\top)/2` matters, as
# :math:`v^\top A v = v^\top B v`. For signs, :math:`v_i^2 = 1`, so that the diagonal adds no variance. The products
# :math:`v_i v_j` of pairs :math:`i < j` are uncorrelated with variance 1, and each has the factor :math:`2 B_{ij}`. For
# Gaussian entries :math:`v_i^2` has the variance 2. On the sphere,
# :math:`\mathbb{E}(v^\top B v)^2 = \frac{d}{d+2}\big( (\operatorname{tr} B)^2 + 2 \lVert B \rVert^2 \big)`. Together, with
# :math:`\lVert B \rVert^2 = \sum_{ij} B_{ij}^2`,
#
# .. theorem:: probe-variance
#
#    \operatorname{Var}\big[ v^\top A\, v \big] =
#    \begin{cases}
#    2 \lVert B \rVert^2 - 2 \sum_i B_{ii}^2 & v_i = \pm 1, \\
#    2 \lVert B \rVert^2 & v \sim \mathcal N(0, I), \\
#    \frac{2d}{d + 2} \big( \lVert B \rVert^2 - \frac1d (\operatorname{tr} B)^2 \big) & \lVert v \rVert = \sqrt d.
#    \end{cases}
#
# Signs are never worse than Gaussian entries, and exact for a diagonal matrix. Directions on the sphere are exact for a
# multiple of I. Take
# the score :math:`-A x` of a Gaussian, at x = 0, where the loss is :math:`-v^\top A v`:

import matplotlib.pyplot as plt
import torch

from scorefield import Field, Gaussian, Noiseless, SampleRng
from scorefield.objectives import Sliced

d, n = 16, 4000
place = torch.arange(d, dtype=torch.float64)
A = 0.6 ** (place[:, None] - place).abs() + torch.diag(place / 8)
linear = Field.of_score(lambda x, sigma: -x @ A, Noiseless(), (d,))
origin, still = torch.zeros(n, d, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)
square, trace = A.square().sum(), A.trace()
variances = {
    "rademacher": 2 * square - 2 * A.diagonal().square().sum(),
    "sphere": 2 * d / (d + 2) * (square - trace**2 / d),
    "gaussian": 2 * square,
}

figure, axes = plt.subplots()
for number, (law, variance) in enumerate(variances.items()):
    with torch.no_grad():
        estimates = -Sliced(projection=law).at(linear, origin, still, rng=SampleRng(range(n)))
    axes.hist(estimates.numpy(), bins=60, range=(0, 70), histtype="step", linewidth=1.6, color=f"C{number}", label=law)
    print(f"{law:10} mean {estimates.mean():6.2f}, variance {estimates.var():7.2f} (in closed form {variance:.2f})")
axes.axvline(float(trace), color="black", linestyle=":", label="the trace")
axes.set(xlabel="estimate of the trace from one direction", ylabel="estimates", title="The same mean, different variances")
axes.legend()

# %%
# With m directions the variance falls as 1/m. A training step averages over a batch anyway, so that one direction an example is
# the usual choice: more examples bring more than more directions.

# %%
# Unit vectors are a trap
# -----------------------
#
# The paper writes v without a length, and it is tempting to take unit vectors: random directions, after all. They have
# :math:`\mathbb{E}[v v^\top] = I/d`, as the d squares sum to 1. In the plain form this divides *everything* by d, and only the
# scale of the loss changes. In the reduced form it divides the trace alone:
#
# .. math::
#
#    \mathbb{E}\Big[ \tfrac1d \operatorname{tr}\nabla s + \tfrac12 \lVert s \rVert^2 \Big]
#    = \tfrac12\, \mathbb{E}\lVert s - \tfrac1d \nabla\log p \rVert^2 + \text{a constant},
#
# again by :eq:`stein-identity`. The minimum moves:
#
# .. theorem:: unit-directions
#
#    \lVert v \rVert = 1 \text{ in the reduced form:} \qquad s^* = \tfrac1d\, \nabla\log p.
#
# A network trained so finds scores that are too short by a factor of d, and its loss curve looks healthy. Below, models
# :math:`k \nabla\log p` of a Gaussian in four coordinates. ``Sliced`` refuses unit vectors in this form, so we hand it the
# directions.

white = Gaussian([0.0] * 4, torch.eye(4), Noiseless())
x = white.sample(SampleRng(range(n)))
factors = torch.linspace(-0.25, 1.75, 17).tolist()


def unit_vectors(length):
    """One direction for each row of x, of the given length."""
    v = SampleRng(range(n), stream=1).normal((4,))
    return iter([length * v / v.norm(dim=1, keepdim=True)])


curves = {}
with torch.no_grad():
    for name, length in (("length 2 = √d", 2.0), ("length 1", 1.0)):
        models = [Field.of_score(lambda x, sigma, k=k: -k * x, Noiseless(), (4,)) for k in factors]
        curves[name] = [float(Sliced().along(model, x, still, unit_vectors(length)).mean()) for model in models]
figure, axes = plt.subplots()
for (name, losses), marker in zip(curves.items(), "os", strict=True):
    axes.plot(factors, losses, marker=marker, label=f"{name}: least at k = {factors[losses.index(min(losses))]:g}")
axes.set(xlabel="factor k of the model's score", ylabel="reduced loss", title="Unit vectors find a quarter of the score, d = 4")
axes.legend()

# %%
# What it costs
# -------------
#
# The table is that of ``benchmarks/cost_of_matching.py``: milliseconds of processor time of one loss and its gradient by the
# weights, for a batch of 64 and a network of width 128 and depth 4, on one thread (``benchmarks/results/cost-of-matching.md``).

sizes = [2, 8, 32, 128, 512, 1024]
milliseconds = {
    "exact trace": [9.19, 19.90, 79.92, 249.55, 1237.08, 3036.70],
    "sliced": [6.32, 6.28, 6.67, 7.75, 9.15, 11.31],
    "denoising (lesson 4)": [6.67, 6.75, 6.04, 6.46, 7.55, 8.25],
}
figure, axes = plt.subplots()
for (name, times), marker in zip(milliseconds.items(), "os^", strict=True):
    axes.loglog(sizes, times, marker=marker, label=name)
axes.set_xticks(sizes, [str(size) for size in sizes])
axes.minorticks_off()
axes.set(
    xlabel="number d of coordinates", ylabel="milliseconds a training step", title="The exact trace costs d backward passes"
)
axes.legend()

# %%
# From d = 512 to 1024 the exact trace costs 2.5 times as much, the sliced loss 1.2 times. At d = 1024, a gray image of 32 by 32
# pixels, one step of the exact trace takes as long as 268 sliced steps.

# %%
# Does the reduced form reduce the variance?
# ------------------------------------------
#
# What one pays for random directions is variance. At a point with the score s and the symmetric Jacobian B, the plain form is
# :math:`v^\top (B + \tfrac12 s s^\top)\, v`, the reduced one :math:`v^\top B\, v + \tfrac12 \lVert s \rVert^2`. By
# :eq:`probe-variance` for signs, their variances over v are
#
# .. math::
#
#    \text{reduced: } 4 \sum_{i<j} B_{ij}^2, \qquad \text{plain: } 4 \sum_{i<j} \big( B_{ij} + \tfrac12 s_i s_j \big)^2.
#
# The plain form has more to estimate, but the two parts may cancel. Take the true score of a Gaussian with precision matrix K:
# :math:`B = -K`, and s is itself Gaussian with covariance K. So :math:`\mathbb{E}[s_i s_j] = K_{ij}` and
# :math:`\mathbb{E}[s_i^2 s_j^2] = K_{ii} K_{jj} + 2 K_{ij}^2`. Put these in, and the mean over x is
#
# .. theorem:: sliced-variance
#
#    \mathbb{E}_x \operatorname{Var}_v =
#    \begin{cases}
#    4 \sum_{i<j} K_{ij}^2 & \text{reduced}, \\
#    \sum_{i<j} \big( K_{ii} K_{jj} + 2 K_{ij}^2 \big) & \text{plain}.
#    \end{cases}
#
# With the correlation :math:`\rho_{ij} = K_{ij}/\sqrt{K_{ii} K_{jj}}` of two components of the score, a pair adds *more*
# variance to the reduced form where :math:`\rho_{ij}^2 > 1/2`. The name "variance-reduced" promises a little too much: it holds
# where the components are weakly correlated.

correlations = [0.0, 0.2, 0.4, 0.6, 0.7071, 0.8, 0.95]
signs = [torch.tensor([[1.0, sign]], dtype=torch.float64).expand(2000, 2) for sign in (1.0, -1.0)]
measured = {True: [], False: []}
for correlation in correlations:
    K = torch.tensor([[1.0, correlation], [correlation, 1.0]], dtype=torch.float64)
    gaussian = Gaussian([0.0, 0.0], torch.linalg.inv(K), Noiseless())
    x = gaussian.sample(SampleRng(range(2000)))
    for reduced in (True, False):
        with torch.no_grad():  # v is one of two, up to its sign: half of their difference, squared, is the variance over v
            one, other = (Sliced(reduced=reduced).along(gaussian, x, still[:2000], iter([v])) for v in signs)
        measured[reduced].append(float(((one - other) / 2).square().mean()))
rho = torch.linspace(0, 0.97, 50)
figure, axes = plt.subplots()
axes.plot(rho, 4 * rho**2, color="C0", label="reduced, in closed form")
axes.plot(rho, 1 + 2 * rho**2, "--", color="C1", label="plain, in closed form")
axes.plot(correlations, measured[True], "o", color="C0", label="reduced, measured")
axes.plot(correlations, measured[False], "s", color="C1", label="plain, measured")
axes.set(xlabel="correlation ρ of the two components of the score", ylabel="variance over v", title="Gaussian data, d = 2")
axes.legend()

# %%
# Without derivatives at all
# --------------------------
#
# Two evaluations along v give the same by a central difference, with an error of the second order in the step h (Pang et al.
# 2020):
#
# .. theorem:: finite-difference
#
#    v^\top \nabla s(x)\, v = \frac{v \cdot \big( s(x + h v) - s(x - h v) \big)}{2h} + O(h^2).
#
# ``FiniteDifference`` does this. The step must be far below the finest structure of the density, divided by :math:`\sqrt d`,
# the length of v, and large enough for the digits of the network.
#
# What is wrong in print
# ----------------------
#
# - Unit vectors in the reduced form, as above.
# - Sums over the last axis of an image. All axes but the batch are summed, in the trace and in the norm.
# - A ReLU energy: its trace is zero along every direction, too (:eq:`relu-has-no-curvature`).
# - Data without noise: sliced matching rests on the same :eq:`stein-identity` and fails for atoms and bounds like
#   :ref:`implicit matching <sphx_glr_book_lesson_02_implicit.py>`.
#
# References: Song, Garg, Shi, Ermon (2019), "Sliced score matching: a scalable approach to density and score estimation", arXiv
# 1905.07088. Pang, Xu, Li, Song, Ermon, Zhu (2020), "Efficient learning of generative models via finite-difference score
# matching", arXiv 2007.03317. Hutchinson (1989), "A stochastic estimator of the trace of the influence matrix", Communications
# in Statistics 18.

# %%
# Exercises
# ---------
#
# 1. Take as directions :math:`v = \sqrt d\, e_i` with i drawn at random. Is :math:`\mathbb{E}[v v^\top] = I`? What is the
#    variance of :math:`v^\top A v`? Check it for the matrix A above.
# 2. A library multiplies its Rademacher directions by 2. Where is the minimum of the plain form now, and where that of the
#    reduced one?
# 3. Show that the plain form has at least the variance of the reduced one for Rademacher directions where :math:`\nabla s` is
#    diagonal, and compute it at a point with :math:`s = (3, 4)`.
#
# Solutions
# ---------
#
# **1.** Yes: :math:`\mathbb{E}[v v^\top] = \frac1d \sum_i d\, e_i e_i^\top = I`. The estimate is :math:`d\, A_{ii}`, with
# variance :math:`d \sum_i A_{ii}^2 - (\operatorname{tr} A)^2`. It is exact where the diagonal is constant.

drawn = SampleRng(range(n), stream=2).choose(torch.ones(d, dtype=torch.float64))
axes_drawn = d**0.5 * torch.eye(d, dtype=torch.float64)[drawn]
with torch.no_grad():
    estimates = -Sliced().along(linear, origin, still, iter([axes_drawn]))
expected = d * A.diagonal().square().sum() - trace**2
spread = (estimates - trace) ** 2
assert abs(estimates.mean() - trace) < 4 * (expected / n) ** 0.5
assert abs(spread.mean() - expected) < 4 * spread.std() / n**0.5

# %%
# **2.** :math:`\mathbb{E}[v v^\top] = 4I`. The plain loss is multiplied by 4 and keeps its minimum. The reduced one has
# :math:`4 \operatorname{tr}\nabla s + \frac12 \lVert s \rVert^2`, with its minimum at four times the score. In closed form, for
# N(0, 1) and :math:`s = -kx`, the losses are :math:`-4k + 2k^2` and :math:`-4k + k^2/2`:

x = Gaussian([0.0], [[1.0]], Noiseless()).sample(SampleRng(range(n)))
for reduced, least in ((False, 1.0), (True, 4.0)):
    k = torch.full((n, 1), least, dtype=torch.float64, requires_grad=True)
    model = Field.of_score(lambda x, sigma, k=k: -k * x, Noiseless(), (1,))
    signs = 2 * SampleRng(range(n), stream=3).sign((1,))
    losses = Sliced(reduced=reduced).along(model, x, still, iter([signs]))
    (slope,) = torch.autograd.grad(losses.sum(), k)
    assert abs(slope.mean()) < 4 * slope.std() / n**0.5

# %%
# **3.** For a diagonal Jacobian and signs, :math:`v^\top \nabla s\, v` is the trace, exactly: the reduced form has no variance
# at all. The plain form adds that of :math:`\frac12 (v \cdot s)^2 = \frac12 \lVert s \rVert^2 + \sum_{i<j} s_i s_j v_i v_j`,
# which is :math:`\sum_{i<j} s_i^2 s_j^2 = 144`.

point = torch.tensor([[-3.0, -4.0]], dtype=torch.float64).expand(n, 2)
standard = Gaussian([0.0, 0.0], torch.eye(2), Noiseless())
with torch.no_grad():
    plain, reduced = (Sliced(reduced=on).at(standard, point, still, rng=SampleRng(range(n))) for on in (False, True))
assert reduced.std() == 0
assert set(plain.tolist()) == {-2 + 0.5 * 49, -2 + 0.5 * 1}  # -2 + 12.5 ± 12, each half of the time: variance 144
