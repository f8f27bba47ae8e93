"""Reference sets: the real examples that samples are compared with, and the figures of real data themselves.

A set of examples is compared in two spaces. "features" is the output of the extractor for images, of 8 bits a channel, and the
coordinates for vectors, signals and tables. The extractor sees a volume as an image whose channels are its planes. "data" is
the coordinates in model space. Samples are first rounded to the values that data can have (grey levels of 8-bit images, whole
numbers and texts of tables): a classifier would otherwise recognise samples by their digits after the decimal point, which are
rounded away before a person sees them. Where examples have unknown cells, samples are given the holes of some of them, and in
both an unknown cell has the mean of the known ones.

The floor is the figure of real training examples in place of samples: without it no figure means anything. "Different" takes a
subset. Where that is most of the training set, it varies less than any sampler's output can. "Independent" draws with
repetition, as often as a perfect sampler would repeat itself. The extractor, the features of the real examples and the floor
are stored in the run's folder `evaluation`, each in a file whose name says what it was made from: the data, this version, and
the extractor. What cannot be stored is computed every time.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from dataclasses import field as default
from functools import cached_property
from pathlib import Path
from statistics import fmean

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

import scorefield
from scorefield import files, registry
from scorefield.data import Dataset
from scorefield.data.base import ArrayView
from scorefield.data.planes import PICTURED
from scorefield.data.table.coordinates import snapped
from scorefield.errors import ScorefieldError
from scorefield.likelihood import grey_levels
from scorefield.metrics import features as extractors
from scorefield.metrics.base import Estimate, Metric
from scorefield.metrics.features import Extractor, Learned
from scorefield.metrics.pretrained import Pretrained
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of, subsample
from scorefield.runs import LEAST_HELD_OUT, Run
from scorefield.shapes import flat

Sets = dict[str, Tensor]  # space -> rows
LEAST = 20  # samples
HELD_OUT = 5000  # held-out examples: the balls of precision and recall need all pairs of distances
KNOWN = 100_000  # training examples
NUMBERS = 2**27  # coordinates of training examples
SEEN = 2**22  # features of training examples, if that limits them more
LEARNING = 50_000  # training examples that an extractor is learned from: in the number of its steps more are no better
FLOORS = 5  # subsets of 1,000 examples whose figures are averaged; fewer of larger ones


def to_bytes(visible: Tensor) -> Tensor:
    """Return images with values from 0, black, to 1, white, as 8-bit pixels, uint8; NaN is grey."""
    return (visible.double().nan_to_num(nan=0.5).clamp(0, 1) * 255).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Reference:
    """Real examples of a run's data as an extractor sees them.

    Attributes:
        data: of the run.
        extractor: of the features.
        held_out: held-out examples `(m, d)` in both spaces.
        held_out_rows: their rows among all held-out examples.
        known: training examples in both spaces.
        known_rows: their rows among all training examples.
        folder: where floors are stored.
        key: of stored files: a hash of the data, this version, and the limits above.
        failed: name of a metric -> why it could not be measured; filled as that happens.
    """

    data: Dataset
    extractor: Extractor
    held_out: Sets
    held_out_rows: Tensor
    known: Sets
    known_rows: Tensor
    folder: Path
    key: str
    failed: dict[str, str] = default(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Every registered metric by name: of features first, distances before shares."""
        found: dict[str, Metric] = {name: cls() for name, cls in registry.every("metric").items()}
        return dict(sorted(found.items(), key=lambda one: (one[1].space == "data", one[1].better == "higher", one[0])))

    def label(self, metric: str) -> str:
        """Return the name under which a metric is reported: only the weights that define FID may use that word."""
        score = self.extractor.score_name
        kernel = score.replace("FID", "KID").replace("FD-", "KID-")
        own = {"image": ", pixels", "volume": ", voxels"}.get(self.data.kind, "")
        space = own if self.metrics[metric].space == "data" else ""
        return {"frechet": score, "kernel": kernel}.get(metric, f"{metric}{space}")

    def on_grid(self, raw: Tensor) -> Tensor:
        """Return samples in the data's units, rounded to the values that the data can have."""
        if self.data.columns is not None:
            return snapped(raw, self.data.columns)
        whole = grey_levels(self.data.train[:1], self.data.normaliser) is not None
        return raw.round() if whole else raw

    def sets(self, raw: Tensor, progress: Progress = silent) -> Sets:
        """Return samples in the data's units, `(n, *shape)`, in both spaces, with the holes of real examples, if any."""
        return _sets(self.data, self.extractor, holed(self.data, raw), progress)

    def figures(self, samples: Sets, progress: Progress = silent) -> dict[str, Estimate]:
        """Return every metric between samples and held-out examples, by name; one that fails goes to `failed` instead."""
        found = {}
        for i, (name, metric) in enumerate(self.metrics.items()):
            progress(i / len(self.metrics), f"measuring {self.label(name)}")
            try:
                found[name] = metric(samples[metric.space], self.held_out[metric.space])
            except Exception as error:  # a fault in one metric must not lose the others
                self.failed.setdefault(name, reason(error))
        return found

    def floors(self, n: int, progress: Progress = silent) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Return the figures of n different, and of n independently drawn, training examples, averaged over several sets.

        Where n is less than a twentieth of the training examples, independent draws hardly repeat: both are the same then.
        """
        path = self.folder / f"floor-{self.key}-{self.extractor.version_hash[:16]}-{n}.json"
        made = {"by": scorefield.__version__, "metrics": sorted(self.metrics), "known": len(self.known_rows), "of": FLOORS}
        if path.exists() and isinstance(stored := _read(path), dict) and stored.get("made") == made:
            different, independent = (
                {name: Estimate(*value) for name, value in stored[part].items()} for part in ("different", "independent")
            )
            return different, independent
        kinds = self._real_sets(n)
        found = []
        for k, sets in enumerate(kinds):
            figures = []
            for i, rows in enumerate(sets):

                def real(
                    fraction: float, _text: str, done: float = (k + i / len(sets)) / len(kinds), of: int = len(sets)
                ) -> None:
                    progress(done + fraction / of / len(kinds), "measuring what real examples score")

                figures.append(self.figures({space: x[rows] for space, x in self.known.items()}, progress=real))
            whole = [name for name in self.metrics if all(name in one for one in figures)]
            found.append({name: _average([one[name] for one in figures]) for name in whole})
        different, independent = found[0], found[-1]
        plain = [{name: [e.value, e.standard_error] for name, e in one.items()} for one in (different, independent)]
        if not self.failed:
            with _if_possible():
                files.write_json(path, {"made": made, "different": plain[0], "independent": plain[1]})
        return different, independent

    def _real_sets(self, n: int) -> list[list[Tensor]]:
        """Return rows of training examples in place of n samples: different ones, then independent draws if they repeat."""
        total, repeats = len(self.known_rows), max(1, min(FLOORS, 1000 * FLOORS // n))
        subsets = repeats if n < total else 1  # all rows are one subset
        different = [SampleRng(range(total), stream=stream_of("floor", i)).uniform(()).argsort()[:n] for i in range(subsets)]
        independent = [SampleRng(range(n), stream=stream_of("draws", i)).choose(torch.ones(total)) for i in range(repeats)]
        return [different] if n * 20 <= total else [different, independent]


def least() -> int:
    """Return the least number of samples that all metrics accept."""
    needs: list[int] = [metric.least for metric in registry.every("metric").values()]
    return max(LEAST, *needs)


def reason(error: Exception) -> str:
    """Return why something failed, in a line: the message of the error, and for errors of others also its kind."""
    message = (str(error).splitlines() or [""])[0]
    return message if isinstance(error, ScorefieldError) else f"{type(error).__name__}{': ' if message else ''}{message}"


def _if_possible() -> contextlib.suppress:
    """Store something that can be computed again: a folder that cannot be written, or a full disk, is no reason to stop."""
    return contextlib.suppress(OSError)


def _key(run: Run) -> str:
    """Return the key of stored files: it changes with the data, the version, and the limits on real examples."""
    limits = [HELD_OUT, KNOWN, NUMBERS, SEEN, LEARNING, extractors.MOST_NUMBERS]
    made = [scorefield.__version__, run.fingerprint, limits]
    return files.digest(json.dumps(made).encode())[:16]


def _average(estimates: list[Estimate]) -> Estimate:
    """Average estimates that share most of their data: the mean value, and the mean error, which averaging does not reduce."""
    return Estimate(fmean(e.value for e in estimates), fmean(e.standard_error for e in estimates))


def _read(path: Path) -> object:
    try:
        return files.read_json(path)
    except ScorefieldError:  # damaged: it is computed again
        return None


def bytes_of(data: Dataset, raw: Tensor) -> Tensor:
    """Return images or volumes in the data's units as an extractor sees them: uint8 `(n, channels·depth, height, width)`.

    An unknown cell has the mean of the known ones.
    """
    if data.normaliser.holes is not None:
        raw = data.normaliser.decode(data.filled(data.normaliser.encode(raw)))
    return to_bytes(data.normaliser.visible(raw).flatten(1, -3))


def holed(data: Dataset, raw: Tensor) -> Tensor:
    """Return samples in the data's units with the holes of training examples drawn at random: only so are both alike.

    What the cells are that an example does not know says nothing of their values, so samples with such holes have the law of
    real examples if, and as far as can be known only if, the samples have.
    """
    if data.normaliser.holes is None:
        return raw
    rows = SampleRng(range(len(raw)), stream=stream_of("holes")).choose(torch.ones(len(data.train)))
    parts = zip(torch.split(raw, 4096), torch.split(rows, 4096), strict=True)
    return torch.cat([part.masked_fill(data.train[which].isnan(), torch.nan) for part, which in parts])


def _coordinates(data: Dataset, raw: Tensor) -> Tensor:
    """Return examples in model space, flat, float32; in batches, since the map is in float64."""
    return torch.cat([flat(data.filled(data.normaliser.encode(batch))) for batch in torch.split(raw, 4096)])


def _sets(data: Dataset, extractor: Extractor, raw: Tensor, progress: Progress = silent) -> Sets:
    """Return examples in the data's units in both spaces; features in batches of 256 images, with progress."""
    coordinates = _coordinates(data, raw)
    if data.kind not in PICTURED:
        return {"data": coordinates, "features": extractor(coordinates)}
    features = list[Tensor]()
    for batch in torch.split(raw, 256):
        progress(len(features) * 256 / len(raw), f"extracting features of example {len(features) * 256:,} of {len(raw):,}")
        features.append(extractor(bytes_of(data, batch)))
    return {"data": coordinates, "features": torch.cat(features)}


def _of_part(part: Tensor | ArrayView, most: int) -> tuple[Tensor, Tensor]:
    """Return at most so many rows of a part of the data, and their examples."""
    rows = subsample(len(part), most)
    return rows, part[rows]


def learned(run: Run, folder: Path, progress: Progress = silent) -> Learned:
    """Return the extractor learned from a run's own training images: the one in the folder, or a new one, stored there."""
    path = folder / f"extractor-{_key(run)}.safetensors"
    if path.exists():
        try:
            return extractors.load(path)
        except ScorefieldError:  # damaged: the same one is learned again
            pass
    data = run.data
    rows, raw = _of_part(data.train, max(2, min(LEARNING, extractors.MOST_NUMBERS // data.train.shape[1:].numel())))
    labels = data.labels[rows] if data.labels is not None and len(data.classes) > 1 else None
    found = extractors.learn(bytes_of(data, raw), labels, progress=progress)
    with _if_possible():
        extractors.save(found, path)
    return found


def _enough(data: Dataset) -> float:
    """Return the fraction, in hundredths, that holds out as many examples as are needed."""
    return math.ceil(100 * (LEAST_HELD_OUT + 1) / (len(data.train) + len(data.held_out))) / 100


def reference_of(
    run: Run,
    features: str | Path | nn.Module | None = None,
    *,
    progress: Progress = silent,
) -> Reference:
    """Return the real examples that a run's samples are compared with, and the extractor of their features.

    Args:
        run: an opened run; its data must still be there, unchanged.
        features: a registered extractor, a file with weights, or a module; None for `data` of images and volumes, else
            `identity`.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that are gone or have changed, fewer than 20 held-out examples, an extractor that does not suit.
    """
    data = run.data
    if len(data.held_out) < LEAST_HELD_OUT:
        raise ScorefieldError(
            f"got {len(data.held_out)} held-out examples, expected at least {LEAST_HELD_OUT}: train with a larger data.held_out"
            + (f", as with --set data.held_out={share:.2f}" if (share := _enough(data)) < 1 else ", on more data")
        )
    pictured = data.kind in PICTURED
    own = "data" if pictured else "identity"
    chosen = own if features is None else features
    if not pictured and chosen != "identity":
        raise ScorefieldError(
            f"got --features {chosen} for a run on a {data.kind}, expected identity: extractors are for images"
        )
    if pictured and chosen == "identity":
        raise ScorefieldError(
            f"got --features identity for a run on {data.kind}s, expected an extractor of images: use data or lite0"
        )
    folder = run.path / "evaluation"
    stages = Stages(progress, learn=20.0 if chosen == "data" else 0.0, held_out=1.0, known=4.0)
    given = None if chosen == "data" else extractors.open_extractor(chosen)  # refused before anything is written
    if isinstance(given, Pretrained) and (data.kind == "volume" or data.shape[0] not in (1, 3)):
        shape = "x".join(map(str, data.shape))
        raise ScorefieldError(
            f"got --features {chosen} for {data.kind}s of {shape}, expected data: published networks know images of one "
            "channel or of three"
        )
    with _if_possible():
        folder.mkdir(exist_ok=True)
    extractor = given or learned(run, folder, stages("learn"))
    most = max(HELD_OUT, min(KNOWN, NUMBERS // data.train.shape[1:].numel(), SEEN // max(1, extractor.dim)))
    parts = {"held_out": _of_part(data.held_out, HELD_OUT), "known": _of_part(data.train, most)}
    path = folder / f"reference-{_key(run)}-{extractor.version_hash[:16]}.safetensors"
    stored = _load(path) if pictured else {}
    if all(len(stored.get(name, ())) == len(rows) for name, (rows, _) in parts.items()):
        sets = {name: {"data": _coordinates(data, raw), "features": stored[name]} for name, (_, raw) in parts.items()}
    else:
        sets = {name: _sets(data, extractor, raw, stages(name)) for name, (_, raw) in parts.items()}
        if pictured:
            with _if_possible():
                files.write(path, save_tensors({name: spaces["features"] for name, spaces in sets.items()}))
    rows = {name: part for name, (part, _) in parts.items()}
    return Reference(data, extractor, sets["held_out"], rows["held_out"], sets["known"], rows["known"], folder, _key(run))


def _load(path: Path) -> Sets:
    """Return the features in a file, none if it is missing or damaged."""
    try:
        return dict(load_tensors(path.read_bytes()))
    except (OSError, SafetensorError):
        return {}
