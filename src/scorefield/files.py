"""Files: written whole or not at all, and never over something that is already there unless asked.

A file is written beside its place under a temporary name, flushed to the disk, and renamed; the folder is flushed last. A
reader, or a run killed at any moment, sees the old file or the new one. Files that belong to each other are written under
`together`: all of them are laid down first, where a full disk is noticed, then renamed one after the other, and put back if
one of the renames fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from scorefield.errors import ScorefieldError

_waiting: ContextVar[list[tuple[Path, Path]] | None] = ContextVar("waiting", default=None)


def flush_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pour(handle: int, content: bytes) -> None:
    """Write everything and flush it: the system may take less than it was given, and says so only in what it returns."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


def put(path: Path, content: bytes) -> None:
    """Write a new file and flush it; nothing of it is left when that fails."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies
    try:
        try:
            _pour(handle, content)
        finally:
            os.close(handle)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; its folder must exist."""
    temporary = path.parent / f".{os.urandom(8).hex()}.partial"
    put(temporary, content)
    waiting = _waiting.get()
    if waiting is None:
        _rename([(temporary, path)])
    else:
        waiting.append((temporary, path))


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Let the files that are written inside take their places together at its end, or none of them.

    Only a kill between two renames leaves a part: what reads them must notice, as a manifest's sha256 does.
    """
    waiting: list[tuple[Path, Path]] = []
    token = _waiting.set(waiting)
    try:
        yield
    except BaseException:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)
        raise
    finally:
        _waiting.reset(token)
    _rename(waiting)


def _rename(pairs: list[tuple[Path, Path]]) -> None:
    """Rename temporary files to their places, in order; if one fails, those before it get their old content back."""
    done: list[tuple[Path, Path]] = []
    try:
        for temporary, path in pairs:
            aside = path.parent / f".{os.urandom(8).hex()}.partial"
            if len(pairs) > 1 and path.exists():
                with contextlib.suppress(OSError):  # a second name for the old file needs no room; some file systems have none
                    os.link(path, aside)
            os.replace(temporary, path)
            done.append((aside, path))
    except BaseException:
        aside.unlink(missing_ok=True)
        for old, path in reversed(done):
            with contextlib.suppress(OSError):
                os.replace(old, path)
        for temporary, _ in pairs:
            temporary.unlink(missing_ok=True)
        raise
    for aside, _ in done:
        aside.unlink(missing_ok=True)
    for folder in dict.fromkeys(path.parent for _, path in pairs):
        flush_folder(folder)


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
    """Hold a folder for this process; the system lets go of it when the process ends, however it ends.

    Raises:
        ScorefieldError: another process holds it.
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
    """Whether a file can be made in a folder, found by making one: permissions, a read-only disk and a full one all count."""
    probe = folder / f".{os.urandom(8).hex()}.partial"
    try:
        put(probe, b"?")
        probe.unlink()
    except OSError:
        return False
    return True


def digest(content: bytes) -> str:
    """Return the sha256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def refuse_existing(path: Path, force: bool, what: str = "a file") -> None:
    """Raise `ScorefieldError` if `path` exists and was not to be overwritten."""
    if path.exists() and not force:
        raise ScorefieldError(
            f"got --out {path}, where there is {what} already, expected a new name: choose another, or add --force"
        )
