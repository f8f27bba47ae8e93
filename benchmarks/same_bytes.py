"""Same bytes: one hash for each thing that the command makes, to show that a change of the code changed no number.

    python benchmarks/same_bytes.py --tree ../before --out before.json
    python benchmarks/same_bytes.py --out after.json
    python benchmarks/same_bytes.py --compare before.json after.json

Everything is made through the command line of the tree's own `src`, at seed 0, on the CPU, with one thread, in one process:
every recipe is trained for 100 steps on digits, two-moons and a small table of mixed columns, and 16 samples are drawn; every
sampler and every ladder draws from one run of digits; every process, parametrisation, objective, weighting, density, ladder and
sampler is trained for 20 steps with a small network; every format and generator of data is read; and the verbs that measure are
asked for their numbers. That takes six to eight minutes. `--quick` takes two recipes, and leaves out what is not drawn from
those; `--only TEXT` keeps the cases with TEXT in their names.

A hash is of values alone, so that renaming changes none: of tensors and arrays their type, shape and bytes, sorted by that and
not by name; of a report its fractions. Names of the command may have been renamed, too: cases bear the old names, and where a
name has two, the new one is tried first (`NAMES`, `KEYS`). Where all are refused, the case is the first words of the refusal;
`--compare` lists a refusal in other words, and ends with 1 only if anything else differs, or is missing on one side.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import hashlib
import io
import itertools
import json
import math
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Spelling = str | tuple[str, ...]  # an argument, or ways to write it of which the first that is accepted counts

NAMES = {  # kind -> old name -> new name
    "sampler": {"adams": "abm", "stochastic-adams": "stochastic-abm"},
    "ladder": {"cauchy": "log-cauchy"},
    "process": {"karras": "linear-ve", "flow": "rectified-flow", "still": "noiseless"},
}
KEYS = {  # old key of a setting -> keys to try, the new ones first
    "rungs": ("ladder", "rungs"),
    "objective.density": ("objective.noise_distribution", "objective.density"),
}
KINDS = {"density": ("noise_distribution", "density")}  # of the registry, likewise
SMALL = {
    "data.examples": "600",
    "training.batch": "64",
    "training.pictures": "0",
    "network.width": "16",
    "network.depth": "2",
    "training.precision": "float32",
}
PARTS = ("weights", "checkpoint", "losses", "levels", "samples")  # of a run
NEEDED = ("auto on digits", "auto on table", "parametrisation energy")  # runs from which other cases draw
MEASURED = ("second", "time", "timing", "pace", "cost")  # in the keys of numbers that belong to a machine or a moment


def environment(tree: Path) -> dict[str, str]:
    """Return the variables of a process that computes with a tree's own code, on the CPU with one thread."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}
    return {**os.environ, **one, "PYTHONPATH": str(tree.resolve() / "src")}


# Values -> hash


def _of_array(array: Any) -> bytes:
    import numpy as np

    array = np.ascontiguousarray(array)
    raw = json.dumps(array.tolist()).encode() if array.dtype == object else array.tobytes()
    return hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode() + raw).digest()


def _of_arrays(arrays: Iterable[Any]) -> str:
    return hashlib.sha256(b"".join(sorted(_of_array(array) for array in arrays))).hexdigest()


def tensors(*files: Path) -> str:
    """Hash the tensors in safetensors files, whatever their names, and whichever file they are in."""
    from safetensors.numpy import load_file

    if not files:
        raise FileNotFoundError("no file of tensors")
    return _of_arrays(array for file in files for array in load_file(file).values())


def arrays(file: Path) -> str:
    """Hash the arrays in an .npz."""
    import numpy as np

    with np.load(file, allow_pickle=False) as found:
        return _of_arrays(found[name] for name in found.files)


def pixels(file: Path) -> str:
    """Hash all frames of a picture."""
    import numpy as np
    from PIL import Image, ImageSequence

    with Image.open(file) as image:
        return hashlib.sha256(
            b"".join(_of_array(np.asarray(f.convert("RGB"))) for f in ImageSequence.Iterator(image))
        ).hexdigest()


def cells(file: Path) -> str:
    """Hash the cells of a .csv."""
    with file.open(newline="", encoding="utf-8") as lines:
        return hashlib.sha256(json.dumps(list(csv.reader(lines))).encode()).hexdigest()


def _fractions(value: Any, key: str = "") -> list[float]:
    if any(word in key for word in MEASURED):
        return []
    if isinstance(value, dict):
        return [number for name, inner in value.items() for number in _fractions(inner, f"{key}.{name}".lower())]
    if isinstance(value, list):
        return [number for inner in value for number in _fractions(inner, key)]
    return [value] if isinstance(value, float) and math.isfinite(value) and not value.is_integer() else []


def numbers_in(file: Path) -> str:
    """Hash the different fractions in a file of JSON, or of lines of it, but for those that a clock or a machine made."""
    text = file.read_text(encoding="utf-8")
    try:
        values = [json.loads(text)]
    except json.JSONDecodeError:
        values = [json.loads(line) for line in text.splitlines()]
    return hashlib.sha256(json.dumps(sorted(set(_fractions(values)))).encode()).hexdigest()


# Arguments -> what the command makes


def table(path: Path, rows: int = 400) -> None:
    """Write a table of continuous, integer and categorical columns, some cells of one missing, the same on every machine."""
    drawn = random.Random(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("age", "income", "score", "city", "active"))
        for _ in range(rows):
            age, city = drawn.randint(18, 90), drawn.choice(("Rome", "Oslo", "Lima"))
            income, score = max(0.0, drawn.gauss(300 * age, 9000)), "" if drawn.random() < 0.1 else f"{drawn.gauss(0, 1):.3f}"
            lines.writerow((age, f"{income:.2f}", score, city, "yes" if drawn.random() < age / 100 else "no"))


def _command(arguments: list[str]) -> tuple[int, str, str]:
    """Run the command in this process and return its exit code and what it printed."""
    out, err, code, before = io.StringIO(), io.StringIO(), 0, sys.argv
    sys.argv = ["scorefield", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_module("scorefield", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception as error:  # a fault of the tree: it is what this case gives
        code, said = -1, f"{type(error).__name__}: {error}"
        err.write(f"\nscorefield: {said}")
    finally:
        sys.argv = before
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return code, out.getvalue(), err.getvalue()


def command(*arguments: Spelling | Path, clear: Path | None = None) -> tuple[str | None, str]:
    """Run the command in the first spelling that it accepts; return None or the refusal, and what was printed.

    `clear`: what a refused attempt may have left.
    """
    refusals = list[str]()
    for spelled in itertools.product(*(one if isinstance(one, tuple) else (str(one),) for one in arguments)):
        code, out, err = _command(list(spelled))
        if code == 0:
            return None, out
        sentence = next(
            (line for line in reversed(err.splitlines()) if line.startswith("scorefield: ")), (err or out).strip()[:200]
        )
        refusals.append(" ".join([f"refused ({code}):", *sentence.removeprefix("scorefield: ").split()[:12]]))
        if clear is not None:
            shutil.rmtree(clear, ignore_errors=True)
    return next((one for one in refusals if ": unknown " not in one), refusals[-1]), ""


def called(kind: str, name: str, old: bool = False) -> Spelling:
    """Return the spellings of a registered name, given by its old one; or with `old` the old of a new one."""
    table = NAMES.get(kind, {})
    if old:
        return {new: was for was, new in table.items()}.get(name, name)
    return (table[name], name) if name in table else name


def setting(key: str, value: Spelling) -> list[Spelling]:
    """Return `--set key=value` in all spellings."""
    values = value if isinstance(value, tuple) else (value,)
    return ["--set", tuple(f"{k}={v}" for k in KEYS.get(key, (key,)) for v in values)]


def registered(kind: str) -> list[str]:
    """Return the old names of what is registered in the tree."""
    from scorefield import registry

    for spelled in KINDS.get(kind, (kind,)):
        with contextlib.suppress(KeyError, ValueError, RuntimeError):
            return sorted({str(called(kind, name, old=True)) for name in registry.names(spelled)})
    return []


class Book:
    """The cases so far: name -> hash or refusal."""

    def __init__(self, out: Path, only: str) -> None:
        self.out, self.only, self.found, self.start = out, only, dict[str, str](), time.perf_counter()

    def wants(self, name: str) -> bool:
        return self.only in name

    def enter(self, name: str, refusal: str | None, value: Callable[[], str]) -> None:
        """Enter a case: the refusal, if there was one."""
        if not self.wants(name):
            return
        try:
            self.found[name] = refusal or value()
        except Exception as error:  # a file that is not there, or no longer what it was
            self.found[name] = f"error: {type(error).__name__}: {error}"[:200]
        self.out.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")
        print(f"{time.perf_counter() - self.start:6.1f} s  {name}  {self.found[name][:100]}", file=sys.stderr, flush=True)


def train(book: Book, name: str, source: str, steps: int, *more: Spelling, samples: int = 16, whole: bool = True) -> Path:
    """Train and sample; enter weights, samples, losses and, of `whole` ones, what else is in the folder. Return the folder."""
    run = Path("runs") / name
    if name not in NEEDED and not any(book.wants(f"{name}: {part}") for part in PARTS):
        return run
    refusal, _ = command("train", source, "--steps", str(steps), "--seed", "0", "--out", run, *more, clear=run)
    book.enter(f"{name}: weights", refusal, lambda: tensors(run / "model.safetensors"))
    if refusal:
        return run
    if whole:
        book.enter(f"{name}: checkpoint", None, lambda: tensors(*max(run.glob("checkpoints/step-*")).glob("*.safetensors")))
        book.enter(f"{name}: losses", None, lambda: numbers_in(run / "metrics.jsonl"))
        if (run / "levels.json").exists():
            book.enter(f"{name}: levels", None, lambda: numbers_in(run / "levels.json"))
    draw(book, f"{name}: samples", run, arrays, ".npz", "-n", str(samples))
    return run


def draw(book: Book, name: str, run: Path, hashed: Callable[[Path], str], ending: str, *more: Spelling) -> None:
    """Sample from a run and enter what was drawn."""
    if book.wants(name):
        out = Path(f"drawn{len(book.found)}{ending}")
        refusal, _ = command("sample", run, "--out", out, *more)
        book.enter(name, refusal, lambda: hashed(out))


def recipes(book: Book, names: list[str]) -> None:
    """Train every recipe on every source."""
    for recipe in names:
        for name, source in (("digits", "digits"), ("two-moons", "two-moons"), ("table", "people.csv")):
            # The table of errors that a training ends with is slow for many points: the recipes but the first take fewer.
            few = setting("data.examples", "3000") if name == "two-moons" and recipe != "auto" else []
            quiet = [] if (name, recipe) == ("digits", "auto") else setting("training.pictures", "0")
            train(book, f"{recipe} on {name}", source, 100, "--recipe", recipe, *quiet, *few)


def samplers(book: Book) -> None:
    """Draw from a run of digits by every sampler and on every ladder, and in every kind of output."""
    run = Path("runs") / "auto on digits"
    few: list[Spelling] = ["-n", "4", "--steps", "6"]
    for name in registered("sampler"):
        draw(book, f"sampler {name}", run, arrays, ".npz", *few, "--sampler", called("sampler", name))
    for name in (*registered("ladder"), "optimised"):
        draw(book, f"ladder {name}", run, arrays, ".npz", *few, "--ladder", called("ladder", name))
    draw(book, "label 3", run, arrays, ".npz", *few, "--label", "3")
    draw(book, "seed 7 in batches", run, arrays, ".npz", "-n", "5", "--steps", "6", "--seed", "7", "--batch", "2")
    draw(book, "temperature", run, arrays, ".npz", *few, "--sampler", "annealed", "--temperature", "0.8")
    draw(book, "grid", run, pixels, ".png", *few, "--gif")
    draw(book, "animation", run, lambda path: pixels(path.with_suffix(".gif")), ".png", *few, "--gif")
    for preview in sorted(run.glob("previews/*.png")):
        book.enter(f"preview {preview.name.split('-')[1]}", None, lambda preview=preview: pixels(preview))
    draw(book, "rows", Path("runs") / "auto on table", cells, ".csv", "-n", "16")


def components(book: Book) -> None:
    """Train every component with a small network, where it is alone and where it wants company."""
    small = [part for key, value in SMALL.items() for part in setting(key, value)]
    energy, still = setting("parametrisation", "energy"), setting("process", called("process", "still"))
    chain = [*setting("process", "ddpm-chain"), "--set", "process.steps=20", "--set", "levels=20"]
    betas = json.dumps({"name": "tabulated", "betas": [0.03 * k for k in range(1, 21)]})
    company = {
        "process tabulated": ["--set", f"process={betas}"],
        "objective contrastive": energy,
        "objective persistent": energy,
        "objective implicit": still,
        "objective sliced": still,
        "objective finite-difference": still,
        "objective bound": chain,
        "objective simple": chain,
        "weighting learned": setting("training.accumulate", "2"),
    }
    for kind, key in {
        "process": "process",
        "parametrisation": "parametrisation",
        "objective": "objective",
        "weighting": "objective.weighting",
        "density": "objective.density",
        "ladder": "rungs",
        "sampler": "sampler",
    }.items():
        for name in registered(kind):
            chosen = setting(key, called(kind, name))
            train(book, f"{kind} {name}", "two-moons", 20, *small, *chosen, samples=4, whole=False)
            if (more := company.get(f"{kind} {name}")) is not None:
                train(book, f"{kind} {name}, in company", "two-moons", 20, *small, *chosen, *more, samples=4)
    run = Path("runs") / "parametrisation energy"
    for name in ("mala", "annealed-mala", "langevin"):
        draw(book, f"energy: sampler {name}", run, arrays, ".npz", "-n", "4", "--steps", "6", "--sampler", name)
    run = train(book, "halves", "two-moons", 10, *small)
    refusal, _ = command("train", "two-moons", "--steps", "20", "--out", run, "--resume")
    book.enter("halves, together: weights", refusal, lambda: tensors(run / "model.safetensors"))


def sources(book: Book) -> None:
    """Train two steps on what each format and each generator gives."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    drawn, folder = np.random.default_rng(0), Path("pictures")
    shades = drawn.integers(0, 256, (24, 3, 4, 4), dtype=np.uint8)
    for index, image in enumerate(shades):
        place = folder / "ab"[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).resize((16, 12 + 4 * (index % 3 == 0))).save(place / f"{index:02d}.png")
    shutil.make_archive("zipped", "zip", folder)
    shutil.make_archive("shard-000000", "tar", folder)
    points, rows = drawn.normal(size=(60, 3)), pd.read_csv("people.csv")
    np.save("points.npy", points)
    np.savez("bytes.npz", images=drawn.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), labels=np.arange(30) % 3)
    np.save("signals.npy", drawn.normal(size=(40, 1, 32)).cumsum(axis=2).astype(np.float32))
    rows.to_csv("rows.tsv", sep="\t", index=False)
    rows.to_parquet("rows.parquet")
    files = ("pictures", "zipped.zip", "shard-000000.tar", "points.npy", "bytes.npz", "signals.npy", "rows.tsv", "rows.parquet")
    quiet = [*setting("training.pictures", "0"), *setting("training.batch", "8"), *setting("data.examples", "400")]
    for source in (*files, *(one for one in registered("source") if one not in ("digits", "two-moons"))):
        train(book, f"source {source}", source, 2, *quiet, samples=2, whole=False)
    train(book, "source pictures, 8x8", "pictures", 2, *quiet, "--size", "8", "--fit", "pad", "--flip", samples=2, whole=False)


def verbs(book: Book) -> None:
    """Ask the verbs that measure for their numbers, of the table, whose examples are small."""
    run = Path("runs") / "auto on table"
    for name, written, *what in (
        ("evaluate", "quality*.json", "--samples", "100"),
        ("likelihood", "likelihood*.json", "-n", "4"),
        ("tune", "tuning*.json", "-n", "64", "--samplers", "heun", "--evaluations", "4,8"),
    ):
        if book.wants(name):
            refusal, _ = command(name, run, *what)
            book.enter(name, refusal, lambda written=written: numbers_in(*run.glob(written)))
    draw(book, "tuned", run, arrays, ".npz", "-n", "16")


def make(out: Path, only: str, quick: bool) -> None:
    """Make all cases with the tree of this process's environment, in the working folder."""
    import scorefield

    print(f"scorefield {scorefield.__version__} of {Path(scorefield.__file__).parent}", file=sys.stderr)
    wanted = Path(os.environ["PYTHONPATH"]).resolve()
    if wanted not in Path(scorefield.__file__).resolve().parents:
        raise SystemExit(f"got scorefield from {scorefield.__file__}, expected that of {wanted}")
    table(Path("people.csv"))
    book, names = Book(out, only), registered("recipe")
    recipes(book, [name for name in names if not quick or name in ("auto", "ncsn")])
    samplers(book)
    if not quick:
        components(book)
        sources(book)
        verbs(book)


def compare(one: Path, other: Path) -> int:
    """Print what differs; return 1 if anything but the words of a refusal does."""
    a, b = (json.loads(path.read_text(encoding="utf-8")) for path in (one, other))
    differing = 0
    for name in sorted({*a, *b}):
        left, right = a.get(name, "missing"), b.get(name, "missing")
        if left == right:
            continue
        reworded = left.startswith("refused (2)") and right.startswith("refused (2)")
        differing += not reworded
        print(f"{'reworded' if reworded else 'DIFFERS'}  {name}\n    {left}\n    {right}")
    refused = sum(len(value) != 64 for value in a.values())
    print(f"{len({*a, *b})} cases, {refused} of them refused in {one.name}: {differing} differ")
    return int(differing > 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, default=Path(__file__).resolve().parents[1], help="whose src makes the cases")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default the terminal")
    parser.add_argument("--quick", action="store_true", help="two recipes, samplers and ladders alone")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases with this in their names")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A.json", "B.json"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.compare:
        raise SystemExit(compare(*asked.compare))
    if asked.worker:
        return make(asked.out, asked.only, asked.quick)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "cases.json"
        how = ["--worker", "--out", str(kept), "--only", asked.only, *["--quick"] * asked.quick]
        code = subprocess.call([sys.executable, __file__, *how], cwd=folder, env=environment(asked.tree))
        text = kept.read_text(encoding="utf-8") if kept.exists() else "{}\n"
    if asked.out is None:
        print(text, end="")
    else:
        asked.out.write_text(text, encoding="utf-8")
    raise SystemExit(code)


if __name__ == "__main__":
    main()
