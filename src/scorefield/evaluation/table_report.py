"""The measures of a generated table as rows of tables, and as a sentence."""

from __future__ import annotations

from scorefield.evaluation.table_quality import TableQuality
from scorefield.metrics.base import Estimate
from scorefield.metrics.tstr import Predicted

NAMES = {"R2": "R²", "AUROC": "AUROC"}


def together(found: TableQuality | None) -> list[list[str]]:
    """Return the measures of whole rows, of samples and of real rows, as rows of a table; empty without any."""
    if found is None:
        return []
    rows = list[list[str]]()

    def add(name: str, ours: Estimate | None, real: Estimate | None, best: str) -> None:
        if ours is not None:
            rows.append([name, str(ours), "-" if real is None else str(real), best])

    add("detection AUROC, by trees", found.detection, found.real_detection, "0.5")
    if found.dependence is not None:
        real = found.real_dependence
        add("dependence of pairs, mean error", found.dependence.mean, None if real is None else real.mean, "lower")
        pair = " and ".join(found.dependence.pair)
        add(f"dependence, largest error: {pair}", found.dependence.largest, None if real is None else real.largest, "lower")
    add("DCR: nearer to training than to held-out rows", found.closest, found.real_closest, "0.5")
    return [["rows", "samples", "real rows", "best"], *rows] if rows else []


def predicted(found: TableQuality | None) -> list[list[str]]:
    """Return how well columns are predicted as rows of a table, means last; empty where none was."""
    if found is None or found.utility is None:
        return []
    several = len(found.utility.columns) > 1
    means = [(f"mean of {NAMES[score]}", one) for score, one in found.utility.means.items()] if several else []
    body = [
        [name, NAMES[one.score], str(one.synthetic), str(one.real), str(one.gap)]
        for name, one in (*found.utility.columns.items(), *means)
    ]
    rows = f"{found.utility.rows:,}"
    return [["predicted column", "score", f"trained on {rows} samples", f"trained on {rows} real rows", "lost"], *body]


def sentence(found: TableQuality | None) -> str | None:
    """Say how well samples pass for real rows, and what they are worth for prediction; None where nothing was measured."""
    if found is None:
        return None
    parts = list[str]()
    if found.detection is not None:
        beside = "" if found.real_detection is None else f"; real rows: {found.real_detection.value:.3g}"
        parts.append(f"trees tell samples from held-out rows with AUROC {found.detection} (0.5: not at all{beside})")
    if found.dependence is not None:
        beside = "" if found.real_dependence is None else f" (real rows: {found.real_dependence.mean.value:.3g})"
        parts.append(f"the dependence of two columns is wrong by {found.dependence.mean} on average{beside}")
    if found.utility is not None:
        scores = " and ".join(_score(one) for one in found.utility.means.values())
        parts.append(f"trees that learned from samples predict held-out rows with {scores}")
    return "; ".join(parts) or None


def _score(one: Predicted) -> str:
    return f"{NAMES[one.score]} {one.synthetic} (from real rows: {one.real.value:.3g})"
