r"""
21. Tables and missing values
=============================

Rows of real tables have holes, and most methods refuse such rows or fill the holes with a mean that no row ever had. A score of
the rows gives draws of what is missing given what is known in each row; this lesson derives them, how to learn from rows with
holes, and how to measure draws, which is where most comparisons go wrong.

Call the known numbers of a row :math:`x_k` and the missing ones :math:`x_m`. For a Gaussian with the mean :math:`\mu` and the
covariance S the answer is in closed form. Consider :math:`e = (x_m - \mu_m) - S_{mk} S_{kk}^{-1} (x_k - \mu_k)`. Its
covariance with :math:`x_k` is :math:`S_{mk} - S_{mk} S_{kk}^{-1} S_{kk} = 0`. Uncorrelated parts of a Gaussian are
independent, so e does not depend on :math:`x_k`, and its covariance is what is left:

.. theorem:: gaussian-conditional

   x_m \mid x_k \;\sim\; \mathcal N\bigl(\mu_m + S_{mk} S_{kk}^{-1} (x_k - \mu_k),\;\; S_{mm} - S_{mk} S_{kk}^{-1} S_{km}\bigr).

Of a mixture it is the same for each component, with the weights of :eq:`mixture-posterior`. Of any other field the particles of
:ref:`sphx_glr_book_lesson_20_inverse.py` draw it: known numbers are a measurement without noise. ``conditional_draws`` does
so for many rows at once, each with its own holes.
"""

import matplotlib.pyplot as plt
import torch

from scorefield import EDM, VE, Gaussian, SampleRng, ScoreModel
from scorefield.conformal import interval, scores_of, widened, widening
from scorefield.guidance.conditional import conditional_draws, crps
from scorefield.levels import Level
from scorefield.nets.known_cells import KnownCells
from scorefield.nets.mlp import MLP
from scorefield.objectives import Denoising

rho, n = 0.8, 400
process = VE(0.01, 20.0)
field = Gaussian([0.0, 0.0], [[1.0, rho], [rho, 1.0]], process)
rows = field.sample(SampleRng(range(n)))
holes = SampleRng(range(n), stream=1).uniform() < 0.5
known = rows.clone()
known[holes, 1] = torch.nan

drawn = conditional_draws(field, known, 20, rng=SampleRng(range(n)), particles=1)
constant = torch.where(known.isnan(), torch.tensor(0.0, dtype=torch.float64), known)
regression = torch.where(known.isnan(), rho * known[:, :1], known)

figure, panels = plt.subplots(1, 3, sharex=True, sharey=True)
for axes, filled, name in zip(
    panels, (constant, regression, drawn.x[0]), ("the mean", "the best guess", "a draw"), strict=True
):
    axes.scatter(*filled[~holes].T, s=4, color="C5")
    axes.scatter(*filled[holes].T, s=6, color="C1", marker="x")
    axes.set(xlabel="first column", title=f"{name}\ncorrelation {float(torch.corrcoef(filled.T)[0, 1]):.2f}")
    axes.set(ylabel="second column")

# %%
# Crosses were missing; the truth has the correlation 0.8. Filled with the mean, the table has too little of it and too little
# variance. Filled with the **best guess** :math:`E[x_m \mid x_k]` it has too much: all crosses lie on a line. Draws keep both.

# %%
# Errors of draws, and how they mislead
# -------------------------------------
#
# Yet the best guess has the smaller error. Let V be the variance of a missing number given the known ones. The truth and a
# right draw X are two independent numbers of one distribution, so that their difference has the variance 2V. The mean of D
# draws is V/D away from the best guess:
#
# .. theorem:: draw-error
#
#    \mathbb E\,(X - x_m)^2 = 2\; \mathbb E\,\bigl(E[x_m \mid x_k] - x_m\bigr)^2, \qquad
#    \mathbb E\Bigl(\tfrac1D \textstyle\sum_i X_i - x_m\Bigr)^2 = \bigl(1 + \tfrac1D\bigr) V.
#
# A right draw has :math:`\sqrt 2` times the root mean square error of the best guess: whoever ranks single draws by it prefers
# those who do not draw. The **continuous ranked probability score** (CRPS) compares a whole distribution F with the truth y;
# X and X' are independent draws of F:
#
# .. theorem:: crps
#
#    \mathrm{CRPS}(F, y) = \mathbb E\lvert X - y\rvert - \tfrac12\, \mathbb E\lvert X - X'\rvert.
#
# For one best guess it is the absolute error. It is **proper**: no F has a lower mean than the distribution G of y itself.
# Since :math:`\lvert a - b\rvert = \int (1_{a \le u < b} + 1_{b \le u < a})\,du`, the means are :math:`\int F(1-G) + G(1-F)`
# and :math:`2\int F(1-F)`, with F and G the distribution functions, and the mean of the score is
# :math:`\int (F - G)^2 + \int G(1-G)`. For a Gaussian of deviation s the right F has :math:`s/\sqrt\pi`, and the best guess
# :math:`s\sqrt{2/\pi}`: now the draws win by :math:`\sqrt 2`.

truth, filled = rows[holes, 1], drawn.x[:, holes, 1]
guess, deviation = rho * rows[holes, 0], (1 - rho**2) ** 0.5
counts = [1, 2, 5, 10, 20]
figure, (left, right) = plt.subplots(1, 2)
left.plot(counts, [float((filled[:c].mean(0) - truth).square().mean().sqrt()) for c in counts], "o", label="mean of D draws")
left.plot(counts, [deviation * (1 + 1 / c) ** 0.5 for c in counts], color="C0", label="sqrt((1 + 1/D) V)")
left.axhline(float((guess - truth).square().mean().sqrt()), color="C1", linestyle="--", label="best guess")
left.set(xlabel="draws D", ylabel="root mean square error", title="One draw loses by sqrt(2)", ylim=(0.5, 1.0))
left.legend(fontsize=8)
scores = {
    "the mean": truth.abs().mean(),
    "best guess": (guess - truth).abs().mean(),
    "2 draws": crps(filled[:2], truth).mean(),
    "20 draws": crps(filled, truth).mean(),
}
right.bar(scores.keys(), [float(v) for v in scores.values()], color=["C5", "C1", "C0", "C0"])
right.axhline(deviation / torch.pi**0.5, color="black", linestyle="--", label="right distribution")
right.set(xlabel="filled with", ylabel="CRPS", title="And wins by it here")
right.tick_params("x", labelsize=8)
right.legend(fontsize=8)

# %%
# Learning from rows with holes
# -----------------------------
#
# Training must not fill the holes first, or it learns the filled table. Give the network x_t of the known cells and a mask
# that says which they are, and count only these in the loss of denoising matching. Given a set of known cells the loss is
# denoising matching of what they hold, whose minimum is the score of their density
# (:ref:`sphx_glr_book_lesson_04_denoising.py`). So the network learns, for every set,
#
# .. theorem:: known-cells
#
#    s(x_t, k) = \nabla \log p_t(x_t \text{ in the cells } k),
#
# the score of a marginal. One condition: which cells are missing must say nothing of their values that the known ones do not
# say. A cell may also be *given*, without noise; then the same loss makes :math:`\nabla\log p_t(x_{m,t} \mid x_k)`.

with torch.random.fork_rng(devices=[]):  # the starting weights come from torch's own generator
    torch.manual_seed(0)
    network = KnownCells(MLP((4,), width=32, depth=2), torch.zeros(2, dtype=torch.bool))  # two cells, two of the mask
model = ScoreModel(network, EDM(data_std=1.0), process, (2,), takes_unknown=True)
objective, optimiser = Denoising(noise_distribution=Level(1.0)), torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(250):
    rng = SampleRng(range(200 * step, 200 * (step + 1)), stream=2)
    batch = torch.where(rng.uniform((2,)) < 0.3, torch.nan, field.sample(rng)).float()
    loss = objective(model, batch, rng=rng).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()

noisy = torch.linspace(-3, 3, 61, dtype=torch.float64)
t = process.time_of_sigma(torch.ones(61, dtype=torch.float64))
figure, axes = plt.subplots()
for index, (second, style) in enumerate(((torch.nan, "-"), (2.0, "--"), (-2.0, "-."))):
    x = torch.stack([noisy, torch.full_like(noisy, second)], dim=1)
    with torch.no_grad():
        learned = model(x, t).denoised[:, 0]
    exact = noisy / 2 if second != second else field(x, t).denoised[:, 0]
    axes.plot(noisy, exact, style, color=f"C{index}", label="second unknown" if second != second else f"second = {second:g}")
    axes.plot(noisy[::6], learned[::6], "o", color=f"C{index}")
axes.set(
    xlabel="noisy first column", ylabel="denoised first column", title="One network, each set of known cells (dots: learned)"
)
axes.legend()

# %%
# Intervals
# ---------
#
# D draws of a right model and the truth are D + 1 exchangeable numbers: the truth has each rank among them with the same
# probability. Let :math:`x_{(j)}` be the j-th smallest draw:
#
# .. theorem:: draw-interval
#
#    P\bigl(x_{(j)} \le x_m \le x_{(k)}\bigr) = \frac{k - j}{D + 1}.
#
# So an interval of 90 % goes from the rank 0.05 (D + 1) to 0.95 (D + 1). Quantiles as programs take them, for example numpy's,
# are narrower. That is the second mistake of comparisons: draws of 20 then hold 81 % and seem too sure.

trials, sizes = 4000, [5, 10, 19, 39, 79]
held: dict[str, list[float]] = {"ranks of D + 1": [], "numpy's quantiles": []}
for size in sizes:
    numbers = SampleRng(range(trials), stream=size).normal((size + 1,))
    new, draws = numbers[:, 0], numbers[:, 1:].mT
    for name, (low, high) in zip(
        held, (interval(draws, 0.9), draws.quantile(torch.tensor([0.05, 0.95]).double(), 0)), strict=True
    ):
        held[name].append(float(((new >= low) & (new <= high)).double().mean()))
figure, axes = plt.subplots()
for (name, shares), marker in zip(held.items(), "os", strict=True):
    axes.plot(sizes, shares, marker=marker, label=name)
axes.axhline(0.9, color="black", linestyle="--", label="asked for")
axes.set(
    xlabel="draws D",
    ylabel="share of truths inside",
    title="Intervals of 90 % (5 draws cannot hold more than 4/6)",
    xscale="log",
)
axes.set_xticks(sizes, [str(size) for size in sizes])
axes.minorticks_off()
axes.legend()

# %%
# A model that is not right needs rows that it has not seen. With a score e of how far each of n hidden truths lies outside its
# interval (in half widths), the score of a new one has each of n + 1 ranks with the same probability. Hence
#
# .. theorem:: conformal-widening
#
#    P(e_{new} \le q) \ge c, \qquad q = \text{the } \lceil (n + 1)\, c \rceil \text{-th smallest of } e_1, \dots, e_n,
#
# and intervals that are widened by q hold a share c, whatever the model. ``scorefield impute`` does this with cells that it
# hides from training.
#
# **What else goes wrong.** Missing completely at random, at random given known columns, and because of the missing value
# itself are three different things; no method can see the third from the table. Filling and then training learns the filled
# table. And a test set whose holes were filled by one method favours that method.

# %%
# Exercises
# ---------
#
# 1. Which correlation has a table with correlation 0.8 whose second column is missing in half of the rows and filled with 0?
# 2. Show by draws that the CRPS of N(0, 1) as an answer to a truth from N(0, 1) is :math:`1/\sqrt\pi`, and higher for N(0, 4).
# 3. A model says [-1, 1] where the truth is N(0, 1). How far must the interval be widened to hold 90 %?
#
# Solutions
# ---------
#
# **1.** Covariance and variance of the second column are halved: :math:`0.4/\sqrt{0.5} = 0.566`. The deviation of a correlation
# over n rows is at most about :math:`1/\sqrt n`:

many = field.sample(SampleRng(range(20_000)))
many[::2, 1] = 0.0
assert abs(float(torch.corrcoef(many.T)[0, 1]) - 0.8 / 2**0.5) < 4 / 20_000**0.5

# %%
# **2.** By :math:`\int (F - G)^2` the second is higher. Two draws for each truth are enough, for ``crps`` is unbiased:

numbers = SampleRng(range(20_000)).normal((3,)).mT
right, wide = crps(numbers[:2], numbers[2]), crps(2 * numbers[:2], numbers[2])
error = float(right.std()) / 20_000**0.5
assert abs(float(right.mean()) - torch.pi**-0.5) < 4 * error
assert float((wide - right).mean()) > 4 * float((wide - right).std()) / 20_000**0.5

# %%
# **3.** To :math:`\pm 1.645`. ``widening`` asks for c less one standard error of what it measures, here 0.9 - 0.005, and its
# unit of half a width has a tenth of the column's unit added:

truth, one = SampleRng(range(10_000)).normal(), torch.ones(10_000, dtype=torch.float64)
by = widening(scores_of(truth, -one, one, one), torch.arange(10_000), 0.9)
_, high = widened(-one[:1], one[:1], one[:1], by)
share = float((SampleRng(range(10_000), stream=1).normal().abs() <= high).double().mean())
assert abs(share - 0.9) < 0.005 + 4 * (2 * 0.09 / 10_000) ** 0.5

# %%
# References
# ----------
#
# - T. Gneiting, A. Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).
# - Y. Ouyang, L. Xie, C. Li, G. Cheng (2023), "MissDiff: training diffusion models on tabular data with missing values", arXiv
#   2307.00467.
# - Y. Tashiro, J. Song, Y. Song, S. Ermon (2021), "CSDI: conditional score-based diffusion models for probabilistic time series
#   imputation", arXiv 2107.03502.
# - Y. Romano, E. Patterson, E. Candès (2019), "Conformalized quantile regression", arXiv 1905.03222.
# - D. Rubin (1976), "Inference and missing data", Biometrika 63(3).
