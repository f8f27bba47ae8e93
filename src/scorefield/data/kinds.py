"""Kinds: what an example of an array is, from its type, its shape and what a person or a format says of its axes.

    (n, d)                           vectors
    (n, a, b)                        images of 8 bits or bool, or where neither side is over twice the other
    (n, a, b), one side at most 4    signals otherwise: the short side is the channels
    (n, h, w, c), (n, c, h, w)       images with c = 1 to 4 channels
    (n, z, y, x, c), (n, c, z, y, x) volumes with c = 1 to 4 channels

Everything else could be two things: it is refused with the settings that say which. `data.axes` names the axes of one example;
`data.kind` says what an example is; `data.shape` folds flat rows first. A guess is said in a note.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scorefield.data.base import DataConfig, Kind
from scorefield.errors import ScorefieldError

FEW = 4  # channels, of which an axis so short is taken for them
LIKE = 2  # times the other side: up to here two axes may be those of a picture
ROW = 64  # numbers of a row, from which 8-bit ones may be the pixels of a picture
FAMOUS = (784, 3072)  # numbers of a picture of MNIST, and of CIFAR
NAMES = {"c": "channels", "t": "times", "z": "planes", "y": "rows", "x": "columns"}
KINDS: dict[frozenset[str], Kind] = {frozenset("t"): "signal", frozenset("yx"): "image", frozenset("zyx"): "volume"}


def meaning_of(
    shape: tuple[int, ...], dtype: np.dtype[Any], name: str, config: DataConfig, axes: str | None
) -> tuple[Kind, str, list[str]]:
    """Return what an example is, and the letters of its axes.

    Args:
        shape: of the array, `(n, ...)`.
        dtype: of the array.
        name: what messages call it.
        config: how it is read.
        axes: of one example, where the format knows them; None otherwise.

    Returns:
        The kind, the letters ("" for a vector), and notes on what was guessed.

    Raises:
        ScorefieldError: a type without numbers, too few axes, settings that do not fit, or two things that it could be.

    >>> import numpy as np
    >>> meaning_of((30, 100, 3), np.dtype("float32"), "x", DataConfig(), None)[:2]
    ('signal', 'tc')
    """
    if dtype.kind not in "fiubc" or len(shape) < 2 or 0 in shape:
        expected = "expected numbers of shape (n, d), (n, h, w), (n, h, w, c) or (n, c, h, w): reshape or convert it"
        raise ScorefieldError(f"got an array of shape {shape} and type {dtype} in {name!r}, {expected}")
    if config.kind == "vector":
        return "vector", "", []
    if (given := config.axes or axes) is not None:
        return _named(shape, name, given, config.kind), given, []
    if len(shape) == 2:
        return _rows(shape, dtype, name, config.kind)
    kind, letters, sure = _by_lengths(shape, dtype, config.kind)
    if kind is None or letters is None:
        raise ScorefieldError(f"got an array of shape {shape} in {name!r}, {_choices(shape, config.kind)}")
    notes = []
    if not sure:
        lengths = ", ".join(f"{size} {NAMES[letter]}" for letter, size in zip(letters, shape[1:], strict=True))
        notes.append(f"Read as {kind}s of {lengths}, by the lengths of the axes; data.kind or data.axes says otherwise.")
    return kind, letters, notes


def _named(shape: tuple[int, ...], name: str, axes: str, asked: str) -> Kind:
    """Return the kind of examples whose axes have these letters."""
    if len(axes) != len(shape) - 1 or len(set(axes)) != len(axes):
        raise ScorefieldError(
            f"got the axes {axes!r} for {name!r}, whose examples have {len(shape) - 1} axes {shape[1:]}, expected a letter for "
            "each, all different: c channels, t time, z y x space"
        )
    kind = KINDS.get(frozenset(axes) - {"c"})
    if kind is None or asked not in ("auto", kind):
        wanted = f"those of {asked}s" if asked != "auto" else "t (signals), y and x (images), or z, y and x (volumes)"
        raise ScorefieldError(f"got the axes {axes!r} for {name!r}, expected {wanted}, and perhaps c: change data.axes")
    return kind


def _rows(shape: tuple[int, ...], dtype: np.dtype[Any], name: str, asked: str) -> tuple[Kind, str, list[str]]:
    """Return what the rows of an array are."""
    if asked == "signal":
        return "signal", "t", []
    if asked != "auto":
        axes = "(n, h, w), (n, h, w, c) or (n, c, h, w)" if asked == "image" else "(n, z, y, x), and perhaps c"
        side = math.isqrt(shape[1])
        folded = f"[{side},{side}]" if side * side == shape[1] else f"[32,32] for rows of {32 * 32:,} numbers"
        fold = f"fold its rows: --set data.shape={folded}"
        raise ScorefieldError(f"got an array of shape {shape} in {name!r}, expected {asked}s, {axes}: reshape it, or {fold}")
    n, d = shape
    notes = []
    if (dtype == np.uint8 and d >= ROW) or d in FAMOUS:
        channels = next((c for c in (1, 3) if d % c == 0 and math.isqrt(d // c) ** 2 * c == d), None)
        side = math.isqrt(d // channels) if channels else 0
        folded = f"[{side},{side}]" if channels == 1 else f"[3,{side},{side}]"
        if channels:
            notes.append(
                f"Read as vectors of {d:,} numbers. If a row is a picture, say --set data.shape={folded} --set "
                f"data.axes={'yx' if channels == 1 else 'cyx, or [' + f'{side},{side},3] with yxc'}."
            )
    if n == d and d >= ROW // 4:
        notes.append(f"Read as {n:,} vectors of {d:,} numbers, though it is as high as wide: one picture is no data set.")
    return "vector", "", notes


def _by_lengths(shape: tuple[int, ...], dtype: np.dtype[Any], asked: str) -> tuple[Kind | None, str | None, bool]:
    """Return the kind and the letters by the lengths of the axes, and whether they are sure; None for what cannot be known."""
    sizes = shape[1:]
    if len(sizes) == 2:
        (short, long), pixels = sorted(sizes), dtype in (np.uint8, np.bool_)
        like = long <= LIKE * short and (pixels or short > FEW or long == short)
        if asked == "signal":
            return "signal", "ct", True
        if asked == "image" or (asked == "auto" and (like or (pixels and short > FEW))):
            return "image", "yx", asked == "image" or pixels
        return (
            ("signal", "tc" if sizes[1] == short else "ct", False) if asked == "auto" and short <= FEW else (None, None, False)
        )
    space, kind = {3: ("yx", "image"), 4: ("zyx", "volume")}.get(len(sizes), ("", "none"))
    if asked == "volume" and len(sizes) == 3:
        return "volume", "zyx", True
    if asked not in ("auto", kind) or not space:
        return None, None, False
    first, last = sizes[0] <= FEW, sizes[-1] <= FEW
    if not first and not last and asked == kind:  # it is said to be an image: the channels are the axis that is far shorter
        first, last = (2 * size < min(rest) for size, rest in ((sizes[0], sizes[1:]), (sizes[-1], sizes[:-1])))
    if first == last and not first:
        return None, None, False
    return kind, f"{space}c" if last else f"c{space}", first != last  # type: ignore[return-value]


def _choices(shape: tuple[int, ...], asked: str) -> str:
    """Return what an array of a shape that cannot be decided may be, and how to say it."""
    sizes = shape[1:]
    letters: Sequence[str]
    if len(sizes) == 2 and asked == "auto":
        return (
            f"expected to know what an example is, pictures of {sizes[0]}x{sizes[1]} or signals: say --set data.kind=image, "
            "or --set data.axes=ct for signals with their channels first (tc: last)"
        )
    match len(sizes):
        case 2:
            letters = {"signal": ["ct", "tc"], "image": ["yx"]}.get(asked, [])
        case 3:
            letters = {"volume": ["zyx"], "image": ["yxc", "cyx"], "auto": ["yxc", "cyx", "zyx"]}.get(asked, [])
        case 4:
            letters = ["zyxc", "czyx"] if asked in ("volume", "auto") else []
        case _:
            letters = []
    if not letters:
        every = "(n, h, w), (n, h, w, c), (n, z, y, x) or (n, z, y, x, c)"
        own = {
            "signal": "(n, t) or (n, c, t)",
            "image": "(n, h, w) or (n, h, w, c)",
            "volume": "(n, z, y, x) or (n, z, y, x, c)",
        }
        fits = own.get(asked, every)
        return f"expected {'' if asked == 'auto' else asked + 's, '}{fits}: reshape it, or choose one of its parts"
    meaning = {"c": "channels", "z": "planes of a volume", "y": "rows", "x": "columns"}
    explained = " or ".join(f"{one} ({', '.join(meaning[letter] for letter in one)})" for one in letters)
    return f"expected to know what its axes are: say --set data.axes={explained}"


def examples_axis(config: DataConfig, ndim: int) -> tuple[int | None, DataConfig]:
    """Return along which axis the examples lie, if `data.axes` says so by an n, and the configuration without it.

    Args:
        config: how the source is read.
        ndim: axes of the whole array.

    >>> examples_axis(DataConfig(axes="yxn"), 3)[0], examples_axis(DataConfig(axes="yx"), 3)[0]
    (2, None)
    """
    axes = config.axes or ""
    if "n" not in axes:
        return None, config
    if len(axes) != ndim or axes.count("n") != 1:
        raise ScorefieldError(f"got data.axes={axes} for an array of {ndim} axes, expected a letter for each: correct it")
    return axes.index("n"), replace(config, axes=axes.replace("n", "") or None)
