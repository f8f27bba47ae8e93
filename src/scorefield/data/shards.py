"""Tar shards: images in .tar files after the habit of WebDataset, `000.jpg` beside `000.cls`, for data larger than the memory.

The library webdataset reads the shards and puts the members of a sample together; it is asked for images, and for labels from
.cls members, as bytes: nothing else is read, and nothing is decoded by it, so no pickle is ever opened. Since it reads a member
whole, however long it is, the headers of a shard are walked through first, and only members of a sensible length are asked for.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

from scorefield.data.archives import MOST_MEMBERS, SUFFIXES, Entry, Listing, cause_of, printable, sensible
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
    listing = Listing(name, (), labelled=True)
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
                stem, suffix = _parts(member.name)
                if not member.isfile() or suffix not in (".cls", *SUFFIXES):
                    if member.isfile() and suffix not in ASIDE:
                        listing.others[suffix or "no suffix"] += 1
                    elif not member.isfile() and not member.isdir():
                        leave(member.name, "not a file")
                    continue
                try:
                    sensible(member.size)
                    if member.sparse is not None:
                        raise ValueError("a file with holes")
                    if member.offset_data + member.size > length:
                        raise ValueError("cut off with its shard")
                    if suffix == ".cls" and member.size > MOST_LABEL:
                        raise ValueError(f"more than {MOST_LABEL} bytes of label")
                    if suffix != ".cls" and stem in samples:
                        raise ValueError("a second image of its sample")
                except ValueError as error:
                    leave(member.name, cause_of(error))
                    continue
                if suffix != ".cls":
                    samples.add(stem)
                found[member.name] += 1
                if len(found) > MOST_MEMBERS:
                    raise ValueError(f"more than {MOST_MEMBERS:,} members")
    except Exception as error:  # tarfile raises anything on broken headers
        leave("", f"a shard that cannot be read to its end: {cause_of(error)}")
    for member_name in [name for name, count in found.items() if count > 1]:
        leave(member_name, "two members of this name")
        del found[member_name]
    return frozenset(found)


def _parts(name: str) -> tuple[str, str]:
    """Return the sample and the suffix of a member: what stands before and after the first dot of its last part."""
    folder, _, last = name.rpartition("/")
    stem, dot, suffix = last.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


class Shards:
    """The images of shards, one after another; may be walked through more than once, and each walk reads the shards anew."""

    def __init__(self, shards: list[tuple[str, frozenset[str]]]) -> None:
        """Remember paths, and which members of each may be read."""
        self.shards = shards

    def __iter__(self) -> Iterator[Entry]:
        from webdataset.tariterators import tarfile_samples

        for path, members in self.shards:
            # `go on` after a fault: what is missing then has been named by the walk through the headers
            samples = tarfile_samples([{"url": path}], handler=lambda error: True, select_files=members.__contains__)
            for sample in samples:
                entry = _entry(os.path.basename(path), sample)
                if entry is not None:
                    yield entry


def _entry(shard: str, sample: dict[str, Any]) -> Entry | None:
    """Return the image of a sample, with its label; None if it has none."""
    image = next((key for key in sample if f".{key}" in SUFFIXES), None)
    if image is None:
        return None
    content: bytes = sample[image]
    label = sample["cls"].decode("utf-8", "replace").strip() if "cls" in sample else None
    return Entry(printable(f"{shard}/{sample['__key__']}.{image}"), len(content), lambda: io.BytesIO(content), label)
