r"""
13. Energies, and why their scores are easier than their likelihoods
====================================================================

An energy-based model is :math:`p(x) = e^{-E(x)}/Z` with any function E. Its likelihood needs the constant
:math:`Z = \int e^{-E}`, which nobody can compute for a network. This lesson shows what that costs, how score matching
avoids it, and what a network must be like for its gradient to be a score.
"""

# %%
# A gradient has no curl
# ----------------------
#
# The score of the model is :math:`s = -\nabla E`, formula :eq:`score-of-energy`. Such a field is special: since second
# derivatives may be exchanged,
#
# .. theorem:: energy-no-curl
#
#    \frac{\partial s_i}{\partial x_j} = -\frac{\partial^2 E}{\partial x_j\, \partial x_i} = \frac{\partial s_j}{\partial x_i}
#
# for any weights of the network. A network with d outputs has no such symmetry: it is the gradient of no function, and only
# near one after training. An energy costs a backward pass more for each evaluation. In return it has differences of
# log-densities, which a Metropolis test needs (lesson :ref:`8 <sphx_glr_book_lesson_08_langevin.py>`), and densities can be
# multiplied by adding energies.
#
# A network does not learn well what varies a thousandfold with the noise level. So the package gives the energy of
# :math:`x_t = \alpha x_0 + \sigma\varepsilon` the form
#
# .. theorem:: energy-preconditioned
#
#    E(x, t) = \frac{\lVert x\rVert^2}{2r^2} + \frac{\alpha\, s_d}{\sigma}\, \varphi\left(\frac xr\right), \qquad
#    r^2 = \alpha^2 s_d^2 + \sigma^2,
#
# with the standard deviation :math:`s_d` of the data. With :math:`\varphi = 0`, where training starts, this is the energy
# of the best Gaussian, and :math:`-\nabla\varphi` has to become a field of unit size at every level.

import math

import matplotlib.pyplot as plt
import torch

from scorefield import EDM, VE, EnergyModel, GaussianMixture, SampleRng, ScoreModel
from scorefield.levels import Levels
from scorefield.nets.energy import Potential
from scorefield.nets.mlp import MLP
from scorefield.objectives.denoising import Denoising
from scorefield.prediction import Energy

process = VE(0.3, 5.0)
data = GaussianMixture([0.5, 0.3, 0.2], [[-2.0, 0.0], [2.0, 1.0], [1.0, -2.0]], [0.5, 0.5, 0.5], process)
spread = data.data_std


def trained(model, steps=180, size=100):
    """Fit a model by denoising score matching at ten levels."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    examples = data.sample(SampleRng(range(10 * size))).float()
    for step in range(steps):
        rng = SampleRng(range(step * size, (step + 1) * size), stream=1)
        loss = Denoising(Levels(10))(model, examples[step % 10 * size :][:size], rng=rng).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model


torch.manual_seed(0)
energy = trained(EnergyModel(Potential(MLP((2,), width=32, depth=2)), Energy(data_std=spread), process, (2,)))
free = trained(ScoreModel(MLP((2,), width=32, depth=2), EDM(data_std=spread), process, (2,)))

side = torch.linspace(-4, 4, 41, dtype=torch.float64)
places = torch.cartesian_prod(side, side)
t = torch.full((len(places),), 0.3, dtype=torch.float64)


def curl(field):
    """d s_2/d x_1 - d s_1/d x_2 at all places."""
    x = places.clone().requires_grad_(True)
    score = field(x, t).score
    slopes = [torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0] for i in range(2)]
    return (slopes[1][:, 0] - slopes[0][:, 1]).detach()


figure, panels = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
with torch.no_grad():
    shown = {"true -log p": data.energy(places, t), "learned E": energy.energy(places, t)}
for axes, (name, values) in zip(panels, shown.items(), strict=False):
    heights = (values - values.min()).reshape(41, 41).T
    axes.contour(side, side, heights, levels=[0.5, 1, 2, 3, 4, 6, 8, 10])
    axes.set(xlabel="$x_1$", ylabel="$x_2$", title=name)
turned = curl(free).reshape(41, 41).T
picture = panels[2].pcolormesh(side.numpy(), side.numpy(), turned.numpy(), cmap="coolwarm", vmin=-1, vmax=1)
panels[2].set(xlabel="$x_1$", ylabel="$x_2$", title="curl of the score network")
figure.colorbar(picture, ax=panels[2], label="curl, in 1/(unit of x)²")
print(f"largest curl: energy {float(curl(energy).abs().max()):.0e}, score network {float(curl(free).abs().max()):.2f}")

# %%
# Both were trained for the same number of steps by denoising matching. The learned energy has the large features of the
# true one after these few, up to a constant for every level that score matching neither sees nor needs. Its curl is zero up
# to the rounding of single precision.
#
# The likelihood asks for samples
# -------------------------------
#
# Now try to fit E by maximum likelihood. With weights w,
#
# .. math::
#
#    -\log p(x) = E(x) + \log Z, \qquad
#    \frac{\partial \log Z}{\partial w} = \frac1Z \int \frac{\partial}{\partial w} e^{-E(x)}\, dx
#    = -\int \frac{e^{-E(x)}}{Z}\, \frac{\partial E(x)}{\partial w}\, dx,
#
# and the last integral is a mean over the model itself. The mean gradient over the data is therefore
#
# .. theorem:: likelihood-gradient
#
#    \frac{\partial}{\partial w}\, \mathbb{E}_{data}[-\log p(x)] = \mathbb{E}_{data}\, \frac{\partial E(x)}{\partial w}
#    - \mathbb{E}_{model}\, \frac{\partial E(x)}{\partial w}:
#
# push the energy down at the data and up at samples of the model. *Each* step of the optimiser needs fresh samples of a
# density that has just changed. **Contrastive divergence** (Hinton 2002) takes instead K steps of Langevin dynamics that
# start at the data. What it does can be computed for :math:`E = kx^2/2` and data :math:`\mathcal N(0, V)`: then
# :math:`\partial E/\partial k = x^2/2`, and the chains' variance follows the recursion of lesson
# :ref:`12 <sphx_glr_book_lesson_12_ncsnv2.py>`. With the number of steps n,
#
# .. theorem:: contrastive-divergence
#
#    \mathbb{E}\,\frac{\partial}{\partial k} \bigl(E(x_{data}) - E(x_{chain})\bigr) = \frac{V - v_K}{2}, \qquad
#    v_0 = V, \quad v_{n+1} = (1 - \tau k)^2 v_n + 2\tau.
#
# Training stops where the gradient is zero. That is where one step leaves the variance V as it is, for any K: at
# :math:`V = v/(1 - \tau/2v)` with :math:`v = 1/k`, the bias of Langevin dynamics. So contrastive divergence does not find
# the data's variance; it finds the model whose *Langevin steps* keep the data. A Metropolis test removes that, at three
# times the cost.

from scorefield import Noiseless, Prediction
from scorefield.objectives.contrastive import Contrastive


class Quadratic(torch.nn.Module):
    """The energy k·x²/2 with the weight k."""

    process, shape, data_mean, data_std = Noiseless(), (1,), torch.zeros(1, dtype=torch.float64), 1.0

    def __init__(self, k):
        super().__init__()
        self.k = torch.nn.Parameter(torch.tensor(k, dtype=torch.float64))

    def energy(self, x, t, cond=None):
        return self.k * (x**2).sum(1) / 2

    def forward(self, x, t, cond=None):
        return Prediction.of_score(self.process, x, t, -self.k * x)


V, tau, n = 0.8, 0.3, 4000
x0 = math.sqrt(V) * SampleRng(range(n)).normal((1,))


def gradient(k, **how):
    """Mean gradient of the contrastive loss by k; the loss is linear in k, the chains held."""
    loss = Contrastive(tau=tau, **how)(Quadratic(k), x0, rng=SampleRng(range(n), stream=2))
    return loss.detach() / k


def formula(k, steps):
    """The gradient as the theorem says."""
    v = V
    for _ in range(steps):
        v = (1 - tau * k) ** 2 * v + 2 * tau
    return (V - v) / 2


ks, every = torch.linspace(0.5, 3, 11).tolist(), torch.linspace(0.5, 3, 101).tolist()
figure, axes = plt.subplots()
axes.plot(every, [V / 2 - 1 / (2 * k) for k in every], color="black", label="maximum likelihood")
for steps, marker, colour in ((1, "o", "C0"), (5, "s", "C1")):
    axes.plot(every, [formula(k, steps) for k in every], color=colour)
    axes.plot(
        ks, [float(gradient(k, steps=steps).mean()) for k in ks], marker, color=colour, label=f"CD-{steps}, line: formula"
    )
exact = [float(gradient(k, steps=5, adjusted=True).mean()) for k in ks]
axes.plot(ks, exact, "^", color="C2", label="CD-5 with a Metropolis test")
axes.axhline(0, color="black", linewidth=0.8)
axes.axvline(1 / V, color="black", linewidth=0.8, linestyle=":")
axes.set(xlabel="k = 1/variance of the model (dotted: truth)", ylabel="gradient by k", title="Where training would stop")
axes.legend(fontsize=8, loc="lower right")

# %%
# CD-1 and CD-5 have one zero, and it is wrong. Contrastive divergence is no gradient of any function in general (Sutskever
# and Tieleman 2010), and the value of its loss says nothing about the fit.
#
# Score matching asks for none
# ----------------------------
#
# The Fisher divergence :eq:`fisher-divergence` compares gradients of log-densities, in which :math:`\log Z` does not occur,
# and lessons :ref:`2 <sphx_glr_book_lesson_02_implicit.py>` to :ref:`4 <sphx_glr_book_lesson_04_denoising.py>` compute it
# up to a constant from the data alone. But is it a good thing to minimise? It is how fast noise makes two densities alike.
# Let both be noised by one process :math:`dx = f x\, dt + g\, dw`. The densities obey the Fokker-Planck equation, here as a
# continuity equation,
#
# .. math::
#
#    \frac{\partial p}{\partial t} = -\nabla \cdot (f x\, p) + \tfrac12 g^2 \Delta p = -\nabla \cdot (u_p\, p), \qquad
#    u_p = f x - \tfrac12 g^2 \nabla \log p,
#
# and q the same with :math:`u_q`. Differentiate :math:`KL = \int p \log(p/q)\,dx` and integrate by parts, once in each term
# (the term :math:`\int \partial p/\partial t` is zero):
#
# .. math::
#
#    \frac{d}{dt} KL = \int \frac{\partial p}{\partial t} \log\frac pq - \frac{\partial q}{\partial t}\,\frac pq\; dx
#    = \int p\, u_p \cdot \nabla\log\frac pq - q\, u_q \cdot \nabla \frac pq\; dx
#    = \int p\, (u_p - u_q) \cdot \nabla\log\frac pq\; dx,
#
# because :math:`q\,\nabla(p/q) = p\,\nabla\log(p/q)`. The drift cancels in :math:`u_p - u_q`:
#
# .. theorem:: kl-rate
#
#    \frac{d}{dt}\, KL(p_t \,\|\, q_t) = -\tfrac12\, g(t)^2\, \mathbb{E}_{p_t}
#    \lVert \nabla \log p_t - \nabla \log q_t \rVert^2 .
#
# So a small Fisher divergence at one level means that the Kullback-Leibler divergence hardly falls there; small ones at
# *all* levels, weighted by :math:`g^2`, mean that it was small to begin with. Lesson
# :ref:`16 <sphx_glr_book_lesson_16_likelihood.py>` trains with this weight. (Lyu 2009 has the result for heat flow.)

p = GaussianMixture([0.8, 0.2], [[-2.0], [2.0]], [0.5, 0.5], process)
q = GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.5, 0.5], process)
x = torch.linspace(-30, 30, 6001, dtype=torch.float64)[:, None]
times = torch.linspace(0, 1, 31, dtype=torch.float64)
kl, fisher = [], []
for time in times:
    at = time.expand(len(x))
    log_p, log_q = p.log_prob(x, at), q.log_prob(x, at)
    kl.append(float(torch.trapezoid(log_p.exp() * (log_p - log_q), x[:, 0])))
    apart = (p(x, at).score - q(x, at).score)[:, 0].square()
    fisher.append(float(torch.trapezoid(log_p.exp() * apart, x[:, 0])))
rates = 0.5 * process.diffusion(times) ** 2 * torch.tensor(fisher)

figure, (left, right) = plt.subplots(1, 2)
left.semilogx(process.sigma(times), kl)
left.set(xlabel="noise level $\\sigma$", ylabel="KL(p ‖ q), in nats", title="Two weights of two modes")
right.semilogx(process.sigma(times), rates, label="$\\frac{1}{2} g^2$ times the squared distance")
slopes = -torch.tensor(kl).diff() / times.diff()
right.semilogx(process.sigma((times[1:] + times[:-1]) / 2), slopes, "o", markersize=4, label="slope of the curve")
right.set(xlabel="noise level $\\sigma$", ylabel="-d KL/dt, in nats per unit of t", title="Its rate")
right.set_ylim(0, 0.42)
right.legend(fontsize=8, loc="upper left")
for axes in (left, right):
    axes.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    axes.minorticks_off()

# %%
# The data's own scores (left end) see nothing of the wrong weights; the levels around the distance of the modes see all of
# it. That is lesson :ref:`9 <sphx_glr_book_lesson_09_mode_weights.py>` in one curve.
#
# Not every network is an energy
# ------------------------------
#
# Training a score differentiates E by x, then by the weights. Implicit matching needs its second derivative by x too. A
# network of ReLUs, :math:`\max(0, z)`, is linear in pieces. So
#
# .. theorem:: relu-hessian
#
#    \nabla^2_x E(x) = 0 \quad \text{for almost every } x \text{ if } E \text{ is made of ReLUs and linear maps.}
#
# Its score is constant in pieces, with jumps, and no training makes a slope of it. Worse, implicit matching minimises
# :math:`\tfrac12\lVert s\rVert^2 + \mathrm{tr}\,\nabla s`. Automatic differentiation computes the trace as 0, so that the
# loss seems to be smallest at s = 0, whatever the data. (The true derivative has jumps at the kinks, which are what makes
# the trace right on average; they have measure zero and are never hit.) Use SiLU or softplus; the package refuses kinks.

from scorefield import ScorefieldError

line = torch.linspace(-3, 3, 400, dtype=torch.float64)[:, None].requires_grad_(True)
figure, axes = plt.subplots()
for activation, style in ((torch.nn.ReLU(), "-"), (torch.nn.SiLU(), "--")):
    torch.manual_seed(1)
    small = torch.nn.Sequential(torch.nn.Linear(1, 12), activation, torch.nn.Linear(12, 1)).double()
    (slope,) = torch.autograd.grad(small(line).sum(), line)
    axes.plot(line.detach(), -slope, style, label=type(activation).__name__)
axes.set(xlabel="x", ylabel="score -dE/dx", title="The score of a random energy with twelve hidden units")
axes.legend()


class Kinked(torch.nn.Module):
    """A network of ReLUs, whose output has the shape of its input."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))

    def forward(self, x, label, cond=None):
        return self.layers(x)


try:
    Denoising().check(EnergyModel(Potential(Kinked()), Energy(), process, (2,)))
except ScorefieldError as refusal:
    print(refusal)

# %%
# *The sign.* The score is minus the gradient of E and plus the gradient of :math:`\log p`. A network that is trained to
# output f with :math:`p \propto e^{f}` has the score :math:`+\nabla f`; both conventions are in print.
#
# *Dropout.* An energy with dropout is another function at the data than at the chains: the difference in
# :eq:`likelihood-gradient` is then noise.
#
# References: Hyvärinen (2005), "Estimation of non-normalized statistical models by score matching", JMLR 6. Hinton (2002),
# "Training products of experts by minimizing contrastive divergence". Sutskever, Tieleman (2010), "On the convergence
# properties of contrastive divergence". Lyu (2009), "Interpretation and generalization of score matching". Song, Kingma
# (2021), "How to train your energy-based models", arXiv 2101.03288. Salimans, Ho (2021), "Should EBMs model the energy or
# the score?"

# %%
# Exercises
# ---------
#
# 1. At which k does contrastive divergence stop for V = 0.8 and :math:`\tau = 0.3`? Check it with the package.
# 2. Compute :math:`KL(\mathcal N(0, v + \sigma^2) \,\|\, \mathcal N(0, u + \sigma^2))` and check :eq:`kl-rate` by hand for
#    the process with :math:`\alpha = 1`, where :math:`g^2\,dt = d\sigma^2`.
# 3. What does implicit matching pay an energy of ReLUs, as automatic differentiation sees it?
#
# Solutions
# ---------
#
# **1.** :math:`V(1 - \tau k/2) = 1/k` is :math:`\tau k^2/2 - k + 1/V = 0`, with the smaller root
# :math:`k = (1 - \sqrt{1 - 2\tau/V})/\tau = 1.67`, where 1/V = 1.25:

stop = (1 - math.sqrt(1 - 2 * tau / V)) / tau
for steps in (1, 5):
    slopes = gradient(stop, steps=steps)
    assert abs(slopes.mean()) < 4 * slopes.std() / math.sqrt(n)
slopes = gradient(1 / V, steps=5, adjusted=True)
assert abs(slopes.mean()) < 4 * slopes.std() / math.sqrt(n)

# %%
# **2.** With :math:`a = v + \sigma^2` and :math:`b = u + \sigma^2` it is :math:`\tfrac12(a/b - 1 - \ln(a/b))`. Its
# derivative by :math:`\sigma^2` is :math:`\tfrac12(1 - b/a)\,d(a/b)/d\sigma^2` with :math:`d(a/b)/d\sigma^2 = (b - a)/b^2`,
# that is :math:`-\tfrac12 (a - b)^2/(ab^2)`. The scores differ by :math:`x(1/a - 1/b)`, and
# :math:`-\tfrac12\, a\,(1/a - 1/b)^2` is the same:

v, u, power = 1.5, 0.6, torch.tensor(0.49, dtype=torch.float64, requires_grad=True)
a, b = v + power, u + power
(rate,) = torch.autograd.grad(0.5 * (a / b - 1 - (a / b).log()), power)
assert torch.allclose(rate, -0.5 * a * (1 / a - 1 / b) ** 2, rtol=1e-12)

# %%
# **3.** :math:`\tfrac12\lVert s\rVert^2 + 0`: half of the mean square of a score that is constant in pieces. It is zero for
# a constant energy:

hidden = torch.nn.Sequential(torch.nn.Linear(1, 12), torch.nn.ReLU(), torch.nn.Linear(12, 1)).double()
x = SampleRng(range(100)).normal((1,)).requires_grad_(True)
(first,) = torch.autograd.grad(hidden(x).sum(), x, create_graph=True)
(second,) = torch.autograd.grad((first**2).sum(), x, allow_unused=True, materialize_grads=True)
assert bool((first != 0).any()) and bool((second == 0).all())
