"""Steps: does a network follow the noise level, or only some values of it?

A network that turns its time into a whole number before it embeds it has the same output, bit for bit, for all times between
two whole numbers, and jumps there. Nothing at whole times shows it; a sampler that visits others is given the field of another
noise level. So the label is moved in small steps over a unit, with the network's input left as it is:

    share of the steps in which no number of the output changes     0 of a smooth embedding; near 1 of one that is cut
"""

from __future__ import annotations

import torch
from torch import Tensor

from scorefield.field import ScoreModel
from scorefield.noise_label import noise_label_of
from scorefield.shapes import Sample, flat
from scorefield.verification.readings import scaled_input

STEPS = 16
PLACES = 4


def steps_of(model: ScoreModel, x0: Sample, noise: Sample, cond: Tensor | None, ratios: Tensor) -> str | None:
    """Return what is wrong with how a network follows its label, in words; None if nothing is, or if it has no real label.

    Args:
        model: the network with what it claims.
        x0, noise, cond: a single example.
        ratios: sigma/alpha of the levels that are looked at, descending.
    """
    kind, process = model.parametrisation.noise_label, model.process
    if isinstance(kind, int) or kind == "none" or process.t_max == process.t_min:
        return None
    times = process.time_of_sigma(ratios)
    ends = noise_label_of(kind, process, torch.stack([times[0], times[-1]]))
    low, high = float(ends.min()), float(ends.max())
    if not high > low:
        return None
    still = moved = 0
    whole = _changes(model, x0, noise, cond, times[len(times) // 2 :][:1], torch.linspace(low, high, 33, dtype=torch.float64))
    if not any(whole):
        return (
            "the network ignores its noise label, although its parametrisation has one: its output is the same for all of them"
        )
    for t in times[:: max(1, len(times) // PLACES)]:
        here = float(noise_label_of(kind, process, t[None])[0])
        span = min(1.0, (high - low) / 4)
        begin = min(max(here - span / 2, low), high - span)
        walk = torch.linspace(begin, begin + span, STEPS + 1, dtype=torch.float64)
        changes = _changes(model, x0, noise, cond, t[None], walk)
        moved, still = moved + sum(changes), still + len(changes) - sum(changes)
    if still > 0.5 * (still + moved):
        return (
            f"the network's {'time' if kind == 't' else 'noise label'} is cut to some values: of {still + moved} small changes "
            f"of it {still} change nothing, and the others are jumps: give it real numbers, or sample at whole times"
        )
    return None


def _changes(model: ScoreModel, x0: Sample, noise: Sample, cond: Tensor | None, t: Tensor, labels: Tensor) -> list[bool]:
    """Return whether the output changes from each label to the next, at one input."""
    x = scaled_input(model, model.process.perturb(x0, t, noise), t).expand(len(labels), *x0.shape[1:])
    dtype = next((p.dtype for p in model.network.parameters() if p.is_floating_point()), x.dtype)
    with torch.no_grad():
        y = model.network(x.to(dtype), labels.to(x.device, dtype), None if cond is None else cond.expand(len(labels)))
    return (flat(y).diff(dim=0).abs().amax(dim=1) > 0).tolist()
