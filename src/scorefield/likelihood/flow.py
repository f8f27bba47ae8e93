"""The log-density by the probability flow: take x to the prior, and integrate how volumes change on the way.

With z = x/alpha, lambda = sigma/alpha and noise_hat = -sigma·score the flow of every process reads dz/dlambda = noise_hat.
Measured from a Gaussian of the data's mean and std s, which has variance r² = s² + lambda² at level lambda, the point is w and
the level is u:

    w = (z - mean)/r        lambda = s·sinh u        r = s·cosh u

    dw/du         = noise_hat - tanh(u)·w                            0 for data that are that Gaussian
    dlog p_w(w)/du = -tr(dw'/dw) = d·tanh(u) - alpha·r·tr(d noise_hat/dx)      likewise

so the solver works only where the data differ from the Gaussian, in coordinates of unit size, and w ends at N(0, I):

    log p_t(x) = log N(w_1; 0, I) - integral of dlog p_w/du  - d·log(alpha·r)

What is computed is the density of *noisy* data, log p_t(x) for x_t = alpha·x0 + sigma·noise, at t_min by default.
The data's own density is its limit for sigma -> 0, and there is none where the data are points or lie on a surface.

Of a point with unknown cells (NaN), to a field that takes them, it is the log-density of the known ones. The others are given
the field of that Gaussian, in which they stand still at its mean and add a constant, which is taken off again.

Three things are approximate, and each has its own check. The solver: a second solve at a tenfold tolerance must agree.
The trace: exact (d backward passes), or Hutchinson's estimate v·J·v with E[v·vᵀ] = I, the probes v fixed along the solve, so
that the solver sees a smooth equation, with a standard error over probes. The prior: N(mean, s² + lambda²) at t_max is the data
convolved with noise only up to (data scale/lambda_max)²; for a field that knows better, pass `prior=field.log_prob`.

References: Chen, Rubanova, Bettencourt, Duvenaud (2018), "Neural ordinary differential equations", arXiv 1806.07366. Grathwohl,
Chen, Bettencourt, Sutskever, Duvenaud (2019), "FFJORD", arXiv 1810.01367. Song et al. (2021), arXiv 2011.13456, section 4.3.
Hutchinson (1990), "A stochastic estimator of the trace of the influence matrix", Commun. Stat. Simul. Comput. 19, 433-450.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, Literal, TypedDict, Unpack

import torch
from pydantic import Field as Bound
from pydantic.dataclasses import dataclass
from torch import Tensor

from scorefield import renamed
from scorefield.errors import ScorefieldError
from scorefield.field import Field, ScoreModel
from scorefield.levels import data_scale
from scorefield.prediction import Prediction
from scorefield.progress import Progress, portion, silent
from scorefield.randomness import SampleRng
from scorefield.runge_kutta import Solution, root_mean_square, solve
from scorefield.shapes import PerSample, Sample, check_rows, flat, over, total

Prior = Callable[[Sample, PerSample], PerSample]  # (x, t) -> log-density at t


class Divergence(ABC):
    """How the trace of a Jacobian is computed from vector-Jacobian products: v -> v·J."""

    @abstractmethod
    def probes(self, shape: tuple[int, ...], rng: SampleRng) -> Tensor | None:
        """Return the vectors of one whole solve, `(batch, probes, *shape)`, or None where none are needed."""

    @abstractmethod
    def columns(self, output: Sample, x: Sample, probes: Tensor | None) -> Tensor:
        """Return estimates of the trace of d output/dx over all coordinates, `(batch, probes)`."""


def _pulled(output: Sample, x: Sample, v: Sample, last: bool) -> Sample:
    """Return v·J with J = d output/dx, the shape of x; zero where the output does not depend on x."""
    (product,) = torch.autograd.grad(output, x, v, retain_graph=not last, materialize_grads=True)
    return product


@dataclass(frozen=True)
class Exact(Divergence):
    """The trace itself: one backward pass per coordinate, over all coordinates of a sample whatever its shape."""

    def probes(self, shape: tuple[int, ...], rng: SampleRng) -> None:
        return None

    def columns(self, output: Sample, x: Sample, probes: Tensor | None) -> Tensor:
        d = flat(x)[0].numel()
        trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for i in range(d):
            unit = torch.zeros_like(flat(x))
            unit[:, i] = 1
            trace = trace + flat(_pulled(output, x, unit.reshape(x.shape), i == d - 1))[:, i]
        return trace.reshape(-1, 1)


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """The mean of v·J·v over random probes v with E[v·vᵀ] = I: one backward pass per probe.

    Attributes:
        count: probes, >= 1; from two on there is a standard error.
        kind: "rademacher", signs, whose variance leaves out the diagonal of J; or "gaussian".
    """

    count: Annotated[int, Bound(ge=1)] = 8
    kind: Literal["rademacher", "gaussian"] = "rademacher"

    def probes(self, shape: tuple[int, ...], rng: SampleRng) -> Tensor:
        draw = rng.sign if self.kind == "rademacher" else rng.normal
        return draw((self.count, *shape))

    def columns(self, output: Sample, x: Sample, probes: Tensor | None) -> Tensor:
        assert probes is not None  # what `probes` made
        last = self.count - 1
        found = [total(_pulled(output, x, v, i == last) * v) for i, v in enumerate(probes.to(x.dtype).unbind(1))]
        return torch.stack(found, dim=1)


@plain_dataclass(frozen=True, eq=False)
class LogProb:
    """Log-densities in nats, one per example, with estimates of their errors.

    Attributes:
        value: log p_t(x), `(batch,)`, float64.
        standard_error: of `value` over the probes, `(batch,)`: 0 for an exact trace, NaN for a single probe.
        error: how far `value` moved when the solver's tolerance was made ten times smaller, `(batch,)`: about ten times the
            error that is left; NaN when not checked.
        evaluations: of the field for each example, all solves together, `(batch,)`, int64.
        t: the time of the density.
        smoothing: sigma(t)/alpha(t): the data's density is seen through a Gaussian of this standard deviation.
    """

    value: PerSample
    standard_error: PerSample
    error: PerSample
    evaluations: Tensor
    t: float
    smoothing: float


class _Completed:
    """A field that is asked for the known cells alone, with that of N(mean, std²) in the others, each on its own."""

    def __init__(self, field: Field, known: Tensor, mean: Tensor, std: float) -> None:
        self.field, self.known, self.mean, self.variance = field, known, mean, std**2

    def __call__(self, x: Sample, t: PerSample, cond: Tensor | None) -> Prediction:
        said = self.field(torch.where(self.known, x, torch.nan), t, cond)
        alpha, sigma = (over(scale, x) for scale in (said.alpha, said.sigma))
        score = -(x - alpha * self.mean) / (alpha**2 * self.variance + sigma**2)
        x0 = (x + sigma**2 * score) / alpha
        output = torch.where(self.known, said.output, over(said.a, x) * x0 + over(said.c, x) * score)
        return Prediction(said.process, x, t, output, said.a, said.c)


class Solving(TypedDict, total=False):
    """Keywords of `log_prob` that say how the equation is solved; see there."""

    divergence: Divergence | None
    tolerance: float
    within: float | None


@plain_dataclass(frozen=True)
class _Solver:
    """The same keywords with their defaults."""

    divergence: Divergence | None = None
    tolerance: float = 1e-5
    within: float | None = 0.1


def _norm(d: int) -> Callable[[Tensor], Tensor]:
    """Return the norm of an error in (w, one integral per probe): it stays sensitive to each integral in many coordinates."""
    return lambda ratio: torch.maximum(root_mean_square(ratio[:, :d]), ratio[:, d:].abs().amax(dim=1))


class _Flow:
    """The equation of the points of one batch: of w, and of the change of log p_w by each probe."""

    def __init__(self, field: Field, x: Sample, start: float, cond: Tensor | None, trace: Divergence, rng: SampleRng) -> None:
        process = field.process
        ends = torch.tensor([start, process.t_max], dtype=torch.float64)
        alphas, sigmas = process.alpha(ends), process.sigma(ends)
        if not (process.t_min <= start < process.t_max and float(sigmas[0]) > 0):
            raise ScorefieldError(
                f"got t = {start:g} of {process}, expected a time in [{process.t_min:g}, {process.t_max:g}) with noise: "
                "choose one below t_max, from which the flow goes to the prior"
            )
        self.field, self.cond, self.trace = field, cond, trace
        self.smoothing = float(sigmas[0] / alphas[0])
        self.d, self.std = flat(x).shape[1], data_scale(field, 1e-8 * self.smoothing)
        self.mean = field.data_mean.to(x.device, torch.float64)
        probes = trace.probes(field.shape, rng)
        self.probes = None if probes is None else probes.to(x.device)
        size = 1 if probes is None else probes.shape[1]
        self.levels = torch.asinh(sigmas / alphas / self.std).tolist()  # u at both ends
        self.first = float(alphas[0]) * self.std * math.cosh(self.levels[0])  # alpha·r at the start
        self.known = ~x.isnan() if isinstance(field, ScoreModel) and field.takes_unknown else None
        x = x if self.known is None else torch.where(self.known, x, float(alphas[0]) * self.mean)
        w = flat(x.double() - float(alphas[0]) * self.mean) / self.first
        self.state = torch.cat([w, torch.zeros(len(x), size, dtype=torch.float64, device=x.device)], dim=1)

    def point(self, u: PerSample, w: Sample) -> tuple[Sample, PerSample, PerSample]:
        """Return x, t and alpha·r for points w at levels u."""
        process = self.field.process
        at = process.time_of_sigma(self.std * u.sinh())
        scale = process.alpha(at) * self.std * u.cosh()
        return over(process.alpha(at), w) * self.mean + over(scale, w) * w, at, scale

    def slope(self, u: PerSample, y: Tensor, rows: Tensor) -> Tensor:
        """Return dw/du and dlog p_w/du by each probe, side by side, `(k, d + probes)`."""
        w = y[:, : self.d].reshape(-1, *self.field.shape)
        there, at, scale = self.point(u, w)
        with torch.enable_grad():
            there = there.detach().requires_grad_(True)
            field: Any = self.field
            if self.known is not None:
                field = _Completed(self.field, self.known[rows], self.mean, self.std)
            hat = field(there, at, None if self.cond is None else self.cond[rows]).noise
            traces = self.trace.columns(hat, there, None if self.probes is None else self.probes[rows])
        drift = flat(hat.detach()) - over(u.tanh(), y) * y[:, : self.d]
        return torch.cat([drift, self.d * over(u.tanh(), y) - over(scale, y) * traces.detach()], dim=1)

    def log_prob(self, tolerance: float, prior: Prior | None, progress: Progress) -> tuple[Tensor, Solution]:
        """Return log p_t(x) by each probe, `(batch, probes)`, and the solution of the equation."""
        start, end = self.levels
        found = solve(self.slope, self.state, start, end, rtol=tolerance, atol=tolerance, norm=_norm(self.d), progress=progress)
        top = found.y[:, : self.d].reshape(-1, *self.field.shape)
        if prior is None:
            log_top = -0.5 * (total(top**2) + self.d * math.log(2 * math.pi))
        else:
            there, at, scale = self.point(torch.full((len(top),), end, dtype=torch.float64, device=top.device), top)
            log_top = prior(there, at).double() + self.d * scale.log()
        value = log_top.reshape(-1, 1) - found.y[:, self.d :] - self.d * math.log(self.first)
        if self.known is not None:  # log N(mean; mean, first²) of every unknown cell
            unknown = total((~self.known).to(value))
            value = value + over(unknown, value) * (0.5 * math.log(2 * math.pi) + math.log(self.first))
        return value, found


def _standard_error(each: Tensor, probes: Tensor | None) -> PerSample:
    """Return the standard error of the mean over probes, `(batch,)`: 0 for an exact trace, NaN for a single probe."""
    if probes is None:
        return torch.zeros_like(each[:, 0])
    size = each.shape[1]
    return each.std(dim=1) / math.sqrt(size) if size > 1 else torch.full_like(each[:, 0], torch.nan)


@renamed.arguments
def log_prob(
    field: Field,
    x: Sample,
    t: float | None = None,
    cond: Tensor | None = None,
    *,
    rng: SampleRng,
    prior: Prior | None = None,
    progress: Progress = silent,
    **solving: Unpack[Solving],
) -> LogProb:
    """Return log p_t(x) in nats by the probability flow from t to t_max.

    Args:
        field: any field; only its score's Jacobian products are asked for.
        x: noisy points on the scale of x_t, `(batch, *shape)`; NaN in unknown cells, if the field takes them.
        t: the time of the density, in [t_min, t_max); None for t_min.
        cond: conditioning, one row per example, or None.
        rng: one seed per example, for the probes; an example's answer does not depend on its batch.
        divergence: `Exact()` by default, or `Hutchinson(...)`.
        tolerance: of the solver, absolute and relative, in coordinates of unit size and in nats; 1e-5 by default.
        within: refuse answers that move by more nats than this when the tolerance is made ten times smaller, 0.1 by default;
            None for no check, which saves the looser solve.
        prior: `prior(x, t) -> (batch,)`, the log-density at t_max; None for N(alpha·mean, alpha²·std² + sigma²), whose error
            decreases like (data scale·alpha/sigma)².
        progress: called with the fraction of the way done.

    Returns:
        The `LogProb`.

    Raises:
        ScorefieldError: a time out of range or without noise, a batch that disagrees with its seeds, answers that depend on
            the tolerance.
        NotFinite: a field that cannot be followed.

    >>> from scorefield import VE, Gaussian
    >>> field = Gaussian([1.0, 0.0], [[2.0, 0.0], [0.0, 1.0]], VE(0.1, 1000.0))
    >>> x = torch.tensor([[0.5, -1.0]], dtype=torch.float64)
    >>> found = log_prob(field, x, rng=SampleRng([0]), tolerance=1e-7).value
    >>> bool((found - field.log_prob(x, torch.tensor([0.0]))).abs() < 1e-5)
    True
    """
    if x.shape != (len(rng), *field.shape):
        raise ScorefieldError(f"got points of shape {tuple(x.shape)}, expected {(len(rng), *field.shape)}: one seed per point")
    check_rows(len(x), cond=cond)
    solver, start = _Solver(**solving), field.process.t_min if t is None else t
    flow = _Flow(field, x, start, cond, solver.divergence or Exact(), rng)
    # the looser solve takes about 10^(-1/5) = 0.63 of the other's evaluations
    share = 0.0 if solver.within is None else 0.39
    loose = None if solver.within is None else flow.log_prob(10 * solver.tolerance, prior, portion(progress, 0.0, share))
    each, solution = flow.log_prob(solver.tolerance, prior, portion(progress, share, 1 - share))
    value, evaluations = each.mean(dim=1), solution.evaluations
    error = torch.full_like(value, torch.nan)
    if loose is not None and solver.within is not None:
        error, evaluations = (value - loose[0].mean(dim=1)).abs(), evaluations + loose[1].evaluations
        if not bool((error <= solver.within).all()):
            raise ScorefieldError(
                f"got log-densities that move by up to {float(error.max()):.2g} nats between tolerances "
                f"{10 * solver.tolerance:g} and {solver.tolerance:g}, expected at most {solver.within:g}: lower the tolerance "
                "(or raise `within`, in Python)"
            )
    return LogProb(value, _standard_error(each, flow.probes), error, evaluations, start, flow.smoothing)


@renamed.arguments
def data_log_prob(field: Field, x0: Sample, t: float | None = None, cond: Tensor | None = None, **how: object) -> LogProb:
    """Return the log-density at clean points x0 of data smoothed by noise: of x_t/alpha = x0 + (sigma/alpha)·noise.

    It is a normalised density on the scale of the data, for every t: log p_t(alpha·x0) + d·log alpha. Arguments and errors as
    in `log_prob`.
    """
    start = field.process.t_min if t is None else t
    alpha = float(field.process.alpha(torch.tensor(start, dtype=torch.float64)))
    found = log_prob(field, alpha * x0, t, cond, **how)  # type: ignore[arg-type]  # passed on as they are
    return replace(found, value=found.value + total((~x0.isnan()).to(found.value)) * math.log(alpha))
