"""Known cells: any objective on examples with unknown cells, NaN in x0, of which it counts the known ones alone.

In an unknown cell x0 and the noise are 0, and so is whatever the field predicts there. Every term of a loss that is a sum over
cells is then 0 in them, and so is its gradient. The field is given which cells are unknown, since x_t is NaN there: it learns

    s(x_t, known) = grad log p_t(x_t in the known cells),    the score of their marginal, for each set of known cells,

of the examples that know this set; of all examples, if which cells are known says nothing of their values (clouds over warm and
cold seas alike). Proof: given the set, the loss is denoising matching, or another form of it, on what the known cells hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from scorefield.field import Field
from scorefield.prediction import Prediction
from scorefield.randomness import SampleRng
from scorefield.shapes import PerSample, Sample


class OnKnown(nn.Module):
    """A field at the known cells of each sample: it is given NaN in the others, where its prediction and x_t are 0."""

    def __init__(self, field: Field, known: Tensor) -> None:
        """Wrap a field that takes NaN; `known` has the shape of the batch, bool."""
        super().__init__()
        self.field, self.known, self.process, self.shape = field, known, field.process, field.shape
        self.data_mean, self.data_std = field.data_mean, field.data_std
        self.training = not isinstance(field, nn.Module) or field.training

    def forward(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        """Return the prediction, 0 in every view where a cell is unknown."""
        said = self.field(torch.where(self.known, x, torch.nan), t, cond)
        x, output = (torch.where(self.known, part, 0.0) for part in (x, said.output))
        return Prediction(said.process, x, said.t, output, said.a, said.c)


class _KnownRng(SampleRng):
    """The numbers of another rng, with normal ones of the shape of a sample that are 0 where a cell is unknown."""

    def __init__(self, rng: SampleRng, known: Tensor) -> None:
        super().__init__(rng.seeds, stream=rng.stream, draws=rng.draws, device=rng.seeds.device)
        self.known = known

    def normal(self, shape: Sequence[int] = ()) -> Tensor:
        drawn = super().normal(shape)
        return torch.where(self.known, drawn, 0.0) if drawn.shape == self.known.shape else drawn


def on_known(field: Field, x0: Sample, rng: SampleRng) -> tuple[Field, Sample, SampleRng]:
    """Return the field, the examples and the rng that an objective is given so that it counts known cells alone.

    Args:
        field: what is trained; as it came unless it is a model that takes unknown cells.
        x0: examples, `(batch, *shape)`, NaN in unknown cells.
        rng: one seed per example.

    >>> from scorefield import VE, Gaussian
    >>> field, x0, rng = Gaussian([0.0], [[1.0]], VE(0.1, 10.0)), torch.zeros(4, 1), SampleRng(range(4))
    >>> on_known(field, x0, rng) == (field, x0, rng)
    True
    """
    if not getattr(field, "takes_unknown", False):
        return field, x0, rng
    known = ~x0.isnan()
    return OnKnown(field, known), torch.where(known, x0, 0.0), _KnownRng(rng, known)
