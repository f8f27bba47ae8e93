"""DICOM: images of hospitals, .dcm or without a suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "dicom")
class Dicom(Format):
    """DICOM images: a folder of slices, or with `data.kind=volume` a volume of each series; nothing of a person is kept."""

    description, takes, priority = "a .dcm file, or a folder of DICOM files", "path", 16
    suffixes, writes, kinds, one_a_file = (".dcm", ".dicom", ".ima"), (".dcm",), ("image", "volume"), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that holds most of them, by their suffix or by the mark inside."""
        from scorefield.data.files.collection import is_marked, is_of

        return is_of(source, self.suffixes) or is_marked(source, b"DICM", 128)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its images in the units of the modality."""
        from scorefield.data.files.dicom import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse to write without pydicom, or what DICOM does not hold."""
        from scorefield.data.extras import require
        from scorefield.data.files.dicom_writer import refuse

        require("pydicom", "dicom", path)
        if layout is not None:
            refuse(path, layout)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write one image or volume as a synthetic secondary capture."""
        from scorefield.data.files.dicom_writer import write

        write(path, samples, layout)
