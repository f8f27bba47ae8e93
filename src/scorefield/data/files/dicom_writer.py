"""DICOM files of samples: synthetic secondary captures, which name no person and no machine.

A sample is stored as the data were: `stored = (value - intercept) / slope`, rounded and clipped to their bits. Where the data
have no common slope, floats get one of their own that spans them.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scorefield.data.extras import quiet, require
from scorefield.data.layout import Layout
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
SINGLE, SEVERAL = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7."  # of secondary captures
EXPLICIT = "1.2.840.10008.1.2.1"
BITS = 16  # of floats


@quiet
def write(path: str, sample: Array, layout: Layout) -> None:
    """Write a sample as a DICOM file.

    Args:
        path: of the file.
        sample: `layout.shape`; a volume becomes frames.
        layout: of the data; axes other than z, y, x, c are put in that order.

    Raises:
        ScorefieldError: pydicom is missing, floats that are not those of DICOM data, or channels that are no colours.
    """
    pydicom = require("pydicom", "dicom", path)
    refuse(path, layout)
    header = layout.header if layout.format == "dicom" else {}
    values = np.transpose(sample, [layout.axes.index(letter) for letter in "zyxc" if letter in layout.axes])
    if "c" in layout.axes and values.shape[-1] == 1:
        values = values[..., 0]
    colour = values.ndim > len(set(layout.axes) - set("c"))
    data, meta = pydicom.Dataset(), pydicom.dataset.FileMetaDataset()
    data.file_meta, meta.TransferSyntaxUID = meta, pydicom.uid.UID(EXPLICIT)
    frames, wide = values.ndim - colour > 2, values.dtype.itemsize > 1
    data.SOPClassUID = SEVERAL + ("4" if colour else "3" if wide else "2") if frames else SINGLE
    mark = hashlib.sha256(values.tobytes()).hexdigest()  # the same sample is the same file
    for tag in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(data, tag, pydicom.uid.generate_uid(entropy_srcs=[tag, mark]))
    for tag in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
                "StudyID", "ReferringPhysicianName", "Manufacturer"):  # fmt: skip
        setattr(data, tag, "")
    data.SeriesNumber, data.InstanceNumber = None, 1
    data.Modality, data.ConversionType = header.get("modality", "OT"), "SYN"
    if not header.get("resized") and "spacing" in header:
        data.PixelSpacing = header["spacing"]
    if frames and "between" in header:
        data.SpacingBetweenSlices = header["between"]
    if colour:
        data.set_pixel_data(values, "RGB", values.dtype.itemsize * 8)
    else:
        stored, bits, slope, intercept = _stored(values, header)
        data.set_pixel_data(stored, "MONOCHROME2", bits)
        number = pydicom.valuerep.DSfloat
        data.RescaleSlope, data.RescaleIntercept = number(slope, auto_format=True), number(intercept, auto_format=True)
    data.save_as(path, enforce_file_format=True)


def refuse(path: str, layout: Layout) -> None:
    """Raise `ScorefieldError` for data that a DICOM file cannot hold.

    Args:
        path: of the file.
        layout: of the data.
    """
    header, dtype = layout.header if layout.format == "dicom" else {}, layout.type
    channels = layout.shape[layout.axes.index("c")] if "c" in layout.axes else 1
    if _is_own(header) and header["bits"] > BITS:
        raise ScorefieldError(
            f"got data of {header['bits']} stored bits for {path!r}, expected at most {BITS}, as images of DICOM have: "
            "write .npz"
        )
    if not ((dtype.kind in "iub" and dtype.itemsize <= 2) or "bits" in header):
        raise ScorefieldError(
            f"got samples of type {dtype} for {path!r}, expected DICOM data, or whole numbers of up to 16 bits: "
            "write .nii.gz or .npy"
        )
    if layout.is_complex or channels not in (1, 3) or (channels == 3 and dtype.kind != "u"):
        raise ScorefieldError(
            f"got {channels} channels for {path!r}, expected one, or three of unsigned integers, as DICOM holds: write .npy"
        )


def _is_own(header: dict[str, Any]) -> bool:
    """Whether all files of the data store their values in one way."""
    return {"bits", "signed", "slope", "intercept"} <= header.keys()


def _stored(values: Array, header: dict[str, Any]) -> tuple[Array, int, float, float]:
    """Return integers, how many bits they have, and the slope and intercept that make values of them."""
    if _is_own(header):
        bits, signed, slope, intercept = header["bits"], header["signed"], header["slope"], header["intercept"]
    elif values.dtype.kind in "iub" and values.dtype.itemsize <= 2:
        values = values.astype(np.uint8) if values.dtype.kind == "b" else values
        bits, signed, slope, intercept = values.dtype.itemsize * 8, values.dtype.kind == "i", 1.0, 0.0
    else:
        low, high = float(values.min()), float(values.max())
        bits, signed, slope, intercept = BITS, False, (high - low) / (2**BITS - 1) or 1.0, low
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    stored = np.rint((values.astype(np.float64) - intercept) / slope).clip(least, most)
    size = 1 if bits <= 8 else 2 if bits <= 16 else 4
    return stored.astype(f"{'i' if signed else 'u'}{size}"), bits, slope, intercept
