"""Numbers in whatever holds them, as a plain numpy array, or one sentence why not.

    masked arrays        masked examples are unknown cells, NaN (`unmasked`); in a table, and in `impute`, they are missing;
                         elsewhere, in labels say, they are refused
    subclasses of numpy  become plain arrays (`numpy.matrix` too); one that is not numpy's own may know more (units), which a
                         note says is left out
    tensors of torch     are detached, copied from their device, and made dense; bfloat16 and quantised ones become float32
    sparse matrices      are made dense, up to 8 GiB

`numpy.asarray` and `Tensor.numpy` do only a part of this: the first drops a mask silently and returns the values under it,
often -9999 or 1e20; the second raises on anything that is not strided, dense and of one of numpy's types.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scorefield.errors import ScorefieldError

Array = NDArray[Any]
MOST_DENSE = 2**33  # bytes of a sparse matrix made dense
OWN = (np.ndarray, np.memmap, np.recarray, np.matrix, np.ma.MaskedArray)
FLOATS = (torch.float16, torch.float32, torch.float64)  # the floats of torch that numpy has


def array_of(thing: Any, name: str, notes: list[str] | None = None) -> Array:
    """Return numbers as a plain array of numpy, without a copy where that is possible.

    Args:
        thing: an array of numpy or a subclass of it, a tensor, a sparse matrix, or whatever `numpy.asarray` takes.
        name: what messages call it.
        notes: what was left out is added to them.

    Raises:
        ScorefieldError: a masked value, a tensor without numbers or of several shapes, or a sparse matrix of over 8 GiB.

    >>> array_of(torch.ones(2, dtype=torch.bfloat16), "x")
    array([1., 1.], dtype=float32)
    """
    if isinstance(thing, Tensor):
        return _of_tensor(thing, name)
    if is_sparse(thing):
        _refuse_large(thing.shape, thing.dtype.itemsize, name)
        return np.asarray(thing.toarray())
    refuse_masked(thing, name)
    if isinstance(thing, np.ndarray) and type(thing) not in OWN and notes is not None:
        kind = type(thing).__name__
        notes.append(f"Read as plain numbers: what a {kind} knows besides, such as a unit, was left out.")
    return np.asarray(thing)


def is_sparse(thing: Any) -> bool:
    """Whether something is a sparse matrix or array of scipy; scipy is not imported to find out."""
    scipy = sys.modules.get("scipy.sparse")
    return scipy is not None and bool(scipy.issparse(thing))


def mask_of(thing: Any) -> NDArray[np.bool_] | None:
    """Return where an array, or a list of arrays and numbers, is masked; None where nothing is.

    >>> mask_of([np.ma.masked, 2.0])
    array([ True, False])
    """
    if isinstance(thing, np.ma.MaskedArray):
        mask: NDArray[Any] = np.ma.getmaskarray(thing)
        if mask.dtype.names is not None:
            mask = np.stack([mask[field].reshape(len(mask), -1).any(axis=1) for field in mask.dtype.names], axis=-1)
        return mask if mask.any() else None
    if isinstance(thing, list | tuple) and any(isinstance(one, np.ma.MaskedArray) for one in thing):
        return mask_of(np.ma.stack([np.ma.asanyarray(one) for one in thing]))
    return None


def refuse_masked(thing: Any, name: str) -> None:
    """Raise `ScorefieldError` for masked values, which numpy would hand out as the numbers that lie under the mask."""
    mask = mask_of(thing)
    if mask is not None:
        place = [int(i) for i in np.unravel_index(mask.argmax(), mask.shape)]
        raise ScorefieldError(
            f"got {int(mask.sum())} masked values in {name!r}, the first at {place}, expected none: fill them, or drop their "
            "rows"
        )


def masked_as_nan(thing: Any) -> Any:
    """Return something with NaN where it is masked, as float64; anything without a masked value comes back as it is."""
    mask = mask_of(thing)
    if mask is None:
        return thing
    rows = thing if isinstance(thing, np.ma.MaskedArray) else np.ma.stack([np.ma.asanyarray(one) for one in thing])
    return np.where(mask, np.nan, np.asarray(rows.data, dtype=np.float64))


@dataclass(frozen=True)
class Unmasked:
    """An array without its mask.

    Attributes:
        array: floats, or complex numbers, NaN where they were masked.
        dtype: numpy's name of the type that it had.
        missing: what its masked values are filled with, where that type has no NaN.
    """

    array: Array
    dtype: str
    missing: float | None


def unmasked(thing: Any) -> Unmasked | None:
    """Return an array with NaN where it is masked; None for one without masked values, and for all else.

    Whole numbers become float32, or float64 where they have more than 16 bits.

    >>> unmasked(np.ma.masked_array(np.uint8([3, 4]), [False, True], fill_value=255))
    Unmasked(array=array([ 3., nan], dtype=float32), dtype='uint8', missing=255.0)
    """
    if not isinstance(thing, np.ma.MaskedArray) or thing.dtype.kind not in "fcbiu" or (mask := mask_of(thing)) is None:
        return None
    own, whole = thing.dtype, thing.dtype.kind in "biu"
    wide = np.dtype(np.float32 if own.itemsize <= 2 else np.float64) if whole else own
    values = np.array(thing.data, dtype=wide)
    values[mask] = complex(np.nan, np.nan) if own.kind == "c" else np.nan
    return Unmasked(values, own.newbyteorder("=").name, float(thing.fill_value) if whole else None)


def _of_tensor(tensor: Tensor, name: str) -> Array:
    """Return a tensor as an array."""
    found = f"a tensor ({type(tensor).__name__}, {tensor.dtype}, on {tensor.device})"
    try:
        plain = tensor.detach()
        if plain.is_nested:
            raise ValueError("its examples have several shapes")
        if plain.layout != torch.strided:
            _refuse_large(tuple(plain.shape), plain.element_size(), name)
            plain = plain.to_dense()
        if plain.is_quantized:
            plain = plain.dequantize()
        if plain.is_floating_point() and plain.dtype not in FLOATS:
            plain = plain.float()
        return np.asarray(plain.cpu().resolve_conj().resolve_neg().numpy())
    except ScorefieldError:
        raise
    except Exception as cause:  # torch raises anything: on the device "meta", on masked tensors, on types of a few bits
        why = str(cause).strip().splitlines()[0].rstrip(".")
        raise ScorefieldError(
            f"got {found} in {name!r}, which cannot be read ({why}), expected a dense tensor of numbers: convert it"
        ) from cause


def _refuse_large(shape: tuple[int, ...], itemsize: int, name: str) -> None:
    """Refuse to make a matrix dense that would be too large."""
    size = itemsize
    for length in shape:
        size *= int(length)
    if size > MOST_DENSE:
        raise ScorefieldError(
            f"got a sparse matrix of shape {tuple(shape)} in {name!r}, expected at most {MOST_DENSE >> 30} GiB when dense: "
            "choose columns, or project it to fewer"
        )
