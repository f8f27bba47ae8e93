"""A cache of decoded images on the disk: the second opening of a data set need not decode anything.

What was decoded lies in a file of its own, named by a hash over everything that it depends on: the settings, the versions of
what decoded it, and of every file its path, length, number and times. A file that changes has another hash.

    place      $SCOREFIELD_CACHE, else $XDG_CACHE_HOME/scorefield, else ~/.cache/scorefield; SCOREFIELD_CACHE=off for none
    trust      a file is used whole, with the checksum that was written, and from a folder that no other user may write to
    races      a file takes its place by one rename; what was changed in the last seconds is not remembered, since a second
               change might leave its times as they are
    size       at most 4 GiB in all: what was not used for the longest time goes first

Writing happens beside the work that follows; nothing waits for it, and nothing fails with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from scorefield import __version__
from scorefield.data.files.archives import Listing

Array = NDArray[Any]
SWITCH = "SCOREFIELD_CACHE"
OFF = ("off", "0", "no", "")
WORTH = 500  # files, fewer are decoded soon enough
LARGEST, MOST = 2**30, 2**32  # bytes of one file, and of all
SPARE = 2**31  # bytes of a disk that are left alone
SETTLED = 2.0  # seconds without a change
_writing: list[threading.Thread] = []


def place() -> Path | None:
    """Return the folder of the cache; None where it is switched off."""
    chosen = os.environ.get(SWITCH)
    if chosen is not None:
        return None if chosen.lower() in OFF else Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "scorefield") if os.path.isabs(home) else None


def key_of(listing: Listing, settings: list[Any]) -> str | None:
    """Return the name of what is decoded of a listing; None where it is not to be remembered.

    Args:
        listing: the files.
        settings: all that changes what is decoded, as JSON values.
    """
    if place() is None or listing.amount()[0] < WORTH:
        return None
    try:
        stamps = listing.stamps()
    except OSError:
        return None
    newest = max(max(stamp[-2:]) for stamp in stamps)
    if newest > time.time_ns() - SETTLED * 1e9:
        return None
    made_by = [__version__, PIL.__version__, np.__version__, sys.byteorder, listing.labelled]
    return hashlib.sha256(json.dumps([made_by, settings, stamps]).encode()).hexdigest()


def load(key: str | None) -> tuple[Array, dict[str, Any]] | None:
    """Return the pixels and the rest that `save` wrote; None where there is nothing, or nothing to be trusted."""
    folder = place()
    if key is None or folder is None or not _own(folder):
        return None
    path = folder / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as held:
            pixels, about = held["pixels"], json.loads(held["about"].tobytes())
        if len(pixels) != len(about["paths"]):
            return None
        os.utime(path)
        return pixels, about
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        with contextlib.suppress(OSError):
            path.unlink()
        return None


def save(key: str | None, pixels: Any, about: dict[str, Any]) -> None:
    """Remember what was decoded, in a thread beside the work that follows.

    Args:
        key: of `key_of`.
        pixels: `(n, channels, height, width)`, not to be changed.
        about: the rest, as JSON values, with the "paths" of the examples.
    """
    folder = place()
    array = np.asarray(pixels)
    if key is None or folder is None or array.nbytes > LARGEST:
        return
    thread = threading.Thread(target=_write, args=(folder, key, array, about))
    _writing.append(thread)
    thread.start()


def wait() -> None:
    """Wait until everything is written."""
    while _writing:
        _writing.pop().join()


def _own(folder: Path) -> bool:
    """Whether a folder is there, and only its owner, who runs this, may write to it."""
    try:
        status = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)


def _write(folder: Path, key: str, pixels: Array, about: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # no room, no rights: then it is decoded again
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _own(folder) or shutil.disk_usage(folder).free < pixels.nbytes + SPARE:
            return
        handle, name = tempfile.mkstemp(dir=folder, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as stream:
                np.savez(stream, pixels=pixels, about=np.frombuffer(json.dumps(about).encode(), np.uint8))
            os.replace(name, folder / f"{key}.npz")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        _make_room(folder)


def _make_room(folder: Path) -> None:
    """Delete what was not used for the longest time, and what a killed process left, until the rest is small enough."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            status = path.stat()
            if path.suffix == ".partial" and time.time() - status.st_mtime > 3600:
                path.unlink()
            elif path.suffix == ".npz":
                found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found)[:-1]:
        if total <= MOST:
            break
        path.unlink(missing_ok=True)
        total -= size
