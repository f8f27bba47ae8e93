"""A field of some cells given others: grad log p_t(x_t in the noisy cells | x0 in the given ones), of one model of both."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scorefield.field import ScoreModel
from scorefield.prediction import Prediction
from scorefield.shapes import PerSample, Sample


class GivenField(nn.Module):
    """A field of the noisy cells of each row, given others; x may be NaN where a cell is neither.

    Where a cell is not noisy, x_t and what is predicted are 0, so that a sampler and a loss see nothing of it.

    >>> from scorefield import EDM, VE
    >>> from scorefield.nets.known_cells import KnownCells
    >>> from scorefield.nets.mixture import MixturePart
    >>> from scorefield.nets.mlp import MLP
    >>> network = KnownCells(MLP((10,)), torch.zeros(2, dtype=torch.bool), MixturePart(2))
    >>> model = ScoreModel(network, EDM(), VE(0.01, 10.0), (2,), takes_unknown=True)
    >>> field = GivenField(model, torch.tensor([[torch.nan, 1.5]]))
    >>> field(torch.tensor([[0.5, 0.0]]), torch.ones(1)).denoised[0, 1]
    tensor(0., grad_fn=<SelectBackward0>)
    """

    takes_unknown = True

    def __init__(self, model: ScoreModel, given: Tensor) -> None:
        """Hold a model that takes given cells, and these: the shape of the batch, NaN where a cell is not given."""
        super().__init__()
        self.model, self.given, self.process, self.shape = model, given, model.process, model.shape
        self.data_mean, self.data_std = model.data_mean, model.data_std
        self.training = model.training

    def forward(self, x: Sample, t: PerSample, cond: Tensor | None = None) -> Prediction:
        """Return the prediction; what x holds of a given cell is not looked at."""
        noisy = self.given.isnan() & ~x.isnan()
        said: Prediction = self.model(torch.where(noisy, x, torch.nan), t, cond, self.given)
        x, output = (torch.where(noisy, part, 0.0) for part in (x, said.output))
        return Prediction(said.process, x, said.t, output, said.a, said.c)
