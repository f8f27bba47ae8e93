"""Sequences: anything with a length and examples by number, decoded once and then read as an array.

An example is an image of Pillow, an array, a tensor, numbers, or one of them with a label, as data sets for torch give:

    tuples        (example, label); a tuple of one is the example alone; a tuple of numbers is a vector
    dictionaries  the label is called label, labels, y, target..., and the only other entry is the example
    labels        whole numbers, texts, bytes, or one-hot rows; the `targets` of a data set that gives none with its examples

The kind of data follows from the type and shape by the rule of `arrays.py`; pictures are read as files are, those of 16 bits
or of floats as they are. What is random in the sequence (an augmentation) is read once and stays so: data that change while one
learns from them have no held-out part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import LEAST, DataConfig, Dataset
from scorefield.data.image.decode import Wanted, is_grey, pixels_of, resized
from scorefield.data.labels import EXAMPLES, LABELS, RawLabels, is_one_hot
from scorefield.data.numeric import array_of, is_sparse, masked_as_nan, unmasked
from scorefield.data.spill import SpillBuffer
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
WANTED = "expected images, arrays or tensors of numbers, or pairs of one and a label: convert it"


def of_sequence(things: Any, config: DataConfig, *, name: str = "data") -> Dataset:
    """Read a sequence of examples, such as a data set for torch, a list, an array or a tensor.

    Args:
        things: images of Pillow, arrays, tensors or lists of numbers, all of one kind, or each with a label; or a pair (X, y)
            of one array of all examples and one of all labels.
        config: how they are read; images of several sizes need `size`.
        name: what messages call it.

    Returns:
        The data set, in the order of the sequence, with labels when every example has one.

    Raises:
        ScorefieldError: no examples, examples of different shapes, or what `of_array` refuses.

    >>> rows = [([float(i), float(i * i)], i % 2) for i in range(20)]
    >>> of_sequence(rows, DataConfig()).classes
    ('0', '1')
    """
    notes: list[str] = []
    if _is_array(things):
        array, source = _whole(things, name, notes)
        return of_array(array, name, config, notes=notes, source=source)
    if isinstance(things, tuple) and len(things) == 2 and all(map(_is_array, things)) and np.ndim(things[0]) >= 2:
        targets = array_of(things[1], name, notes)
        if len(targets) == len(things[0]):
            array, source = _whole(things[0], name, notes)
            return of_array(array, name, config, labels=RawLabels(targets), notes=notes, source=source)
    count = _length(things, name)
    if count < LEAST:
        raise ScorefieldError(f"got {count} examples in {name!r}, expected at least {LEAST}: add more data")
    grey = _are_grey(things, count, name)
    array, own = _stacked(things, count, grey, config, name)
    values = _targets(things, count) if own is None else np.array([_label(one, name) for one in own])
    labels = RawLabels(values, _class_names(things), names_certain=False)
    config = config if grey is None else replace(config, kind="image")
    axes = None if grey is None else "yx" if grey else "yxc"
    return of_array(array, name, config, labels=labels, notes=notes, source=ArraySource(axes))


def _whole(things: Any, name: str, notes: list[str]) -> tuple[Array, ArraySource]:
    """Return one array of all examples, NaN where it is masked, and what is known of it."""
    found = unmasked(things)
    if found is None:
        return array_of(things, name, notes), ArraySource()
    return found.array, ArraySource(missing=found.missing, dtype=found.dtype)


def _are_grey(things: Any, count: int, name: str) -> bool | None:
    """Return whether all examples are grey pictures, since one coloured picture makes all coloured; None for other data."""
    if not isinstance(_separated(things[0], name, 0)[0], Image.Image):
        return None
    examples = (_separated(things[i], name, i)[0] for i in range(count))
    return all(is_grey(example.mode) for example in examples if isinstance(example, Image.Image))


def _stacked(things: Any, count: int, grey: bool | None, config: DataConfig, name: str) -> tuple[Array, list[Any] | None]:
    """Return all examples as one array `(n, *shape)`, and the label of each, or None where there are none."""
    labels = list[Any]()
    for i in range(count):
        thing, label = _separated(things[i], name, i)
        try:
            example = _array(thing, grey, config, f"{name}[{i}]")
        except ScorefieldError:
            raise
        except (TypeError, ValueError, OSError) as cause:
            raise ScorefieldError(f"got example {i} in {name!r}, which cannot be read ({cause}), {WANTED}") from cause
        if i == 0:
            first, labelled = example, label is not None
            stored = SpillBuffer(count, first.shape, first.dtype.type)
        if example.shape != first.shape or example.dtype != first.dtype or (label is not None) != labelled:
            is_, was = (f"shape {one.shape} and type {one.dtype}" for one in (example, first))
            advice = "set data.size to resize them" if grey is not None else "give all of them one shape"
            advice = advice if example.shape != first.shape else "convert them to one type"
            raise ScorefieldError(
                f"got example {i} in {name!r} of {is_} after examples of {was}, expected them alike: {advice}"
            )
        stored.append(example)
        labels.append(label)
    return np.asanyarray(stored.finish()), labels if labelled else None


def _is_array(thing: Any) -> bool:
    return isinstance(thing, Tensor | np.ndarray) or is_sparse(thing)


def _length(things: Any, name: str) -> int:
    """Return how many examples there are; refuse what has no length or gives no examples by number."""
    kind = type(things).__name__
    if hasattr(things, "dataset") and hasattr(things, "batch_size"):
        raise ScorefieldError(f"got a {kind}, which gives batches, expected the data set behind it: pass its .dataset")
    try:
        count = len(things)
    except TypeError:
        count = None
    if count is None or not hasattr(things, "__getitem__"):
        advice = "give a list of the examples, or an array, a data frame or a path"
        raise ScorefieldError(f"got {kind} for {name!r}, expected something with a length and examples by number: {advice}")
    return int(count)


def _separated(thing: Any, name: str, place: int) -> tuple[Any, Any]:
    """Return an example and its label, or None where there is none."""
    if isinstance(thing, Mapping):
        return _of_mapping(thing, name, place)
    if not isinstance(thing, tuple | list) or all(map(_is_number, thing)):
        return thing, None
    if isinstance(thing, tuple) and len(thing) == 1:  # as TensorDataset(x) gives
        return thing[0], None
    if len(thing) == 2 and not _is_number(thing[0]) and _is_label(thing[1], strict=isinstance(thing, list)):
        return thing[0], thing[1]
    if isinstance(thing, tuple):
        held = ", ".join(type(part).__name__ for part in thing)
        raise ScorefieldError(
            f"got example {place} in {name!r} as a tuple of {held}, expected the example alone or (example, label): give no "
            "more than these two, in this order"
        )
    return thing, None


def _of_mapping(thing: Mapping[Any, Any], name: str, place: int) -> tuple[Any, Any]:
    """Return the example and the label of a dictionary."""
    label = next((key for key in LABELS if key in thing), None)
    others = [key for key in thing if key != label]
    key = next((key for key in EXAMPLES if key in thing), others[0] if len(others) == 1 else None)
    if key is None or _is_number(thing[key]):
        held = ", ".join(map(repr, thing))
        advice = "keep one image or array in it, or make a data frame of records of numbers: pandas.DataFrame(list)"
        raise ScorefieldError(
            f"got example {place} in {name!r} as a dictionary of {held}, expected one example and a label: {advice}"
        )
    return thing[key], None if label is None else thing[label]


def _is_number(thing: Any) -> bool:
    return not isinstance(thing, Image.Image | Mapping | str | bytes) and not is_sparse(thing) and np.ndim(thing) == 0


def _is_label(thing: Any, *, strict: bool) -> bool:
    """Whether something is a label: one value, or, as the second of a tuple, an array of one value or a one-hot row."""
    if isinstance(thing, Image.Image | Mapping):
        return False
    if thing is None or isinstance(thing, str | bytes) or np.ndim(thing) == 0:
        return True
    if strict or not _is_array(thing) or np.ndim(thing) != 1:
        return False
    values = array_of(thing, "label")
    return values.size == 1 or is_one_hot(values[None])


def _label(label: Any, name: str) -> Any:
    """Return a whole number or a text."""
    value = label
    if _is_array(label) and np.ndim(label) == 1 and len(label) > 1:
        value = int(array_of(label, name).argmax())
    elif isinstance(label, Tensor | np.ndarray | np.generic):
        value = label.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int | str):
        raise ScorefieldError(f"got the label {label!r} in {name!r}, expected a whole number or a text: convert it")
    return value


def _targets(things: Any, count: int) -> Array | None:
    """Return the labels that a data set holds beside its examples, as those of torchvision do, or None."""
    held = getattr(things, "targets", None)
    if held is None or not hasattr(held, "__len__") or len(held) != count:
        return None
    return array_of(held, "targets")


def _class_names(things: Any) -> Array | None:
    """Return the names of the classes that a data set holds, or None."""
    held = getattr(things, "classes", None)
    if not isinstance(held, list | tuple) or not all(isinstance(one, str) for one in held):
        return None
    return np.array(held)


def _array(thing: Any, grey: bool | None, config: DataConfig, name: str) -> Array:
    """Return an example as an array; of a picture `(height, width)` if all of them are grey, else `(height, width, 3)`."""
    if isinstance(thing, Image.Image):
        if grey is None:
            raise TypeError("an image among arrays")
        pixels = _pixels(ImageOps.exif_transpose(thing), grey)
        if config.size is not None:
            size = (config.size, config.size) if isinstance(config.size, int) else config.size
            wanted = Wanted(size, pixels.shape[2], pixels.dtype.name, config.fit)
            pixels = resized(pixels.transpose(2, 0, 1), wanted).transpose(1, 2, 0)
        return pixels[..., 0] if grey else pixels
    found = unmasked(thing)
    if found is not None and found.missing is None:
        array = found.array
    else:  # a masked array of whole numbers is refused: floats among them would be of another type
        array = array_of(masked_as_nan(thing) if isinstance(thing, list | tuple) else thing, name)
    if isinstance(thing, np.matrix) and len(array) == 1:
        array = array[0]  # a row of a matrix is a matrix of one row
    if grey is not None or array.dtype.kind not in "fiub" or array.ndim == 0:
        raise TypeError(f"a {type(thing).__name__}{' among images' if grey is not None else ''}")
    return array


def _pixels(image: Image.Image, grey: bool) -> Array:
    """Return the pixels of an image `(height, width, channels)`: of 16 or 32 bits and of floats as they are."""
    if image.mode not in ("F", "I") and not image.mode.startswith("I;"):
        return pixels_of(image, "L" if grey else "RGB", 1)
    if not grey:
        raise TypeError(f"a grey image of mode {image.mode} among colours")
    stored = np.asarray(image)
    return stored.astype(stored.dtype.newbyteorder("="))[..., None]
