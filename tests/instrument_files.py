"""What the tests of instruments' files share: examples through model space, back into a file, and a person's three commands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import command

from scorefield import ScorefieldError
from scorefield.data import DataConfig, open_source
from scorefield.data.formats import writers

SMALL = {
    "image": ("network=residual", "network.width=8", "network.blocks=1", "training.pictures=0", "training.batch=4"),
    "signal": ("network.channels=8,8", "network.blocks=1", "training.pictures=0", "training.batch=4"),
    "volume": ("network.channels=8,8", "network.blocks=1", "training.pictures=0", "training.batch=4"),
}
R = np.random.default_rng(7)


def opened(source: Path, **config: Any) -> Any:
    """The data set of a file or folder."""
    return open_source(str(source), DataConfig(**config))


def refusal(source: Path, **config: Any) -> str:
    """The sentence that refuses a source."""
    with pytest.raises(ScorefieldError) as refused:
        opened(source, **config)
    return str(refused.value)


def examples(data: Any) -> np.ndarray:
    """All examples, through model space, as their source would hold them, in the order of `data.names`."""
    parts = (data.train, data.held_out)
    raw = [data.normaliser.decode(data.normaliser.encode(part[:]).double()).numpy() for part in parts]
    return np.concatenate([data.layout.to_source(part) for part in raw])


def sent_back(data: Any, folder: Path, ending: str) -> dict[str, Path]:
    """Write each example to a file of its own; name in the source -> path."""
    folder.mkdir(exist_ok=True)
    form, paths = writers(data.kind)[ending], {}
    for name, example in zip(data.names, examples(data), strict=True):
        paths[name] = folder / f"{len(paths):05d}{ending}"
        form.write(str(paths[name]), example, data.layout)
    return paths


def as_a_user(source: Path, place: Path, capsys: pytest.CaptureFixture[str], kind: str, *words: str) -> list[Path]:
    """Plan, train for three steps, and sample into a folder; the files that come out."""
    small = [word for setting in SMALL[kind] for word in ("--set", setting)]
    assert command("plan", source, "--steps", 3, *words, *small) == 0, capsys.readouterr()
    assert command("train", source, "--steps", 3, "--out", place / "run", *words, *small) == 0, capsys.readouterr()
    assert command("sample", place / "run", "-n", 2, "--out", place / "samples") == 0, capsys.readouterr()
    return sorted(path for path in (place / "samples").iterdir() if path.name != "samples.jsonl")
