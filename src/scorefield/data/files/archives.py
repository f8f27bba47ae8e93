"""Listings: which image files there are in a folder or a .zip, found without trusting what is there.

Files come from cameras, browsers, scrapers and strangers. A listing opens nothing that could wait forever (a pipe), never end
(a loop of links) or grow without bound when it is unpacked; everything that it leaves out is named with the cause.
Nothing is written:

    a member of a .zip      is unpacked into memory when it is read, at most MOST_BYTES of it, and must then have the length and
                            checksum that the archive promised
    a bomb                  promises a large member of almost no bytes, more members or more bytes in all than any data set has,
                            or members that overlap: each is refused from the archive's directory
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass as plain
from dataclasses import field
from functools import partial
from typing import Any

from scorefield.data.issues import DataIssue
from scorefield.errors import ScorefieldError

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm",
)  # fmt: skip
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
PACKED = (".gz", ".bz2", ".xz")
MOST_BYTES = 2**28  # of one file: 50 million pixels of 32 bits, and a third more
MOST_MEMBERS = 5_000_000
MOST_UNPACKED = 2**40  # of all members together
MOST_RATIO = 100  # of a member over 1 MiB, unpacked to packed; image files are compressed already
PLAIN_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack whole blocks, whatever was asked for


Content = io.BufferedReader | io.BytesIO


@plain(frozen=True)
class Entry:
    """One image file.

    Attributes:
        path: what it is called, with / between folders, as text that can be printed.
        size: its length in bytes, for the bookkeeping of memory.
        open: gives its content; raises anything if it cannot be read.
        label: what the source says it shows, or None.
        place: where the file lies, for libraries that take a path; None for a member of an archive.
        stamp: what changes when the file does; () for a member of an archive.
    """

    path: str
    size: int
    open: Callable[[], Content] = field(repr=False)
    label: str | None = None
    place: str | None = None
    stamp: tuple[int, ...] = ()


@plain
class Listing:
    """The image files of a source.

    Attributes:
        name: of the source.
        entries: the files in a fixed order; may be walked through more than once.
        issues: what was left out, and why.
        others: how many files of each suffix are not images.
        labelled: whether labels come with the entries; otherwise first-level folders become labels.
        suffixes: of the files that are wanted.
        most_bytes: of one file.
        archives: paths of the archives that hold the entries.
        notes: on how it was listed.
    """

    name: str
    entries: Collection[Entry]
    issues: list[DataIssue] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    labelled: bool = False
    suffixes: tuple[str, ...] = SUFFIXES
    most_bytes: int = MOST_BYTES
    archives: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def amount(self) -> tuple[int, int]:
        """Return how many files there are, and their length in bytes; about, of archives that are read in order."""
        if isinstance(self.entries, list):
            return len(self.entries), sum(entry.size for entry in self.entries)
        return len(self.entries), sum(os.path.getsize(place) for place in self.archives if os.path.exists(place))

    def stamps(self) -> list[tuple[Any, ...]]:
        """Return what changes when a file does, for each file or archive; raises `OSError` for an archive that is gone."""
        if self.archives:
            return [(place, *stamp_of(os.stat(place))) for place in self.archives]
        here = os.getcwd()
        return [(os.path.join(here, str(entry.place)), entry.label, *entry.stamp) for entry in self.entries]

    def sort_out(self, path: str) -> bool:
        """Return whether a file is wanted by its name; otherwise record it: archives as issues, all else by suffix."""
        if path.lower().endswith(self.suffixes):
            return True
        stem, suffix = os.path.splitext(path.lower())
        inner = os.path.splitext(stem)[1]
        if suffix in PACKED and inner not in ("", ".tar"):  # one packed file, such as a volume's .nii.gz
            self.others[inner + suffix] += 1
        elif suffix in ARCHIVES:
            self.issues.append(DataIssue(path, "an archive within the source, which is not opened"))
        else:
            self.others[suffix or "no suffix"] += 1
        return False


def printable(path: str) -> str:
    r"""Return a path with / between folders and every byte that is not UTF-8 as \xff."""
    return path.replace(os.sep, "/").encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def cause_of(error: BaseException) -> str:
    """Return what went wrong, in a few words of one line."""
    if isinstance(error, EOFError):
        return "truncated: it ends before its packed data do"
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split()).rstrip(".")[:120]


def folder(path: str, suffixes: tuple[str, ...] = SUFFIXES, most_bytes: int = MOST_BYTES) -> Listing:
    """List the images of a folder and of all its sub-folders, sorted by path; each real folder is entered once.

    Args:
        path: of the folder.
        suffixes: endings of the files to list, with their dot and in small letters: those of images, or of another format.
        most_bytes: of one file.

    Returns:
        The listing. Hidden files, and folders of runs, are left out without an issue.

    Raises:
        ScorefieldError: the folder itself cannot be read.
    """
    entries: list[Entry] = []
    listing = Listing(os.path.basename(os.path.abspath(path)), entries, suffixes=suffixes, most_bytes=most_bytes)

    def unread(error: OSError) -> None:
        if error.filename == path:
            raise ScorefieldError(f"got {path!r}, expected a folder that can be read: {error.strerror}") from error
        where = printable(os.path.relpath(error.filename, path))
        listing.issues.append(DataIssue(where, f"a folder that cannot be read: {cause_of(error)}"))

    seen = {os.path.realpath(path)}
    for here, folders, files in os.walk(path, onerror=unread, followlinks=True):
        fresh = []
        for name in sorted(name for name in folders if not name.startswith(".")):
            real = os.path.realpath(os.path.join(here, name))
            if real not in seen:
                seen.add(real)
                fresh.append(name)
        folders[:] = fresh
        if here != path and {"config.json", "manifest.json"} <= set(files):
            folders[:] = []  # a run's folder among the images: its samples and plots are no data
            continue
        around = "" if here == path else printable(os.path.relpath(here, path)) + "/"
        for name in (name for name in files if not name.startswith(".")):
            relative = around + printable(name)
            if listing.sort_out(relative):
                try:
                    entries.append(file_entry(os.path.join(here, name), relative, most_bytes))
                except (OSError, ValueError) as error:
                    listing.issues.append(DataIssue(relative, cause_of(error)))
    entries.sort(key=lambda entry: entry.path)
    return listing


def file_entry(place: str, path: str, most_bytes: int = MOST_BYTES) -> Entry:
    """Return the entry of an ordinary file of a sensible length; raises `ValueError` for another."""
    status = os.stat(place)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a file")  # opening a pipe would wait forever
    sensible(status.st_size, most_bytes)
    return Entry(path, status.st_size, partial(_content, place), place=place, stamp=stamp_of(status))


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file does: its length, number, and the times of its content and of what is said of it."""
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _content(place: str) -> Content:
    return open(place, "rb")


def sensible(size: int, most_bytes: int = MOST_BYTES) -> None:
    """Raise `ValueError` for a length that no image file has, or no file of another format."""
    if size == 0:
        raise ValueError("empty")
    if size > most_bytes:
        raise ValueError(f"{size / 2**20:,.0f} MiB, more than the {most_bytes >> 20} MiB that are read of one file")


@contextmanager
def zipped(path: str) -> Iterator[Listing]:
    """List the images of a .zip, sorted by path, while it stays open.

    Args:
        path: of the file.

    Yields:
        The listing.

    Raises:
        ScorefieldError: the file is not a .zip, or has more members or unpacked bytes than any data set.
    """
    name = os.path.basename(path)
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises anything on broken directories
        raise ScorefieldError(f"got {name!r}, expected a whole .zip file ({cause_of(error)}): pack it again") from error
    with archive:
        infos = archive.infolist()
        total = sum(info.file_size for info in infos)
        if len(infos) > MOST_MEMBERS or total > MOST_UNPACKED:
            found = f"got {len(infos):,} members of {total / 2**30:,.0f} GiB in {name!r}"
            most = f"expected at most {MOST_MEMBERS:,} and {MOST_UNPACKED >> 30:,} GiB"
            raise ScorefieldError(f"{found}, {most}: unpack what you trust, and give the folder")
        entries: list[Entry] = []
        listing = Listing(os.path.splitext(name)[0], entries, archives=(os.path.abspath(path),))
        seen: set[str] = set()
        for info in infos:
            member_path = printable(info.filename)
            hidden = any(part.startswith(".") and part not in ("..", ".") for part in member_path.split("/"))
            if info.is_dir() or hidden or member_path.startswith("__MACOSX/") or not listing.sort_out(member_path):
                continue
            try:
                _check(info, seen)
                entries.append(Entry(member_path, info.file_size, partial(_unpack, archive, info)))
            except ValueError as error:
                listing.issues.append(DataIssue(member_path, cause_of(error)))
        entries.sort(key=lambda entry: entry.path)
        yield listing


def _check(info: zipfile.ZipInfo, seen: set[str]) -> None:
    """Raise `ValueError` for a member that should not be unpacked."""
    name = info.filename.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
        raise ValueError("its name leads out of the archive")
    if name in seen:
        raise ValueError("a second member of this name")
    seen.add(name)
    if info.flag_bits & 0x1:
        raise ValueError("encrypted")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError("a link")
    if info.compress_type not in PLAIN_METHODS:
        raise ValueError("packed by another method than deflate")
    sensible(info.file_size)
    if info.file_size > max(2**20, MOST_RATIO * info.compress_size):
        raise ValueError(f"unpacks to more than {MOST_RATIO} times its size, as a zip bomb does")


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Content:
    """Return the content of a member, which must be what the directory promised."""
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)  # never more than was promised; the checksum is compared at its end
    if len(content) != info.file_size:
        raise ValueError(f"unpacks to {len(content):,} bytes, its header states {info.file_size:,}")
    return io.BytesIO(content)
