"""Files: written whole or not at all, and never over something that is already there unless asked.

A file is written beside its place under a temporary name, flushed to the disk, and renamed; the folder is flushed last. A
reader sees the old file or the new one, and so does a run that goes on after a kill. Files that belong to each other are
written inside `together`: all of them under temporary names first, where a full disk is noticed. Then they are renamed one
after the other, and the old ones come back if a rename fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO

from scorefield.errors import ScorefieldError

RUN = (
    "config.json",
    "manifest.json",
    "model.safetensors",
    "generator.safetensors",
    "metrics.jsonl",
    "sampling.json",
)  # no --force replaces these

_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("waiting", default=None)


def flush_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pour(handle: int, content: bytes) -> None:
    """Write everything and flush it: a write may take a part only, and says so only by the number it returns."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


def put(path: Path, content: bytes) -> None:
    """Write a new file and flush it; if that fails, nothing of it is left."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies
    try:
        try:
            _pour(handle, content)
        finally:
            os.close(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream to write a file piece by piece: the file takes its place at the end, and is deleted if anything fails."""
    temporary = _beside(path)
    try:
        with open(temporary, "xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException as error:
        _drop([temporary])
        _name(error, path)
        raise
    _place(temporary, path)


def new_folder(out: str | Path | None, default: Path) -> Path:
    """Return the path of a folder that is to be made, `default` where none is named.

    Raises:
        ScorefieldError: something is there already, or there is no folder to make it in.
    """
    folder = Path(os.path.normpath(Path(default if out is None else out).expanduser()))
    if os.path.lexists(folder):
        raise ScorefieldError(f"got --out {folder}, which is there already, expected a new folder: choose another")
    if not folder.absolute().parent.is_dir():
        raise ScorefieldError(f"got --out {folder}, expected a folder in one that exists: make {folder.parent} first")
    return folder


@contextlib.contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give a free path with the name of a file, for a library that opens it itself; what is there at the end takes its place.

    A folder may be written there, too, if nothing is at its place yet.
    """
    folder = _beside(path)
    folder.mkdir()
    try:
        yield folder / path.name
        for made in [folder / path.name, *(folder / path.name).rglob("*")]:
            if made.is_file():
                with open(made, "rb") as stream:
                    os.fsync(stream.fileno())
        rename([(folder / path.name, path)])
    except BaseException as error:
        _name(error, path)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, content: bytes, *, first: bool = False) -> None:
    """Write a file atomically; its folder must exist. `first`: of those `together`, it takes its place before all others."""
    temporary = _beside(path)
    try:
        put(temporary, content)
    except OSError as error:
        _name(error, path)
        raise
    _place(temporary, path, first)


def _beside(path: Path) -> Path:
    """Return a new name in the folder of a file. It is short: the file's own may be as long as the system allows."""
    return path.parent / f".{os.urandom(8).hex()}.partial"


def _name(error: BaseException, path: Path) -> None:
    """Put the file into an error of the system that names none, as that of a full disk."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = str(path)


def _place(temporary: Path, path: Path, first: bool = False) -> None:
    """Rename a file to its place: now, or with the others that are written `together`."""
    waiting = _waiting.get()
    if waiting is None:
        rename([(temporary, path)])
    else:
        waiting.insert(0 if first else len(waiting), (temporary, path))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Rename all files that are written inside to their places at the end, or none of them.

    Only a kill between two renames leaves a part. A reader must notice that, as by the sha256 in a manifest.
    """
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
    except BaseException:
        _drop(temporary for temporary, _ in waiting)
        raise
    finally:
        _waiting.reset(token)
    rename(waiting)


def _drop(paths: Iterable[Path]) -> None:
    """Delete files, also those that come after one that cannot be deleted."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink()


def _keep(path: Path) -> Path | None:
    """Give what `path` holds a second name, and return it; None where nothing is there."""
    if not path.exists():
        return None
    aside = _beside(path)
    try:
        os.link(path, aside)  # needs no room
    except OSError:  # some file systems have no links
        put(aside, path.read_bytes())
    return aside


def rename(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Rename files to their places, in order, all or none: if one fails, old files come back and new ones go.

    Args:
        pairs: (temporary path, path). There are no temporary files afterwards, even if it fails.
    """
    begun: list[tuple[Path, Path, Path | None]] = []
    try:
        for temporary, path in pairs:
            begun.append((temporary, path, _keep(path) if len(pairs) > 1 else None))  # one rename is all or none by itself
            os.replace(temporary, path)
        for folder in dict.fromkeys(path.parent for _, path in pairs):
            flush_folder(folder)
    except BaseException:
        for temporary, path, old in reversed(begun if len(pairs) > 1 else []):
            with contextlib.suppress(OSError):
                if temporary.exists():  # had not taken its place
                    _drop([old] if old else [])
                elif old:
                    os.replace(old, path)
                else:
                    path.unlink()
        _drop(temporary for temporary, _ in pairs)
        raise
    _drop(old for _, _, old in begun if old)


def append(path: Path, content: bytes) -> None:
    """Add to the end of a file and flush it; the file is as it was when that fails."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        length = os.fstat(handle).st_size
        try:
            _pour(handle, content)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, length)
            raise
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a folder for this process; the system unlocks it when the process ends, however it ends.

    Raises:
        ScorefieldError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScorefieldError(
                f"got {folder}, in which another process is training now, expected a folder of its own: "
                "wait for it, or choose another --out"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)


def render(value: Any) -> bytes:
    """Return the bytes of a value as JSON that people can read."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable by people."""
    write(path, render(value))


def read_json(path: Path) -> Any:
    """Read JSON; raises `ScorefieldError` naming a file that is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScorefieldError(f"got no file {path}, expected the folder of a run: check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ScorefieldError(f"got a damaged {path} ({error}), expected JSON: restore it or train again") from None


def can_write(folder: Path) -> bool:
    """Whether a file can be made in a folder. One is made: permissions, a read-only disk and a full disk all count."""
    probe = folder / f".{os.urandom(8).hex()}.partial"
    try:
        put(probe, b"?")
        probe.unlink()
    except OSError:
        return False
    return True


def digest(content: bytes) -> str:
    """Return the sha256 of bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def refuse_existing(path: Path, force: bool, option: str = "--out") -> None:
    """Raise `ScorefieldError` if a file may not be written at `path`.

    Args:
        path: where it would go.
        force: it may replace a file; never a folder, nor a file that a run needs.
        option: that named the path.
    """
    got = f"got {option} {path}"
    if path.is_dir():
        raise ScorefieldError(f"{got}, where there is a folder already, expected a file's name: choose another")
    if path.exists() and not force:
        raise ScorefieldError(f"{got}, where there is a file already, expected a new name: choose another, or add --force")
    if (run := _run_that_needs(path)) is not None:
        raise ScorefieldError(f"{got}, which the run {run} needs, expected a name of its own: choose another")


def _run_that_needs(path: Path) -> Path | None:
    """Return the folder of the run that would be damaged without a file; None if there is no such run."""
    if not path.exists():
        return None
    place = path.resolve()
    for folder in list(place.parents)[:3]:
        if all((folder / name).is_file() for name in ("config.json", "manifest.json")):
            parts = [folder / name for name in RUN if (folder / name).exists()]
            inside = "checkpoints" in place.relative_to(folder).parts
            return folder if inside or any(path.samefile(part) for part in parts) else None  # however its name is spelt
    return None
