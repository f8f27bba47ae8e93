"""Links to files of the repository that are no pages of the book: the book keeps the file, and the link opens it.

    [survival.md](../../benchmarks/survival.md)    becomes    {download}`survival.md <../../benchmarks/survival.md>`

The Markdown stays what the repository's own page needs.
"""

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(?<!!)\[([^\]`]+)\]\(([^)\s#]+)\)")


def inside_out(text: str, page: Path, book: Path) -> str:
    """Return the text of a page with its links to files outside the book as downloads.

    Args:
        text: of the page.
        page: its file, whose folder links begin at.
        book: the folder of all pages.
    """

    def download(found: re.Match[str]) -> str:
        place = (page.parent / found[2]).resolve()
        outside = place.is_file() and not place.is_relative_to(book.resolve())
        return f"{{download}}`{found[1]} <{found[2]}>`" if outside else found[0]

    return LINK.sub(download, text)


def setup(app: Any) -> dict[str, Any]:
    def read(app: Any, name: str, source: list[str]) -> None:
        page = Path(app.env.doc2path(name))
        if page.suffix == ".md":
            source[0] = inside_out(source[0], page, Path(app.srcdir))

    app.connect("source-read", read)
    return {"parallel_read_safe": True}
