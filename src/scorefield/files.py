"""Files: written whole or not at all, and never over something that is already there unless asked.

A file is written beside its place under a temporary name, flushed to the disk, and renamed; the folder is flushed last. A
reader, or a run killed at any moment, sees the old file or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from scorefield.errors import ScorefieldError


def flush_folder(folder: Path) -> None:
    """Make renames inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, content: bytes) -> None:
    """Write a file atomically; its folder must exist."""
    temporary = path.parent / f".{os.urandom(8).hex()}.partial"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # the umask applies
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable by people."""
    write(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON; raises `ScorefieldError` naming a file that is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ScorefieldError(f"got no file {path}, expected the folder of a run: check the path") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ScorefieldError(f"got a damaged {path} ({error}), expected JSON: restore it or train again") from None


def digest(content: bytes) -> str:
    """Return the sha256 of some bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def refuse_existing(path: Path, force: bool, what: str = "a file") -> None:
    """Raise `ScorefieldError` if `path` exists and was not to be overwritten."""
    if path.exists() and not force:
        raise ScorefieldError(
            f"got --out {path}, where there is {what} already, expected a new name: choose another, or add --force"
        )
