"""The objective protocol.

An objective returns one loss per example, never a mean, so that the caller can average over noise levels, examples or
devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple, final

from torch import Tensor, nn

from scorefield import renamed
from scorefield.field import Field
from scorefield.objectives.known_cells import on_known
from scorefield.process import Process
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample, check_rows


class Terms(NamedTuple):
    """One loss per example, `(batch,)`, and the time at which each was taken (None where it was taken at many)."""

    loss: PerSample
    t: PerSample | None


class Objective(ABC):
    """A loss whose minimum over fields is the true score.

    Attributes:
        divergence: a declared fact that the contract tests measure, what E loss(s) - E loss(true score) is. "fisher": exactly
            the weighted Fisher divergence E_t E_{x_t} 1/2·lambda(t)·‖s - grad log p_t‖², for t drawn from the attribute
            `noise_distribution` and lambda the attribute `weighting`, or the objective's own; "fisher + O(step^2)": that, up to
            an error proportional to the square of the attribute `step`; "none": no such law is claimed.
        one_process: another declared fact: taking terms changes what is learned (persistent chains move, say), so that
            processes which divide a batch would each end with a state of their own.
    """

    divergence: ClassVar[Literal["fisher", "fisher + O(step^2)", "none"]] = "fisher"
    one_process: ClassVar[bool] = False

    @property
    def counts_known_cells(self) -> bool:
        """Whether its loss is a sum over cells, 0 in those where x0, noise and prediction are 0: see `known_cells.py`."""
        return True

    def check(self, field: Field, *, bounded: bool = False, batch: int = 1) -> None:  # noqa: B027  # most objectives refuse nothing
        """Refuse a field or data that the objective cannot learn from; called once, before training.

        Args:
            field: what will be trained.
            bounded: the data are 8-bit or have hard bounds, so that their density is not smooth.
            batch: examples a step.

        Raises:
            ScorefieldError: the reason and the remedy.
        """

    def visited(self, process: Process) -> Tensor | None:
        """Return the times at which the loss is taken, `(k,)`, where they are a few; None where they are a continuum."""
        return None

    def prepare(self, field: Field) -> nn.Module | None:
        """Return what the objective learns beside the score (a weight or a variance per level) as a new module, or None.

        It is passed back to `terms` as `learned`. Its parameters are trained with those of the field, and it is saved with it:
        `ScoreModel.add_learned` sees to that. What has several parts is an `nn.ModuleDict` of them.

        Args:
            field: what will be trained.
        """
        return None

    @abstractmethod
    def terms(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        """Return one loss per example with its time.

        Args:
            field: what is trained.
            x0: clean samples, `(batch, *shape)`.
            cond: class or other condition of each example, or None.
            rng: one seed per example.
            learned: what `prepare` returned.
        """

    @final
    def of_known(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> Terms:
        """Return the `terms` of the known cells of x0, where NaN stands for an unknown one, if the field takes such."""
        field, x0, rng = on_known(field, x0, rng)
        return self.terms(field, x0, cond, rng=rng, learned=learned)

    @final
    @renamed.arguments
    def __call__(
        self, field: Field, x0: Sample, cond: Tensor | None = None, *, rng: SampleRng, learned: nn.Module | None = None
    ) -> PerSample:
        """Return one loss per example, `(batch,)`; arguments as in `of_known`, each checked to have one entry per example."""
        check_rows(len(x0), cond=cond, seeds=len(rng))
        return self.of_known(field, x0, cond, rng=rng, learned=learned).loss
