"""Convert: one noise level, and one prediction, in the conventions of every paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scorefield import registry
from scorefield.config import component, named, parsed, to_dict
from scorefield.conventions import (
    LangevinStep,
    NoiseLevel,
    Preconditioning,
    Views,
    Weight,
    langevin_of,
    level_of,
    preconditioning_of,
    time_of,
    views_of,
    weights_of,
)
from scorefield.errors import ScorefieldError
from scorefield.process import Process
from scorefield.runs import open_run
from scorefield.specs import NoiseLevelSpec, PointSpec
from scorefield.training.reports import json_values

DATA_STD = 0.5  # EDM's sigma_data


@dataclass(frozen=True)
class ConvertReport:
    """One noise level in every convention, and one prediction, if a point was given.

    Attributes:
        process: how data are noised.
        level: the noise level.
        preconditioning: EDM's coefficients.
        weights: name of a weighting -> its value on the squared error of each view.
        langevin: a Langevin step in both conventions.
        views: of the prediction at a point, or None.
    """

    process: Process
    level: NoiseLevel
    preconditioning: Preconditioning
    weights: dict[str, Weight]
    langevin: LangevinStep
    views: Views | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as values of JSON, which has no infinity: None for it."""
        values: dict[str, Any] = json_values(asdict(self))
        return values | {"process": to_dict(self.process, "process")}


def convert(
    process: str | Path,
    level: NoiseLevelSpec = NoiseLevelSpec(),  # noqa: B008  # a spec does not change
    point: PointSpec = PointSpec(),  # noqa: B008
    *,
    settings: Sequence[str] = (),
    data_std: float | None = None,
    tau: float | None = None,
) -> ConvertReport:
    """Say one noise level, and one prediction, in the conventions of every paper.

    Args:
        process: how data are noised: a name, such as ve or ddpm-chain, or the folder of a run.
        level: the noise level, by one of its numbers.
        point: x_t and one view of a prediction there, or nothing.
        settings: of a process by name, as key=value.
        data_std: standard deviation of the data, for EDM; None for the run's own, or EDM's 0.5.
        tau: length of a Langevin step; None for NCSN's, 0.2·sigma².

    Returns:
        The report.

    Raises:
        ScorefieldError: an unknown process or setting; no noise level, or several; one outside the range of the process; x
            without a view, or several views; a data_std or tau that is not positive.

    >>> round(convert("vp", NoiseLevelSpec(alpha_bar=0.8)).level.snr, 6)
    4.0
    """
    noised, std = _process(process, settings)
    data_std = _positive("data_std", std if data_std is None else data_std)
    tau = None if tau is None else _positive("tau", tau)
    t = time_of(noised, *_only("noise level", asdict(level)))
    views = None
    if any(value is not None for value in asdict(point).values()):
        known = asdict(point)
        x = known.pop("x")
        if x is None:
            raise ScorefieldError("got a view of a prediction without x, expected the point where it is: give x")
        views = views_of(noised, t, _finite("x", x), *_only("view at x", known), data_std)
    return ConvertReport(
        noised,
        level_of(noised, t),
        preconditioning_of(noised, t, data_std),
        weights_of(noised, t, data_std),
        langevin_of(noised, t, tau),
        views,
    )


def _process(process: str | Path, settings: Sequence[str]) -> tuple[Process, float]:
    """Return the process of a name or of a run, and the standard deviation of the data."""
    name = str(process)
    if name not in registry.names("process") and ("/" in name or Path(name).expanduser().is_dir()):
        if settings:
            raise ScorefieldError(f"got settings with the run {name}, expected none: name its process instead to change it")
        run = open_run(process)
        return run.config.process, float(run.manifest["data"]["std"])
    for setting in settings:
        if "=" not in setting:
            raise ScorefieldError(f"got the setting {setting!r}, expected key=value: write it so, as in sigma_max=80")
    values = {named(one).removeprefix("process."): parsed(one.partition("=")[2].strip()) for one in settings}
    found: Process = component(registry.find("process", name), values, "process")
    return found, DATA_STD


def _only(what: str, values: dict[str, float | None]) -> tuple[str, float]:
    """Return the name and the value of the one that is given."""
    given = [(name, value) for name, value in values.items() if value is not None]
    if len(given) != 1:
        got = f"got {', '.join(name for name, _ in given)} for the {what}" if given else f"got no {what}"
        raise ScorefieldError(f"{got}, expected one of {', '.join(values)}: give one")
    name, value = given[0]
    return name, _finite(name, value)


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ScorefieldError(f"got {name} = {value:g}, expected a finite number: correct it")
    return value


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ScorefieldError(f"got {name} = {value:g}, expected a positive number: correct it")
    return value
