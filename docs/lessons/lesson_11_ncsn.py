r"""
11. Noise-conditional score networks
====================================

Lesson :ref:`10 <sphx_glr_book_lesson_10_one_level.py>` ended with a problem: no single noise level is right, since a high
one blurs the data and a low one leaves the space between the modes without data. Song and Ermon (2019) learn the scores of
many levels with one network, and walk from the highest level to the lowest.

Write :math:`p_\sigma` for the density of :math:`x = x_0 + \sigma\,\varepsilon` with data :math:`x_0` and noise
:math:`\varepsilon \sim \mathcal N(0, I)`. A **noise-conditional score network** :math:`s(x, \sigma)` has the level as a
second input and approximates :math:`\nabla_x \log p_\sigma(x)` for every level of a **ladder**
:math:`\sigma_0 > \sigma_1 > \dots > \sigma_{L-1}`. Three things have to be chosen: the ladder, the loss, and how the
network is given the level. Then the ladder is walked down by Langevin dynamics.
"""

# %%
# The ladder
# ----------
#
# The highest level must be so large that :math:`p_{\sigma_0}` has one mode, and the lowest so small that nobody sees the
# noise. In between, neighbouring levels must be close enough for a sample of one to be a fair start for the next. What
# counts is their ratio: in units of :math:`\sigma`, a step from 10 to 5 is the same as one from 0.10 to 0.05. So the ratio
# is held constant, which gives the **geometric ladder**
#
# .. theorem:: geometric-ladder
#
#    \sigma_j = \sigma_0 \left(\frac{\sigma_{L-1}}{\sigma_0}\right)^{j/(L-1)}, \qquad j = 0, \dots, L-1.
#
# It is a ladder of *standard deviations*. Ten levels from 1 to 0.01 have the ratio 0.599; code that takes the ladder of
# variances instead gets 0.774 and ends at 0.1. Indices are 0 to L - 1, and level 0 is the noisiest.
#
# The data of this lesson are those of lesson :ref:`9 <sphx_glr_book_lesson_09_mode_weights.py>`: two modes of weights 0.8
# and 0.2, ten units apart.

import math

import matplotlib.pyplot as plt
import torch

from scorefield import VE, GaussianMixture, SampleRng, geometric

process = VE(sigma_min=0.1, sigma_max=10.0)
data = GaussianMixture([0.8, 0.2], [[-5.0, 0.0], [5.0, 0.0]], [1.0, 1.0], process)
ladder = geometric(process, 10)
print("levels:", [round(level, 2) for level in process.sigma(ladder).tolist()])

# %%
# One loss for all levels
# -----------------------
#
# At one level, denoising matching (lesson :ref:`4 <sphx_glr_book_lesson_04_denoising.py>`) minimises
# :math:`\tfrac12 \mathbb{E}\lVert s(x, \sigma) + \varepsilon/\sigma\rVert^2`. Its target has the mean square
# :math:`d/\sigma^2` in d dimensions, and so has the score itself where the noise is larger than the data's details. From 10
# down to 0.1 the losses grow 10,000-fold: their plain sum would be the loss of the lowest level and hardly anything else.
# The weight :math:`\sigma^2` makes the levels equal. Take it inside the square:
#
# .. theorem:: noise-error
#
#    \sigma^2 \left\lVert s + \frac{\varepsilon}{\sigma} \right\rVert^2 = \lVert \sigma s + \varepsilon \rVert^2
#    = \lVert \hat\varepsilon - \varepsilon \rVert^2, \qquad \hat\varepsilon = -\sigma s.
#
# The last form reads: :math:`-\sigma s` is a guess of the noise, and its target has unit variance at every level. A loss
# that is written on the noise has this weight already. To multiply it by :math:`\sigma^2` once more, as some public code
# does, weights the score by :math:`\sigma^4`, and the low levels are not learned at all. The mean over the levels is the
# loss of NCSN:
#
# .. theorem:: ncsn-loss
#
#    \frac1L \sum_{j=0}^{L-1} \frac{\sigma_j^2}{2}\, \mathbb{E}
#    \left\lVert s(x_0 + \sigma_j\varepsilon,\, \sigma_j) + \frac{\varepsilon}{\sigma_j} \right\rVert^2.
#
# Training draws one level an example, with equal chances, or takes all of them: the expectation is the same.
#
# Even the true score does not reach a loss of zero, because the noise cannot be told from the data. For data
# :math:`\mathcal N(0, v)` in one coordinate the true score is :math:`-x/(v + \sigma^2)`, so that
# :math:`\sigma s + \varepsilon = (v\,\varepsilon - \sigma x_0)/(v + \sigma^2)`, and with :math:`\mathbb{E}x_0^2 = v` the
# mean square is :math:`(v^2 + \sigma^2 v)/(v + \sigma^2)^2`:
#
# .. theorem:: loss-floor
#
#    \tfrac12\, \mathbb{E}(\sigma s + \varepsilon)^2 = \frac12 \cdot \frac{v}{v + \sigma^2}.
#
# It is near 1/2 at low levels, where the noise is hidden by the data, and near 0 at high ones. A loss that stands still is
# no sign of a network that has stopped learning. What measures the network is the excess over this floor, which is a Fisher
# divergence, :eq:`fisher-divergence`.

from scorefield.objectives.denoising import Denoising
from scorefield.objectives.weightings import SigmaSquared, Unweighted

x0, losses = data.sample(SampleRng(range(2000))), {}
for name, weighting in {"weight 1": Unweighted(), "weight $\\sigma^2$": SigmaSquared()}.items():
    objective = Denoising(weighting=weighting)
    losses[name] = [float(objective.at(data, x0, t.expand(2000), rng=SampleRng(range(2000), stream=1)).mean()) for t in ladder]

figure, axes = plt.subplots()
for (name, values), marker in zip(losses.items(), "os", strict=True):
    axes.loglog(process.sigma(ladder), values, marker=marker, label=name)
levels = process.sigma(ladder)
axes.loglog(levels, 1 / (1 + levels**2), linestyle=":", color="black", label="$v/(v+\\sigma^2)$ with $v = 1$")
axes.set(
    xlabel="noise level $\\sigma$, in units of x",
    ylabel="loss of the true score",
    title="The floor of each level's loss, in the plane",
)
axes.legend()

# %%
# The dotted line is the floor of :eq:`loss-floor` for one mode alone, in two coordinates. At :math:`\sigma` around 3 the
# true floor is higher: the noise also hides which mode a point came from.
#
# How the network is given the level
# ----------------------------------
#
# A network for each level would learn nothing from the others. One network shares all its weights between the levels, and
# gets the level as a vector :math:`e` that is added to the features in front of every block. The **noise-conditioned
# residual block** with the channel-mixing convolutions :math:`C_1, C_3` (1x1), the spatial convolution :math:`C_2` (3x3)
# and a linear map :math:`W` is
#
# .. theorem:: ncsn-block
#
#    h = x + W e(\sigma), \qquad y = x + C_3\, \mathrm{relu}\bigl(C_2\, \mathrm{relu}(C_1 h)\bigr).
#
# The sum at the end (He et al. 2016) lets a deep stack begin as the identity. The level goes into the branch only:
# :math:`y` is the sum with :math:`x` and not with :math:`h`. These are the two lines of code:

from scorefield.nets.residual import ConditionedResNet, NoiseConditionedBlock

torch.manual_seed(0)
block = NoiseConditionedBlock(8, condition=4)
features, e = torch.randn(2, 8, 6, 6), torch.randn(2, 4)
h = features + block.condition(e)[:, :, None, None]
y = features + block.conv3(block.conv2(block.conv1(h).relu()).relu())
assert torch.allclose(block(features, e), y)

# %%
# For :math:`e(\sigma)` there are two choices. NCSN takes a table with a learned row for each level: a gradient at level j
# changes row j and no other row. Or a few sines and cosines of :math:`\ln\sigma` go through two linear layers: then close
# levels share what they learn, and a level that training did not visit is interpolated. Either way the levels cost very
# little beside the shared weights:

for table in (10, 100):
    network = ConditionedResNet((1, 8, 8), width=32, blocks=6, levels=table)
    rows, total = network.embed.table.weight.numel(), sum(weight.numel() for weight in network.parameters())
    print(f"{table} levels: {rows} of {total} weights are of the table")

# %%
# Training
# --------
#
# For points in the plane a small multilayer perceptron will do. It is conditioned in the same way: a linear map of
# :math:`e(\ln\sigma)` is added in every layer.

from scorefield import EDM, ScoreModel
from scorefield.levels import Levels
from scorefield.nets.mlp import MLP

torch.manual_seed(0)
network = MLP((2,), width=32, depth=2)
model = ScoreModel(network, EDM(data_std=data.data_std), process, (2,), data.data_mean.float(), data.data_std)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
objective, size = Denoising(Levels(10)), 200
examples = data.sample(SampleRng(range(10 * size))).float()
for step in range(120):
    batch = examples[step % 10 * size :][:size]
    loss = objective(model, batch, rng=SampleRng(range(step * size, (step + 1) * size), stream=2)).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

x0, excess, kept = data.sample(SampleRng(range(2000), stream=3)), [], []
with torch.no_grad():
    for t in ladder:
        times, noise = t.expand(2000), SampleRng(range(2000), stream=4).normal((2,))
        x = process.perturb(x0, times, noise)
        true, learned = data(x, times).noise, model(x, times).noise
        excess.append(float(0.5 * (learned - true).square().sum(1).mean()))
        kept.append(float(0.5 * (true - noise).square().sum(1).mean()))

figure, axes = plt.subplots()
axes.loglog(levels, kept, marker="s", label="floor: the true score's loss")
axes.loglog(levels, excess, marker="o", label="excess of the network: $\\frac{1}{2}\\sigma^2\\|s - s_{true}\\|^2$")
axes.set(xlabel="noise level $\\sigma$, in units of x", ylabel="loss", title="What the network still has to learn, by level")
axes.legend()

# %%
# The network's own error is far below the floor at every level. Nobody would see it in the loss.
#
# Annealed Langevin dynamics
# --------------------------
#
# The network says where to go at every level; Langevin dynamics (lesson :ref:`8 <sphx_glr_book_lesson_08_langevin.py>`)
# goes there. One step is :math:`x \leftarrow x + \tau s + \sqrt{2\tau}\, z` with :math:`z \sim \mathcal N(0, I)`. The size
# of the drift against that of the noise is :math:`\tau \lVert s\rVert / \sqrt{2\tau d} = \sqrt{\tau/2}\,/\sigma` where
# :math:`\lVert s\rVert \approx \sqrt d/\sigma`. It is the same at every level when :math:`\tau` is proportional to
# :math:`\sigma^2`. **Annealed Langevin dynamics** (algorithm 1 of the paper) takes k steps at each level, noisiest first,
# with
#
# .. theorem:: annealed-step
#
#    \tau_j = \varepsilon_\tau\, \frac{\sigma_j^2}{\sigma_{L-1}^2}, \qquad
#    x \leftarrow x + \tau_j\, s(x, \sigma_j) + \sqrt{2 \tau_j}\, z,
#
# so that :math:`\varepsilon_\tau` is the step of the lowest level. It is all of six lines; the package's sampler gives the
# same numbers:

from scorefield.samplers import Annealed, Langevin, simulate

eps, steps, n = 1e-3, 20, 500
rng = SampleRng(range(n))
start = 10 * rng.normal((2,))
x = start
for t, level in zip(ladder, process.sigma(ladder), strict=True):
    for _ in range(steps):
        tau = eps * (level / process.sigma_min) ** 2
        x = x + tau * data(x, t.expand(n)).score + math.sqrt(2 * tau) * rng.normal((2,))

rng = SampleRng(range(n), draws=1)  # the first draw was the start
*_, last = simulate(data, Annealed(steps, eps), ladder, start, rng=rng, denoise=False)
assert torch.allclose(last.x, x, atol=1e-9)

# %%
# Does it bring the weights of the modes, which plain Langevin dynamics lost? The same run with the exact field, with the
# network in its place, and with Langevin dynamics at the lowest level alone, of as many steps:

start = 10 * SampleRng(range(n), stream=5).normal((2,))
runs = {
    "one level, exact": (data, Langevin(tau=0.05, steps=200), ladder[-1:]),
    "annealed, exact": (data, Annealed(steps), ladder),
    "annealed, network": (model, Annealed(steps), ladder),
}
shares = {}
for name, (field, sampler, times) in runs.items():
    *_, last = simulate(field, sampler, times, start, rng=SampleRng(range(n), stream=6))
    shares[name] = float((last.x[:, 0] < 0).double().mean())

figure, axes = plt.subplots()
axes.bar(list(shares), list(shares.values()), yerr=[3 * math.sqrt(0.16 / n)] * 3, color=["C1", "C0", "C0"], capsize=4)
axes.axhline(0.8, color="black", linestyle=":", label="true weight of the left mode")
axes.set(xlabel="run of 200 steps", ylabel="share of the left mode", title="Annealing finds the weights", ylim=(0, 1.1))
axes.legend(loc="upper left")

# %%
# The bars have three standard errors. What remains is a lag: the samples follow the levels with a delay, and decide with
# the weights of a slightly higher one. More steps or more levels make it smaller. Here is the walk itself, level by level:

from matplotlib.animation import FuncAnimation

down = geometric(process, 22)
path = list(simulate(data, Annealed(10), down, start[:300], rng=SampleRng(range(300), stream=7)))
frames = [path[0], *path[10::10]]

figure, axes = plt.subplots(figsize=(4.6, 3.2), dpi=70)
points = axes.scatter(*frames[0].x.T, s=5)
axes.set(xlim=(-22, 22), ylim=(-15, 15), xlabel="first coordinate", ylabel="second coordinate")


def draw(snapshot):
    """Show the particles after the last step of a level."""
    points.set_offsets(snapshot.x)
    axes.set_title(f"noise level {float(process.sigma(torch.tensor(snapshot.t))):.2f}")
    return (points,)


animation = FuncAnimation(figure, draw, frames=frames, interval=250)
figure.canvas.draw()  # matplotlib warns of an animation that nobody drew

# %%
# The same in your own hands. Change the number of levels and of the steps at each of them, and watch the share of the left
# mode:
#
# .. field-view:: lesson=annealing

# %%
# What papers and code get wrong
# ------------------------------
#
# *Two conventions of the step.* The paper prints :math:`x \leftarrow x + \tfrac{\alpha}{2} s + \sqrt\alpha\, z`, its code
# has :math:`x \leftarrow x + \tau s + \sqrt{2\tau}\, z`, and the published :math:`2\cdot 10^{-5}` is the :math:`\tau` of
# the code. Read with the paper's formula it would be half the step. ``Annealed.from_ncsn()`` has the published meaning.
#
# *The step that is too large for its own levels.* With :math:`\sigma_{L-1} = 0.01` that step is
# :math:`\tau_j = 0.2\,\sigma_j^2`: exercise 3 computes the 11 per cent of extra variance that it leaves. Lesson
# :ref:`12 <sphx_glr_book_lesson_12_ncsnv2.py>` chooses better.
#
# *The start.* Samplers are often started from :math:`\mathcal N(0, \sigma_0^2)` or even from a uniform distribution. The
# density of the first level is close to :math:`\mathcal N(m, \sigma_0^2 + v)` with the mean m and the variance v of the
# data. The difference matters where :math:`\sigma_0` is not far above the data's spread.
#
# *Levels that training never saw.* A network with a table knows its L levels only. With ten of them a factor of 1.7 apart,
# even one that is given :math:`\ln\sigma` has only seen ten numbers: train on a continuum of levels if you want to sample
# on another ladder.
#
# References: Song, Ermon (2019), "Generative modeling by estimating gradients of the data distribution", arXiv 1907.05600.
# He, Zhang, Ren, Sun (2016), "Deep residual learning for image recognition", arXiv 1512.03385.

# %%
# Exercises
# ---------
#
# 1. Ten levels go from 1 to 0.01. What is the second one, and what would it be if the *variances* went geometrically from 1
#    to 0.01?
# 2. Check :eq:`loss-floor` for :math:`v = 1.5` at :math:`\sigma = 2` with draws.
# 3. All data are one point. What variance do samples have, in units of :math:`\sigma_{L-1}^2`, after many steps with
#    :math:`\tau = 0.2\,\sigma_{L-1}^2`? Check it with the published step of NCSN.
#
# Solutions
# ---------
#
# **1.** The ratio is :math:`0.01^{1/9} = 0.599`. A ladder of variances from 1 to 0.01 has standard deviations from 1 to
# 0.1, with the ratio :math:`0.1^{1/9} = 0.774`:

unit = VE(0.01, 1.0)
assert torch.allclose(unit.sigma(geometric(unit, 10))[1], torch.tensor(0.01 ** (1 / 9), dtype=torch.float64))
assert math.isclose(math.sqrt(0.01 ** (1 / 9)), 0.1 ** (1 / 9)) and round(0.1 ** (1 / 9), 3) == 0.774

# %%
# **2.** The formula gives :math:`\tfrac12 \cdot 1.5/5.5`:

from scorefield import Gaussian

one = Gaussian([0.0], [[1.5]], VE(0.5, 2.0))
halves = Denoising().at(
    one, one.sample(SampleRng(range(4000))), torch.ones(4000, dtype=torch.float64), rng=SampleRng(range(4000), stream=1)
)
assert abs(halves.mean() - 0.5 * 1.5 / 5.5) < 4 * halves.std() / math.sqrt(4000)

# %%
# **3.** The score of a point at 0 with noise of level :math:`\sigma` is :math:`-x/\sigma^2`, and a step multiplies x by
# :math:`1 - 0.2` and adds the variance :math:`0.4\,\sigma^2`. The variance V (in units of :math:`\sigma^2`) that does not
# change is :math:`V = 0.64\, V + 0.4`, hence :math:`V = 0.4/0.36 = 1/0.9`:

point = GaussianMixture.empirical([[0.0]], VE(0.01, 1.0))
ends = simulate(point, Annealed.from_ncsn(steps=20), geometric(point.process, 10), rng=SampleRng(range(4000)), denoise=False)
*_, last = ends
squares = (last.x[:, 0] / 0.01) ** 2
assert abs(squares.mean() - 1 / 0.9) < 4 * squares.std() / math.sqrt(4000)
