"""What samples are drawn from: a run's generator, or its field, with guidance, clipped and at a temperature.

    s                              the run's score: what likelihood, denoising, restoration and all else ask, always
    s + (g - 1)·(s - s_early)      autoguidance: what samples of many images are drawn from, g = 1.5 by the recipe `auto`

Autoguidance makes samples better, not the score. Of MNIST and CIFAR-10 after minutes of training it lowers the Frechet distance
to a half, with a higher coverage, no lower recall and a lower precision (results/time-to-quality-search.md); the multiple of
s - s_early that lowers the error of held-out denoised images most is nearly 0. So these samples are not of the density that
`likelihood` measures; `--autoguidance 1` draws from that. Few images, which are seen many times, gain nothing and are drawn
nearer to training examples: they have none.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from scorefield.devices import CPU
from scorefield.errors import ScorefieldError
from scorefield.field import Field
from scorefield.guidance import Autoguidance, ClassifierFree, Clipped, Tempered
from scorefield.guidance.extrapolation import check_guidance
from scorefield.runs import Run
from scorefield.specs import SampleSpec

PLAIN = SampleSpec()


def as_drawn(run: Run, spec: SampleSpec = PLAIN) -> SampleSpec:
    """Return how samples are drawn from a run: clipped as it says, with its own autoguidance where nothing else is asked for.

    A generator has neither, and a run without early weights has no autoguidance.
    """
    generates = run.evaluations is not None and spec.sampler is None
    if spec.clip_denoised is None:
        spec = replace(spec, clip_denoised="yes" if run.config.clipped and not generates else "no")
    if spec.autoguidance is not None:
        return spec
    changed = spec.temperature != 1 or spec.guidance != 1
    without = generates or not (run.path / "early.safetensors").is_file()
    return replace(spec, autoguidance=1.0 if changed or without else run.config.autoguidance)


def field_of(run: Run, device: torch.device = CPU, spec: SampleSpec = PLAIN) -> Field:
    """Return a run's field on a device, guided, clipped and at a temperature as a spec asks for; by default as it was learned.

    Raises:
        ScorefieldError: guidance out of range, or of a run that has no classes, no field without them, no early weights;
            clipping of data without bounds; any of them of a generator.
    """
    if run.evaluations is not None and spec.sampler is None:
        if not spec.as_it_is:
            raise ScorefieldError(
                f"got guidance, clipping or a temperature for {run.path}, whose generator has no score to change, expected "
                "none: leave it out, or name a sampler, such as --sampler abm, which draws from the run's own score"
            )
        return run.generator.to(device)
    field: Field = run.field.to(device)
    away = 1.0 if spec.autoguidance is None else spec.autoguidance
    for strength in (spec.guidance, away):
        check_guidance(strength, spec.guidance_interval)
    if spec.guidance_interval is not None and spec.guidance == away == 1:
        raise ScorefieldError(
            "got --guidance-interval without guidance, expected some inside it: add --guidance 2, or leave it out"
        )
    if spec.guidance != 1 and not run.classes:
        raise ScorefieldError(
            f"got --guidance {spec.guidance:g} for {run.path}, which was trained without classes, expected none: leave it out, "
            "try --autoguidance, or train on labelled data with training.labels above 0"
        )
    if away != 1:
        field = Autoguidance(field, run.early_field.to(device), away, spec.guidance_interval)
    if spec.guidance != 1:
        if run.config.training.labels == 1:
            raise ScorefieldError(
                f"got --guidance {spec.guidance:g} for {run.path}, which was trained with the class of every example "
                "(training.labels=1), expected one that was also trained without classes: train with training.labels=0.9"
            )
        field = ClassifierFree(field, spec.guidance, spec.guidance_interval)
    if spec.clip_denoised == "yes":
        field = Clipped(field, *_bounds(run))
    return field if spec.temperature == 1 else Tempered(field, spec.temperature)


def _bounds(run: Run) -> tuple[Tensor, Tensor]:
    """Return the ends of the legal range in model space, each of the shape of a sample."""
    low, high = run.normaliser.low, run.normaliser.high
    if low is None or high is None:
        raise ScorefieldError(
            f"got --clip-denoised yes for {run.path}, whose data have no legal range, expected one: leave it out, or train "
            "with --set data.range=LOW,HIGH"
        )
    ends = torch.tensor([low, high], dtype=torch.float64).reshape(2, *[1] * len(run.shape)).expand(2, *run.shape)
    one, other = run.normaliser.encode(ends)
    return one, other
