"""TIFF stacks as data sets: one file of many examples, or a folder of files with one example or several in each.

What counts examples is decided by `tiff.plan_of`, and said in a note. A folder of plain pictures is read as any folder of
images.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scorefield.data.arrays import ArraySource, of_array
from scorefield.data.base import LEAST, DataConfig, Dataset
from scorefield.data.files import collection
from scorefield.data.files.archives import Entry, folder
from scorefield.data.image import images, tiff
from scorefield.errors import ScorefieldError

Array = NDArray[Any]


def has_pages(path: str) -> bool:
    """Whether the first TIFF of a folder has several pages."""
    first = _first_of(path)
    if first is None:
        return False
    try:
        with open(first, "rb") as stream, Image.open(stream, formats=("TIFF",)) as image:
            return bool(getattr(image, "is_animated", False)) or "images=" in str(image.tag_v2.get(270, ""))  # type: ignore[attr-defined]
    except Exception:  # Pillow knows few of the types of pixels: then it is tifffile that says it
        return _planned(first, "auto") not in (None, "")


def read(source: str, config: DataConfig) -> Dataset:
    """Read a TIFF of many pages, or a folder of them.

    Args:
        source: path of a file or a folder.
        config: how it is read.

    Raises:
        ScorefieldError: tifffile is not installed; a file that is broken, holds one example, or several series of which none
            was asked for.
    """
    if not os.path.isdir(source):
        return _file(source, config)
    if _planned(_first_of(source) or "", config.kind) == "":
        return images.read(folder(source), config)
    return _folder(source, config)


def _file(source: str, config: DataConfig) -> Dataset:
    """Read one file."""
    name = os.path.basename(source)
    try:
        with tiff.opened(source, name) as file:
            series = tiff.series_of(file, config.key)
            plan = tiff.plan_of(series, config.kind, one_a_file=False)
            tiff.check(series, os.path.getsize(source))
            if config.key is None:
                tiff.refuse_cut(file, series)
            if not plan.counted:
                raise ScorefieldError(_alone(name, plan))
            header = tiff.header_of(file, plan)
            examples = tiff.array_of(series, plan)
            about = ArraySource(plan.letters, "tiff", header, **_missing(header, examples.dtype))
            return of_array(tiff.masked(examples, header.get("nodata")), name, config, notes=[_note(plan)], source=about)
    except ScorefieldError:
        raise
    except tiff.Unfit as error:
        raise ScorefieldError(f"got {name!r}, which {error}") from None
    except Exception as error:  # the library raises anything on broken files
        raise ScorefieldError(f"got {name!r}, expected a whole TIFF ({tiff.reason(error)}): save it again") from error


def _folder(source: str, config: DataConfig) -> Dataset:
    """Read a folder of files with a volume, or several examples, in each."""
    plans = list[tiff.Plan]()

    def read_one(entry: Entry) -> tuple[Array, dict[str, Any]]:
        try:
            with tiff.opened(entry.place, entry.path) as file:
                series = tiff.series_of(file, config.key)
                plan = tiff.plan_of(series, config.kind, one_a_file=True)
                tiff.check(series, entry.size)
                if config.key is None:
                    tiff.refuse_cut(file, series)
                found = tiff.array_of(series, plan)
                plans.append(plan)
                whole = found[0 : found.shape[0]] if plan.counted else np.asarray(found)[None]
                return np.array(whole), tiff.header_of(file, plan) | {"letters": plan.letters}
        except ScorefieldError:
            raise
        except Exception as error:
            raise ValueError(tiff.reason(error)) from error

    listing = collection.listing_of(source, tiff.SUFFIXES)
    several = collection.stack(listing, read_one, "TIFF stacks", several=True, alike=("letters", "counted", "axes", "nodata"))
    header = dict(several.header)
    missing = _missing(header, several.array.dtype)
    about = ArraySource(header.pop("letters"), "tiff", header, names=several.names, issues=several.issues, **missing)
    notes = [*several.notes, "In each file: " + _note(plans[0])]
    return of_array(
        tiff.masked(several.array, header.get("nodata")),
        listing.name,
        config,
        labels=several.raw_labels,
        notes=notes,
        source=about,
    )


def _missing(header: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return what `ArraySource` says of whole numbers, some of which stand for an unknown cell."""
    whole = "nodata" in header and np.dtype(dtype).kind in "iu"
    return {"missing": header["nodata"], "dtype": np.dtype(dtype).newbyteorder("=").name} if whole else {}


def _first_of(path: str) -> str | None:
    """Return the path of the first TIFF of a folder."""
    for here, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith(tiff.SUFFIXES) and not name.startswith("."):
                return os.path.join(here, name)
    return None


def _planned(path: str, kind: str) -> str | None:
    """Return the axes of a file beyond those of a picture; None for a file that cannot be read."""
    try:
        with tiff.opened(path, os.path.basename(path)) as file:
            plan = tiff.plan_of(tiff.series_of(file, None), kind, one_a_file=True)
            return "".join(letter for letter in plan.axes if letter not in "CSYX")
    except ScorefieldError:
        raise
    except tiff.Unfit:
        return "?"
    except Exception:
        return None


def _note(plan: tiff.Plan) -> str:
    """Return what was read as what."""
    letters = plan.letters
    unnamed = [a for a in plan.axes if a not in plan.counted and a not in tiff.OURS]
    kind = "volume" if "z" in letters else "image"
    counted = " and ".join(f"{plan.shape[plan.axes.index(a)]} {tiff.NAMES.get(a, 'of axis ' + a)}" for a in plan.counted)
    read_as = f"each of the {counted} is {'an' if kind == 'image' else 'a'} {kind}" if counted else f"one {kind}"
    guess = ""
    if unnamed:
        guess = f"; the file does not say what axis {unnamed[0]} is, and it was read as planes: data.kind=image says otherwise"
    elif set(plan.counted) & {"I", "Q"}:
        guess = "; the file does not say what its pages are: data.kind=volume takes them for the planes of one"
    return f"TIFF of axes {plan.words()}: {read_as}{guess}."


def _alone(name: str, plan: tiff.Plan) -> str:
    """Return the refusal of a file that holds one example."""
    if "z" in plan.letters:
        planes = plan.shape[plan.letters.index("z")]
        advice = f"give the folder that holds them, or say --set data.kind=image to learn its {planes} planes as images"
        return f"got {name!r}, one volume ({plan.words()}), expected at least {LEAST} in a file or in a folder: {advice}"
    advice = "give the folder that holds them"
    return f"got {name!r}, one image ({plan.words()}), expected at least {LEAST} in a file or in a folder: {advice}"
