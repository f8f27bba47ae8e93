"""Image files: all those of a folder and its sub-folders, or of a .zip."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from scorefield.data.base import Dataset


@register("format", "images")
class Images(Format):
    """Image files in a folder or a .zip: .png, .jpg, .webp, .tif and others."""

    description, takes, priority = "a folder or .zip of images", "path", 20

    def claims(self, source: str) -> bool:
        """Whether it is a folder or a .zip file."""
        return os.path.isdir(source) or (source.lower().endswith(".zip") and os.path.isfile(source))

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read the images; first-level folders become labels when every image lies in one."""
        from scorefield.data.files import archives
        from scorefield.data.image import images

        if os.path.isdir(source):
            return images.read(archives.folder(source), spec.config)
        with archives.zipped(source) as listing:
            return images.read(listing, spec.config)
