"""Plain characters: a character that a terminal's encoding lacks is shown by others, instead of ending the work."""

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
    """Return a text in the nearest ASCII: accents are dropped, and a character without a likeness becomes "?".

    >>> plain("0.92 ± 0.01, MMD², Schrödinger, 数")
    '0.92 +- 0.01, MMD^2, Schrodinger, ?'
    """
    text = "".join(c for c in unicodedata.normalize("NFKD", text.translate(PLAIN)) if not unicodedata.combining(c))
    return text.translate(PLAIN).encode("ascii", "replace").decode("ascii")


def _instead(error: UnicodeError) -> tuple[str, int]:
    """Handle the error of an encoder that lacks characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def plain_where_needed() -> None:
    """Let standard output and standard error show plain characters for those that their encoding lacks."""
    codecs.register_error(NAME, _instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=NAME)
