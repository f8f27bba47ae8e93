"""Audio: .wav, .flac, .ogg and .aiff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scorefield.data.formats import Format, ReadSpec
from scorefield.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scorefield.data.base import Dataset
    from scorefield.data.layout import Layout


@register("format", "audio")
class Audio(Format):
    """Sound files: a folder of clips of one length, or recordings that `data.shape` cuts into windows."""

    description, takes, priority = "a .wav, .flac, .ogg or .aiff file, or a folder of them", "path", 15
    suffixes = (".wav", ".flac", ".ogg", ".aiff", ".aif")
    writes, kinds, one_a_file = (".wav", ".flac"), ("signal",), True

    def claims(self, source: str) -> bool:
        """Whether it is such a file, or a folder that holds most of them."""
        from scorefield.data.files.collection import is_of

        return is_of(source, self.suffixes)

    def read(self, source: str, spec: ReadSpec) -> Dataset:
        """Read its clips, with their sampling rate."""
        from scorefield.data.files.audio import read

        return read(source, spec.config)

    def check(self, path: str, layout: Layout | None = None) -> None:
        """Refuse to write without soundfile."""
        from scorefield.data.extras import require

        require("soundfile", "audio", path)

    def write(self, path: str, samples: NDArray[Any], layout: Layout) -> None:
        """Write one clip with the rate and the depth of the data."""
        from scorefield.data.files.audio import write

        write(path, samples, layout)
