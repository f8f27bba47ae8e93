"""Mathematics without a download: KaTeX, as `sphinxcontrib-katex` ships it, writes MathML, which browsers draw themselves.

Sphinx's own renderer would fetch MathJax from the network whenever a page is read. KaTeX's other output needs its fonts.
"""

import importlib.resources
import shutil
from html import escape
from pathlib import Path
from typing import Any

RENDER = """
document.addEventListener("DOMContentLoaded", () => {
  for (const node of document.querySelectorAll("span.tex, div.tex"))
    katex.render(node.textContent, node, { output: "mathml", displayMode: node.tagName === "DIV", throwOnError: false });
});
"""


def _inline(self: Any, node: Any) -> None:
    from docutils import nodes

    self.body.append(f'<span class="tex">{escape(node.astext())}</span>')
    raise nodes.SkipNode


def _block(self: Any, node: Any) -> None:
    from docutils import nodes

    number = f'<span class="eqno">({node["number"]})' if node["number"] else ""
    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    if number:
        self.body.append(number)
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    text = node.astext()
    if r"\\" in text and r"\begin" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    self.body.append(f'<div class="tex">{escape(text)}</div></div>')
    raise nodes.SkipNode


def _static(app: Any) -> None:
    place = Path(app.outdir) / "_static"
    place.mkdir(parents=True, exist_ok=True)
    with importlib.resources.as_file(importlib.resources.files("sphinxcontrib") / "katex.min.js") as source:
        shutil.copyfile(source, place / "katex.min.js")
    (place / "maths.js").write_text(RENDER, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", _static)
    app.add_js_file("katex.min.js")
    app.add_js_file("maths.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
