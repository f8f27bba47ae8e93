"""Places: names of the page become paths of this machine. Nothing outside the runs' folder and the uploads has a name.

    digits                     a run, a folder right under the runs' folder
    photos/cats                data under the runs' folder
    upload:TOKEN/mask.png      a file that was uploaded
    held-out:3                 an example of a run that training never saw

A name with "..", an absolute one, and one that passes through a link are refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from scorefield import registry
from scorefield.errors import ScorefieldError, unknown

UPLOAD, HELD_OUT = "upload:", "held-out:"
UPLOADS = "uploads"  # under the runs' folder: what runs were trained on
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")  # of what the page makes
FOLDER = re.compile(r"[^./\\\x00-\x1f\ud800-\udfff][^/\\\x00-\x1f\ud800-\udfff]{0,199}")  # of a run that is there
SHOWN = (".png", ".gif", ".json", ".jsonl", ".md", ".html", ".csv", ".tsv", ".txt", ".npz", ".npy", ".wav", ".parquet")
MOST_UNPACKED = 2**28  # bytes
MOST_UPLOADS = 50  # files in the temporary folder, of at most 20 MiB each; the one that was used last stays longest


class Places:
    """The runs' folder, and a temporary one for uploads and for what jobs write."""

    def __init__(self, root: Path, temporary: Path) -> None:
        """Hold both folders; the runs' folder need not exist yet."""
        self.root, self.temporary = Path(os.path.abspath(root)), temporary

    # --- runs ---------------------------------------------------------------------------------------------------------

    def runs(self) -> Iterator[str]:
        """Yield the names of the runs, the one that was changed last first."""
        found = list[tuple[float, str]]()
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            with contextlib.suppress(OSError):
                if self._may_be_run(folder.name) and (folder / "config.json").is_file():
                    found.append(((folder / "manifest.json").stat().st_mtime, folder.name))
        yield from (name for _, name in sorted(found, reverse=True))

    def _may_be_run(self, name: str) -> bool:
        """Whether a name can be shown, and is neither that of the uploads nor that of a link to another place."""
        return bool(FOLDER.fullmatch(name)) and name != UPLOADS and not (self.root / name).is_symlink()

    def run(self, name: Any) -> Path:
        """Return the folder of a run; raises `ScorefieldError` for a name that none has, with a did-you-mean."""
        known = list(self.runs())
        if not isinstance(name, str) or name not in known:
            raise unknown("run", str(name), known)
        return self.root / name

    def new_run(self, name: Any) -> Path:
        """Return the folder of a run to be; raises `ScorefieldError` for a name that is no plain one."""
        is_plain = isinstance(name, str) and self._may_be_run(name) and (NAME.fullmatch(name) or name in self.runs())
        if not isinstance(name, str) or not is_plain:
            raise ScorefieldError(
                f"got out {name!r}, expected the name of a new run, of letters, digits, dots and dashes: write another"
            )
        return self.root / name

    def source_of(self, name: Any) -> str:
        """Return what an unfinished run was trained on, as its configuration says."""
        folder = self.run(name)
        manifest, config = read_json(folder / "manifest.json"), read_json(folder / "config.json")
        path = ((manifest or {}).get("data") or {}).get("path")
        return str(path or (config or {}).get("source") or "")

    def file(self, folder: Path, name: str) -> Path:
        """Return a file of a kind that the page shows, in a folder; raises `ScorefieldError` where there is none."""
        path = self._inside(folder, name)
        if path.suffix not in SHOWN or not path.is_file():
            raise ScorefieldError(f"got {name!r}, where there is no file to show, expected one that is listed: choose it")
        return path

    def _inside(self, folder: Path, name: str) -> Path:
        """Return a path under a folder that passes through no link; raises `ScorefieldError` for any other."""
        parts = PurePosixPath(name).parts
        lengths = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
        plain = bool(parts) and not name.startswith("/") and max(lengths) < 256 and sum(lengths) < 1024
        plain = plain and not any(part == ".." or "\\" in part or "\0" in part for part in parts)
        path = folder
        for part in parts if plain else ():
            path = path / part
            plain = plain and not path.is_symlink()
        if not plain:
            raise ScorefieldError(
                f"got {name!r}, which leaves the folder it was looked for in, expected a name inside it: choose one"
            )
        return path

    # --- data ---------------------------------------------------------------------------------------------------------

    def source(self, name: Any) -> str:
        """Return what a verb takes as its source: a built-in name as it is, or the path of data or of an upload.

        Raises:
            ScorefieldError: no such data, or a place that is not for the page.
        """
        if not isinstance(name, str) or not name:
            raise ScorefieldError(f"got source {name!r}, expected the name of data: choose one, or upload a file")
        if name.startswith(UPLOAD):
            return str(self.upload(name))
        if name in (builtin := registry.written("source")):
            return name
        path = self._inside(self.root, name)
        if not path.exists():
            raise unknown("data", name, [*builtin, *self.folders()])
        return str(path)

    def folders(self) -> list[str]:
        """Return what under the runs' folder may be data: folders that are no runs, and files, two levels deep at most."""
        found = list[str]()
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            is_closed = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
            if path.name.startswith(".") or path.is_symlink() or is_closed or (path / "config.json").exists():
                continue
            if path.name != UPLOADS:
                found.append(path.name)
            if path.is_dir():
                inside = [one for one in sorted(path.iterdir())[:200] if not one.name.startswith(".") and not one.is_symlink()]
                found += [f"{path.name}/{one.name}" for one in inside if one.is_dir() or path.name == UPLOADS]
        return found

    # --- uploads ------------------------------------------------------------------------------------------------------

    def new_upload(self, name: str) -> tuple[str, Path]:
        """Return the name that an upload will have on the page, and the path to write it to.

        Raises:
            ScorefieldError: a name that is no plain one.
        """
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(name.replace("\\", "/")).name).lstrip(".-")[-80:]
        if not plain:
            raise ScorefieldError(f"got an upload called {name[:80]!r}, expected the name of a file: rename it")
        folder = self.temporary / "uploads"
        folder.mkdir(exist_ok=True)
        used = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime)
        for oldest in used[: max(0, len(used) + 1 - MOST_UPLOADS)]:
            shutil.rmtree(oldest, ignore_errors=True)
        token = secrets.token_urlsafe(9)
        (folder / token).mkdir()
        return f"{UPLOAD}{token}/{plain}", folder / token / plain

    def upload(self, name: str) -> Path:
        """Return the path of an upload; raises `ScorefieldError` if there is none of this name."""
        path = self._inside(self.temporary / "uploads", name.removeprefix(UPLOAD))
        if not path.is_file():
            raise ScorefieldError(f"got {name!r}, which is not here any more, expected an upload: upload the file again")
        os.utime(path.parent)  # it was used
        return path

    def keep(self, name: str) -> tuple[Path, Path | None]:
        """Copy an upload to where a run will find it again, under a free name.

        Returns:
            Its path, and the path again if the copy is new: the same content may be there already.
        """
        given, folder = self.upload(name), self.root / UPLOADS
        folder.mkdir(parents=True, exist_ok=True)
        stem, ending = (given.name.partition(".")[0], "".join(given.suffixes))
        for number in range(1, 10_000):
            path = folder / (given.name if number == 1 else f"{stem}-{number}{ending}")
            try:
                with open(path, "xb") as stream, open(given, "rb") as content:
                    shutil.copyfileobj(content, stream)
            except FileExistsError:
                if path.is_file() and path.read_bytes() == given.read_bytes():
                    return path, None
                continue
            return path, path
        raise ScorefieldError(f"got {given.name!r}, whose name is taken ten thousand times, expected a free one: rename it")

    def operator(self, text: Any) -> str:
        """Return an operator's text with the path of each upload in it; raises `ScorefieldError` for any other path.

        >>> Places(Path("runs"), Path("tmp")).operator("blur:2,downsample:4")
        'blur:2,downsample:4'
        """
        if not isinstance(text, str):
            raise ScorefieldError(f"got operator {text!r}, expected a text such as blur:2: write one")
        parts = list[str]()
        for part in text.split(","):
            name, colon, argument = part.partition(":")
            if argument.startswith(UPLOAD):
                argument = str(self.upload(argument))
            elif re.search(r"[/\\~]|\.[A-Za-z]", argument):
                raise ScorefieldError(
                    f"got operator {part!r}, which names a file of the server, expected an upload: upload the file"
                )
            parts.append(f"{name}{colon}{argument}")
        return ",".join(parts)


def check_unpacked(path: Path) -> None:
    """Refuse a .zip or .npz of which little holds much: what is made of it needs several times its unpacked size in memory.

    Raises:
        ScorefieldError: it unpacks to more than the page takes, or its list of contents cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ScorefieldError(
            f"got {path.name}, which cannot be read ({error}), expected a whole file: pack it again"
        ) from None
    if size > MOST_UNPACKED:
        raise ScorefieldError(
            f"got {path.name}, which unpacks to {size:,} bytes, expected at most {MOST_UNPACKED:,} on the page: put it into "
            "the runs' folder, or use the command"
        )


def read_json(path: Path) -> Any:
    """Return the value of a JSON file, None for one that is missing or being written."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None
