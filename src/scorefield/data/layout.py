"""Layout: what an example was in its source, so that a sample goes back as the same thing.

    source    `(n, ...)`       its own axes, type and units
    raw       `(n, *shape)`    what a data set holds: channels first, a number of float or uint8 for each

The axes of one example have letters, in the order of the source: "yxc" is (height, width, channels).

    image     raw "cyx"        c channels, y rows, x columns
    signal    raw "ct"         c channels, t times
    volume    raw "czyx"       c channels, z planes, y rows, x columns
    vector    raw "d"          d numbers, of any shape in the source

`to_raw` moves the axes; `to_source` moves them back, rounds to the type of the source, and puts masks and label maps at the
nearest of their legal values. A complex number becomes two channels, its real and its imaginary part. A source without an axis
of channels has one channel.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.errors import ScorefieldError

Array = NDArray[Any]
RAW = {"image": "cyx", "signal": "ct", "volume": "czyx", "vector": "d", "table": "d"}


@dataclass(frozen=True)
class Layout:
    """What an example was in its source.

    Attributes:
        axes: letters of its axes, in order; "" for a vector.
        dtype: numpy's name of its type, such as "uint16"; "complex64" for complex numbers.
        shape: of one example, with the lengths of `axes`, or the shape that a vector had before it was flattened.
        legal: the values that a mask or a label map may have, rising; () for all.
        missing: what stands for an unknown cell, where the type has no NaN; None if nothing does.
        format: registered name of the format that writes it back; "" for arrays.
        header: what else of the source still holds, as JSON values: an affine map, a sampling rate, units.

    >>> import numpy as np
    >>> colour = Layout("yxc", "uint16", (2, 4, 3))
    >>> pixels = np.arange(48, dtype=np.uint16).reshape(2, 2, 4, 3)
    >>> colour.to_raw(pixels).shape, bool((colour.to_source(colour.to_raw(pixels)) == pixels).all())
    ((2, 3, 2, 4), True)
    """

    axes: str
    dtype: str
    shape: tuple[int, ...]
    legal: tuple[float, ...] = ()
    missing: float | None = None
    format: str = ""
    header: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def plain(cls, kind: str, shape: tuple[int, ...]) -> Layout:
        """Return the layout of examples without a source of their own: 8-bit images, channels last; other kinds as they are.

        Args:
            kind: of the data: image, signal, volume, vector or table.
            shape: of one raw example.
        """
        if kind == "image":
            channels, *size = shape
            return cls("yxc", "uint8", (*size, channels)) if channels > 1 else cls("yx", "uint8", tuple(size))
        return cls("" if RAW[kind] == "d" else RAW[kind], "float64" if kind == "table" else "float32", shape)

    @property
    def type(self) -> np.dtype[Any]:
        """The type as numpy has it."""
        return np.dtype(self.dtype)

    @property
    def is_complex(self) -> bool:
        """Whether the source holds complex numbers, so that raw channels are (real, imaginary) pairs."""
        return self.type.kind == "c"

    def to_raw(self, source: Array) -> Array:
        """Return examples with their channels first, and complex numbers as two channels.

        Args:
            source: `(n, *self.shape)`.

        Returns:
            `(n, *shape)`: a view, but of complex numbers.
        """
        axes, parts = self.axes, source
        if self.is_complex:
            parts, axes = np.stack([source.real, source.imag], axis=-1), axes + "p"
        if not self.axes:
            return parts.reshape(len(source), -1)
        if "c" not in axes:
            parts, axes = parts[..., None], axes + "c"
        order = "c" + "p" * self.is_complex + "".join(sorted(set(axes) - set("cp"), key="tzyx".index))
        moved = parts.transpose(0, *(1 + axes.index(letter) for letter in order))
        return moved.reshape(len(moved), -1, *moved.shape[3:]) if self.is_complex else moved

    def to_source(self, raw: Array) -> Array:
        """Return raw examples as the source would hold them: its axes, its type, its legal values.

        Args:
            raw: `(n, *shape)`; NaN where a cell is unknown.

        Returns:
            `(n, *self.shape)`.
        """
        values = self._typed(np.asarray(raw))
        if not self.axes:
            return values.reshape(len(values), *self.shape)
        space = "".join(sorted(set(self.axes) - set("c"), key="tzyx".index))
        letters = "c" + space
        if "c" not in self.axes:
            values, letters = values[:, 0], space
        return np.ascontiguousarray(values.transpose(0, *(1 + letters.index(letter) for letter in self.axes)))

    def _typed(self, raw: Array) -> Array:
        """Return raw values in the type of the source, complex ones joined."""
        kind = self.type.kind
        if kind == "c":
            paired = raw.reshape(len(raw), -1, 2, *raw.shape[2:])  # of a vector, too: (re, im) of each number
            return (paired[:, :, 0] + 1j * paired[:, :, 1]).astype(self.type)
        if self.legal:
            levels = np.array(self.legal)
            known = np.where(np.isnan(raw), levels[0], raw)
            values = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, known)]
        elif kind in "iu":
            ends = np.iinfo(self.type)
            known = np.nan_to_num(np.rint(raw), nan=0.0)
            low, high = float(ends.min), float(ends.max)
            if high != ends.max:  # of 64 bits: the nearest float lies beyond the end
                high = math.nextafter(high, 0.0)
            values = known.clip(low, high)
        else:
            with np.errstate(over="ignore"):
                return raw.astype(self.type)
        if self.missing is not None:
            values = np.where(np.isnan(raw), self.missing, values)
        return values.astype(self.type)

    def resized(self, size: tuple[int, int]) -> Layout:
        """Return the layout of images of another size, (height, width); its header says so, as their place in space is lost."""
        lengths = dict(zip("yx", size, strict=True))
        shape = tuple(lengths.get(axis, n) for axis, n in zip(self.axes, self.shape, strict=True))
        return replace(self, shape=shape, header=self.header | {"resized": True} if self.header else self.header)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Layout:
        """Return the layout that `to_dict` wrote.

        Raises:
            ScorefieldError: values that are no layout.
        """
        try:
            known: dict[str, Any] = {
                name: tuple(value) if name in ("shape", "legal") else value for name, value in values.items()
            }
            layout = cls(**known)
            _ = layout.type
        except (TypeError, AttributeError):
            raise ScorefieldError(f"got the layout {values!r}, expected one that a run wrote: restore its manifest") from None
        return layout
