"""From what a person asks for to a whole run, for `train` and `plan` alike; the data are opened and measured once.

open      the data, read by the data settings among those that were asked for
measure   their statistics, which are all that a recipe may know of them
recipe    a whole run, with the reasons for its numbers
change    the seed, the budget and the settings that were asked for replace what the recipe chose
adapt     a process without noise is learned as a score and sampled by Langevin, where no setting says otherwise
check     the network can be given the noise levels of the process as its parametrisation says
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from scorefield import registry
from scorefield.config import RunConfig, data_config, named, override
from scorefield.data import Dataset, open_data
from scorefield.data.table.groups import MOST
from scorefield.errors import ScorefieldError
from scorefield.field import ScoreModel
from scorefield.mixtures import ROWS, fitted
from scorefield.nets.known_cells import KnownCells, widened
from scorefield.noise_label import check_noise_label
from scorefield.prediction import Energy, Score
from scorefield.progress import Progress, silent
from scorefield.randomness import subsample
from scorefield.recipes import DataStats, data_stats, measured_settings
from scorefield.runs import build_model, classes_of
from scorefield.samplers import Langevin
from scorefield.specs import TrainSpec
from scorefield.training.clusters import number_unasked, with_clusters
from scorefield.training.memory import refuse_large_network

GIVEN = 0.5  # share of the rows of tables of which columns are given


@dataclass(frozen=True)
class Resolved:
    """A whole run, and the data that it is made for.

    Attributes:
        config: of the run.
        data: opened.
        stats: of the data.
        reasons: for the numbers of the run.
    """

    config: RunConfig
    data: Dataset
    stats: DataStats
    reasons: tuple[str, ...]


def resolve(source: Any, spec: TrainSpec, progress: Progress = silent) -> Resolved:
    """Return the new run that a person asks for.

    Args:
        source: as of `train`, or a data set that is open already.
        spec: what is asked for.
        progress: called with the share done, 0 to 1, and a few words.

    Raises:
        ScorefieldError: unknown names, settings out of range, data that cannot be used.
    """
    recipe, changes = registry.find("recipe", spec.recipe or "auto"), changes_of(spec)
    progress(0.0, "opening the data")
    data = open_data(source, data_config(changes))
    progress(0.5, "choosing noise levels")
    stats = data_stats(data)
    chosen = recipe(stats)
    seed = [] if spec.seed is None else [f"seed={spec.seed}"]
    wanted = [*seed, *budget_of(spec), *changes]
    config = override(replace(chosen.config, source=source_name(source)), wanted, measured=measured_settings(stats))
    config, adapted = _without_noise(config, changes, stats.std)
    if data.kind == "table":
        config, why = learning_given(config, data, changes)
        adapted += why
    check_noise_label(config.parametrisation.noise_label, config.process)
    by_hand = {named(change) for change in changes}
    if not by_hand & {"training.clusters", "training.labels"} and config.recipe == "auto":
        config = replace(config, training=replace(config.training, clusters=number_unasked(data)))
    config, data, why = with_clusters(config, data)
    adapted += why
    same = config.training.steps == chosen.config.training.steps
    why = tuple(one for one in chosen.why if same or not one.startswith("steps ="))  # a budget of one's own needs no reason
    return Resolved(config, data, stats, (*why, *_by_hand(changes), *adapted))


def model_of(config: RunConfig, data: Dataset, stats: DataStats, device: torch.device) -> ScoreModel:
    """Return the model of a run with fresh weights.

    Raises:
        ScorefieldError: training it needs more memory than `device` has, or its objective refuses it.
    """
    classes = classes_of(config, data.classes)
    holes, takes_given = data.normaliser.holes, config.training.given > 0
    if takes_given and (len(data.shape) > 1 or not data.groups.can_be_given):
        raise ScorefieldError(
            f"got training.given={config.training.given:g} for examples of shape {data.shape}, expected rows of 2 to {MOST} "
            "numbers in two columns or more: set it to 0"
        )
    shape = widened(data.shape, takes_given) if holes is not None or takes_given else data.shape
    refuse_large_network(config, shape, classes, device)
    model = build_model(config, data.shape, stats.std, stats.mean, classes=classes, holes=holes)
    if isinstance(network := model.network, KnownCells) and network.mixture is not None:
        rows = data.normaliser.encode(data.train[subsample(len(data.train), ROWS)])
        network.mixture.put(fitted(data.groups.without_fillers(rows)))
    return model


def source_name(source: Any) -> str:
    """Return what a run's config calls its source."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return source.name if isinstance(source, Dataset) else "data"


def changes_of(spec: TrainSpec) -> tuple[str, ...]:
    """Return the changes to a recipe's choices, or refuse keys that have a place of their own."""
    for setting in spec.settings:
        if (key := named(setting)) in ("source", "recipe", "data"):
            raise ScorefieldError(f"got --set {setting!r}, expected no {key} there: name it itself, or one setting below it")
    return spec.changes


def budget_of(spec: TrainSpec) -> list[str]:
    """Return the settings that replace a budget, or none where none is given; a number of steps alone means no clock."""
    if spec.steps is None and spec.seconds is None:
        keys = {named(setting) for setting in spec.settings}
        return ["training.seconds=null"] * ("training.steps" in keys and "training.seconds" not in keys)
    return [f"training.{key}={json.dumps(value)}" for key, value in (("steps", spec.steps), ("seconds", spec.seconds))]


def parts_of(settings: Sequence[str]) -> set[str]:
    """Return the parts of a run that settings change.

    >>> sorted(parts_of(["sampler.tau=0.1", "sampler=langevin", "levels=3"]))
    ['levels', 'sampler']
    """
    return {named(setting).partition(".")[0] for setting in settings}


def learning_given(config: RunConfig, data: Dataset, settings: Sequence[str]) -> tuple[RunConfig, tuple[str, ...]]:
    """Return a run that learns p(other columns | given ones) too, where data, objective and settings let it, and the reason."""
    able = config.objective.counts_known_cells and not isinstance(config.parametrisation, Energy)
    by_hand = "training.given" in {named(setting) for setting in settings}
    if by_hand or config.training.given or not able or not data.groups.can_be_given:
        return config, ()
    why = f"given = {GIVEN:g}: of so many rows some columns are given to the network, so that it fills in the others at once"
    return replace(config, training=replace(config.training, given=GIVEN)), (why,)


def _by_hand(settings: Sequence[str]) -> tuple[str, ...]:
    """Return as reasons the settings that hold: of two for one key the later."""
    last = {named(setting): setting for setting in settings}
    return tuple(f"{setting}: set by hand" for setting in last.values())


def _without_noise(config: RunConfig, settings: Sequence[str], std: float) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the run with what can be learned and sampled without noise, where no setting says otherwise, and the reasons."""
    end = torch.tensor(config.process.t_max, dtype=torch.float64)
    if float(config.process.sigma(end)) > 0:
        return config, ()
    given, reasons = parts_of(settings), list[str]()
    if "parametrisation" not in given:
        config = replace(config, parametrisation=Score())
        reasons.append("parametrisation = score: without noise other outputs hold no score")
    if "sampler" not in given:
        config = replace(config, sampler=Langevin(tau=float(f"{0.01 * std**2:.3g}")), levels=1)
        reasons.append("sampler = langevin: there is one level; tau is a hundredth of the data's variance")
    return config, tuple(reasons)
