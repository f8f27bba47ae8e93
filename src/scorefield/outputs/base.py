"""Output: one place that samples go to, refused before anything is drawn if it could not be written; and what a writer is."""

from __future__ import annotations

import importlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scorefield import files, pictures
from scorefield.data.formats import Format, writers
from scorefield.errors import ScorefieldError
from scorefield.outputs import FileType, names_for, types_for
from scorefield.registry import every
from scorefield.runs import Run

Add = Callable[[Tensor, Tensor | None], None]
TOOL = "scorefield sample"  # what a list, and the comment of an animation, say of the program that wrote them


@dataclass(frozen=True)
class Output:
    """Where samples go.

    Attributes:
        run: whose samples they are.
        n: how many there will be.
        path: of a file with one of the endings of `FILE_TYPES`, or of a folder.
        folder: it is a folder.
        force: what is there may be replaced; of a folder, the pictures of an earlier set.
    """

    run: Run
    n: int
    path: Path
    folder: bool = False
    force: bool = False

    @classmethod
    def of(cls, run: Run, n: int, out: str | Path | None, *, seed: int = 0, force: bool = False) -> Output:
        """Return the output that `out` names; None is a file in the run, of the first type that suits its data.

        Raises:
            ScorefieldError: an empty `out`, or none for a run that cannot be written.
        """
        if out is not None and not os.fspath(out):
            raise ScorefieldError("got an empty --out, expected a path: name a file or a folder, or leave it out")
        default = f"samples-seed{seed}{types_for(run.kind)[0].ending}"
        if out is None and not files.can_write(run.path):
            raise ScorefieldError(f"got no --out for {run.path}, which cannot be written, expected one: add --out {default}")
        path = run.path / default if out is None else Path(out).expanduser()
        return cls(run, n, path, path.suffix == "" or str(out).endswith(os.sep), force)

    @property
    def type(self) -> FileType | None:
        """The type of the file; None for an unknown one, or a folder where samples of this kind cannot go to one."""
        if self.folder:
            return FileType("/", "folder.WRITER") if self.run.kind == "image" or self.form else None
        fit = [one for one in types_for(self.run.kind) if one.fits(self.path.name)]
        return max(fit, key=lambda one: len(one.ending), default=None)

    @property
    def form(self) -> Format | None:
        """The format that writes it: of a file the one of its ending, of a folder the data's own, if it has a file for each."""
        formats = writers(self.run.kind)
        if self.folder:
            own = every("format").get(self.run.layout.format)
            return next((form for form in formats.values() if type(form) is own and (form.one_a_file or form.in_folders)), None)
        return formats.get(self.type.ending) if self.type else None

    @property
    def writer(self) -> Writer:
        """What writes it."""
        assert self.type, "check refuses it"
        module, _, name = self.type.home.partition(".")
        writer: Writer = getattr(importlib.import_module(f"scorefield.outputs.{module}"), name)
        return writer

    def beside(self, ending: str) -> Path:
        """Return the path beside it with the same name and another ending."""
        named = self.path if self.path.name not in ("", "..") else Path(os.path.abspath(self.path))
        return named.parent / f"{named.name if self.folder else named.stem}{ending}"

    def check(self) -> None:
        """Refuse, before anything is drawn, an output that could not be written at the end, or whose place is taken."""
        path, data = self.path, self.run.kind
        if path.name.lower().removesuffix(".gz") in [one.ending for one in types_for(data)]:
            raise ScorefieldError(f"got --out {path}, an ending alone, expected a name before it: write samples{path.name}")
        suits = self.type is not None
        if not suits and self.folder:
            raise ScorefieldError(
                f"got --out {path}, a folder, for samples that have no file each, expected {names_for(data)}: change it"
            )
        if not suits:
            raise ScorefieldError(f"got --out {path}, expected {names_for(data)}: change the ending")
        if path.exists() and path.is_dir() != self.folder:
            there, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise ScorefieldError(f"got --out {path}, where there is a {there}, expected a {wanted}: choose another name")
        self.writer.check_place(self)
        if not (above := path.resolve().parent).is_dir():
            raise ScorefieldError(f"got --out {path} in a folder that does not exist, expected one that does: make it first")
        if not files.can_write(path if path.is_dir() else above):
            raise ScorefieldError(f"got --out {path} in a folder that cannot be written, expected one that can: choose another")
        self.writer.check(self)

    def writing(self, about: Mapping[str, Any] | None = None) -> AbstractContextManager[Add]:
        """Return a context that gives `add(raw, labels)`, and in the end puts what was added in its place.

        Args:
            about: the set, for the list of a folder.
        """
        return self.writer.writing(self, about or {})

    def left_out(self) -> str | None:
        """Return which samples it does not show, in words; None for an output that shows all."""
        return self.writer.left_out(self)

    def pixels(self, raw: Tensor) -> Any:
        """Return images as uint8 `(n, height, width, 3)`, or `(n, height, width)` where they are grey."""
        pixels = pictures.to_pixels(self.run.normaliser.visible(raw))
        return pixels if self.run.shape[0] > 1 else pixels[..., 0]


class Writer(ABC):
    """Writes one or several types of files."""

    def check_place(self, output: Output) -> None:
        """Refuse a place that is taken."""
        files.refuse_existing(output.path, output.force)

    def check(self, output: Output) -> None:  # noqa: B027  # most can write everything
        """Refuse what cannot be written: a package is missing, or there are too many samples."""

    def left_out(self, output: Output) -> str | None:
        """Return which samples are not shown, in words."""
        return None

    @abstractmethod
    def writing(self, output: Output, about: Mapping[str, Any]) -> AbstractContextManager[Add]:
        """Return a context that takes batches of samples in the data's own units, with their classes, and writes them."""
