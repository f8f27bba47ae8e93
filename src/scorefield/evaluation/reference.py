"""What samples are compared with: real examples of a run's data, seen by one extractor, and what real data score themselves.

A set of examples is looked at in two spaces: "features", what the extractor makes of 8-bit images (for vectors, signals and
tables: the coordinates), and "data", the coordinates in model space. Samples are first put on the values that data can have
(grey levels of 8-bit images, whole numbers and texts of tables): a classifier would otherwise tell them apart by their digits
after the point, which nobody ever sees.

The floor is what real training examples score in place of samples: without it no figure means anything. "Different" takes a
subset, which varies less than any sampler's output can where it is most of the training set; "independent" draws with
repetition, as often as a perfect sampler would repeat itself. Once the extractor and the features of the real examples are
known they stay in the run's folder `evaluation`, and so does the floor, each in a file that is named by what it was made from:
the data, this version, and the extractor. What cannot be kept is made anew every time.
"""

from __future__ import annotations

import contextlib
import json
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
from scorefield.data.coordinates import snapped
from scorefield.errors import ScorefieldError
from scorefield.levels import thin
from scorefield.likelihood import grey_levels
from scorefield.metrics import features as extractors
from scorefield.metrics.base import Estimate, Metric
from scorefield.metrics.features import Extractor, Learned
from scorefield.progress import Progress, Stages, silent
from scorefield.randomness import SampleRng, stream_of
from scorefield.runs import LEAST_HELD_OUT, Run
from scorefield.shapes import flat

Sets = dict[str, Tensor]  # space -> rows
LEAST = 20  # samples
HELD_OUT = 5000  # held-out examples: the balls of precision and recall need all pairs of distances
KNOWN = 100_000  # training examples
NUMBERS = 2**27  # coordinates of training examples
SEEN = 2**22  # features of training examples, where that is fewer of them
LEARNING = 50_000  # training examples that an extractor is learned from: more are no better in the steps that it takes
FLOORS = 5  # subsets whose average is the floor, of 1,000 examples; fewer of more


def to_bytes(visible: Tensor) -> Tensor:
    """Return images with values from 0, black, to 1, white, as 8-bit pixels, uint8."""
    return (visible.double().clamp(0, 1) * 255).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class Reference:
    """Real examples of a run's data as an extractor sees them.

    Attributes:
        data: of the run.
        extractor: of the features.
        held_out: held-out examples `(m, d)` in either space.
        held_out_rows: which of the held-out examples those are.
        known: training examples, likewise.
        known_rows: which of the training examples those are.
        folder: where floors are kept.
        key: of what is kept there: of the data and this version.
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
        """Return the name under which a metric is reported: the word FID is for the weights that it was defined by."""
        score = self.extractor.score_name
        kernel = score.replace("FID", "KID").replace("FD-", "KID-")
        apart = ", pixels" if self.metrics[metric].space == "data" and self.data.kind == "image" else ""
        return {"frechet": score, "kernel": kernel}.get(metric, f"{metric}{apart}")

    def on_grid(self, raw: Tensor) -> Tensor:
        """Return samples in the data's units at the values that the data can have."""
        if self.data.columns is not None:
            return snapped(raw, self.data.columns)
        whole = grey_levels(self.data.train[:1], self.data.normaliser) is not None
        return raw.round() if whole else raw

    def sets(self, raw: Tensor, progress: Progress = silent) -> Sets:
        """Return examples in the data's units, `(n, *shape)`, in both spaces."""
        return _sets(self.data, self.extractor, raw, progress)

    def figures(self, samples: Sets, progress: Progress = silent) -> dict[str, Estimate]:
        """Return each metric between samples and held-out examples, by name; one that fails is named in `failed` instead."""
        found = {}
        for i, (name, metric) in enumerate(self.metrics.items()):
            progress(i / len(self.metrics), f"measuring {self.label(name)}")
            try:
                found[name] = metric(samples[metric.space], self.held_out[metric.space])
            except Exception as error:  # the others are worth having, whatever is wrong with this one
                self.failed.setdefault(name, reason(error))
        return found

    def floors(self, n: int, progress: Progress = silent) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Return what n different, and what n independently drawn, training examples score, averaged over some subsets.

        Where n is less than a twentieth of the training examples, independent draws hardly repeat: both are one then.
        """
        path = self.folder / f"floor-{self.key}-{self.extractor.version_hash[:16]}-{n}.json"
        made = {"by": scorefield.__version__, "metrics": sorted(self.metrics), "known": len(self.known_rows), "of": FLOORS}
        if path.exists() and isinstance(kept := _read(path), dict) and kept.get("made") == made:
            different, independent = (
                {name: Estimate(*value) for name, value in kept[part].items()} for part in ("different", "independent")
            )
            return different, independent
        total, repeats = len(self.known_rows), max(1, min(FLOORS, 1000 * FLOORS // n))
        subsets = [SampleRng(range(total), stream=stream_of("floor", i)).uniform(()).argsort()[:n] for i in range(repeats)]
        drawings = [SampleRng(range(n), stream=stream_of("draws", i)).choose(torch.ones(total)) for i in range(repeats)]
        kinds = [subsets] if n * 20 <= total else [subsets, drawings]
        found = []
        for k, chosen in enumerate(kinds):
            of_sets = []
            for i, rows in enumerate(chosen):

                def real(fraction: float, _text: str, done: float = (k + i / repeats) / len(kinds)) -> None:
                    progress(done + fraction / repeats / len(kinds), "measuring what real examples score")

                of_sets.append(self.figures({space: x[rows] for space, x in self.known.items()}, progress=real))
            whole = [name for name in self.metrics if all(name in one for one in of_sets)]
            found.append({name: _average([one[name] for one in of_sets]) for name in whole})
        different, independent = found[0], found[-1]
        plain = [{name: [e.value, e.standard_error] for name, e in one.items()} for one in (different, independent)]
        if not self.failed:
            with _if_possible():
                files.write_json(path, {"made": made, "different": plain[0], "independent": plain[1]})
        return different, independent


def least() -> int:
    """Return how many samples the metrics need."""
    needs: list[int] = [metric.least for metric in registry.every("metric").values()]
    return max(LEAST, *needs)


def reason(error: Exception) -> str:
    """Return why something failed, in a line: what an error of ours says, of any other also its kind."""
    said = (str(error).splitlines() or [""])[0]
    return said if isinstance(error, ScorefieldError) else f"{type(error).__name__}{': ' if said else ''}{said}"


def _if_possible() -> contextlib.suppress:
    """Keep something that can be made again: a folder that cannot be written, or a full disk, is no reason to stop."""
    return contextlib.suppress(OSError)


def _key(run: Run) -> str:
    """Return what the names of kept files begin with: it changes with the data, and with how real examples are looked at."""
    limits = [HELD_OUT, KNOWN, NUMBERS, SEEN, LEARNING, extractors.MOST_NUMBERS]
    made = [scorefield.__version__, run.manifest["data"]["fingerprint"], limits]
    return files.digest(json.dumps(made).encode())[:16]


def _average(estimates: list[Estimate]) -> Estimate:
    """Average estimates that share most of their data: the mean value, and the mean error, which does not shrink."""
    return Estimate(fmean(e.value for e in estimates), fmean(e.standard_error for e in estimates))


def _read(path: Path) -> object:
    try:
        return files.read_json(path)
    except ScorefieldError:  # damaged: it is made again
        return None


def _bytes_of(data: Dataset, raw: Tensor) -> Tensor:
    return to_bytes(data.normaliser.visible(raw))


def _coordinates(data: Dataset, raw: Tensor) -> Tensor:
    """Return examples in model space, flat, float32; some at a time, since the map is in float64."""
    return torch.cat([flat(data.normaliser.encode(some)) for some in torch.split(raw, 4096)])


def _sets(data: Dataset, extractor: Extractor, raw: Tensor, progress: Progress = silent) -> Sets:
    """Return examples in the data's units in both spaces; features of some hundred images at a time, with progress."""
    coordinates = _coordinates(data, raw)
    if data.kind != "image":
        return {"data": coordinates, "features": extractor(coordinates)}
    seen = list[Tensor]()
    for some in torch.split(raw, 256):
        progress(len(seen) * 256 / len(raw), f"looking at example {len(seen) * 256:,} of {len(raw):,}")
        seen.append(extractor(_bytes_of(data, some)))
    return {"data": coordinates, "features": torch.cat(seen)}


def _of_part(part: Tensor | ArrayView, most: int) -> tuple[Tensor, Tensor]:
    rows = thin(len(part), most)
    return rows, part[rows]


def learned(run: Run, folder: Path, progress: Progress = silent) -> Learned:
    """Return the extractor learned from a run's own training images: the one in the folder, or a new one, kept there."""
    path = folder / f"extractor-{_key(run)}.safetensors"
    if path.exists():
        try:
            return extractors.load(path)
        except ScorefieldError:  # damaged: the same one is learned again
            pass
    data = run.data
    rows, raw = _of_part(data.train, max(2, min(LEARNING, extractors.MOST_NUMBERS // data.train.shape[1:].numel())))
    labels = data.labels[rows] if data.labels is not None and len(data.classes) > 1 else None
    found = extractors.learn(_bytes_of(data, raw), labels, progress=progress)
    with _if_possible():
        extractors.save(found, path)
    return found


def reference_of(
    run: Run,
    features: str | Path | nn.Module | None = None,
    *,
    progress: Progress = silent,
) -> Reference:
    """Return the real examples that a run's samples are compared with, as an extractor sees them.

    Args:
        run: an opened run; its data must still be there, unchanged.
        features: a registered extractor, a file with weights, or a module; None for `data` of images, else `identity`.
        progress: called with the fraction done and words.

    Raises:
        ScorefieldError: data that are gone or have changed, fewer than 20 held-out examples, an extractor that does not suit.
    """
    data = run.data
    if len(data.held_out) < LEAST_HELD_OUT:
        raise ScorefieldError(
            f"got {len(data.held_out)} held-out examples, expected at least {LEAST_HELD_OUT} of them: train with a larger "
            "data.held_out"
        )
    own = "data" if data.kind == "image" else "identity"
    chosen = own if features is None else features
    if data.kind != "image" and chosen != "identity":
        raise ScorefieldError(
            f"got --features {chosen} for a run on a {data.kind}, expected identity: extractors look at images"
        )
    if data.kind == "image" and chosen == "identity":
        raise ScorefieldError("got --features identity for a run on images, expected an extractor of images: use data or lite0")
    folder = run.path / "evaluation"
    stages = Stages(progress, learn=20.0 if chosen == "data" else 0.0, held_out=1.0, known=4.0)
    given = None if chosen == "data" else extractors.open_extractor(chosen)  # refused before anything is written
    with _if_possible():
        folder.mkdir(exist_ok=True)
    extractor = given or learned(run, folder, stages("learn"))
    most = max(HELD_OUT, min(KNOWN, NUMBERS // data.train.shape[1:].numel(), SEEN // max(1, extractor.dim)))
    parts = {"held_out": _of_part(data.held_out, HELD_OUT), "known": _of_part(data.train, most)}
    path = folder / f"reference-{_key(run)}-{extractor.version_hash[:16]}.safetensors"
    kept = _load(path) if data.kind == "image" else {}
    if all(len(kept.get(name, ())) == len(rows) for name, (rows, _) in parts.items()):
        sets = {name: {"data": _coordinates(data, raw), "features": kept[name]} for name, (_, raw) in parts.items()}
    else:
        sets = {name: _sets(data, extractor, raw, stages(name)) for name, (_, raw) in parts.items()}
        if data.kind == "image":
            with _if_possible():
                files.write(path, save_tensors({name: seen["features"] for name, seen in sets.items()}))
    rows = {name: some for name, (some, _) in parts.items()}
    return Reference(data, extractor, sets["held_out"], rows["held_out"], sets["known"], rows["known"], folder, _key(run))


def _load(path: Path) -> Sets:
    """Return what a file of features holds, nothing if it is missing or damaged."""
    try:
        return dict(load_tensors(path.read_bytes()))
    except (OSError, SafetensorError):
        return {}
