"""Axes of an array in a file: along which its examples lie, and what the others are.

said          `data.axes` with an n ("yxn")
by name       n, sample, member, ... or else time are the examples; lat, y, height are rows; lon, x, width are columns; level,
              depth are planes, or channels if there are at most four; band, channel are channels. Where members have times,
              both run over examples
by labels     the end of the array that is as long as its labels (formats that put examples first or last)
by lengths    the end beside which the two next axes are alike: (n, 32, 32) or (32, 32, n)
first         all else
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scorefield.data.base import DataConfig
from scorefield.data.files.named import NamedArray
from scorefield.data.files.rows import Rows
from scorefield.data.kinds import FEW, KINDS, examples_axis
from scorefield.errors import ScorefieldError

EXAMPLES = (
    "n sample samples example examples member members ensemble ens realization realisation number batch record records case "
    "cases event events obs observation index subject station site trial trials image images slice slices"
)
TIMES = "time t times date valid_time step forecast_time time_counter"
LETTERS = {
    "x": "x lon longitude rlon west_east nx xc x_c col column columns width easting projection_x_coordinate i",
    "y": "y lat latitude rlat south_north ny yc y_c row rows northing projection_y_coordinate j",
    "z": "z lev level levels depth plev altitude pressure isobaric bottom_top layer nz deptht elevation",
    "c": "c channel channels band bands variable feature features rgb component",
}
EXAMPLE, TIME = frozenset(EXAMPLES.split()), frozenset(TIMES.split())
LETTER = {name: letter for letter, names in LETTERS.items() for name in names.split()}


@dataclass(frozen=True)
class Place:
    """Where the examples of an array lie.

    Attributes:
        axis: along which they lie; None if the array is one example.
        axes: letters of the axes of one example, if they are known.
        config: how the array is read, without an n in its axes.
        lead: how many axes run over examples, from `axis` on; more than one only from the first on.
        notes: what was decided.
        header: names of the axes, as JSON values.
    """

    axis: int | None
    axes: str | None
    config: DataConfig
    lead: int = 1
    notes: tuple[str, ...] = ()
    header: dict[str, Any] = field(default_factory=dict)

    def shape(self, array: NamedArray) -> tuple[int, ...]:
        """Return the shape of the rows of an array, `(n, ...)`."""
        shape = array.shape
        if self.axis is None:
            return 1, *shape
        n = int(np.prod(shape[self.axis : self.axis + self.lead]))
        return n, *shape[: self.axis], *shape[self.axis + self.lead :]

    def rows(self, array: NamedArray) -> Any:
        """Return the rows of an array that is open: an array, or `Rows`."""
        opened, shape = array.open(self.axis or 0), self.shape(array)
        if self.axis is None:
            return Rows(shape, array.dtype, lambda first, last: np.asarray(opened[: array.shape[0]])[None], array.name)
        if self.lead == 1:
            return opened
        inner = int(np.prod(array.shape[1 : self.lead]))

        def read(first: int, last: int) -> Any:
            outer = np.asarray(opened[first // inner : -(-last // inner)])
            return outer.reshape(-1, *shape[1:])[first % inner :][: last - first]

        return Rows(shape, array.dtype, read, array.name, inner)


def place(array: NamedArray, config: DataConfig, labels: Sequence[int] | None, name: str, one_each: bool = False) -> Place:
    """Return where the examples of an array lie.

    Args:
        array: the array.
        config: how it is read.
        labels: shape of its labels, or None.
        name: of the file, for messages.
        one_each: the array is one example.

    Raises:
        ScorefieldError: it cannot be known, or no axis runs over examples.
    """
    said, config = examples_axis(config, len(array.shape))
    lead, notes, axis = 1, list[str](), said if said is not None else 0
    if one_each:
        axis, lead = 0, 0
    elif said is None and array.dims:
        axis, lead = _by_names(array, name)
    elif said is None and array.ends:
        axis = _by_ends(array, labels, name, notes)
    rest = [*array.dims[:axis], *array.dims[axis + lead :]]
    axes = _letters(rest, array.shape[:axis] + array.shape[axis + lead :], notes) if array.dims else None
    header: dict[str, Any] = {"dims": rest} if array.dims else {}
    if array.dims and lead:
        header["examples"] = array.dims[axis]
        if lead > 1 or any(one.lower() not in EXAMPLE for one in array.dims[axis : axis + lead]):
            notes.append(f"The examples lie along {' and '.join(array.dims[axis : axis + lead])}.")
    if axis:
        header["axis"] = axis
    return Place(axis if lead else None, axes, config, lead, tuple(notes), header)


def _by_names(array: NamedArray, name: str) -> tuple[int, int]:
    """Return the first axis that runs over examples by its name, and how many do."""
    dims = [dim.lower() for dim in array.dims]
    strong = [i for i, dim in enumerate(dims) if dim in EXAMPLE]
    times = [i for i, dim in enumerate(dims) if dim in TIME]
    if strong and times and sorted([strong[0], times[0]]) == [0, 1] and len(dims) > 3:
        return 0, 2
    found = strong or (times if len(dims) > 1 else []) or [0][: dims[0] not in LETTER]
    if not found:
        raise ScorefieldError(
            f"got {array} in {name!r}, one example by the names of its axes, expected an axis of examples, such as time or "
            "sample: give a folder with a file for each, or say --set data.axes with an n for the axis of examples"
        )
    return found[0], 1


def _by_ends(array: NamedArray, labels: Sequence[int] | None, name: str, notes: list[str]) -> int:
    """Return which end of an array runs over examples, where its format puts them at either."""
    shape, last = array.shape, len(array.shape) - 1
    if last < 1:
        return 0
    if labels is not None and (shape[0] in labels) != (shape[last] in labels):
        axis = 0 if shape[0] in labels else last
    elif last == 1:
        axis = 0
    else:
        alike = [shape[1] == shape[2] or (last == 3 and shape[2] == shape[3]), shape[last - 1] == shape[last - 2]]
        alike[1] = alike[1] or (last == 3 and shape[0] == shape[1])
        if alike[0] == alike[1] or (last == 2 and shape[0] == shape[1] == shape[2]):
            letters = "yx" if last == 2 else "yxc"
            raise ScorefieldError(
                f"got {array} in {name!r}, whose examples may lie along its first or its last axis, expected to know which: "
                f"say --set data.axes={letters}n if they lie along the last, n{letters} if along the first"
            )
        axis = 0 if alike[0] else last
    where = "first" if axis == 0 else "last"
    notes.append(f"The {shape[axis]:,} examples lie along the {where} axis of {array.name} {shape}.")
    return axis


def _letters(dims: Sequence[str], lengths: Sequence[int], notes: list[str]) -> str | None:
    """Return the letters of axes with names; None if they are those of no kind."""
    names = [dim.lower() for dim in dims]
    known = dict(LETTER)
    known["height"] = "y" if "width" in names or "z" in [known.get(name) for name in names] else "z"
    known |= dict.fromkeys(TIME, "t")
    letters = "".join(known.get(name, "?") for name in names)
    if "z" in letters and "c" not in letters and "y" in letters and lengths[letters.index("z")] <= FEW:
        notes.append(f"{dims[letters.index('z')]}, of {lengths[letters.index('z')]}, was read as channels.")
        letters = letters.replace("z", "c")
    fits = len(set(letters)) == len(letters) and frozenset(letters) - {"c"} in KINDS
    return letters if fits else None
