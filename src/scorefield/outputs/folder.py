"""A folder of pictures: one `.png` for each image, and a list of them, `samples.jsonl`.

The list has a line on the set, then one for each picture with its sha256 and its class. It says which pictures belong to an
earlier set: they alone may be replaced by --force, and only as they were written.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from scorefield import __version__, files, pictures
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import TOOL, Add, Output, Writer

LIST = "samples.jsonl"


class _Folder(Writer):
    def check_place(self, output: Output) -> None:
        earlier(output.path, output.n, output.force)

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """Write the list before the pictures, with both what was there and what comes.

        So a kill between two of them leaves nothing that is not on the list.
        """
        run, target, lines = output.run, output.path, list[str]()
        made = not target.exists()
        target.mkdir(exist_ok=True)

        def add(raw: Tensor, labels: Tensor | None) -> None:
            for index, pixels in enumerate(output.pixels(raw)):
                name, content = _name(len(lines)), pictures.png(pictures.image(pixels))
                files.write(target / name, content)
                line = {"file": name, "sha256": files.digest(content)}
                line |= {} if labels is None else {"class": run.classes[int(labels[index])]}
                lines.append(json.dumps(line, ensure_ascii=False))

        def listing(*more: str) -> bytes:
            head = {"written_by": TOOL, "version": __version__, "run": run.path.resolve().name, **about, "samples": output.n}
            return "\n".join([json.dumps(head, ensure_ascii=False), *lines, *more, ""]).encode("utf-8", "backslashreplace")

        try:
            with files.together():
                yield add
                old = earlier(target, output.n, output.force)  # again: it may have changed while the samples were drawn
                before = (json.dumps({"file": name, "sha256": one}) for name, hashes in old.items() for one in hashes)
                files.write(target / LIST, listing(*before), first=True)
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    target.rmdir()
            raise
        if old:
            for name in old.keys() - {_name(index) for index in range(output.n)}:
                (target / name).unlink(missing_ok=True)  # a smaller set keeps no pictures of a larger one
            files.write(target / LIST, listing())


WRITER = _Folder()


def earlier(target: Path, n: int, force: bool) -> dict[str, list[str]]:
    """Return the pictures of an earlier set that a set of n may replace, name -> sha256; or refuse, naming what is in the way.

    Raises:
        ScorefieldError: the folder holds something and no list, a picture of the list has changed, a name is taken by something
            that is not on the list, or all is well and `force` is missing.
    """
    inside = {path.name for path in target.iterdir() if not _is_partial(path.name)} if target.exists() else set()
    if not inside:
        return {}
    got, listed = f"got --out {target}", _listed(target / LIST)
    if not listed:
        raise ScorefieldError(
            f"{got}, a folder with files ({min(inside)}) that no {LIST} of {TOOL} lists, expected a new or an empty one: "
            "choose another name"
        )
    if not force:
        raise ScorefieldError(f"{got}, where there are samples already, expected a new name: choose another, or add --force")
    there = {name: hashes for name, hashes in listed.items() if name in inside}
    changed = [name for name, hashes in there.items() if not _has_one_of(target / name, hashes)]
    taken = [name for name in (_name(index) for index in range(n)) if name in inside and name not in there]
    for names, why in ((changed, f"changed since {TOOL} wrote it"), (taken, f"was not written by {TOOL}")):
        if names:
            more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
            raise ScorefieldError(
                f"{got}, where {min(names)}{more} {why}, expected nothing of yours in the way: move it, or choose another name"
            )
    return there


def _name(index: int) -> str:
    return f"{index:05d}.png"


def _is_partial(name: str) -> bool:
    """Whether a name is that of a file which a killed process did not finish."""
    return name.startswith(".") and name.endswith(".partial")


def _has_one_of(path: Path, hashes: list[str]) -> bool:
    """Whether a path is a plain file with one of these sha256."""
    return path.is_file() and not path.is_symlink() and files.digest(path.read_bytes()) in hashes


def _listed(path: Path) -> dict[str, list[str]]:
    """Return the pictures on a folder's list, name -> every sha256 it gives; nothing where the list is not one of ours."""
    listed: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # another program's file of that name
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        if json.loads(head)["written_by"] != TOOL:
            return {}
        for line in lines:
            entry = json.loads(line)
            if re.fullmatch(r"\d{5,}\.png", entry["file"]):  # a plain name: a list may come from anywhere
                listed.setdefault(entry["file"], []).append(entry["sha256"])
    return listed
