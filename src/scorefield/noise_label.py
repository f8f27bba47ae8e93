"""The noise label: the number about the noise that a network is conditioned on.

    log-sigma   ln(sigma/alpha)     one percent more noise is the same step on every process
    sigma       sigma/alpha         for a process on which it changes slowly with the noise
    t           the time            likewise
    log-snr     2·ln(alpha/sigma)   the log-signal-to-noise ratio of variational diffusion models
    c-noise     ln(sigma/alpha)/4   EDM's
    alpha-bar   alpha²              the share of the signal, for a process with alpha² + sigma² = 1
    step        t - 1               the steps n = 1..T of a chain counted from 0, as DDPM's networks are given them
    none        0                   the network is not conditioned on the noise
    L           0..L-1              the index of the nearest of L levels, 0 for the noisiest

A network turns the label into sines and cosines (`nets/embeddings.py`), so it can follow a label only where neighbouring noise
levels have similar features. `check_noise_label` refuses labels that change too fast, and `unvisited` finds noise levels whose
features no training visits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field as Bound
from torch import Tensor

from scorefield.errors import ScorefieldError
from scorefield.process import Process
from scorefield.shapes import PerSample

Name = Literal["log-sigma", "t", "sigma", "log-snr", "c-noise", "alpha-bar", "step", "none"]
Label = Name | Annotated[int, Bound(ge=2)]
FINEST = (
    1 / 16
)  # the most that a label may change while the noise grows by one percent: half the shortest period of an embedding
REACH = 0.2  # difference of labels up to which their features are similar enough: that of DDPM's first two steps is 0.39


_Number = Callable[[Process, PerSample], PerSample]
_LABELS: dict[str, _Number] = {
    "log-sigma": lambda process, t: -0.5 * process.log_snr(t),
    "sigma": lambda process, t: (-0.5 * process.log_snr(t)).exp(),
    "t": lambda process, t: t,
    "log-snr": lambda process, t: process.log_snr(t),
    "c-noise": lambda process, t: -0.125 * process.log_snr(t),
    "alpha-bar": lambda process, t: process.alpha(t) ** 2,
    "step": lambda process, t: t - 1,
    "none": lambda process, t: torch.zeros_like(t),
}


def noise_label_of(kind: Label, process: Process, t: PerSample) -> PerSample:
    """Return the noise label of each sample, `(batch,)`.

    Args:
        kind: one of the names above, of which a network that is trained can follow those that change slowly with the noise
            (`check_noise_label`); or a number L for the index 0..L-1 of the nearest of the L levels of the process's geometric
            ladder (0 is the noisiest).
        process: how the data are noised.
        t: times, `(batch,)`.
    """
    if isinstance(kind, int):
        return nearest_level(kind, process, t)[0]
    return _LABELS[kind](process, t)


def nearest_level(levels: int, process: Process, t: PerSample) -> tuple[PerSample, PerSample]:
    """Return the index of the nearest level of a process's geometric ladder, 0 for the noisiest, and its time, each `(batch,)`.

    >>> from scorefield import VE
    >>> nearest_level(3, VE(0.01, 1.0), torch.tensor([1.0, 0.6, 0.5]))
    (tensor([0., 1., 1.]), tensor([1.0000, 0.5000, 0.5000]))
    """
    ends = torch.tensor([process.t_min, process.t_max], dtype=t.dtype, device=t.device)
    low, high = (-0.5 * process.log_snr(ends)).unbind()
    index = ((high + 0.5 * process.log_snr(t)) / (high - low) * (levels - 1)).round()
    return index, process.time_of_sigma((high + index / (levels - 1) * (low - high)).exp()).to(t.dtype)


def check_noise_label(kind: Label, process: Process) -> None:
    """Refuse a label that changes too fast with the noise for the features of a network.

    DDPM's raw time t = 1..1000 is such a label: one percent more noise changes it by one or two, so that neighbouring steps
    have unrelated features, and so has a time between two steps, which training does not visit.

    Raises:
        ScorefieldError: one percent more noise moves the label by more than `FINEST`.

    >>> from scorefield import DDPMChain
    >>> check_noise_label("log-sigma", DDPMChain())
    >>> check_noise_label("t", DDPMChain())  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    scorefield.errors.ScorefieldError: got the noise label 't', which changes by 2 where the noise grows by one percent, ...
    """
    if not isinstance(kind, str) or process.t_max == process.t_min:
        return
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = (-0.5 * process.log_snr(ends)).tolist()
    ratios = torch.linspace(low, high, 2 + math.ceil((high - low) / math.log(1.01)), dtype=torch.float64).exp()
    change = float(noise_label_of(kind, process, process.time_of_sigma(ratios)).diff().abs().max())
    if change > FINEST:
        raise ScorefieldError(
            f"got the noise label {kind!r}, which changes by {change:.2g} where the noise grows by one percent, expected at "
            f"most {FINEST:g}, which a network can follow: set parametrisation.noise_label=log-sigma"
        )


def check_levels(levels: int | None, kind: Label, process: Process) -> None:
    """Refuse a network with a table of noise levels for a label that leaves the table.

    Args:
        levels: rows of the table, which takes the labels 0, 1, ..., levels - 1; None for a network without one.
        kind: the noise label.
        process: how the data are noised.

    Raises:
        ScorefieldError: the label of some time of the process has no row.

    >>> from scorefield import VE
    >>> check_levels(10, 10, VE(0.01, 1.0))
    >>> check_levels(10, "log-sigma", VE(0.01, 1.0))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    scorefield.errors.ScorefieldError: got network.levels=10 for the noise label 'log-sigma', which goes from -4.61 to 0, ...
    """
    if levels is None:
        return
    ends = torch.tensor([process.t_max, process.t_min], dtype=torch.float64)
    labels = noise_label_of(kind, process, ends).nan_to_num(nan=0.0, neginf=0.0, posinf=torch.inf)  # as a model does
    low, high = float(labels.min()) + 0.0, float(labels.max()) + 0.0  # 0 and not -0
    if not (low > -0.5 and high < levels - 0.5):
        other = kind if isinstance(kind, int) else f"none, or parametrisation.noise_label={levels}"
        raise ScorefieldError(
            f"got network.levels={levels} for the noise label {kind!r}, which goes from {low:.3g} to {high:.3g}, expected "
            f"whole numbers from 0 to {levels - 1}: set network.levels={other}"
        )


def unvisited(kind: Label, process: Process, times: Tensor | None) -> float:
    """Return the largest factor between a noise level of the process and the nearest level that training visits.

    It is 1 where training visits a continuum (times is None), or so many levels that neighbouring ones have similar features,
    and for labels that do not change between levels: "none", or the index of a level.

    >>> from scorefield import VE, geometric
    >>> round(unvisited("log-sigma", VE(0.01, 1.0), geometric(VE(0.01, 1.0), 3)), 1)  # levels 1, 0.1 and 0.01
    3.2
    """
    if times is None or not isinstance(kind, str) or kind == "none" or process.t_max == process.t_min:
        return 1.0
    ends = torch.tensor([process.t_min, process.t_max], dtype=torch.float64)
    low, high = (-0.5 * process.log_snr(ends)).tolist()
    levels = torch.linspace(low, high, 1000, dtype=torch.float64)
    visited = -0.5 * process.log_snr(times.double())
    labels = [noise_label_of(kind, process, process.time_of_sigma(level.exp())) for level in (levels, visited)]
    missed = (labels[0][:, None] - labels[1]).abs().amin(dim=1) > REACH
    return float((levels[:, None] - visited).abs().amin(dim=1)[missed].exp().max()) if bool(missed.any()) else 1.0
