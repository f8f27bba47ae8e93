"""The trilemma, measured: quality, variety and speed of nine ways to learn to sample, on equal data and seconds.

    OMP_NUM_THREADS=1 taskset -c 1 .venv/bin/python benchmarks/trilemma.py --data ../shared/data --sets mnist digits

    gan          non-saturating, R1, DCGAN's pair                               adversarial
    ddgan        denoising diffusion GAN, four steps                            adversarial
    vae          calibrated Gaussian decoder
    flow         masked autoregressive flow of zuko
    energy       persistent contrastive divergence on ten noise levels
    ncsn         scorefield's recipe ncsn: annealed Langevin
    ddpm         scorefield's recipe ddpm: ancestral sampling
    auto         scorefield's default, of data without labels
    auto-labels  scorefield's default as it comes: it is told the classes

All but the last know no labels. Each trains exactly as long, then draws 1,000 samples, which a judge (a classifier trained on
the labelled training part) compares with held-out images: Frechet distance FD, precision, recall, density, coverage, share of
the rarest class; then the distance of a sample to its nearest training image, beside that of a held-out image. First come real
images: the floor, and a copy of the training set, which no such number finds fault with but the distance.

Seconds are processor seconds of the one thread, so that whoever else uses the machine costs nobody anything.

Stability. Methods that draw fast are looked at ten times along the training, 500 samples each. A run counts as unstable if
one of these happens:
    not finite      a loss or a sample is no number, at any time
    collapse        recall below 0.3 or a class below 1 %, in the second half
    relapse         FD more than twice its best so far, at any time

Results are merged by name and seed into `results/trilemma.json`, so a killed run goes on where it stopped; samples of every row
are kept in `--keep`, and `--measure` measures them again without training.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from baselines import MOMENTS, Trained, count, diffusion_gan, energy, flow, gan, vae
from time_to_quality import judge_of, model_space
from torch import Tensor, nn

import scorefield
from scorefield import NotFinite, registry
from scorefield.config import override
from scorefield.data import DataConfig, Dataset, open_source
from scorefield.devices import keep_freed
from scorefield.guidance import Autoguidance
from scorefield.levels import ladder_of
from scorefield.metrics.frechet import Frechet
from scorefield.metrics.judge import Judge, train_judge
from scorefield.metrics.prdc import Coverage, PRDensity, Precision, Recall
from scorefield.randomness import SampleRng, stream_of
from scorefield.recipes import data_stats as facts_of
from scorefield.runs import build_model, classes_of
from scorefield.samplers import simulate
from scorefield.training.clusters import number_unasked, with_clusters
from scorefield.training.loop import Trainer

RESULTS = Path(__file__).parent / "results"
SAMPLES = 1000
SECONDS = {"digits": 45.0, "mnist": 200.0}
SEEN = 0  # images that a recipe of ours is trained on, for a row that is measured again; 0 for SECONDS


# --- what is compared ------------------------------------------------------------------------------------------------


def ours(
    data: Dataset, seconds: float, seed: int, *, recipe: str, settings: tuple[str, ...] = (), labels: bool = False
) -> Trained:
    """Train a recipe of scorefield as `scorefield train` does, leaving copies on the way.

    Without labels `auto` has what it has by default of data without labels: clusters and autoguidance of many images. With
    `SEEN`, on so many images instead: what they take is a matter of the machine, and of who else uses it.
    """
    facts = facts_of(data)
    if not labels:
        data = replace(data, labels=None, held_out_labels=None, classes=())
    told = () if labels else ("training.labels=0", f"training.clusters={number_unasked(data) if recipe == 'auto' else 0}")
    budget = (f"seed={seed}", f"training.seconds={seconds}", f"training.pictures={MOMENTS}", "training.checkpoint_seconds=1e9")
    config = override(registry.find("recipe", recipe)(facts).config, [*budget, *told, *settings])
    if SEEN:
        config = override(config, [f"training.steps={SEEN // config.training.batch}", "training.seconds=none"])
    began = time.perf_counter()
    config, data, _ = with_clusters(config, data)
    if not SEEN:  # finding the clusters is part of the time
        config = override(config, [f"training.seconds={max(1.0, seconds - (time.perf_counter() - began))}"])
    classes = classes_of(config, data.classes)
    model = build_model(config, data.shape, facts.std, facts.mean, classes=classes)
    trainer, snapshots = Trainer(config, data, model, None, torch.device("cpu")), list[nn.Module]()
    for progress in trainer.run():
        if progress.event in ("picture", "done"):
            snapshots.append(copy.deepcopy(trainer.average))
    snapshots = [snapshots[0]] * (MOMENTS - len(snapshots)) + snapshots
    worse, early = copy.deepcopy(trainer.average), trainer.averages.early
    guided = config.autoguidance != 1 and early is not None  # a training of seconds has no early weights
    if early is not None:
        worse.load_state_dict(early)
    counts = None if data.labels is None or not classes else data.labels.bincount(minlength=classes)

    def draw(network: Any, n: int, draw_seed: int) -> Tensor:
        field = Autoguidance(network, worse, config.autoguidance) if guided else network
        ladder, drawn = ladder_of(network, config.ladder or config.sampler.ladder, config.levels), []
        for first in range(0, n, 100):
            some = range(first, min(first + 100, n))
            cond = None if counts is None else SampleRng(some, stream=stream_of("label", draw_seed)).choose(counts)
            rng = SampleRng(some, stream=stream_of("sample", draw_seed))
            *_, last = simulate(field, config.sampler, ladder, rng=rng, cond=cond)
            drawn.append(last.x.clamp(-1, 1).float())
            trained.evaluations = last.evaluations * (2 if guided else 1)
        return torch.cat(drawn)

    note = f"recipe {recipe}" + (f" with {', '.join(settings)}" if settings else "") + (f", on {SEEN:,} images" if SEEN else "")
    trained = Trained(draw, snapshots, count(model), 0, trainer.clock.images, trainer.clock.seconds, 0, note)
    return trained


@dataclass(frozen=True)
class Baseline:
    """A way to learn to sample.

    Attributes:
        name: in tables and pictures.
        adversarial: whether a discriminator is trained.
        train: `(data, images in [-1, 1], seconds, seed) -> Trained`.
        watched: whether it draws fast enough to be looked at along the training.
    """

    name: str
    adversarial: bool
    train: Callable[[Dataset, Tensor, float, int], Trained]
    watched: bool = False


def _baseline(train: Callable[..., Trained], **settings: Any) -> Callable[[Dataset, Tensor, float, int], Trained]:
    return lambda data, x, seconds, seed: train(x, seconds, seed, **settings)


def _recipe(name: str, *settings: str, labels: bool = False) -> Callable[[Dataset, Tensor, float, int], Trained]:
    return lambda data, x, seconds, seed: ours(data, seconds, seed, recipe=name, settings=settings, labels=labels)


# The papers' learning rates, warm-ups and averages are for trainings a thousand times as long: these are for minutes.
MINUTES = ("optimiser.warmup=100", "optimiser.decay=0.5", "optimiser.clip=1", "training.ema=0.998", "training.batch=64")


def baselines_of(data: str) -> dict[str, Baseline]:
    """Return what is compared on a data set, by the name on the command line."""
    small = data == "digits"
    # A thousand evaluations would take minutes, on MNIST a quarter of an hour: fewer steps for both, and auto's network.
    same = (
        "network=unet",
        "network.channels=32,96",
        "network.blocks=1",
        "network.patch=2",
        "parametrisation.noise_label=log-sigma",
    )
    ncsn = ("sampler.steps_per_level=40",) if small else (*same, "sampler.steps_per_level=20")
    ddpm = ("levels=200",) if small else ("levels=100",)
    return {
        "gan": Baseline("GAN", True, _baseline(gan.train, width=32), True),
        "ddgan": Baseline("denoising diffusion GAN", True, _baseline(diffusion_gan.train), True),
        "vae": Baseline("VAE", False, _baseline(vae.train, width=32, beta=1.0 if small else 3.0), True),
        "flow": Baseline("flow", False, _baseline(flow.train, hidden=256 if small else 512)),
        "energy": Baseline("energy, PCD", False, _baseline(energy.train)),
        "ncsn": Baseline("NCSN", False, _recipe("ncsn", "optimiser.lr=1e-3", *MINUTES, *ncsn)),
        "ddpm": Baseline("DDPM", False, _recipe("ddpm", "optimiser.lr=1e-3", *MINUTES, *ddpm)),
        "auto": Baseline("auto", False, _recipe("auto"), small),
        "auto-labels": Baseline("auto, told the class", False, _recipe("auto", labels=True)),
    }


NAMES = list(baselines_of("digits"))
DISTILLED = {f"distilled-{n}": f"auto, distilled to {n}" for n in (1, 2)}  # measured by distill.py


# --- data and measurement --------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """A data set with its judge.

    Attributes:
        name: digits or mnist.
        data: as scorefield opens it.
        x: its training images in [-1, 1], shuffled; what every method sees.
        real: held-out images, shuffled.
        judge: trained on labelled training images.
        samples: how many are drawn of a result; half of it of a snapshot.
    """

    name: str
    data: Dataset
    x: Tensor
    real: Tensor
    judge: Judge
    samples: int

    @classmethod
    def open(cls, name: str, folder: Path, keep: Path, samples: int) -> Bench:
        """Open digits, or MNIST from its files in `folder`; what is made of them stays in `keep`."""
        shuffle = lambda n: torch.randperm(n, generator=torch.Generator().manual_seed(0))  # noqa: E731
        if name == "digits":
            data = open_source("digits", DataConfig())
            x, real = (data.normaliser.encode(part).float() for part in (data.train, data.held_out))
            assert data.labels is not None
            judge = train_judge(x, data.labels)
        else:
            train, test = (np.load(folder / f"mnist_{part}.npz") for part in ("train", "test"))
            if not (file := keep / "mnist.npz").exists():
                np.savez(file, images=train["images"], labels=train["labels"])
            data = open_source(str(file), DataConfig())
            x, real = data.normaliser.encode(data.train).float(), model_space(test["images"])
            judge = judge_of(train["images"], train["labels"], Path(tempfile.gettempdir()) / "scorefield-mnist-judge.pt")
        return cls(name, data, x[shuffle(len(x))], real[shuffle(len(real))], judge, samples)

    def nearest(self, samples: Tensor) -> float:
        """Return the median distance to the nearest training image, in model space."""
        rows, found = self.x.flatten(1), []
        for some in samples.flatten(1).split(100):
            near = torch.cdist(some, rows).argmin(dim=1)  # by products, which lose the digits of small distances: look again
            found.append((some - rows[near]).norm(dim=1))
        return float(torch.cat(found).median())

    def measure(self, samples: Tensor, real: Tensor | None = None) -> dict[str, Any]:
        """Return every figure of some samples, each `[value, standard error]`, against held-out images."""
        real = self.real if real is None else real
        if not bool(samples.isfinite().all()):
            return {"finite": False}
        drawn, features = self.judge.features(samples), self.judge.features(real)
        metrics = {"precision": Precision(), "recall": Recall(), "density": PRDensity(), "coverage": Coverage()}
        found = {"fd": Frechet()(drawn, features)} | {key: m(drawn, features[: len(drawn)]) for key, m in metrics.items()}
        row = {key: [round(value.value, 4), round(value.standard_error, 4)] for key, value in found.items()}
        share = float(self.judge.classify(samples).bincount(minlength=10).min()) / len(samples)
        row["rarest"] = [round(share, 4), round(math.sqrt(share * (1 - share) / len(samples)), 4)]
        return {"finite": True, **row, "nearest": round(self.nearest(samples), 3)}

    def floor(self) -> dict[str, dict[str, Any]]:
        """Return the rows of real images: held-out against other held-out ones, and a copy of the training set."""
        n = min(self.samples, len(self.real) // 2)
        return {
            f"real: {n:,} held-out images against {len(self.real) - n:,} others": self.measure(self.real[:n], self.real[n:]),
            f"a copy of {self.samples:,} training images": self.measure(self.x[: self.samples]),
        }

    def look(self, trained: Trained) -> list[dict[str, float]]:
        """Return FD, recall and the rarest class at the snapshots of a training."""
        path, features, n = [], self.judge.features(self.real), self.samples // 2
        for network in trained.snapshots:
            samples = trained.draw(network, n, 2)
            if not bool(samples.isfinite().all()):
                path.append({"fd": math.nan, "recall": math.nan, "rarest": math.nan})
                continue
            drawn = self.judge.features(samples)
            share = float(self.judge.classify(samples).bincount(minlength=10).min()) / n
            recall = Recall()(drawn, features[:n]).value
            path.append({"fd": round(Frechet()(drawn, features).value, 3), "recall": round(recall, 3), "rarest": share})
        return path


def events(path: list[dict[str, float]], issue: str) -> dict[str, bool]:
    """Return which of the three instabilities a training went through."""
    values = [snapshot["fd"] for snapshot in path]
    late = path[len(path) // 2 :]
    relapse = any(value > 2 * min(values[:place]) for place, value in enumerate(values) if place)
    return {
        "not finite": bool(issue) or not all(math.isfinite(value) for value in values),
        "collapse": any(snapshot["recall"] < 0.3 or snapshot["rarest"] < 0.01 for snapshot in late),
        "relapse": relapse,
    }


def run(bench: Bench, key: str, seconds: float, seed: int, keep: Path) -> dict[str, Any]:
    """Train, draw and measure one baseline."""
    baseline = baselines_of(bench.name)[key]
    try:
        trained = baseline.train(bench.data, bench.x, seconds, seed)
    except NotFinite as error:
        return {"name": baseline.name, "seed": seed, "finite": False, "problem": str(error)}
    start = time.process_time()
    samples = trained.draw(trained.snapshots[-1], bench.samples, 1)
    took = time.process_time() - start
    np.savez_compressed(keep / f"{bench.name}-{key}-{seed}.npz", x=samples.numpy())
    torch.save(trained.snapshots[-1].state_dict(), keep / f"{bench.name}-{key}-{seed}.pt")
    row = {
        "name": baseline.name,
        "seed": seed,
        **bench.measure(samples),
        "parameters": trained.parameters,
        "training only": trained.others,
        "images": trained.images,
        "training seconds": round(trained.seconds, 1),
        "seconds per 1,000": round(took * 1000 / bench.samples, 2),
        "evaluations": trained.evaluations,
        "note": trained.note,
        "problem": trained.issue,
    }
    if baseline.watched:
        row["path"] = bench.look(trained)
        row["events"] = events(row["path"], trained.issue)
    return row


# --- tables and pictures ---------------------------------------------------------------------------------------------

ArrayView = dict[str, dict[str, Any]]  # "gan/0" -> row
COLUMNS = ("FD", "precision", "recall", "density", "coverage", "rarest class", "nearest training image")
COSTS = ("parameters", "images seen", "training s", "s per 1,000", "evaluations")


def _figure(value: list[float], scale: float = 1.0, digits: int = 2) -> str:
    return f"{scale * value[0]:.{digits}f} ± {scale * value[1]:.{digits}f}"


def _cells(row: dict[str, Any]) -> list[str]:
    if not row["finite"]:
        return ["not finite"] + [""] * (len(COLUMNS) + len(COSTS) - 1)
    rates = [_figure(row[key]) for key in ("precision", "recall", "density", "coverage")]
    cells = [_figure(row["fd"]), *rates, _figure(row["rarest"], 100, 1) + " %", f"{row['nearest']:.2f}"]
    if "images" not in row:
        return cells + [""] * len(COSTS)
    others = f" + {row['training only']:,}" if row["training only"] else ""
    costs = [f"{row['parameters']:,}{others}", f"{row['images']:,}", f"{row['training seconds']:.0f}"]
    return [*cells, *costs, f"{row['seconds per 1,000']:.3g}", f"{row['evaluations']:,}"]


def with_distilled(part: dict[str, Any], name: str, results: Path) -> dict[str, Any]:
    """Return what is kept of a data set, with the rows of `distill.py`; a second of `auto` trains on as many images."""
    rows, auto = dict(part["rows"]), part["rows"].get("auto/0")
    path = results / "distill.json"
    measured = json.loads(path.read_text())["rows"] if auto and path.exists() else ()
    seen = {row["seed"]: row["images"] for row in measured if (row["set"], row["run"]) == (name, "teacher")}
    for row in measured:
        key = row["run"].replace("distilled, ", "distilled-")
        if row["set"] != name or key not in DISTILLED:
            continue
        costs = {"parameters": auto["parameters"], "training only": auto["parameters"], "evaluations": int(key[-1])}
        costs |= {
            "images": row["images"],
            "training seconds": auto["training seconds"] * seen[row["seed"]] / auto["images"] + 2 * 300,
            "seconds per 1,000": row["s"],
        }
        note = (
            f"a run of auto on {seen[row['seed']]:,} images, distilled for 5 minutes of two threads; seconds of drawing by two "
            "threads' wall clock; distill.md"
        )
        rows[f"{key}/{row['seed']}"] = row | costs | {"name": DISTILLED[key], "note": note}
    return part | {"rows": rows}


def table(floor: ArrayView, rows: ArrayView, near: float) -> list[str]:
    """Return one data set's rows as Markdown, the first seed of everything and then the other seeds."""
    lines = [f"| | seed | {' | '.join(COLUMNS)} (a held-out image's: {near:.2f}) | {' | '.join(COSTS)} |"]
    lines.append("|---" * (2 + len(COLUMNS) + len(COSTS)) + "|")
    lines += [f"| {name} | | {' | '.join(_cells(row))} |" for name, row in floor.items()]
    order = sorted(rows, key=lambda key: (rows[key]["seed"], [*NAMES, *DISTILLED].index(key.split("/")[0])))
    lines += [f"| {rows[key]['name']} | {rows[key]['seed']} | {' | '.join(_cells(rows[key]))} |" for key in order]
    return lines


def stability(rows: ArrayView) -> list[str]:
    """Return how often each instability happened, by method, and how far FD spread over seeds."""
    watched = [key for key in NAMES if any("events" in row for name, row in rows.items() if name.split("/")[0] == key)]
    lines = [
        "| | seeds | unstable | not finite | collapse | relapse | FD over seeds | worst FD / best so far |",
        "|---" * 8 + "|",
    ]
    for key in watched:
        runs = [row for name, row in rows.items() if name.split("/")[0] == key and "events" in row]
        counts = [sum(row["events"][event] for row in runs) for event in ("not finite", "collapse", "relapse")]
        paths = [[snapshot["fd"] for snapshot in row["path"]] for row in runs]
        worst = max(value / min(path[:place]) for path in paths for place, value in enumerate(path) if place)
        ends = [row["fd"][0] for row in runs if row["finite"]]
        unstable = sum(any(row["events"].values()) for row in runs)
        spread = f"{min(ends):.2f} to {max(ends):.2f}" if ends else ""
        name, seeds = runs[0]["name"], len(runs)
        lines.append(f"| {name} | {seeds} | {unstable} of {seeds} | {' | '.join(map(str, counts))} | {spread} | {worst:.2f} |")
    return lines


def plot(kept: dict[str, Any], path: Path) -> None:
    """Plot FD against seconds for 1,000 samples, one panel a data set; the area of a marker is its coverage."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sets = [name for name in SECONDS if kept.get(name, {}).get("rows")]
    if not sets:
        return
    figure = Figure(figsize=(6.5 * len(sets), 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(sets))), sets, strict=True):
        rows, floor = kept[name]["rows"], [*kept[name]["floor"].values()][-1]["fd"][0]
        axes.axhline(floor, color="0.6", ls="--", lw=1)
        axes.annotate(
            "1,000 training images", (0.99, floor), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="0.4"
        )
        for key, row in rows.items():
            if not row["finite"]:
                continue
            at, first = (row["seconds per 1,000"], row["fd"][0]), key.endswith("/0")
            known = baselines_of(name).get(key.split("/")[0])
            colour = "tab:red" if known and known.adversarial else "tab:blue"
            size = 20 + 300 * row["coverage"][0] ** 2
            axes.scatter(*at, s=size, c=colour, alpha=0.75 if first else 0.25, edgecolors="k", linewidths=0.6 if first else 0)
            if first:
                method = key.split("/")[0]  # the name stands where there is room
                left = (
                    {"xytext": (-12, -3), "ha": "right"}
                    if method in ("ddgan", "energy", "distilled-1")
                    else {"xytext": (12, -3), "ha": "left"}
                )
                middle = {"flow": 13, "distilled-2": -23}
                above = {name: {"xytext": (0, up), "ha": "center"} for name, up in middle.items()}
                how: dict[str, Any] = above.get(method, left) | {"fontsize": 9}
                axes.annotate(f"{row['name']} ({row['coverage'][0]:.2f})", at, textcoords="offset points", **how)
        axes.set(
            xscale="log", yscale="log", xlabel="seconds to draw 1,000 samples, one thread", ylabel="Frechet distance, judge's"
        )
        axes.set_title(f"{name}, {kept[name]['facts']['seconds']:g} s of training; area, and in brackets: coverage")
        axes.grid(alpha=0.25, which="both")
        axes.margins(x=0.3, y=0.15)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def show(kept: dict[str, Any], keep: Path, path: Path) -> None:
    """Draw 8 x 8 samples of each method side by side, a row of panels a data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from scorefield import pictures

    sets = [name for name in SECONDS if kept.get(name, {}).get("rows")]
    if not sets:
        return
    figure = Figure(figsize=(2.0 * (len(NAMES) + 1), 2.25 * len(sets)), layout="constrained")
    FigureCanvasAgg(figure)
    for line, name in zip(np.atleast_2d(figure.subplots(len(sets), len(NAMES) + 1)), sets, strict=True):
        for axes in line:
            axes.axis("off")
        for axes, key in zip(line, ["real", *NAMES], strict=True):
            if not (file := keep / f"{name}-{key}-0.npz").exists():
                continue
            images = torch.from_numpy(np.load(file)["x"][:64]).double()
            axes.imshow(np.asarray(pictures.grid((images + 1) / 2, 8, gap=1, across=8)), interpolation="nearest")
            axes.set_title("real" if key == "real" else baselines_of(name)[key].name, fontsize=8)
    figure.savefig(path, dpi=160, metadata={"Software": None})


def shown_of(kept: dict[str, Any], results: Path) -> dict[str, Any]:
    """Return what is kept of each data set that has rows, with the distilled runs."""
    return {name: with_distilled(kept[name], name, results) for name in SECONDS if kept.get(name, {}).get("rows")}


def page(kept: dict[str, Any], results: Path) -> str:
    """Return the results as Markdown."""
    lines = ["# The trilemma, measured", "", kept["about"], ""]
    lines += [kept["answer"], ""] if kept.get("answer") else []  # written by hand into the JSON, after looking
    lines += ["![quality against speed](trilemma.png)", "", "![samples](trilemma-samples.png)", ""]
    for name, part in shown_of(kept, results).items():
        facts = part["facts"]
        lines += [f"## {name}, {facts['seconds']:g} s of training each, {facts['judge']}", ""]
        lines += [*table(part["floor"], part["rows"], facts["near"]), ""]
        lines += ["Stability, over seeds:", "", *stability(part["rows"]), "", "What was chosen:", ""]
        lines += [f"- {row['name']}: {row['note']}" for key, row in part["rows"].items() if key.endswith("/0")] + [""]
    return "\n".join(lines)


def write(kept: dict[str, Any], keep: Path, results: Path) -> None:
    """Write the results, the tables and the pictures."""
    results.mkdir(exist_ok=True)
    (results / "trilemma.json").write_text(json.dumps(kept, indent=1) + "\n")
    (results / "trilemma.md").write_text(page(kept, results))
    plot(shown_of(kept, results), results / "trilemma.png")
    show(kept, keep, results / "trilemma-samples.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of mnist_train.npz and mnist_test.npz"
    )
    parser.add_argument("--sets", nargs="+", choices=SECONDS, default=list(SECONDS))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--seconds", type=float, default=None, help="of training; default 45 for digits, 200 for MNIST")
    parser.add_argument("--images", type=int, default=0, help="train our recipes on so many images instead of for --seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--keep", type=Path, default=Path(tempfile.gettempdir()) / "scorefield-trilemma", help="folder of samples"
    )
    parser.add_argument("--measure", action="store_true", help="measure kept samples again, train nothing")
    parser.add_argument(
        "--check", action="store_true", help="a second of training and 40 samples each, to try the code; nothing kept"
    )
    arguments = parser.parse_args()
    global SEEN
    SEEN = arguments.images
    keep_freed()
    if torch.get_num_threads() > 1:
        parser.error("got more than one thread, expected one, whose seconds are counted: set OMP_NUM_THREADS=1")
    time.perf_counter = time.process_time  # what every training here, scorefield's too, looks at
    results = RESULTS
    if arguments.check:
        results = arguments.keep = Path(tempfile.mkdtemp())
        arguments.seconds = 1.0
    samples = 40 if arguments.check else SAMPLES
    arguments.keep.mkdir(parents=True, exist_ok=True)
    about = (
        f"{datetime.date.today()}, {platform.machine()}, one of {os.cpu_count()} cores, torch {torch.__version__}, scorefield "
        f"{scorefield.__version__}, {samples:,} samples a row. "
        "`OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/trilemma.py --data ../shared/data`"
    )

    def put(name: str, place: str, value: Any) -> dict[str, Any]:
        """Merge a value into what is kept by now, perhaps by another process; return all of the data set."""
        kept = json.loads(file.read_text()) if (file := results / "trilemma.json").exists() else {}
        kept["about"] = about
        part: dict[str, Any] = kept.setdefault(name, {"rows": {}})
        (part["rows"] if "/" in place else part)[place] = value
        write(kept, arguments.keep, results)
        return part

    for name in arguments.sets:
        bench, seconds = Bench.open(name, arguments.data, arguments.keep, samples), arguments.seconds or SECONDS[name]
        np.savez_compressed(arguments.keep / f"{name}-real-0.npz", x=bench.real[:samples].numpy())
        near = round(bench.nearest(bench.real[:samples]), 3)
        part = put(name, "facts", {"seconds": seconds, "judge": bench.judge.name, "near": near})
        if arguments.measure or "floor" not in part:
            part = put(name, "floor", bench.floor())
        for seed in arguments.seeds:
            for key in arguments.only:
                at, file = f"{key}/{seed}", arguments.keep / f"{name}-{key}-{seed}.npz"
                if at not in part["rows"] and not arguments.measure:
                    part = put(name, at, run(bench, key, seconds, seed, arguments.keep))
                    print(name, at, json.dumps(part["rows"][at]), flush=True)
                elif arguments.measure and file.exists() and at in part["rows"]:
                    part = put(name, at, part["rows"][at] | bench.measure(torch.from_numpy(np.load(file)["x"])))


if __name__ == "__main__":
    main()
