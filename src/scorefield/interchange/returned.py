"""A pipeline that was exported from here (`to_diffusers.py`), as the run that it was: the same model, by its own settings.

Its config.json holds those of its run, and its weights the run's under the same names, beside the table by which schedulers ask
the network. Weights may have changed where it went, by training; settings and table may not: the table is computed again, and
a pipeline in which the two disagree would be another model here than there. Its source is not executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scorefield.config import RunConfig, from_dict
from scorefield.data import Normaliser
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError
from scorefield.interchange.foreign import Foreign, check_weights
from scorefield.interchange.to_diffusers import levels_of, table_of
from scorefield.models import build_model, classes_of
from scorefield.prediction import Energy

NETWORK, KINDS = "network.", ("image", "signal", "volume", "vector")
TOLERANCE = 1e-5  # of the table, in units of its largest numbers: it is float32


def returned(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Foreign:
    """Return the model of an exported pipeline.

    Args:
        folder: of the model, for messages.
        config: content of its config.json.
        tensors: its weights by name.
        settings: what was said by hand, which must be nothing.

    Raises:
        ScorefieldError: a setting by hand, no settings or damaged ones, weights that are not those of the architecture, a table
            of other settings.
    """
    if settings:
        raise ScorefieldError(
            f"got --set {next(iter(settings))} for {folder}, which was exported from here and says all itself, expected no "
            "setting: leave it out"
        )
    own, about, normaliser = _settings(folder, config)
    shape, std, names = tuple(about["shape"]), about["std"], tuple(about["classes"])
    classes = names if classes_of(own, names) else ()
    model = build_model(own, shape, std, classes=len(classes))
    table, expected = tensors.get("table"), table_of(model, levels_of(own, model))
    wanted = {f"{NETWORK}{name}": one for name, one in model.network.state_dict().items()}
    check_weights(tensors, {**wanted, "data_mean": torch.zeros(shape), "table": expected}, str(folder))
    assert table is not None  # by now
    if not bool(((table - expected).abs() <= TOLERANCE * expected.abs().amax(0).clamp(min=1)).all()):
        raise ScorefieldError(
            f"got a table of noise levels in {folder} ({table.dtype}) that differs from that of its settings, expected the one "
            "that was exported, in float32: restore weights and config.json, or save them in float32"
        )
    notes: tuple[str, ...] = ()
    if own.autoguidance != 1:
        own = replace(own, autoguidance=1.0)
        notes = ("its weights from early in the training stayed behind, so samples are drawn without autoguidance",)
    return Foreign(
        source=str(folder),
        found="a pipeline that was exported from scorefield",
        network=own.network,
        weights={name.removeprefix(NETWORK): one for name, one in tensors.items() if name.startswith(NETWORK)},
        parametrisation=own.parametrisation,
        process=own.process,
        shape=shape,
        classes=classes,
        unconditional=model.unconditional,
        normaliser=normaliser,
        kind=about["kind"],
        data_std=std,
        data_mean=tensors["data_mean"],
        config=own,
        about=about,
        notes=notes,
    )


def _settings(folder: Path, config: Mapping[str, Any]) -> tuple[RunConfig, dict[str, Any], Normaliser]:
    """Return the settings of the run that a model was, what it says of its data, and their map to model space."""
    try:
        said = config["about"]["run"]
        about, own = dict(said["data"]), from_dict(said["config"])
        Layout.from_dict(about["layout"])
        normaliser = Normaliser(**about["normaliser"])
        if about["kind"] not in KINDS or isinstance(own.parametrisation, Energy):
            raise ValueError(f"kind {about['kind']!r} with {type(own.parametrisation).__name__}")
        about |= {
            "shape": [int(side) for side in about["shape"]],
            "std": float(about["std"]),
            "classes": list(about["classes"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ScorefieldError(
            f"got {folder}, a pipeline that was exported without the settings of its run ({str(error).splitlines()[0]}), "
            "expected them in its config.json: export the run again"
        ) from None
    return own, about, normaliser
