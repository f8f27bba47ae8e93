"""Mathematics without a download: KaTeX writes MathML, which browsers draw themselves, in the font STIX Two Math.

Sphinx's own renderer would fetch MathJax from the network whenever a page is read, and KaTeX's other output needs fonts that
its package does not hold. KaTeX comes with `sphinxcontrib-katex`, the font with `ziamath`. MathML Core knows no `mathvariant`:
letters of other alphabets, such as 𝔼 and 𝒩, are put in as characters of their own.
"""

import importlib.resources
import shutil
from html import escape
from pathlib import Path
from typing import Any

RENDER = """
const STARTS = {
  "double-struck": [0x1d538, 0x1d552], script: [0x1d49c, 0x1d4b6], bold: [0x1d400, 0x1d41a], fraktur: [0x1d504, 0x1d51e],
};
const OLDER = { "double-struck": { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" }, bold: {} };
const shifted = (one, from, to) => String.fromCodePoint(to + one.charCodeAt(0) - from.charCodeAt(0));
const letter = (kind, one) => OLDER[kind][one] ?? (/[A-Z]/.test(one) ? shifted(one, "A", STARTS[kind][0])
  : /[a-z]/.test(one) ? shifted(one, "a", STARTS[kind][1]) : one);
document.addEventListener("DOMContentLoaded", () => {
  for (const node of document.querySelectorAll("span.tex, div.tex"))
    katex.render(node.textContent, node, { output: "mathml", displayMode: node.tagName === "DIV", throwOnError: false });
  for (const node of document.querySelectorAll("math mi"))
    if (/^[a-z]{2,}$/.test(node.textContent)) node.style.marginInlineEnd = "0.17em"; // log, exp, ...: no browser puts the space
  for (const node of document.querySelectorAll("math [mathvariant]")) {
    const kind = node.getAttribute("mathvariant");
    if (kind in STARTS) {
      node.textContent = [...node.textContent].map((one) => letter(kind, one)).join("");
      node.removeAttribute("mathvariant");
    }
  }
});
"""


def _inline(self: Any, node: Any) -> None:
    from docutils import nodes

    self.body.append(f'<span class="tex">{escape(node.astext())}</span>')
    raise nodes.SkipNode


def _block(self: Any, node: Any) -> None:
    from docutils import nodes
    from sphinx.util.math import get_node_equation_number

    # the number in the whole book, as a reference to it has: node["number"] counts within the page
    number = f'<span class="eqno">({get_node_equation_number(self, node)})' if node["number"] else ""
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
    with importlib.resources.as_file(importlib.resources.files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf") as source:
        shutil.copyfile(source, place / "STIXTwoMath-Regular.ttf")
    (place / "maths.js").write_text(RENDER, encoding="utf-8")


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("builder-inited", _static)
    app.add_js_file("katex.min.js")
    app.add_js_file("maths.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
