"""Fragments of HTML: what a notebook shows of a run, of samples and of an evaluation.

A notebook asks a value for `_repr_html_()` and shows what that returns. Everything is inside, pictures as data URIs: nothing is
fetched, and the notebook can be sent. Every text is escaped, for names of columns, classes and folders may hold any character.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any


def heading(text: str) -> str:
    """Return a line in bold.

    >>> heading("runs/<b>")
    '<p><b>runs/&lt;b&gt;</b></p>'
    """
    return f"<p><b>{escape(text)}</b></p>"


def sentences(texts: Sequence[str]) -> str:
    """Return a list of sentences."""
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def table(rows: Sequence[Sequence[object]], header: bool = True) -> str:
    """Return a table; the first row is its header, if it has one.

    >>> table([["figure", "samples"], ["recall", 0.9]])
    '<table><tr><th>figure</th><th>samples</th></tr><tr><td>recall</td><td>0.9</td></tr></table>'
    """
    marks = ["th" if header and number == 0 else "td" for number in range(len(rows))]
    lines = ["".join(f"<{mark}>{escape(str(cell))}</{mark}>" for cell in row) for mark, row in zip(marks, rows, strict=True)]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def text(lines: Sequence[str]) -> str:
    """Return lines as they are, in letters of one width."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def image(content: bytes, kind: str, says: str) -> str:
    """Return a picture that is inside.

    Args:
        content: of its file.
        kind: png or gif.
        says: what it shows, for who cannot see it.
    """
    data = base64.b64encode(content).decode()
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(says)}" style="max-width: 100%">'


def of_run(path: Path, manifest: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return what a run is, and the last preview of its training.

    Args:
        path: its folder.
        manifest, config: what its files of these names hold.
    """
    data, progress = manifest["data"], manifest["progress"]
    trained = f"{progress['step']:,} steps, {progress.get('seconds', 0):,.0f} s"
    rows = [
        ("data", f"{data['name']}: {data['kind']}, {' x '.join(map(str, data['shape']))}"),
        ("examples", f"{data['examples']:,}, and {data['held_out']:,} held out"),
        ("classes", ", ".join(data["classes"]) or "none"),
        ("trained", trained if progress.get("finished") else f"{trained}, not finished"),
        *((part, config[part]["name"]) for part in ("process", "parametrisation", "network", "objective", "sampler")),
    ]
    says = "samples while training: raw weights left, their moving average right"
    shown = [image(last.read_bytes(), "png", says) for last in sorted((path / "previews").glob("*.png"))[-1:]]
    return "".join([heading(str(path)), table(rows, header=False), *shown])
