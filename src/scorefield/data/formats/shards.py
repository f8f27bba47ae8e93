"""Tar shards: .tar files of images after the habit of WebDataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "shards")
class TarShards(Format):
    """Images in tar shards after the habit of WebDataset: a .tar, a folder of them, or a pattern."""

    description, takes, priority = "tar shards", "path", 10

    def claims(self, source: str) -> bool:
        """Whether it names shards: a folder of .tar files is asked for before it is taken as a folder of images."""
        return bool(paths_of(source))

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read the images, with labels from .cls members."""
        from scorefield.data.image import images
        from scorefield.data.image.shards import shards

        return images.read(shards(source, paths_of(source)), spec.config)


def paths_of(source: str) -> list[str]:
    """Return the shards that a string names: a .tar, a folder with .tar files in it, or a pattern ({000..009}, *) of them.

    >>> paths_of("nowhere/shards-{000..009}.tar")
    []
    """
    if os.path.isdir(source):
        from scorefield.data.files.archives import SUFFIXES

        names = os.listdir(source)
        loose = any(name.lower().endswith(SUFFIXES) for name in names)  # then it is a folder of images
        found = [] if loose else [os.path.join(source, name) for name in names if name.endswith(".tar")]
    elif not source.endswith(".tar"):
        return []
    elif os.path.exists(source):
        found = [source]
    else:
        import glob

        try:
            from braceexpand import braceexpand  # comes with webdataset
        except ImportError:
            return [source] if "{" in source else []
        found = [path for pattern in braceexpand(source) for path in sorted(glob.glob(pattern)) or [pattern]]
        if not any(os.path.exists(path) for path in found):
            return []
    return [os.path.abspath(path) for path in sorted(found)]
