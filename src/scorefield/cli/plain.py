"""Plain characters: what a terminal's encoding cannot show is shown in characters that it can, instead of ending the work."""

from __future__ import annotations

import codecs
import io
import sys
import unicodedata

NAME = "scorefield-plain"
PLAIN = str.maketrans(
    {
        **{
            "±": "+-",
            "²": "^2",
            "³": "^3",
            "½": "1/2",
            "×": "x",
            "·": "*",
            "√": "sqrt",
            "∞": "inf",
            "≤": "<=",
            "≥": ">=",
            "≈": "~",
        },
        **{
            "→": "->",
            "←": "<-",
            "–": "-",
            "—": "-",
            "−": "-",
            "…": "...",
            "•": "*",
            "✓": "v",
            "‖": "||",
            "∇": "grad",
            "∂": "d",
        },
        **{"‘": "'", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " "},
        **dict.fromkeys("─━╌╍┄┅┈┉═╴╶╸╺╼╾", "-"),
        **dict.fromkeys("│┃║╎╏┆┇┊┋╵╷", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛┡┩╇╈┳┻╋┣┫┠┨╔╗╚╝╠╣╦╩╬╞╡╪╒╕╘╛", "+"),
        **dict.fromkeys("█▉▊▋▌▍▎▏▇▆▅▄▃▂▁", "#"),
    }
)


def plain(text: str) -> str:
    """Return a text in ASCII, as near as it can be said: an accent is dropped, what nothing stands for becomes "?".

    >>> plain("0.92 ± 0.01, MMD², Schrödinger, 数")
    '0.92 +- 0.01, MMD^2, Schrodinger, ?'
    """
    said = "".join(c for c in unicodedata.normalize("NFKD", text.translate(PLAIN)) if not unicodedata.combining(c))
    return said.translate(PLAIN).encode("ascii", "replace").decode("ascii")


def _instead(error: UnicodeError) -> tuple[str, int]:
    """Answer an encoder that met characters it has no bytes for."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def plain_where_needed() -> None:
    """Let standard output and error show plain characters for those that their encoding lacks."""
    codecs.register_error(NAME, _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=NAME)
