"""The Field view as one HTML file, which opens without a server: for the docs, or to give away.

Each module becomes a function that returns its exports, so that names of different modules never meet; an import becomes the
taking apart of such a value. Only what `standalone.js` reaches is in the file. A content security policy in the file names the
hash of its script and of its style, and allows nothing else: no address can be asked.

    python -m scorefield.web.standalone field.html
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from html import escape
from pathlib import Path

from scorefield.errors import ScorefieldError
from scorefield.files import write

FIELD = Path(__file__).parent / "static" / "field"
START = "standalone.js"
STYLES = ("standalone.css", "field.css")
TITLE = "The score field"
ABOUT = "A density, its score at every noise level, and particles that follow it. All of it is computed on this page."

_IMPORT = re.compile(r'^import\s*\{([^}]*)\}\s*from\s*"\./([\w.-]+)";?[ \t]*$', re.MULTILINE)
_EXPORT = re.compile(r"^export\s+(?=(?:async\s+)?(?:const|let|function\*?|class)\s+(\w+))", re.MULTILINE)
_OTHER = re.compile(r"^(?:import|export)\b.*$|\bimport\s*\(", re.MULTILINE)


def _names(listed: str) -> str:
    """Turn the names of an import, `a, b as c`, into those of a pattern, `a, b: c`."""
    return ", ".join(re.sub(r"\s+as\s+", ": ", name.strip()) for name in listed.split(",") if name.strip())


def _variable(module: str) -> str:
    return "module_" + re.sub(r"\W", "_", module)


def bundle(folder: Path, start: str) -> str:
    """Return the modules that `start` reaches as one script.

    Args:
        folder: where all of them lie.
        start: file name of the module that imports the others.

    Returns:
        A script in strict mode, a function around each module, in an order in which each stands after those that it imports.

    Raises:
        ScorefieldError: modules that import each other in a ring, a missing one, or another form of import or export than
            `import { names } from "./module.js"` and `export const|let|function|class`.
    """
    written: dict[str, str] = {}

    def add(module: str, above: tuple[str, ...]) -> None:
        if module in above:
            ring = " -> ".join((*above[above.index(module) :], module))
            raise ScorefieldError(f"got modules that import each other in a ring, {ring}, expected none: divide one of them")
        if module in written:
            return
        try:
            source = (folder / module).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ScorefieldError(
                f"got an import of {module} in {above[-1:] or 'no module'}, expected a file in {folder}"
            ) from None
        for _, name in _IMPORT.findall(source):
            add(name, (*above, module))
        exported = _EXPORT.findall(source)
        body = _EXPORT.sub("", _IMPORT.sub(lambda found: f"const {{ {_names(found[1])} }} = {_variable(found[2])};", source))
        if (odd := _OTHER.search(body)) is not None:
            raise ScorefieldError(
                f'got the line {odd[0]!r} in {module}, expected imports of the form import {{ names }} from "./module.js" and '
                "exports of const, let, function or class: write it so"
            )
        written[module] = f"const {_variable(module)} = (() => {{\n{body}\nreturn {{ {', '.join(exported)} }};\n}})();\n"

    add(start, ())
    return '"use strict";\n' + "\n".join(written.values())


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def field_page() -> str:
    """Return the Field view as one HTML file."""
    script = "\n" + bundle(FIELD, START)
    style = "\n" + "\n".join((FIELD / name).read_text(encoding="utf-8") for name in STYLES)
    if "</script" in script.lower() or "</style" in style.lower():
        raise ScorefieldError("got a script or a style that holds its own end tag, expected none: write it in two parts")
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src blob: data:; base-uri 'none'"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(TITLE)}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{escape(TITLE)}</h1><p>{escape(ABOUT)}</p></header>
<main></main>
<script>{script}</script>
</body>
</html>
"""


def main(arguments: list[str]) -> int:
    """Write the file that is named."""
    if len(arguments) != 1:
        print("use: python -m scorefield.web.standalone OUT.html", file=sys.stderr)
        return 2
    write(Path(arguments[0]), field_page().encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
