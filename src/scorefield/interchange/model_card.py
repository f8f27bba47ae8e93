"""The model card of a run: what it is, of which data, by which recipe, how good, and under which licence.

The metadata at its head are those of https://huggingface.co/docs/hub/model-cards: a machine reads them. Nothing is said that
the run's folder does not hold.

Reference: Mitchell et al. (2019), "Model cards for model reporting", arXiv 1810.03993.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from scorefield.data.extras import require
from scorefield.durations import duration
from scorefield.registry import name_of
from scorefield.runs import Run

TASKS = {"image": "unconditional-image-generation"}
LICENCES = (  # that the hub knows by these names; others are "other" with a name
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense", "wtfpl", "zlib", "bsl-1.0"),
    *("gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "afl-3.0", "artistic-2.0", "epl-2.0", "eupl-1.1"),
    *("cc0-1.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-4.0", "odbl", "pddl", "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m"),
)


def model_card(run: Run, manifest: Mapping[str, Any], quality: Mapping[str, Any] | None, licence: str | None = None) -> str:
    """Return the card, metadata and Markdown.

    Args:
        run: an opened run.
        manifest: its manifest as the card may show it.
        quality: what `evaluate` measured of these weights, or None.
        licence: of the weights, or None.
    """
    name, data = run.path.resolve().name, manifest["data"]
    lines = [f"# {code(name)}", "", *_summary(run), "", *_use(run, name)]
    lines += ["", "## Data", "", *_rows(_data(run, data)), "", "## Recipe", "", *_rows(_recipe(run, manifest))]
    lines += ["", "## Figures", "", *_figures(run, quality), "", "## Licence", ""]
    chosen = (
        f"The weights are under the licence {code(licence)}."
        if licence
        else "No licence was chosen: ask the person who shares it."
    )
    return f"---\n{_metadata(run, name, data, quality, licence)}\n---\n\n" + "\n".join([*lines, chosen]) + "\n"


def code(text: Any) -> str:
    """Return a text as code in Markdown, whatever letters it has.

    >>> code("a`b")
    "`a'b`"
    """
    return f"`{' '.join(str(text).replace('`', chr(39)).split())}`"


def _metadata(run: Run, name: str, data: Mapping[str, Any], quality: Mapping[str, Any] | None, licence: str | None) -> str:
    """Return the YAML at the head of the card."""
    hub = require("huggingface_hub", "interchange", str(run.path))
    task, figures, labels = TASKS.get(run.kind), (quality or {}).get("figures", {}), (quality or {}).get("labels", {})
    known = licence is not None and licence.lower() in LICENCES
    results = [
        hub.EvalResult(
            task_type=task or "other",
            dataset_type=re.sub(r"[^a-z0-9._-]+", "-", str(data["name"]).lower()).strip("-") or "data",
            dataset_name=str(data["name"]),
            metric_type=figure,
            metric_name=str(labels.get(figure, figure)),
            metric_value=found["value"],
        )
        for figure, found in figures.items()
    ]
    card = hub.ModelCardData(
        library_name="scorefield",
        license=(str(licence).lower() if known else "other") if licence else None,
        license_name=None if known or not licence else licence,
        pipeline_tag=task,
        tags=["scorefield", "score-based", "diffusion", run.kind],
        model_name=name,
        eval_results=results or None,
    )
    return str(card.to_yaml())


def _summary(run: Run) -> Iterator[str]:
    shape = " x ".join(map(str, run.shape))
    by_class = f", of {len(run.classes)} classes" if run.classes else ""
    yield f"A score model of {run.kind} data, {shape}{by_class}: it draws new samples, and knows the gradient of the"
    yield "log-density of its data at every level of noise. Samples are like the training data, with their gaps and errors."


def _use(run: Run, name: str) -> Iterator[str]:
    yield from ("## Use", "", "Download this folder, then:", "", "```bash", "pip install scorefield")
    yield from (
        f'scorefield sample "{name}" -n 64',
        f'scorefield inspect "{name}"',
        "```",
        "",
        "or in Python:",
        "",
        "```python",
    )
    yield from ("from scorefield import load_field  # a field for every sampler, restoration and metric", "")
    yield from (f"field = load_field({name!r})", "```")


def _data(run: Run, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "name", code(data["name"])
    if data["examples"]:  # none are known of a model that was trained elsewhere
        yield "examples", f"{data['examples']:,} for training, {data['held_out']:,} held out"
    yield "one example", f"{data['kind']}, {' x '.join(map(str, data['shape']))}"
    if run.normaliser.low is not None and run.normaliser.high is not None:
        yield "range of values", f"{run.normaliser.low:g} to {run.normaliser.high:g}"
    if run.classes:
        yield "classes", ", ".join(code(one) for one in run.classes[:100]) + (", ..." if len(run.classes) > 100 else "")
    if data.get("columns"):
        yield "columns", ", ".join(code(one["name"]) for one in data["columns"])
    if data["fingerprint"]:
        yield "fingerprint", code(str(data["fingerprint"])[:16])


def _recipe(run: Run, manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    config, done, elsewhere = run.config, manifest["progress"], manifest.get("imported")
    if elsewhere:
        yield "imported from", code(elsewhere.get("from", "elsewhere"))
    else:
        yield "recipe", f"{code(config.recipe)}, seed {config.seed}"
    yield "process", code(config.process)
    yield "output", code(config.parametrisation)
    yield "network", f"{code(config.network)}, {manifest['parameters']:,} parameters"
    if not elsewhere:
        yield "objective", code(name_of("objective", config.objective))
        yield "training", f"{done['step']:,} steps, {done['images']:,} examples, {duration(done['seconds'])}"
    if run.evaluations is not None:
        yield "generator", f"distilled: it draws in {run.evaluations} evaluations"
    yield "made with", f"scorefield {manifest['scorefield']}, torch {manifest['versions']['torch']}"


def _figures(run: Run, quality: Mapping[str, Any] | None) -> Iterator[str]:
    if quality is None:
        yield "Not measured for these weights: `scorefield evaluate` does, given the data."
        return
    yield f"Of {quality['samples']:,} samples against {quality['reference']:,} held-out examples; in the last column as many"
    yield "real examples in place of samples. After ± stands one standard error."
    yield from ("", "| figure | samples | better | real |", "|---|---|---|---|")
    for name, found in quality["figures"].items():
        floor = quality["floor"].get(name)
        real = _number(floor) if floor else "-"
        yield f"| {quality['labels'].get(name, name)} | {_number(found)} | {quality['better'].get(name, '-')} | {real} |"
    yield from ("", *(f"- {sentence}" for sentence in quality.get("verdict", ())))


def _number(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3g} ± {found['standard_error']:.1g}"


def _rows(pairs: Iterator[tuple[str, str]]) -> Iterator[str]:
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {text.replace('|', chr(92) + '|')} |" for name, text in pairs)  # a | would end the cell
