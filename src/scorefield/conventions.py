"""Conventions: one noise level, and one prediction, in the letters of every paper.

A noise level is a pair (alpha, sigma) of x_t = alpha·x0 + sigma·noise. Papers write it as one number, and each number that
changes with t says all the others:

    t         alpha        sigma        sigma/alpha      log-SNR = 2·log(alpha/sigma)       alpha-bar = alpha²      timestep
    SDE       EDM's s      std          EDM's sigma      variational diffusion, logSNR      DDPM                    n - 1

All of them rise or fall with t, so a time is found by bisection of the one that is given (`time_of`).

A prediction is y = a·x0 + c·score. With the pairs (a, c) below any view gives all the others (`prediction_of`):

    score (0, 1)      noise (0, -sigma)      denoised (1, 0)      v (-sigma, -alpha·sigma)      flow = noise - x0 (-1, -sigma)
    velocity = dx/dt of the probability flow (alpha', -sigma·sigma')                            energy gradient (0, -1)

References: Song et al. (2021), arXiv 2011.13456. Ho, Jain, Abbeel (2020), arXiv 2006.11239. Kingma, Salimans, Poole, Ho (2021),
"Variational diffusion models", arXiv 2107.00630. Karras et al. (2022), arXiv 2206.00364. Song, Ermon (2019), arXiv 1907.05600.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as with_text
from typing import Any

import torch
from torch import Tensor

from scorefield.errors import ScorefieldError, unknown
from scorefield.noise_label import noise_label_of
from scorefield.objectives.weightings import EDMWeight, Likelihood, MinSNR, SigmaSquared, Unweighted
from scorefield.prediction import EDM, Prediction, V, Velocity
from scorefield.process import DDPMChain, Process
from scorefield.shapes import PerSample, Sample, over

NCSN = 0.01  # the lowest level of the published NCSN, of which its step_lr is
STEP = 0.2  # tau/sigma² of the published annealed Langevin dynamics: step_lr/sigma_min² = 2e-5/0.01²

_LEVELS: dict[str, Callable[[Process, Tensor], Tensor]] = {
    "t": lambda process, t: t,
    "sigma": lambda process, t: process.sigma(t),
    "ratio": lambda process, t: process.sigma(t) / process.alpha(t),
    "alpha": lambda process, t: process.alpha(t),
    "log_snr": lambda process, t: process.log_snr(t),
    "alpha_bar": lambda process, t: process.alpha(t) ** 2,
}
_Pair = Callable[[Process, PerSample], tuple[PerSample, PerSample]]
_PAIRS: dict[str, _Pair] = {
    "score": lambda process, t: (torch.zeros_like(t), torch.ones_like(t)),
    "noise": lambda process, t: (torch.zeros_like(t), -process.sigma(t)),
    "denoised": lambda process, t: (torch.ones_like(t), torch.zeros_like(t)),
    "v": lambda process, t: V().pair(process.alpha(t), process.sigma(t)),
    "flow": lambda process, t: Velocity().pair(process.alpha(t), process.sigma(t)),
    "velocity": lambda process, t: (process.rates(t)[0], -process.sigma(t) * process.rates(t)[1]),
    "energy_gradient": lambda process, t: (torch.zeros_like(t), -torch.ones_like(t)),
}
LEVELS, VIEWS = (*_LEVELS, "timestep"), tuple(_PAIRS)


def _text(text: str) -> Any:
    """Return a field with what it is, and where else it is so called: the command prints it beside the number."""
    return with_text(metadata={"text": text})


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level in every convention; each field holds its own text as metadata."""

    t: float = _text("time of this process")
    alpha: float = _text("signal scale; DDPM's sqrt(alpha-bar), EDM's s")
    sigma: float = _text("noise std in x_t; DDPM's sqrt(1 - alpha-bar)")
    ratio: float = _text("sigma/alpha; the sigma of EDM and k-diffusion")
    snr: float = _text("alpha²/sigma²")
    log_snr: float = _text("2·log(alpha/sigma); twice the lambda of DPM-Solver")
    alpha_bar: float = _text("alpha²; alphas_cumprod of diffusers")
    timestep: float | None = _text("n - 1, as diffusers counts; else DDPM's at this ratio")
    beta: float = _text("-2·f; of a chain beta_n, the variance step n adds")
    f: float = _text("drift, dx = f·x dt + g dw")
    g: float = _text("diffusion")
    g2: float = _text("g² = dsigma²/dt - 2·f·sigma²")


@dataclass(frozen=True)
class Preconditioning:
    """EDM's coefficients, D = c_skip·z + c_out·F(c_in·z; c_noise) of z = x/alpha, as its code has them for sigma/alpha."""

    data_std: float = _text("sigma_data")
    c_skip: float = _text("sd²/(s² + sd²), s = sigma/alpha")
    c_out: float = _text("s·sd/sqrt(s² + sd²)")
    c_in: float = _text("1/sqrt(s² + sd²)")
    c_noise: float = _text("log(s)/4")


@dataclass(frozen=True)
class Weight:
    """One weighting on the squared error of each view, w_noise = lambda/sigma², w_denoised = lambda·alpha²/sigma⁴."""

    score: float
    noise: float
    denoised: float


@dataclass(frozen=True)
class LangevinStep:
    """One Langevin step in both conventions, x <- x + tau·score + sqrt(2·tau)·z = x + eps/2·score + sqrt(eps)·z."""

    tau: float = _text("x + tau·score + sqrt(2·tau)·z, as NCSN's code")
    eps: float = _text("x + eps/2·score + sqrt(eps)·z, as NCSN's text")
    noise_std: float = _text("sqrt(2·tau) = sqrt(eps)")
    by_noise: float = _text("-tau/sigma, the factor on a predicted noise")
    step_lr: float = _text("tau·0.01²/sigma², NCSN's for its lowest level 0.01")


@dataclass(frozen=True)
class Views:
    """One prediction at x_t in every convention."""

    x: float = _text("x_t")
    z: float = _text("x/alpha, with noise of level sigma/alpha; EDM's x")
    score: float = _text("gradient of log p_t at x_t")
    noise: float = _text("-sigma·score; DDPM's epsilon, k-diffusion's d")
    denoised: float = _text("(x + sigma²·score)/alpha; EDM's D, predicted x0")
    v: float = _text("alpha·noise - sigma·denoised; v_prediction")
    flow: float = _text("noise - denoised; flow matching with noise at t = 1")
    velocity: float = _text("dx/dt of the probability flow, f·x - g²·score/2")
    energy_gradient: float = _text("-score")
    edm_output: float = _text("F, the raw output of EDM's network")


def _at(process: Process, value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def _chain(process: Process) -> Process:
    """Return the chain whose steps are counted: the process itself if it is one, else DDPM's."""
    return process if process.discrete else DDPMChain()


def time_of(process: Process, quantity: str, value: float) -> float:
    """Return the time at which a process has a noise level that is given by one number.

    Args:
        process: how data are noised.
        quantity: one of `LEVELS`: t, sigma, ratio (sigma/alpha), alpha, log_snr, alpha_bar or timestep (n - 1, of DDPM's chain
            if the process is none).
        value: of it.

    Raises:
        ScorefieldError: an unknown quantity, one that is the same at every t, or a value outside the range of the process.

    >>> from scorefield import VE, VP
    >>> round(time_of(VE(0.01, 10.0), "sigma", 1.0), 4), round(time_of(VP(), "alpha_bar", 0.5), 4)
    (0.6667, 0.259)
    """
    if quantity not in LEVELS:
        raise unknown("quantity of a noise level", quantity, LEVELS)
    got = f"got {quantity} = {value:g}"
    if quantity == "timestep":
        chain = _chain(process)
        if not 0 <= value <= chain.t_max - 1:
            raise ScorefieldError(f"{got}, expected 0 to {chain.t_max - 1:g}, the steps of {chain} from 0: correct it")
        if process.discrete:
            return value + 1
        quantity, value = "ratio", float(_LEVELS["ratio"](chain, _at(chain, value + 1)))
        got = f"{got}, where sigma/alpha is {value:.4g},"
    function = _LEVELS[quantity]
    low, high = process.t_min, process.t_max
    first, last = (float(function(process, _at(process, end))) for end in (low, high))
    slack = 1e-12 * max(abs(first), abs(last)) if math.isfinite(first + last) else 0.0
    if not min(first, last) - slack <= value <= max(first, last) + slack:
        raise ScorefieldError(
            f"{got} on {process}, expected {min(first, last):.6g} to {max(first, last):.6g}: correct it, or the process"
        )
    if first == last and low < high:
        raise ScorefieldError(f"{got} on {process}, which is so at every time, expected a number that says which: give sigma")
    for end, there in ((low, first), (high, last)):
        if value == there:
            return end
    rises = last > first
    while low < (middle := (low + high) / 2) < high:
        below = (float(function(process, _at(process, middle))) < value) == rises
        low, high = (middle, high) if below else (low, middle)
    return high


def level_of(process: Process, t: float) -> NoiseLevel:
    """Return one noise level in every convention.

    Of a chain at a whole time n, drift and diffusion are those from n on, and beta is that of the step n itself.

    >>> from scorefield import VP
    >>> level = level_of(VP(), 0.5)
    >>> round(level.beta, 6), round(level.alpha_bar + level.sigma**2, 6), round(level.timestep)
    (10.05, 1.0, 498)
    """
    time, chain = _at(process, t), _chain(process)
    alpha, sigma, ratio = (float(_LEVELS[name](process, time)) for name in ("alpha", "sigma", "ratio"))
    f, g = float(process.drift(time)), float(process.diffusion(time))
    ends = [float(_LEVELS["ratio"](chain, _at(chain, end))) for end in (chain.t_min, chain.t_max)]
    timestep = t if process.discrete else float(chain.time_of_sigma(_at(chain, ratio)))
    beta = 1 - float(process.transition(time, time - 1)[0]) ** 2 if process.discrete else -2 * f + 0.0
    return NoiseLevel(
        t=t,
        alpha=alpha,
        sigma=sigma,
        ratio=ratio,
        snr=(alpha / sigma) ** 2 if sigma else math.inf,
        log_snr=float(process.log_snr(time)),
        alpha_bar=alpha**2,
        timestep=timestep - 1 if process.discrete or ends[0] <= ratio <= ends[1] else None,
        beta=beta,
        f=f + 0.0,
        g=g,
        g2=g**2,
    )


def preconditioning_of(process: Process, t: float, data_std: float = 0.5) -> Preconditioning:
    """Return EDM's coefficients at a time, from what the parametrisation `edm` says of its output."""
    time, edm = _at(process, t), EDM(data_std=data_std)
    alpha, sigma = process.alpha(time), process.sigma(time)
    a, c = edm.pair(alpha, sigma)
    det = alpha * c + sigma**2 * a
    c_skip, c_out, c_in = alpha * c / det, sigma**2 / det, alpha * edm.input_scale(alpha, sigma)
    c_noise = noise_label_of("c-noise", process, time)
    return Preconditioning(data_std, *(float(value) + 0.0 for value in (c_skip, c_out, c_in, c_noise)))  # no -0


def weights_of(process: Process, t: float, data_std: float = 0.5) -> dict[str, Weight]:
    """Return the usual weightings at a time by their names, each on the squared error of every view."""
    time = _at(process, t)
    alpha, sigma = float(process.alpha(time)), float(process.sigma(time))
    known = {
        "sigma2": SigmaSquared(),
        "uniform": Unweighted(),
        "edm": EDMWeight(data_std=data_std),
        "min-snr": MinSNR(),
        "likelihood": Likelihood(),
    }
    per_noise, per_denoised = (1 / sigma**2, alpha**2 / sigma**4) if sigma else (math.inf, math.inf)
    on_score = {name: float(weighting(process, time)) for name, weighting in known.items()}
    return {name: Weight(value, value * per_noise, value * per_denoised) for name, value in on_score.items()}


def langevin_of(process: Process, t: float, tau: float | None = None) -> LangevinStep:
    """Return a Langevin step in both conventions; None for the published length, 0.2·sigma²."""
    sigma = float(process.sigma(_at(process, t)))
    tau = STEP * sigma**2 if tau is None else tau
    by_noise, step_lr = (-tau / sigma, tau * (NCSN / sigma) ** 2) if sigma else (math.nan, math.nan)
    return LangevinStep(tau, 2 * tau, math.sqrt(2 * tau), by_noise, step_lr)


def prediction_of(process: Process, x: Sample, t: PerSample, view: str, value: Sample) -> Prediction:
    """Return a prediction of which one view is known.

    Args:
        process: how data are noised.
        x: noisy samples, `(batch, *shape)`.
        t: their times, `(batch,)`.
        view: which view, one of `VIEWS`.
        value: of the view, the shape of `x`.

    Raises:
        ScorefieldError: an unknown view, or one that repeats x_t at this time.

    >>> from scorefield import VE
    >>> x, t, noise = torch.tensor([[3.0]]), torch.tensor([1.0]), torch.tensor([[0.25]])
    >>> prediction_of(VE(0.1, 4.0), x, t, "noise", noise).denoised
    tensor([[2.]])
    """
    if view not in _PAIRS:
        raise unknown("view of a prediction", view, VIEWS)
    seen = Prediction(process, x, t, value, *_PAIRS[view](process, t))
    try:
        return seen.check()
    except ScorefieldError:
        raise ScorefieldError(
            f"got the view {view} at sigma = {float(seen.sigma.min()):g} of {process}, where it does not say the score, "
            "expected one that does: give score, or a level with noise"
        ) from None


def views_of(process: Process, t: float, x: float, view: str, value: float, data_std: float = 0.5) -> Views:
    """Return every view of a prediction at one number x, of which one is known; arguments as of `prediction_of`.

    >>> from scorefield import RectifiedFlow
    >>> views = views_of(RectifiedFlow(), 0.5, x=1.0, view="velocity", value=0.5)
    >>> views.denoised, views.noise
    (0.75, 1.25)
    """
    time, point = _at(process, t), _at(process, x)
    seen = prediction_of(process, point, time, view, _at(process, value))
    score, denoised = seen.score, seen.denoised
    pairs = {name: pair(process, time) for name, pair in _PAIRS.items()} | {
        "edm_output": EDM(data_std=data_std).pair(seen.alpha, seen.sigma)
    }
    mixed = {name: float(over(a, point) * denoised + over(c, point) * score) + 0.0 for name, (a, c) in pairs.items()}
    return Views(x=x, z=x / float(seen.alpha), **{**mixed, view: value})
