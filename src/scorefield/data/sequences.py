"""Sequences: anything with a length and things by number, decoded once and then read as an array.

A thing is an image of Pillow, an array, a tensor, or a pair of one of them and a label, as data sets for torch give. The kind
of data follows from the type and shape by the rule of `arrays.py`; pictures become 8-bit arrays as files do. What is random in
the sequence (an augmentation) is frozen as it came: data that change while one learns from them have no held-out part.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from scorefield.data import arrays
from scorefield.data.base import LEAST, DataConfig, Dataset
from scorefield.data.decode import _plain, fitted, is_grey
from scorefield.data.store import Store
from scorefield.errors import ScorefieldError

Array = NDArray[Any]


def of_sequence(things: Any, config: DataConfig, *, name: str = "data") -> Dataset:
    """Read a sequence of examples, such as a data set for torch, a list, an array or a tensor.

    Args:
        things: images of Pillow, arrays, tensors or numbers' lists, all of one kind, or pairs `(thing, label)`.
        config: how they are read; images of several sizes need `size`.
        name: what messages call it.

    Returns:
        The data set, in the order of the sequence, with labels when every thing has one.

    Raises:
        ScorefieldError: things that are no examples, of different shapes, or what `arrays.of_array` refuses.

    >>> rows = [([float(i), float(i * i)], i % 2) for i in range(20)]
    >>> of_sequence(rows, DataConfig()).classes
    ('0', '1')
    """
    if isinstance(things, Tensor):
        return arrays.of_array(things.detach().cpu().numpy(), name, config)
    if isinstance(things, np.ndarray):
        return arrays.of_array(things, name, config)
    if len(things) < LEAST:
        raise ScorefieldError(f"got {len(things)} examples in {name!r}, expected at least {LEAST}: add more data")
    first, label = _parted(things[0])
    grey = None
    if isinstance(first, Image.Image):  # one coloured picture makes all of them coloured, so all are looked at before
        grey = all(is_grey(thing.mode) for i in range(len(things)) if isinstance(thing := _parted(things[i])[0], Image.Image))
    for i in range(len(things)):
        thing, own = _parted(things[i])
        try:
            found = _array(thing, grey, config)
        except (TypeError, ValueError, OSError) as cause:
            raise ScorefieldError(f"got example {i} in {name!r}, which cannot be read ({cause}), {WANTED}") from cause
        if i == 0:
            example, labels = found, list[Any]()
            store = Store(len(things), example.shape, example.dtype.type)
        if found.shape != example.shape or found.dtype != example.dtype or (own is None) != (label is None):
            is_, was = (f"shape {one.shape} and type {one.dtype}" for one in (found, example))
            advice = "set data.size to resize them" if grey is not None else "give all of them one shape"
            raise ScorefieldError(f"got example {i} in {name!r} of {is_} after some of {was}, expected them alike: {advice}")
        store.append(found)
        labels.append(own)
    targets = None if label is None else np.array([_label(own, name) for own in labels])
    config = config if grey is None else replace(config, kind="image")
    return arrays.of_array(np.asanyarray(store.finish()), name, config, targets=targets)


WANTED = "expected images, arrays or tensors of numbers, or pairs of one and a label: convert it"


def _parted(thing: Any) -> tuple[Any, Any]:
    """Return a thing and its label, or None where there is none."""
    if isinstance(thing, tuple | list) and len(thing) == 2 and np.ndim(thing[1]) == 0 and not _is_number(thing[0]):
        return thing[0], thing[1]
    return thing, None


def _is_number(thing: Any) -> bool:
    return not isinstance(thing, Image.Image) and np.ndim(thing) == 0


def _label(label: Any, name: str) -> Any:
    """Return a whole number or a text."""
    value = label.item() if isinstance(label, Tensor | np.generic) else label
    if not isinstance(value, int | str):
        raise ScorefieldError(f"got the label {label!r} in {name!r}, expected a whole number or a text: convert it")
    return value


def _array(thing: Any, grey: bool | None, config: DataConfig) -> Array:
    """Return an example as an array; of a picture `(height, width)` if all of them are grey, else `(height, width, 3)`."""
    if isinstance(thing, Image.Image):
        if grey is None:
            raise TypeError("an image among arrays")
        pixels = _plain(ImageOps.exif_transpose(thing), "L" if grey else "RGB", 1)
        if config.size is not None:
            pixels = fitted(pixels.transpose(2, 0, 1), config.size, config.fit).transpose(1, 2, 0)
        return pixels[..., 0] if grey else pixels
    array = thing.detach().cpu().numpy() if isinstance(thing, Tensor) else np.asarray(thing)
    if grey is not None or array.dtype.kind not in "fiub" or array.ndim == 0:
        raise TypeError(f"a {type(thing).__name__}{' among images' if grey is not None else ''}")
    return array
