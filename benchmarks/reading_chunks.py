"""Reading images from compressed chunks: in order, a chunk once, against the same images by random index.

    python benchmarks/reading_chunks.py            # 10,000 images of 64x64, in chunks of 100, in HDF5 and in zarr

What a data loader does with a file is "random": each image unpacks its whole chunk. `scorefield` walks through the chunks once
(`data/files/rows.py`), and training reads from memory, or from a mapped file.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from scorefield.data import DataConfig, open_source


def main() -> None:
    """Write the files, read them both ways, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--chunk", type=int, default=100)
    asked = parser.parse_args()
    import h5py
    import zarr

    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.integers(0, 256, (asked.images, 16, 16), dtype=np.uint8), 4, axis=1), 4, axis=2)
    order = rng.permutation(asked.images)[: asked.images // 20]  # a twentieth is enough to time a random read
    with tempfile.TemporaryDirectory() as folder:
        paths = {"hdf5": Path(folder) / "images.h5", "zarr": Path(folder) / "images.zarr"}
        chunks = (asked.chunk, 64, 64)
        with h5py.File(paths["hdf5"], "w") as file:
            file.create_dataset("images", data=images, chunks=chunks, compression="gzip")
        zarr.create_array(paths["zarr"], data=images, chunks=chunks)
        for name, path in paths.items():
            begun = time.perf_counter()
            data = open_source(str(path), DataConfig())
            ordered = time.perf_counter() - begun
            begun = time.perf_counter()
            for batch in torch.randperm(len(data.train)).split(64):
                data.train[batch]
            epoch = time.perf_counter() - begun
            source = h5py.File(path)["images"] if name == "hdf5" else zarr.open(str(path), mode="r")
            begun = time.perf_counter()
            for index in order:
                source[int(index)]
            at_random = (time.perf_counter() - begun) * asked.images / len(order)
            print(
                f"{name}: {asked.images:,} images by random index {at_random:.2f} s an epoch; opened whole, in order, checked "
                f"and split {ordered:.2f} s once ({at_random / ordered:.0f} times faster), then {epoch:.3f} s an epoch"
            )


if __name__ == "__main__":
    main()
