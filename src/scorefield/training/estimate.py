"""What a training on this machine would do: the plan of a run, its numbers and what to expect of them.

steps in a budget    seconds / pace, or the number of steps where that is smaller
images               steps·batch                 epochs    images / examples
seconds of sampling  seconds of an evaluation·evaluations for a sample
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from scorefield.config import RunConfig, Training, to_dict
from scorefield.data import Dataset
from scorefield.data.doctor import Findings
from scorefield.data.planes import PICTURED
from scorefield.exact import Gaussian
from scorefield.levels import ladder_of
from scorefield.prediction import Energy
from scorefield.progress import Progress, silent
from scorefield.randomness import SampleRng
from scorefield.samplers import simulate
from scorefield.specs import SampleSpec
from scorefield.training import expectations as expect
from scorefield.training.pilot import Pilot, pilot, reach
from scorefield.training.reports import json_values
from scorefield.training.resolve import Resolved, model_of

COUNTED = 2_000  # steps of a sampler whose evaluations are counted


@dataclass(frozen=True)
class DataPlan:
    """What the data are, and what a training on this machine would do.

    Attributes:
        data: the data set, opened.
        findings: of the doctor.
        config: the run that would be trained.
        why: the reasons for its numbers.
        std: of the data in model space, around their mean.
        sigmas: noise levels of the run's own ladder, noisiest first.
        parameters: of the network, and of what the objective learns besides.
        reach: how far an output of a U-Net sees, along each axis; empty for vectors.
        pilot: what a few steps have shown.
        seconds: the budget, or None where only steps are given.
        steps, images: that the budget allows.
        sampling_seconds: to draw 64 samples with the run's own sampler.
        evaluations: of the network for a sample.
    """

    data: Dataset
    findings: Findings
    config: RunConfig
    why: tuple[str, ...]
    std: float
    sigmas: tuple[float, ...]
    parameters: int
    reach: tuple[int, ...]
    pilot: Pilot
    seconds: float | None
    steps: int
    images: int
    sampling_seconds: float
    evaluations: int

    @property
    def epochs(self) -> float:
        """How often each training example is seen, on average."""
        return self.images / len(self.data.train)

    @property
    def expectations(self) -> tuple[str, ...]:
        """What to expect, the gravest first, each with what to do about it."""
        return (
            *expect.memory(self.data, self.pilot),
            *expect.too_few(self.data),
            *expect.unvisited_levels(self.config),
            *expect.repetition(self.data, self.findings),
            *expect.enough_images(self.data, self.images, self.pilot),
            *expect.memorisation(self.data, self.epochs),
            *expect.novelty(self.findings),
            *expect.sampling_time(self.sampling_seconds, self.pilot),
            *expect.speed(self.pilot),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        data, tried = self.data, self.pilot
        values = {
            "data": {
                "name": data.name,
                "kind": data.kind,
                "shape": data.shape,
                "examples": len(data.train),
                "held_out": len(data.held_out),
                "classes": data.classes,
                "notes": data.notes,
                "normaliser": to_dict(data.normaliser),
                "fingerprint": data.fingerprint,
                "std": self.std,
            },
            "findings": asdict(self.findings),
            "config": to_dict(self.config),
            "why": self.why,
            "sigmas": self.sigmas,
            "parameters": self.parameters,
            "reach": self.reach,
            "pilot": {
                **asdict(tried),
                "images_per_second": tried.chosen.images_per_second,
                "memory": {**asdict(tried.memory), "total": tried.memory.total, "fits": tried.memory.fits},
            },
            "expected": {
                "seconds": self.seconds,
                "steps": self.steps,
                "images": self.images,
                "epochs": self.epochs,
                "sampling_seconds": self.sampling_seconds,
                "evaluations": self.evaluations,
                "sentences": self.expectations,
            },
        }
        found: dict[str, Any] = json_values(values)
        return found


def estimate(
    run: Resolved, findings: Findings, device: torch.device, *, seconds: float = 4.0, progress: Progress = silent
) -> DataPlan:
    """Say what a training of a run would do, after a few of its steps.

    Args:
        run: with its data.
        findings: of the doctor about the data.
        device: where to train.
        seconds: how long to measure, about.
        progress: called with the share done, 0 to 1, and a few words.

    Raises:
        ScorefieldError: the network needs too much memory, or its objective refuses it or the data.
        NotFinite: the first steps overflow in float32.
    """
    config, data = run.config, run.data
    model = model_of(config, data, run.stats, device)
    ladder = ladder_of(model, config.ladder or config.sampler.ladder, config.levels)
    spatial = data.kind in (*PICTURED, "signal") and not isinstance(config.parametrisation, Energy)  # an energy is one number
    seen = reach(model.network, data.shape) if spatial else ()
    tried = pilot(config, data, model, device, seconds=seconds, progress=progress)
    steps, evaluations = _steps(config.training, tried.chosen.seconds), _evaluations(config, ladder)
    return DataPlan(
        data=data,
        findings=findings,
        config=config,
        why=run.reasons,
        std=run.stats.std,
        sigmas=tuple(config.process.sigma(ladder).tolist()),
        parameters=sum(p.numel() for p in model.parameters()),
        reach=seen,
        pilot=tried,
        seconds=config.training.seconds,
        steps=steps,
        images=steps * config.training.batch,
        sampling_seconds=tried.evaluation * evaluations,
        evaluations=evaluations,
    )


def _steps(budget: Training, pace: float) -> int:
    """Return how many steps of `pace` seconds a budget allows."""
    by_time = int(budget.seconds / pace) if budget.seconds else None
    return min(count for count in (by_time, budget.steps) if count is not None)


def _evaluations(config: RunConfig, ladder: Tensor) -> int:
    """Return how often a sample asks the network, counted on a simple field, long ladders in part."""
    simple = Gaussian([0.0], [[1.0]], config.process)
    for snapshot in simulate(simple, config.sampler, ladder, rng=SampleRng([0])):
        if snapshot.step >= COUNTED:  # and as many in each of the steps to come
            break
    times = SampleSpec(autoguidance=config.autoguidance).times
    return times * round(snapshot.evaluations * snapshot.steps / max(snapshot.step, 1))
