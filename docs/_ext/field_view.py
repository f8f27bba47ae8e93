"""`field-view`: the interactive score field in a page, at a state or a lesson of its own.

    .. field-view:: lesson=annealing

The argument is the state as an address of the view has it. The link below it opens the view alone.
"""

from html import escape
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class FieldView(SphinxDirective):
    """An inner frame with the view, and a link to it alone."""

    required_arguments = 1

    def run(self) -> list[Any]:
        state = self.arguments[0]
        up = "../" * self.env.docname.count("/")
        address = escape(f"{up}field.html#{state}")
        frame = f'<iframe class="field-view" src="{address}" loading="lazy" title="The score field, {escape(state)}"></iframe>'
        link = f'<p class="field-link"><a href="{address}">Open it on a page of its own</a></p>'
        return [nodes.raw("", frame + link, format="html")]


def setup(app: Any) -> dict[str, Any]:
    app.add_directive("field-view", FieldView)
    return {"parallel_read_safe": True}
