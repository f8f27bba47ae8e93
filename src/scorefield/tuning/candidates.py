"""Candidates: what can be tried to sample a run, each a sampler, a ladder and a number of evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scorefield import registry, renamed
from scorefield.drawing import OPTIMISED, Drawing, choose_sampler
from scorefield.errors import ScorefieldError
from scorefield.progress import Progress
from scorefield.runs import Run
from scorefield.samplers import Sampler
from scorefield.specs import SampleSpec
from scorefield.verification.bench import within_evaluations

ALIKE = 1e-3  # of the data's standard deviation: samples nearer than this are the same
Wanted = tuple[str, int, str | None]  # name of the sampler, steps, ladder


def named(sampler: str, ladder: str | None) -> str:
    """Return the name of a sampler on a ladder; None for the ladder that suits it.

    >>> named("abm", None), named("abm", "optimised")
    ('abm', 'abm (optimised ladder)')
    """
    return f"{sampler} ({ladder} ladder)" if ladder else sampler


@dataclass(frozen=True, eq=False)
class Candidate:
    """A way of sampling a run.

    Attributes:
        name, steps, ladder: as in `SampleSpec`.
        sampler, times: what these give on the run.
        recipe: whether it is the recipe's.
    """

    name: str
    steps: int
    ladder: str | None
    sampler: Sampler
    times: Tensor
    recipe: bool

    @property
    def label(self) -> str:
        """Sampler, ladder and number of levels."""
        return f"{named(self.name, self.ladder)}, {len(self.times)} levels"

    @property
    def work(self) -> int:
        """Evaluations for one sample, as far as they are declared."""
        return len(self.times) * self.sampler.steps_per_level * (self.sampler.evaluations_per_step or 1)


def candidates_of(
    run: Run,
    names: Sequence[str] | None,
    budgets: Sequence[int],
    device: torch.device,
    left_out: dict[str, str],
    progress: Progress,
) -> list[Candidate]:
    """Return every candidate; what cannot be tried goes to `left_out` with the reason.

    Args:
        run: an opened run.
        names: registered samplers; None for those that jump in a declared number of evaluations and differ.
        budgets: numbers of evaluations for one sample, at most.
        device: where samples are drawn.
        left_out: name -> reason; added to.
        progress: called with the fraction done and words.
    """
    recipe, kinds = registry.name_of("sampler", run.config.sampler), registry.every("sampler")
    tried = kinds if names is None else [renamed.component("sampler", name)[1] for name in names]
    samplers = {name: run.config.sampler if name == recipe else kinds[name]() for name in tried}
    if not names:
        samplers = {name: sampler for name, sampler in samplers.items() if _suits(sampler)}
        samplers = {name: samplers[name] for name in _different(run, samplers, min(budgets), device, left_out)}
    wanted = _wanted(run, samplers, recipe, budgets)
    found, optimised = dict[tuple[str, tuple[float, ...]], Candidate](), dict[int, Tensor]()
    for i, (name, steps, ladder) in enumerate(wanted):
        progress(i / len(wanted), f"choosing levels of {named(name, ladder)}")
        try:
            if ladder != OPTIMISED:
                sampler, times = choose_sampler(run, SampleSpec(name, steps, ladder), device)
            else:
                sampler, count = samplers[name].within(steps)
                if count not in optimised:  # one for all samplers: it is made for the run
                    optimised[count] = choose_sampler(run, SampleSpec(name, steps, ladder), device)[1].cpu()
                times = optimised[count]
        except ScorefieldError as error:
            left_out[f"{named(name, ladder)}, {steps} steps"] = str(error)
            continue
        own = ladder is None and name == recipe and len(times) == run.config.levels
        found.setdefault((name, tuple(times.tolist())), Candidate(name, steps, ladder, sampler, times, own))
    return list(found.values())


def _suits(sampler: Sampler) -> bool:
    """Whether a sampler goes down a ladder in declared evaluations: it does not dwell on levels or choose its own steps."""
    return not sampler.dwells and sampler.evaluations_per_step is not None


def _different(run: Run, samplers: dict[str, Sampler], steps: int, device: torch.device, left_out: dict[str, str]) -> list[str]:
    """Return the names of samplers that differ in two samples; of equal ones the recipe's own stays, or the first by name."""
    recipe, drawn = registry.name_of("sampler", run.config.sampler), dict[str, Tensor]()
    for name in sorted(samplers, key=lambda name: (name != recipe, name)):
        try:
            x = Drawing.of(run, SampleSpec(name, steps), device).draw(2)
        except ScorefieldError:  # it is reported where it is tried
            drawn[name] = torch.tensor(torch.nan)
            continue
        for other, theirs in drawn.items():
            if float((x - theirs).square().mean().sqrt()) < ALIKE * run.field.data_std:
                left_out[name] = f"its samples are those of {other}"
                break
        else:
            drawn[name] = x
    return sorted(drawn)


def _wanted(run: Run, samplers: dict[str, Sampler], recipe: str, budgets: Sequence[int]) -> list[Wanted]:
    """Return every sampler at every budget, multistep ones on an optimised ladder too, and the recipe's own."""
    wanted = list[Wanted]()
    for name, sampler in samplers.items():
        counts = []
        for budget in budgets:
            chosen, levels = within_evaluations(sampler, budget)
            counts.append(levels * chosen.steps_per_level)
        wanted += [(name, count, None) for count in counts]
        if sampler.remembers and sampler.evaluations_per_step == 1:  # optimised ladders are made for this kind
            wanted += [(name, count, OPTIMISED) for count in counts]
    if recipe in samplers and _suits(samplers[recipe]):
        wanted.append((recipe, run.config.levels * run.config.sampler.steps_per_level, None))
    return list(dict.fromkeys(wanted))
