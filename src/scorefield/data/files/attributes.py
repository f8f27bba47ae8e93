"""Attributes of arrays in files: what still holds for samples, as JSON values, and back.

Units and names hold for samples. Statistics of the data, their history and the names of other variables do not.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

MOST_TEXT = 4096  # letters of an attribute
MOST_NUMBERS = 64  # of an attribute
STALE = {
    "min", "max", "mean", "std", "norm", "median", "actual_range", "history", "checksum", "date", "created", "patient_id",
    "coordinates", "grid_mapping", "bounds", "cell_measures", "ancillary_variables", "date_created", "date_modified",
}  # fmt: skip
INTERNAL = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4", "_NC", "DIMENSION_LABELS", "MATLAB_", "H5PATH")


def kept_attributes(attributes: Any) -> dict[str, Any]:
    """Return the attributes that still hold for samples, as JSON values.

    Args:
        attributes: a mapping of names to texts, bytes, numbers and arrays.

    >>> kept_attributes({"units": "K", "max": 300.0, "scale": np.float32(0.5)})
    {'units': 'K', 'scale': {'type': 'float32', 'values': 0.5}}
    """
    kept = dict[str, Any]()
    for key in attributes:
        if key.lower() in STALE or key.startswith(INTERNAL):
            continue
        with contextlib.suppress(Exception):  # types that the library cannot read
            value = attributes[key]
            if isinstance(value, bytes):
                value = value.decode("utf-8")
            if isinstance(value, str):
                kept |= {key: value} if len(value) <= MOST_TEXT else {}
                continue
            value = np.asarray(value)
            if value.dtype.kind in "iufb" and value.size <= MOST_NUMBERS and np.isfinite(value).all():
                kept[key] = {"type": value.dtype.name, "values": value.tolist()}
    return kept


def attribute_of(value: Any) -> Any:
    """Return an attribute as it was, of what `kept_attributes` made of it."""
    return np.array(value["values"], dtype=value["type"])[()] if isinstance(value, dict) else value
