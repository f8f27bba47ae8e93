"""Packing: the conventions of climate and forecast data by which a file stores a quantity as other numbers.

    quantity = packed · scale_factor + add_offset

A cell is missing, and becomes NaN, where it holds `_FillValue` or `missing_value`, lies outside `valid_range` (or `valid_min`,
`valid_max`), which are in packed units, or holds the value with which the netCDF library fills what was not written: 9.96921e36
of floats, -32767 of int16. Readers know that last one only where a file names it, and else hand it out as a number.

A quantity has the type float32 where that tells two packed neighbours apart, else float64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
DEFAULT_FILLS = {  # of the netCDF library, where a variable has no `_FillValue`; bytes have none
    "int16": -32767, "uint16": 65535, "int32": -2147483647, "uint32": 4294967295,
    "int64": -9223372036854775806, "uint64": 18446744073709551614,
    "float32": 9.969209968386869e36, "float64": 9.969209968386869e36,
}  # fmt: skip
KEYS = ("_FillValue", "missing_value")
NEAR = 1e-3  # of a packed step: by how much an end that was given as a float may be rounded
APART = 4  # numbers of float32 between two packed neighbours


@dataclass(frozen=True)
class Packing:
    """How a variable stores a quantity.

    Attributes:
        stored: type of the packed numbers.
        quantity: type of the quantity.
        scale, offset: quantity = packed · scale + offset.
        fills: packed numbers that stand for a missing cell; the first is written.
        low, high: packed numbers beyond which a cell is missing.
    """

    stored: np.dtype[Any]
    quantity: np.dtype[Any]
    scale: float = 1.0
    offset: float = 0.0
    fills: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    @classmethod
    def of(cls, dtype: Any, attributes: Mapping[str, Any], default_fills: bool = True) -> Packing:
        """Return the packing that a variable's type and attributes say.

        Args:
            dtype: of the packed numbers.
            attributes: of the variable.
            default_fills: whether unwritten cells hold the fill values of the netCDF library.

        >>> Packing.of("int16", {"scale_factor": 0.01, "add_offset": 273.15}).decode(np.array([-32767, 100], "int16")).tolist()
        [nan, 274.1499938964844]
        """
        stored = np.dtype(dtype).newbyteorder("=")
        if str(attributes.get("_Unsigned", "")).lower() == "true" and stored.kind == "i":
            stored = np.dtype(f"u{stored.itemsize}")
        if stored.kind not in "iuf":
            return cls(stored, stored)
        scale, offset = (_number(attributes.get(key), start) for key, start in (("scale_factor", 1.0), ("add_offset", 0.0)))
        packed = (scale, offset) != (1.0, 0.0)
        fills = [value for key in KEYS if key in attributes for value in _numbers(attributes[key], stored)]
        if default_fills and "_FillValue" not in attributes and stored.name in DEFAULT_FILLS:
            fills.append(stored.type(DEFAULT_FILLS[stored.name]))
        low, high = _valid(attributes, stored, scale, offset)
        masked = bool(fills) or low > -math.inf or high < math.inf
        if stored.kind == "f" and not packed:
            quantity = stored
        elif packed:
            far = max(abs(float(end) * scale + offset) for end in _ends(stored)) if stored.kind in "iu" else math.inf
            fine = stored.itemsize <= 2 and far * 2.0**-23 * APART < abs(scale)
            quantity = np.dtype("f4") if fine or (stored.kind == "f" and stored.itemsize == 4) else np.dtype("f8")
        else:
            quantity = stored if not masked else np.dtype("f4") if stored.itemsize <= 2 else np.dtype("f8")
        return cls(stored, quantity, scale, offset, tuple(fills), low, high)

    @property
    def is_scaled(self) -> bool:
        """Whether the quantity is another number than the packed one."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def missing(self) -> float | None:
        """What stands for a missing cell among whole numbers that are the quantity itself; None if nothing does."""
        whole = self.stored.kind in "iu" and not self.is_scaled
        return float(self.fills[0]) if whole and self.fills else None

    def decode(self, packed: Array) -> Array:
        """Return quantities, NaN where a cell is missing."""
        packed = packed.view(packed.dtype.newbyteorder("=")) if packed.dtype.isnative else packed.astype(self.stored)
        packed = packed.view(self.stored) if packed.dtype.itemsize == self.stored.itemsize else packed
        if self.quantity == self.stored and not self.fills and (self.low, self.high) == (-math.inf, math.inf):
            return packed
        bad = (packed < self.low) | (packed > self.high)
        for fill in self.fills:
            bad |= packed == fill
        values = packed.astype(np.float64) * self.scale + self.offset if self.is_scaled else packed
        return np.where(bad, np.nan, values).astype(self.quantity)

    def encode(self, quantities: Array) -> Array:
        """Return packed numbers, the nearest ones that are not missing; NaN becomes the fill value."""
        unknown = np.isnan(quantities) if quantities.dtype.kind == "f" else np.zeros(quantities.shape, bool)
        if self.is_scaled:
            packed = (np.where(unknown, 0.0, quantities).astype(np.float64) - self.offset) / self.scale
            if self.stored.kind in "iu":
                low, high = _ends(self.stored)
                packed = np.rint(packed).clip(max(low, self.low), min(high, self.high))
                for fill in self.fills:  # the end of a type is often the fill value
                    packed = np.where(packed == fill, packed + (1 if fill < (low + high) / 2 else -1), packed)
        else:
            packed = quantities
        if unknown.any() and (self.fills or self.stored.kind == "f"):
            packed = np.where(unknown, self.fills[0] if self.fills else np.nan, packed)
        return packed.astype(self.stored)


def fill_beside(packed: Array, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attribute of a fill value that no number has, where a number is what the netCDF library fills with.

    >>> fill_beside(np.array([-32767, 5], "int16"), {})
    {'_FillValue': np.int16(-32768)}
    """
    fill = DEFAULT_FILLS.get(packed.dtype.name)
    if "_FillValue" in attributes or packed.dtype.kind not in "iu" or fill is None or not (packed == fill).any():
        return {}
    low, high = _ends(packed.dtype)
    free = (value for value in (low, high, *range(low + 2, low + 2 + packed.size)) if not (packed == value).any())
    return {"_FillValue": packed.dtype.type(next(free))} if packed.size < 2 ** (8 * packed.dtype.itemsize) - 4 else {}


def _ends(dtype: np.dtype[Any]) -> tuple[int, int]:
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _number(value: Any, default: float) -> float:
    """Return an attribute of one number, as it was rounded when it was written."""
    return default if value is None else float(np.asarray(value).reshape(-1)[0])


def _numbers(value: Any, dtype: np.dtype[Any]) -> list[Any]:
    """Return the numbers of an attribute in the type of a variable; floats may be base64, as zarr has them."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = np.frombuffer(base64.b64decode(value), "<f8")
    with np.errstate(over="ignore", invalid="ignore"):
        numbers = np.asarray(value).reshape(-1)
        if dtype.kind in "iu":
            low, high = _ends(dtype)
            numbers = numbers[[bool(low - (high + 1) * (low == 0) <= one <= high) for one in numbers]]
        return [one for one in numbers.astype(dtype) if one == one]


def _valid(attributes: Mapping[str, Any], stored: np.dtype[Any], scale: float, offset: float) -> tuple[float, float]:
    """Return the packed ends of valid numbers; those that are floats, of packed whole numbers, are ends of the quantity."""
    ends = {"valid_min": -math.inf, "valid_max": math.inf}
    if "valid_range" in attributes:
        given = np.asarray(attributes["valid_range"])
        ends = dict(zip(ends, given.reshape(-1).astype(float).tolist(), strict=False))
    else:
        given = np.asarray([attributes[key] for key in ends if key in attributes] or 0)
        ends |= {key: _number(attributes[key], 0.0) for key in ends if key in attributes}
    low, high = ends["valid_min"], ends["valid_max"]
    if given.dtype.kind == "f" and stored.kind in "iu" and (scale, offset) != (1.0, 0.0):
        low, high = sorted(((low - offset) / scale, (high - offset) / scale))
        low, high = low - NEAR, high + NEAR
    return low, high
