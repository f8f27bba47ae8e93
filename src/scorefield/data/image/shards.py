"""Tar shards: images in .tar files after the habit of WebDataset, `000.jpg` beside `000.cls`, for data larger than the memory.

The library webdataset reads the shards; it is asked for images, and for labels from .cls members, as bytes: nothing else is
read, and nothing is decoded by it, so no pickle is ever opened. A sample is what stands before the first dot of a name; it has
one plain image, or several with dots in their names, scan.001.png and scan.002.png, each an example. Since it reads a member
whole, however long it is, the headers of a shard are walked through first, and only members of a sensible length are asked for.
"""

from __future__ import annotations

import io
import itertools
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from scorefield.data.files.archives import MOST_MEMBERS, SUFFIXES, Entry, Listing, cause_of, printable, sensible
from scorefield.data.issues import DataIssue
from scorefield.errors import ScorefieldError

MOST_LABEL = 1000  # bytes of a .cls member
ASIDE = (".txt", ".json")  # captions and notes that belong to a sample, and are no surprise


def shards(source: str, paths: list[str]) -> Listing:
    """List the images of tar shards, in the order of the shards and of the samples in them.

    Args:
        source: how a person named them.
        paths: of the shards.

    Returns:
        The listing; labels come from .cls members.

    Raises:
        ScorefieldError: the library webdataset is not installed.
    """
    try:
        import webdataset.tariterators  # noqa: F401
    except ImportError:
        advice = 'expected the library webdataset to read them: pip install "scorefield[shards]"'
        raise ScorefieldError(f"got tar shards {source!r}, {advice}") from None
    name = os.path.basename(os.path.abspath(source)).removesuffix(".tar")
    listing = Listing(name, (), labelled=True, archives=tuple(paths))
    listing.entries = Shards([(path, _members(path, listing)) for path in paths])
    return listing


def _members(path: str, listing: Listing) -> frozenset[str]:
    """Return the names of the members of a shard that may be read; add an issue to the listing for each of the others."""
    shard, found = os.path.basename(path), Counter[str]()
    samples: set[str] = set()

    def leave(member: str, cause: str) -> None:
        listing.issues.append(DataIssue(printable(f"{shard}/{member}" if member else shard), cause))

    try:
        length = os.path.getsize(path)
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                suffix = _parts(member.name)[1]
                if not member.isfile() or not suffix.endswith((".cls", *SUFFIXES)):
                    if member.isfile() and suffix not in ASIDE:
                        listing.others[suffix or "no suffix"] += 1
                    elif not member.isfile() and not member.isdir():
                        leave(member.name, "not a file")
                    continue
                try:
                    _check(member, length, samples)
                except ValueError as error:
                    leave(member.name, cause_of(error))
                    continue
                if not suffix.endswith(".cls"):
                    samples.add(_stem(member.name))
                found[member.name] += 1
                if len(found) > MOST_MEMBERS:
                    raise ValueError(f"more than {MOST_MEMBERS:,} members")
    except Exception as error:  # tarfile raises anything on broken headers
        leave("", f"a shard that cannot be read to its end: {cause_of(error)}")
    for member_name in [name for name, count in found.items() if count > 1]:
        leave(member_name, "two members of this name")
        del found[member_name]
    return _chosen(found, listing)


def _check(member: tarfile.TarInfo, length: int, samples: set[str]) -> None:
    """Raise `ValueError` for a member that should not be read.

    Args:
        member: an image or a label.
        length: of the shard in bytes.
        samples: those that have an image already.
    """
    label = member.name.lower().endswith(".cls")
    sensible(member.size)
    if member.sparse is not None:
        raise ValueError("a file with holes")
    if member.offset_data + member.size > length:
        raise ValueError("cut off with its shard")
    if label and member.size > MOST_LABEL:
        raise ValueError(f"more than {MOST_LABEL} bytes of label")
    if not label and _stem(member.name) in samples:
        raise ValueError("a second image of its sample")


def _chosen(names: Iterable[str], listing: Listing) -> frozenset[str]:
    """Return the images and labels among names, of which a sample with a plain image, 000.jpg, has no other, 000.mask.png."""
    plain, dotted = set[str](), set[str]()
    for name in names:
        stem, suffix = _parts(name)
        if suffix in SUFFIXES:
            plain.add(stem)
    for name in names:
        stem, suffix = _parts(name)
        if suffix.endswith(SUFFIXES) and suffix not in SUFFIXES and stem not in plain:
            dotted.add(_stem(name))
    wanted = set[str]()
    for name in names:
        suffix = _parts(name)[1]
        if suffix in (".cls", *SUFFIXES) or _stem(name) in dotted:
            wanted.add(name)
        else:
            listing.others[suffix] += 1
    if dotted and not any("names with dots" in note for note in listing.notes):
        first = min(name for name in wanted if _stem(name) in dotted)
        listing.notes.append(
            f"There are names with dots, such as {printable(first)!r}: to webdataset a sample is what stands before the first "
            f"dot, {_parts(first)[0].lstrip('/')!r}; here each image is an example of its own, named up to its last dot."
        )
    return frozenset(wanted)


def _parts(name: str) -> tuple[str, str]:
    """Return the sample and the suffix of a member: what stands before and after the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def _stem(name: str) -> str:
    """Return the name of a member up to its last dot."""
    return name.rpartition(".")[0]


class Shards:
    """The images of shards, one after another; may be walked through more than once, and each walk reads the shards anew."""

    def __init__(self, shards: list[tuple[str, frozenset[str]]]) -> None:
        """Remember paths, and which members of each may be read."""
        self.shards = shards

    def __len__(self) -> int:
        """How many images there are at most."""
        return sum(not name.lower().endswith(".cls") for _, members in self.shards for name in members)

    def __contains__(self, entry: object) -> bool:
        """Whether an entry comes from here: none is kept."""
        return False

    def __iter__(self) -> Iterator[Entry]:
        from webdataset.tariterators import tar_file_expander, url_opener

        def go_on(_: Exception) -> bool:  # what is missing then has been named by the walk through the headers
            return True

        for path, members in self.shards:
            opened = url_opener([{"url": path}], handler=go_on)
            files = tar_file_expander(opened, handler=go_on, select_files=members.__contains__)
            named = ((file["fname"], file["data"]) for file in files if file)
            for _, sample in itertools.groupby(named, key=lambda file: _parts(file[0])[0]):
                yield from _entries(os.path.basename(path), list(sample))


def _entries(shard: str, sample: list[tuple[str, bytes]]) -> Iterator[Entry]:
    """Yield the images of a sample, each with the label of its own name, or else that of the sample."""
    labels = {_stem(name): text.decode("utf-8", "replace").strip() for name, text in sample if name.lower().endswith(".cls")}
    for name, content in sample:
        if name.lower().endswith(SUFFIXES):
            folder, _, last = name.rpartition("/")
            own = f"{folder}/{last.partition('.')[0]}" if folder else last.partition(".")[0]
            label = labels.get(_stem(name), labels.get(own))
            yield Entry(printable(f"{shard}/{name}"), len(content), partial(io.BytesIO, content), label)
