"""The page of results, made from `benchmarks/results/*.json` by the tables that the benchmarks themselves write.

    python docs/_ext/results.py

writes docs/results.md. A test makes it again and compares, so that it cannot say anything else than the files do.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE, COMMAND = ROOT / "docs" / "results.md", "python docs/_ext/results.py"
RESULTS, PLACE = ROOT / "benchmarks" / "results", "../benchmarks/results/"

HEAD = """# Results

Measured, each with its command, on two CPU cores unless a line says otherwise. The tables are made from the files in
`benchmarks/results`, and a test compares. FD is a Frechet distance in the features of a classifier that was trained on the same
images: rows of one table can be compared, and no others.
"""
TEXTS = {  # what stands above a table
    "digits": """`make demo`, over seeds. "Floor" is what 1,000 of the training images themselves score, "independent
real" what 1,000 draws of them score that may repeat, as a perfect sampler's do. One seed shared its two cores with
other work. These are the recipe of 0.1; the recipe since 0.3: [digits-demo.md]({place}digits-demo.md).""",
    "time-to-quality": """28 x 28 pixels, two CPU cores, eight minutes of training, nothing set by hand; features of a
classifier. The last row is the loop of the library's tutorial with a network of its blocks of the same size and
nothing tuned: a start, not its best. What made the difference is where the network trains: at the noise levels where
the principal directions of the data come out of the noise, which `auto` reads off the data. What was tried:
[time-to-quality-search.md]({place}time-to-quality-search.md).""",
    "samplers": """Sliced Wasserstein-2 to exact samples over the floor (the distance of two exact sets) ± its
standard error, in brackets the largest error of a mode's weight in standard errors; 1 is a perfect sampler,
differences below 0.15 are noise. Columns are evaluations of the field, each sampler on its own
default ladder. `abm` is the mean of 24 sets, the others of 4 in 2-D and 2 in 32-D, with the same
starts: 0.79 and 1.00 are the same convergence. ✓ and
FAIL: the promises of `scorefield verify`. `python benchmarks/samplers.py`; more: [samplers.md]({place}samplers.md).
What follows from it: [Choosing a sampler](guides/samplers.md).""",
    "distill": """A run that draws in 1 or 2 evaluations, made by `scorefield distill` in five minutes without data
and without an adversary, beside the run that it is made of. What was tried:
[distill-search.md]({place}distill-search.md).""",
}
ELSEWHERE = {  # pages of results whose figures are in no JSON: a sentence each
    "digits-demo": "the digits of `make demo` in a fresh clone: FD 1.80 where a perfect sampler has 1.76.",
    "time-to-quality-search": "what was tried for the default recipe, autoguidance, and clusters in "
    "place of labels: after eight minutes without labels FD 0.7 ± 0.2.",
    "distill-search": "what was tried to distil.",
    "restore-mixtures": "restoration where the posterior is known, 25 Gaussians in 8, 80, 800 dimensions: `posterior_sample` "
    "is 0.98 to 1.34 floors from exact draws, the best without weights 1.4 to 8.4.",
    "restore-gaussians": "on Gaussian priors `posterior_sample` is exact with one particle, for every linear operator.",
    "restore-digits": "half a digit comes back in several readings where there are several.",
    "restore-learned": "the same benchmark from a field that was learned in two minutes.",
    "restore-nonlinear": "clipped, rounded and other nonlinear measurements beside quadrature on a grid.",
    "restore-signals": "signals of independent jumps beside the exact posterior mean.",
    "restore-speed": "evaluations until an answer is within 1.5 floors.",
    "denoise": "held-out digits: 3.3 to 5.0 dB better than the better of non-local means and total variation at their best "
    "settings, with the noise level unknown; intervals of 90 % hold 90 %.",
    "tables": "holes of tables filled out of sample, beside other imputers.",
    "tables-in-sample": "holes filled in the rows that were learned from, by a published protocol.",
    "tables-conditional": "the learned conditional beside the exact one.",
    "tables-generated": "generated tables: can trees tell them from real ones, and learn from them?",
    "tables-columns": "the columns of generated tables: tails, zeros, legal values.",
    "tables-large": "a large table from the file to its answers: time and memory.",
    "odd": "odd rows found, beside other detectors.",
    "interchange": "ONNX and imported models: equality and speed.",
    "survival": "killed at 20 moments, a run ends bit for bit where the uninterrupted one does; of 700 damaged checkpoints "
    "none was used silently.",
    "busy": "commands beside a busy program: less than half of the time that they took before.",
    "cost-of-matching": "the time of a training step by objective and dimension.",
    "coverage_of_errors": "the metrics' standard errors, checked against repeats.",
    "speed": "a training step as a share of what the processor can do.",
    "reading": "10,000 images read: twice as fast as before, four to nine times from the second time on.",
    "sample-memory": "memory of drawing 256 and 20,000 samples.",
    "overhead": "what the sampling loop costs beside the network.",
    "exact-fields": "times of a level in closed form: what that saves.",
    "foreign-ladders": "recipes on ladders that are not their own.",
    "page": "the page in a browser: size, time to an answer.",
    "page-field": "the Field view: milliseconds to the picture, frames a second.",
    "redesign": "0.6 gives the bytes of 0.5, at its speed.",
}


def read(name: str) -> Any:
    """Return what a file of results holds, in the names of now."""
    from scorefield import renamed

    values = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return [renamed.results(row) for row in values] if isinstance(values, list) else values


def below(page: str) -> str:
    """Return a page of a benchmark as a part of this one: headings a level lower, pictures and pages by their place."""
    page = re.sub(r"^(#+ )", r"#\1", page, flags=re.M)
    page = re.sub(r"`?\b([\w-]+\.md)\b`?", lambda found: f"[{found[1]}]({PLACE}{found[1]})", page)
    return re.sub(r"\]\((?!\.\./|https?:)", f"]({PLACE}", page)


def samplers() -> list[str]:
    """Return the tables of both mixtures."""
    from samplers import table  # type: ignore[import-not-found]  # of benchmarks

    rows = read("samplers")
    lines = ["# Samplers on exact scores", ""]
    for name in dict.fromkeys(row["mixture"] for row in rows):
        mine = sorted((row for row in rows if row["mixture"] == name), key=lambda row: row["sampler"])
        lines += table(mine, f"{name}, floor {mine[0]['floor']:.4f}")
    return lines


def parts() -> dict[str, str]:
    """Return each part of the page by the name of its file."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import digits  # type: ignore[import-not-found]
        import distill  # type: ignore[import-not-found]
        import guidance  # type: ignore[import-not-found]
        import time_to_quality  # type: ignore[import-not-found]
        import trilemma  # type: ignore[import-not-found]

        quality, kept, few = read("time-to-quality"), read("guidance"), read("distill")
        return {
            "digits": digits.table(read("digits"), "Digits in three minutes"),
            "time-to-quality": time_to_quality.table(quality["rows"], quality["about"]),
            "samplers": "\n".join(samplers()),
            "trilemma": trilemma.page(read("trilemma"), RESULTS),
            "distill": "\n".join(["# Distilled runs", "", few["about"], "", *distill.lines_of(few["rows"])]),
            "guidance": guidance.table(kept["rows"], kept["about"]),
        }
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def made() -> str:
    """Return the page."""
    text = [HEAD]
    for name, part in parts().items():
        heading, _, table = below(part).partition("\n")
        text += [heading, TEXTS.get(name, "").format(place=PLACE), table.strip()]
    text += ["## More", "Each page has its tables, its command and what was tried.\n"]
    text += ["\n".join(f"- [{name}.md]({PLACE}{name}.md): {says}" for name, says in ELSEWHERE.items())]
    return re.sub(r"[ \t]+$", "", re.sub(r"\n{3,}", "\n\n", "\n\n".join(text)), flags=re.M) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(made(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
