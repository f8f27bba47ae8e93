"""A run's model with fresh weights: the network of its config as a field of its data's shape, classes and unknown cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from scorefield.config import RunConfig
from scorefield.data.holes import Holes
from scorefield.errors import ScorefieldError
from scorefield.field import EnergyModel, ScoreModel
from scorefield.nets.energy import Potential
from scorefield.nets.known_cells import KnownCells, widened
from scorefield.nets.mixture import MixturePart
from scorefield.prediction import Energy
from scorefield.randomness import stream_of


def classes_of(config: RunConfig, names: Sequence[str]) -> int:
    """Return the number of classes that a run's network is conditioned on, 0 for none: those of the data, if it uses labels."""
    return len(names) if config.training.labels > 0 and len(names) > 1 else 0


def build_model(
    config: RunConfig,
    shape: tuple[int, ...],
    data_std: float,
    data_mean: Tensor | None = None,
    *,
    classes: int = 0,
    holes: Holes | None = None,
) -> ScoreModel:
    """Return the model of a run with fresh weights, a function of the run's seed, and what its objective learns beside them.

    Args:
        config: the run.
        shape: shape of one sample.
        data_std: root of the data's variance around its mean, averaged over coordinates.
        data_mean: mean of the data, the shape of one sample; None for zero.
        classes: number of classes that the network is conditioned on (`classes_of`).
        holes: of the data; None where every cell is known.

    Raises:
        ScorefieldError: an energy, which is one number for all cells, of data with unknown ones.
    """
    if (holes is not None or config.training.given) and isinstance(config.parametrisation, Energy):
        what = "data with unknown cells (NaN)" if holes is not None else f"training.given={config.training.given:g}"
        raise ScorefieldError(
            f"got an energy for {what}, expected a field that is known cell by cell: choose another "
            "parametrisation, such as edm, or fill them and set training.given=0"
        )
    takes_given = config.training.given > 0
    knows = holes is not None or takes_given
    with torch.random.fork_rng(devices=[]):  # torch's initialisers use the global generator: leave it as it was
        torch.manual_seed(stream_of("weights", config.seed) >> 1)
        network = config.network.build(widened(shape, takes_given) if knows else shape, classes)
    if knows:
        absent = torch.zeros(shape, dtype=torch.bool) if holes is None else holes.absent.reshape(shape)
        network = KnownCells(network, absent, MixturePart(math.prod(shape)) if takes_given else None)
    model: ScoreModel
    given, unconditional = (config.process, shape, data_mean, data_std), not classes or config.training.labels < 1
    if isinstance(meaning := config.parametrisation, Energy):
        model = EnergyModel(Potential(network, meaning.form), meaning, *given, unconditional=unconditional)
    else:
        model = ScoreModel(network, meaning, *given, unconditional=unconditional, takes_unknown=knows)
    model.add_learned(config.objective.prepare(model))
    return model
