"""What came in goes out: for every format that can be written, every kind of data and every type.

    array -> file -> data set -> model space -> samples as the source holds them -> file -> the array

equals the array: exactly for whole numbers, to the rounding of float32 for floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from helpers import each_case
from pydantic import ValidationError

from scorefield import ScorefieldError, registry
from scorefield.data import DataConfig, open_source
from scorefield.data.formats import Format, writers
from scorefield.data.layout import Layout

R = np.random.default_rng(3)
KINDS = {"image": ("yx", (7, 9)), "volume": ("zyx", (5, 6, 7)), "signal": ("ct", (2, 50)), "vector": ("", (5,))}
TYPES = ("uint8", "uint16", "int16", "float32")
WHOLE = ("uint8", "uint16", "int16")
REFUSED = {  # a rate, or a slope, that only the format's own files have
    (".idx3-ubyte", "uint16"), (".dcm", "float32"), *((ending, dtype) for ending in (".wav", ".flac") for dtype in WHOLE),
}  # fmt: skip
ENDINGS = sorted({ending for kind in KINDS for ending in writers(kind)})
CASES = [  # every ending with every kind of data and with every type: where it has several kinds, each takes two types
    (ending, kind, dtype)
    for ending in ENDINGS
    for kinds in [[kind for kind in KINDS if ending in writers(kind)]]
    for place, kind in enumerate(kinds)
    for dtype in (TYPES if len(kinds) == 1 else TYPES[place % 2 :: 2])
]


def some(kind: str, dtype: str) -> np.ndarray:
    """Twelve examples that use the range of their type; floats, as of sound, lie in -1 to 1."""
    shape = (12, *KINDS[kind][1])
    if dtype == "float32":
        return R.uniform(-0.95, 0.95, shape).astype("f4")
    ends = np.iinfo(dtype)
    return R.integers(ends.min, ends.max, shape, endpoint=True).astype(dtype)


def write(form: Format, place: Path, ending: str, samples: np.ndarray, layout: Layout) -> str:
    """Write samples to one file, or to a folder with a file for each; return what to open."""
    if not form.one_a_file:
        form.write(str(place) + ending, samples, layout)
        return str(place) + ending
    place.mkdir()
    for index, sample in enumerate(samples):
        form.write(str(place / f"{index:02d}{ending}"), sample, layout)
    return str(place)


def opened(source: str, kind: str) -> Any:
    """The data set; the kind is said, and the axes where the file alone cannot say them."""
    helps = ({"kind": kind}, {"axes": KINDS[kind][0]}, {"axes": "n" + KINDS[kind][0]})
    refusals = []
    for given in helps:
        try:
            return open_source(source, DataConfig(held_out=0.25, **given))
        except (ScorefieldError, ValidationError) as error:
            refusals.append(f"{given}: {error}")
    raise AssertionError(refusals)


def back(data: Any) -> np.ndarray:
    """All examples through model space, as the source would hold them."""
    spaces = (data.normaliser.encode(part[:]).double() for part in (data.train, data.held_out))
    return np.concatenate([data.layout.to_source(data.normaliser.decode(x).numpy()) for x in spaces])


def same(got: Any, wanted: np.ndarray, layout: Layout) -> None:
    """Assert that a data set has these examples, in any order of the examples and of the axes of its file."""
    one, other = data_raw(got), layout.to_raw(wanted)
    assert one.shape == other.shape
    one, other = (rows[np.lexsort(rows[:, :3].T)] for rows in (one.reshape(len(one), -1), other.reshape(len(other), -1)))
    rounding = 0 if wanted.dtype.kind in "iu" else 2**-20 * float(np.abs(wanted).max())
    assert np.abs(one.astype("f8") - other.astype("f8")).max() <= rounding


def data_raw(data: Any) -> np.ndarray:
    """What the source would hold of all examples, channels first."""
    return data.layout.to_raw(back(data))


@each_case(ending__kind__dtype=CASES)
def test_samples_in_a_format_are_the_data_of_the_next_run(tmp_path: Path, ending: str, kind: str, dtype: str) -> None:
    form, samples, (axes, shape) = writers(kind)[ending], some(kind, dtype), KINDS[kind]
    layout = Layout(axes, dtype, shape, format=registry.name_of("format", form))
    try:
        source = write(form, tmp_path / "first", ending, samples, layout)
    except ScorefieldError:
        assert (ending, dtype) in REFUSED, "a format refuses a type that it should hold"
        return
    data = opened(source, kind)
    assert (data.kind, data.layout.dtype, data.layout.format) == (kind, dtype, layout.format)
    same(data, samples, layout)
    again = write(form, tmp_path / "second", ending, back(data), data.layout)
    same(opened(again, kind), samples, layout)
