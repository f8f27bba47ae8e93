"""Docstrings as they are written: plain text with the letters of the mathematics, not a markup language.

A paragraph keeps its words, `code` becomes code, an indented block becomes preformatted text, `Args:` and its kin become a list
of fields, and a session of the interpreter stays one.
"""

import re
from collections.abc import Iterator
from typing import Any

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|References?|Yields):\s*(.*)$")
ITEM = re.compile(r"^    ([\w*., /|\[\]]+?): (.*)$")


def _marked(text: str) -> str:
    """Escape text without `code`, but for *emphasis*."""
    escaped = re.sub(r"([\\*|_<>:\[\]])", r"\\\1", text)
    return re.sub(r"(^|(?<= ))\\\*(\w[\w ]*)\\\*(?=[ .,;:)]|$)", r"*\2*", escaped)


def _escaped(text: str) -> str:
    """Escape all that reStructuredText would read, but for `code` and *emphasis*."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(f"``{part[1:-1]}``\\ " if at % 2 else _marked(part) for at, part in enumerate(parts))


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _items(lines: list[str]) -> Iterator[str]:
    """Yield each entry of a section as a line."""
    entry = ""
    for line in lines:
        if ITEM.match(line) and entry:
            yield entry
            entry = ""
        entry = f"{entry} {line.strip()}".strip()
    if entry:
        yield entry


def rewritten(lines: list[str]) -> list[str]:
    """Return a docstring as reStructuredText."""
    out: list[str] = []
    for block in _blocks(lines):
        section = SECTION.match(block[0])
        if block[0].startswith(">>>"):
            out += [*block, ""]
        elif section:
            rest = [section[2]] if section[2] else []
            out += [f"**{section[1]}**", ""]
            if section[1] in ("Args", "Attributes", "Raises"):
                for entry in _items(block[1:]):
                    name, found, text = entry.partition(": ")
                    out += [f"- ``{name}``: {_escaped(text)}" if found else f"- {_escaped(name)}", ""]
            else:
                out += [_escaped(" ".join([*rest, *(line.strip() for line in block[1:])])), ""]
        elif all(line.startswith(" ") for line in block):
            out += ["::", "", *block, ""] if block[0].startswith("    ") else ["::", "", *(f"    {line}" for line in block), ""]
        elif block[0].startswith("- "):
            entry = ""
            for line in [*block, "- "]:
                if line.startswith("- ") and entry:
                    out += [f"- {_escaped(entry)}", ""]
                    entry = ""
                entry = f"{entry} {line.removeprefix('- ').strip()}".strip()
        else:
            out += [_escaped(" ".join(block)), ""]
    return out


def setup(app: Any) -> dict[str, Any]:
    def process(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
        lines[:] = rewritten(lines)

    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
