"""The running check on examples that training never sees, with noise that never changes, and its warnings of over-fitting.

Fixed noise makes two checks comparable example by example: of the differences d_i between the losses now and the best ones so
far, mean(d) / (std(d)/sqrt(n)) is how many standard errors the loss rose, however noisy each is.

A data set has one field that fits it best of all, that of its own points (`GaussianMixture.empirical`), and sampling from that
returns the training examples. How far a model went from learning to memorising is, with the losses of the model on examples
unseen and seen, and of that optimum on the seen ones,

    memorised = (unseen - seen)/(unseen - optimum)        0: both alike       1: memorised
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from scorefield.data import Dataset
from scorefield.exact import GaussianMixture
from scorefield.field import Field, ScoreModel
from scorefield.levels import Levels
from scorefield.objectives.base import Objective
from scorefield.objectives.denoising import Denoising
from scorefield.process import Process
from scorefield.randomness import SampleRng, stream_of, subsample

HELD_OUT = 512  # examples, each with the same noise every time
FEW, NUMBERS = 32, 2**23  # of volumes fewer, for the network sees all at once: so many numbers, but at least so many volumes
PLAIN = 256  # examples of each part in the check of what is memorised
AFFORDABLE = 5_000_000  # numbers in the training set, above which the memorising optimum costs too much
CLEAR = 5.0  # standard errors that are not by chance


class HeldOut:
    """The check of one run, the best held-out losses so far, and the warnings that were given."""

    def __init__(
        self, data: Dataset, objective: Objective, process: Process, seed: int, device: torch.device, labelled: bool = False
    ) -> None:
        """Choose the examples at random, since images in class folders come sorted by class; `labelled`: with their labels."""
        self._mirror = "data.flip, " if data.kind == "image" else ""
        self.data, self.objective, self.process, self.seed, self.device = data, objective, process, seed, device
        most = max(FEW, NUMBERS // math.prod(data.shape)) if data.kind == "volume" else HELD_OUT
        rows = subsample(len(data.held_out), min(HELD_OUT, most))
        self.examples = data.normaliser.encode(data.held_out[rows]).to(device)
        self.labels = data.held_out_labels[rows].to(device) if labelled and data.held_out_labels is not None else None
        self.best, self.best_step, self.best_training = torch.zeros(0, dtype=torch.float64), 0, math.nan
        self.said: list[str] = []
        self._seen: Tensor | None = None
        self._seen_labels: Tensor | None = None
        self._optimum = torch.zeros(0)

    def _losses(self, objective: Objective, field: Field, examples: Tensor, labels: Tensor | None = None) -> Tensor:
        rng = SampleRng(range(len(examples)), stream=stream_of("held out", self.seed), device=self.device)
        learned = field.learned if isinstance(field, ScoreModel) else None
        return objective(field, examples, labels, rng=rng, learned=learned).double().cpu() / self.data.cells

    @torch.no_grad()
    def losses(self, field: Field) -> Tensor:
        """Return the loss per coordinate of every held-out example, `(n,)`, float64, on the CPU."""
        return self._losses(self.objective, field, self.examples, self.labels)

    @torch.no_grad()
    def memorised(self, field: Field) -> float | None:
        """Return how far the model went towards the memorising optimum.

        Returns:
            The share, or None where it is too costly, where there are no levels of noise, or where that optimum is no better
            than the model on unseen examples by 5 standard errors: then there is nothing to gain by memorising.
        """
        few = min(len(self.data.train), len(self.examples)) < 2  # one number has no standard error
        holed = self.data.normaliser.holes is not None  # examples with unknown cells are no points
        if few or holed or self.data.train.numel() > AFFORDABLE or not self.process.t_max > self.process.t_min:
            return None
        plain = Denoising(noise_distribution=Levels(8))
        if self._seen is None:
            rows = subsample(len(self.data.train), PLAIN)
            self._seen = self.data.x0(rows).to(self.device)
            if self.labels is not None and self.data.labels is not None:
                self._seen_labels = self.data.labels[rows].to(self.device)
            optimum = GaussianMixture.empirical(self.data.x0(slice(None)), self.process)
            self._optimum = self._losses(plain, optimum, self._seen)
        labels = None if self.labels is None else self.labels[:PLAIN]
        unseen = self._losses(plain, field, self.examples[:PLAIN], labels)
        seen = self._losses(plain, field, self._seen, self._seen_labels)
        room = float(unseen.mean() - self._optimum.mean())
        error = math.sqrt(float(unseen.var()) / len(unseen) + float(self._optimum.var()) / len(self._optimum))
        return float(unseen.mean() - seen.mean()) / room if room > CLEAR * error else None

    def judge(self, now: Tensor, step: int, training: float, memorised: float | None) -> list[str]:
        """Compare the held-out losses of a step with the best ones; return warnings, each of which is given once."""
        warnings: list[str] = []
        if not len(self.best) or float(now.mean()) < float(self.best.mean()):
            self.best, self.best_step, self.best_training = now, step, training
        elif (errors := risen(now, self.best)) > CLEAR and training < self.best_training:
            warnings.append(
                f"over-fitting: the held-out loss rose from {float(self.best.mean()):.4g} at step {self.best_step} to "
                f"{float(now.mean()):.4g} ({errors:.0f} standard errors) while the training loss fell; more examples, "
                f"{self._mirror}dropout, a smaller network or fewer steps help"
            )
        if memorised is not None and memorised > 0.5:
            warnings.append(
                f"memorising: the model has gone {memorised:.0%} of the way to reproducing its {len(self.data.train)} training "
                f"examples; more examples, {self._mirror}dropout, a smaller network or fewer steps help"
            )
        new = [sentence for sentence in warnings if sentence.partition(":")[0] not in self.said]
        self.said += [sentence.partition(":")[0] for sentence in new]
        return new

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, as JSON values; `best` is saved as a tensor."""
        training = None if math.isnan(self.best_training) else self.best_training
        return {"best_step": self.best_step, "best_training": training, "said": list(self.said)}

    def put_back(self, facts: dict[str, Any], best: Tensor) -> None:
        """Take up what `state` returned."""
        self.best, self.best_step, self.said = best, facts["best_step"], list(facts["said"])
        self.best_training = math.nan if facts["best_training"] is None else facts["best_training"]


def risen(now: Tensor, best: Tensor) -> float:
    """Return by how many standard errors paired losses have risen.

    >>> risen(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.5])) > 3
    True
    """
    change = now - best
    if len(change) < 2:
        return 0.0
    error = float(change.std()) / math.sqrt(len(change))
    return float(change.mean()) / error if error > 0 else 0.0
