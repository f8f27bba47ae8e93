"""NIfTI: brain scans and other medical volumes, .nii and .nii.gz."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "nifti")
class Nifti(Format):
    """Volumes or slices in NIfTI files: a folder with a volume in each file, or a file of several."""

    description, takes, priority = "a .nii or .nii.gz file, or a folder of them", "path", 15
    suffixes, writes, kinds, one_a_file = (".nii", ".nii.gz"), (".nii.gz", ".nii"), ("image", "volume"), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that holds most of them."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its volumes, or their slices."""
        from scorefield.data.files.nifti import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse to write without nibabel."""
        from scorefield.data.extras import require

        require("nibabel", "nifti", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write one volume or image with the affine map of the data, if they have one."""
        from scorefield.data.files.nifti import write

        write(path, samples, layout)
