"""A folder of files: one for each sample, and a list of them, `samples.jsonl`.

An image of 8 bits is a `.png`, and so is a mask, of one bit; one of 16 bits and one channel is a `.png` of 16 bits; others are
files of the format that the data came in, if it has a file for each, else `.npy`.

The list has a line on the set, then one for each file with its sha256 and its class. It says which files belong to an earlier
set: they alone may be replaced by --force, and only as they were written.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from scorefield import __version__, files, pictures
from scorefield.errors import ScorefieldError
from scorefield.outputs.base import TOOL, Add, Output, Writer

LIST = "samples.jsonl"


class _Folder(Writer):
    def check_place(self, output: Output) -> None:
        earlier(output.path, output.n, output.force, _ending(output))

    def check(self, output: Output) -> None:
        if output.form:
            output.form.check(_name(0, _ending(output)), output.run.layout)

    @contextlib.contextmanager
    def writing(self, output: Output, about: Mapping[str, Any]) -> Iterator[Add]:
        """Write the list before the files, with both what was there and what comes.

        So a kill between two of them leaves nothing that is not on the list.
        """
        run, target, lines, ending = output.run, output.path, list[str](), _ending(output)
        made = not target.exists()
        target.mkdir(exist_ok=True)

        def add(raw: Tensor, labels: Tensor | None) -> None:
            for index, content in enumerate(_contents(output, raw, ending)):
                name = _name(len(lines), ending)
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
                old = earlier(target, output.n, output.force, ending)  # again: it may have changed while the samples were drawn
                before = (json.dumps({"file": name, "sha256": one}) for name, hashes in old.items() for one in hashes)
                files.write(target / LIST, listing(*before), first=True)
        except BaseException:
            if made:
                with contextlib.suppress(OSError):
                    target.rmdir()
            raise
        if old:
            for name in old.keys() - {_name(index, ending) for index in range(output.n)}:
                (target / name).unlink(missing_ok=True)  # a smaller set keeps no files of a larger one
            files.write(target / LIST, listing())


WRITER = _Folder()


def _ending(output: Output) -> str:
    """Return the ending of a sample's file."""
    if output.form:
        return output.form.writes[0]
    layout, channels = output.run.layout, output.run.shape[0]
    small = layout.dtype in ("uint8", "bool") and channels in ((1,) if layout.legal else (1, 3))
    return ".png" if small or (layout.dtype == "uint16" and channels == 1) else ".npy"


def _contents(output: Output, raw: Tensor, ending: str) -> Iterator[bytes]:
    """Yield the content of each sample's file."""
    run = output.run
    if output.form is None and ending == ".png" and run.layout.dtype != "uint16" and not run.layout.legal:
        for pixels in output.pixels(raw):
            yield pictures.png(pictures.image(pixels))
        return
    for sample in run.to_source(raw):
        if output.form:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"sample{ending}"
                output.form.write(str(path), sample if output.form.one_a_file else sample[None], run.layout)
                yield path.read_bytes()
        elif ending == ".png":
            yield pictures.png(pictures.image(sample.reshape(run.shape[1:])))
        else:
            buffer = io.BytesIO()
            np.save(buffer, sample, allow_pickle=False)
            yield buffer.getvalue()


def earlier(target: Path, n: int, force: bool, ending: str = ".png") -> dict[str, list[str]]:
    """Return the files of an earlier set that a set of n may replace, name -> sha256; or refuse, naming what is in the way.

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
    taken = [name for name in (_name(index, ending) for index in range(n)) if name in inside and name not in there]
    for names, why in ((changed, f"changed since {TOOL} wrote it"), (taken, f"was not written by {TOOL}")):
        if names:
            more = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
            raise ScorefieldError(
                f"{got}, where {min(names)}{more} {why}, expected only files that it wrote: move it, or choose another name"
            )
    return there


def _name(index: int, ending: str) -> str:
    return f"{index:05d}{ending}"


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
            if re.fullmatch(r"\d{5,}(\.[a-z0-9]+){1,2}", entry["file"]):  # a plain name: a list may come from anywhere
                listed.setdefault(entry["file"], []).append(entry["sha256"])
    return listed
