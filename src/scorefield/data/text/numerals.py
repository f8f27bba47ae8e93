"""Numerals: how numbers are written: 1234.5, 52,000.12, 1.234,50, 61%, $5 or 1.50e-03; read, and written back in the same way.

    decimal, group     what stands before the decimals, and between groups of three digits
    before, after      a sign of money or of a share, or a unit, the same for all
    places, exponent   how many decimals, where all have equally many; e or E, where all have a power of ten
    plus               a sign before all numbers
    trim               whole numbers stand without a point beside others with one

A comma before three digits, as in 1,234, may stand for thousands or for decimals. It is decided by what can only be one of
them: of the column (0,500; 12,5; 1,234,567; 1234 beside it), else of the file, else by what stands between its cells.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MOSTLY = 0.9  # of the different texts are numbers: the others are mistakes
INTEGER = re.compile(r"[+-]?(0|[1-9]\d*)")
NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|infinity)", re.IGNORECASE)
POINTS = re.compile(r"[+-]?\d+\.\d+(?:[eE][+-]?\d+)?(?:\n[+-]?\d+\.\d+(?:[eE][+-]?\d+)?)*")  # many, one in a line
POWER = re.compile(r"([+-]?)\d(?:\.(\d+))?([eE])[+-]\d\d\d?")
DIGITS = r"[+-]?[\d., '\u00a0\u202f\u2019]*\d(?:[eE][+-]?\d+)?"
AFFIX = re.compile(
    rf"(?P<before>[$€£¥] ?|(?:USD|EUR|GBP|CHF|JPY) )?(?P<digits>{DIGITS})(?P<after> ?(?:[%‰$€£¥]|°[CF]?)| ?[^\W\d_][^ ,;]*)?"
)
GROUPS = ("", ",", ".", " ", "'", "\u00a0", "\u202f", "\u2019")
CERTAIN = {  # what only one reading of a mark before digits has: no group of three, a leading zero, or the other mark before it
    mark: re.compile(rf"[+-]?(\d*{m}(\d{{1,2}}|\d{{4,}})|(\d{{4,}}|0|){m}\d+|\d{{1,3}}({o}\d{{3}})+{m}\d+)([eE][+-]?\d+)?")
    for mark, m, o in ((".", r"\.", ","), (",", ",", r"[. '\u00a0\u202f]"))
}  # fmt: skip
GROUPED = {mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+") for mark in ",."}
KNOWN_UNITS = (
    "m cm mm km um µm nm mi ft in s ms us µs ns min h hr d day days yr year g kg mg ug µg t lb K C F °C °F degC degF deg ° "
    "rad sr Pa hPa kPa MPa bar mbar psi atm N kN J kJ MJ kWh Wh cal W kW MW V mV kV A mA uA µA ohm Ω kΩ F H T mT G Hz kHz "
    "MHz GHz l L mL ml mol mmol M mM uM µM nM ppm ppb pct % ‰ m/s km/h mph kn knots m/s2 m2 m3 m^2 m^3 m² m³ kg/m3 g/cm3 "
    "W/m2 W/m^2 W/m² lx lm cd px count counts cts 1/s rpm dB dBm eV keV MeV GeV mag arcsec AU pc Mpc USD EUR GBP CHF JPY"
)
UNITS = frozenset(KNOWN_UNITS.split())
MINUS = "\u2212"
SPELLINGS = (  # of all numbers or some: a double of Fortran, and a negative amount of accountants
    (re.compile(r"([+-]?(?:\d+\.\d*|\.\d+))D([+-]?\d{1,3})"), r"\1E\2", {"exponent": "D"}),
    (re.compile(r"\(([$€£¥]?)(\d[\d.,]*)\)"), r"-\1\2", {"minus": "("}),
)
NAMES = {",": "comma", ".": "point"}
WHERE = {";": "semicolons stand", ",": "commas stand", " ": "blanks stand", "\t": "tabs stand", "|": "bars stand"}


@dataclass(frozen=True)
class Numbers:
    """What texts mean as numbers, and how they are written.

    Attributes:
        meaning: text -> number; texts that are no numbers are left out.
        style: how they are written, as JSON values.
        whole: whether all are whole, and written so.
        said: what a person should know, or "".
        open: whether it could not be decided what the texts mean.
    """

    meaning: dict[str, float]
    style: dict[str, Any] = field(default_factory=dict)
    whole: bool = False
    said: str = ""
    open: bool = False


def decimal_of(columns: Iterable[Collection[str]]) -> str:
    """Return what must be the decimal mark in some columns, "." or ",", and is nowhere the other; "" if it is open.

    Without a comma in any cell there is nothing to decide.

    >>> decimal_of([{"1.234", "5.678"}, {"0,5", "1,25"}]), decimal_of([{"1.5"}, {"1,5"}])
    (',', '')
    """
    certain = set[str]()
    sets = list(columns)
    if not any("," in "".join(texts) for texts in sets):
        return ""
    for texts in sets:
        for mark, pattern in CERTAIN.items():
            if mark not in certain and texts and all(map(NEAR.fullmatch, texts)) and any(map(pattern.fullmatch, texts)):
                certain.add(mark)
    return certain.pop() if len(certain) == 1 else ""


NEAR = re.compile(
    r"[+-]?([$€£¥ ]*|(USD|EUR|GBP|CHF|JPY) )[\d., '\u00a0\u202f]+([eE][+-]?\d+)?( ?[%‰$€£¥°CF]*|[ ]?[^\W\d_]\S*)"
)  # what looks like a number in some style


def is_number(text: str) -> bool:
    """Whether a text is a number in some style."""
    if ("." in text or "," in text) and any(pattern.fullmatch(text) for pattern, _, _ in SPELLINGS):  # (1) may be a name
        return True
    return bool(NUMBER.fullmatch(text)) or bool(NEAR.fullmatch(text) and text[-1:] not in " '" and _read([text], "", ","))


def numbers_of(texts: Collection[str], *, decimal: str = "", delimiter: str = ",") -> Numbers | None:
    """Return what different texts mean as numbers, or None if fewer than nine in ten are any.

    Args:
        texts: all different.
        decimal: the mark of decimals elsewhere in the file, "." or ","; "" if it is not known.
        delimiter: what stands between the cells of the file.

    >>> numbers_of({"52,000.12", "7.5"}).meaning["52,000.12"]
    52000.12
    >>> numbers_of({"61%", "7%"}).style
    {'after': '%'}
    >>> numbers_of({"1,234", "5,678"}, decimal=",").meaning["1,234"]
    1.234
    """
    if MINUS in "".join(texts):
        own = {text.replace(MINUS, "-"): text for text in texts}
        found = numbers_of(list(own), decimal=decimal, delimiter=delimiter)
        return found and replace(
            found, meaning={own[t]: value for t, value in found.meaning.items()}, style=found.style | {"minus": MINUS}
        )
    for pattern, template, style in SPELLINGS:
        own = {pattern.sub(template, text): text for text in texts}
        if len(own) == len(texts) and any(map(pattern.fullmatch, texts)) and not all(t.startswith("(") for t in texts):
            found = _read(list(own), decimal, delimiter)
            if found is None or len(found.meaning) < MOSTLY * len(texts):
                return None
            kept = {**found.style, **style} if style != {"exponent": "D"} or "exponent" in found.style else found.style
            return replace(found, meaning={own[t]: value for t, value in found.meaning.items()}, style=kept)
    found = _read(texts, decimal, delimiter)
    return found if found is not None and len(found.meaning) >= MOSTLY * len(texts) else None


def _read(texts: Collection[str], decimal: str, delimiter: str) -> Numbers | None:
    """Return the reading that most texts have; the plain one of several that are as good."""
    plain, thousands = _plain(texts), decimal == "," and _all_grouped(texts, ".")
    best = Numbers(plain, _style(plain), all(map(INTEGER.fullmatch, plain))) if plain and not thousands else None
    if best and len(plain) == len(texts):
        return best
    bare, affixes = _without_affixes(texts)
    seen = set("".join(bare.values()))
    order = (",", ".") if decimal == "," else (".", ",")
    pairs = [(mark, group) for mark in order for group in GROUPS if mark != group and {group or mark} - {"."} <= seen]
    for mark, group in pairs:
        if best is not None and len(best.meaning) == len(texts):
            break
        meaning = _spelled(bare, mark, group)
        if meaning and (best is None or len(meaning) > len(best.meaning)):
            style = affixes | ({"decimal": mark} if mark != "." else {}) | ({"group": group} if group else {})
            written = [bare[text] for text in meaning]
            best = Numbers(meaning, style | _style(written, mark), not any(mark in one for one in written))
    if best is not None and thousands:
        such = f"points between thousands (such as {min(text for text in texts if '.' in text)})"
        return replace(best, said=f"{such}: read as numbers, as the other columns have decimal commas")
    if best is not None and (comma := [bare[t] for t in best.meaning if "," in bare.get(t, "")]) and "." not in "".join(comma):
        return _comma(best, bare, affixes, decimal, delimiter)
    return best


def _plain(texts: Collection[str]) -> dict[str, float]:
    """Return what texts mean that float64 itself would read."""
    meant = dict(zip(texts, map(float, texts), strict=True)) if POINTS.fullmatch("\n".join(texts)) else {}
    if meant and not math.isinf(max(meant.values())) and not math.isinf(min(meant.values())):
        return meant
    meant = {text: float(text) for text in texts if NUMBER.fullmatch(text)}
    # Digits beyond the range of floats, such as -1.8e308, are a mark of no data; "inf" is what it says.
    endless = {t: math.copysign(sys.float_info.max, v) for t, v in meant.items() if math.isinf(v) and t[-1].isdigit()}
    return meant | endless


def _spelled(bare: dict[str, str], mark: str, group: str) -> dict[str, float]:
    """Return what texts mean by a mark of decimals and one between groups of three digits; `bare` are they without affixes."""
    between = rf"|[1-9]\d{{0,2}}({re.escape(group)}\d{{3}})+" if group else ""
    pattern = re.compile(rf"[+-]?(\d+{between})({re.escape(mark)}\d+)?([eE][+-]?\d+)?")
    drop = str.maketrans({group: ""} if group else {})
    return {text: float(one.translate(drop).replace(mark, ".")) for text, one in bare.items() if pattern.fullmatch(one)}


def _without_affixes(texts: Collection[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the texts, each with what is left of it without what stands before and after all of them; and what that is."""
    parts = {text: match for text in texts if (match := AFFIX.fullmatch(text))}
    kinds = Counter((match["before"] or "", match["after"] or "") for match in parts.values())
    if not kinds:
        return {}, {}
    (before, after), _ = kinds.most_common(1)[0]
    unit = after.strip()
    if unit[:1].isalpha() and (unit not in UNITS or (unit == after and len(unit) == 1 and unit.isupper())):
        return {}, {}  # 3 rooms are a text; 1A and 2A are codes
    bare = {t: m["digits"] for t, m in parts.items() if (m["before"] or "", m["after"] or "") == (before, after)}
    if before or after:  # a minus may stand before the sign of money
        bare |= {t: f"-{t[1 + len(before) :]}" for t in texts if before and t.startswith(f"-{before}")}
    return bare, {key: one for key, one in (("before", before), ("after", after)) if one}


def _all_grouped(texts: Collection[str], mark: str) -> bool:
    """Whether all texts with a mark may be whole numbers in groups of three digits, and there are some."""
    marked = [text for text in texts if mark in text]
    return (
        bool(marked) and all(map(GROUPED[mark].fullmatch, marked)) and all(INTEGER.fullmatch(t) for t in texts if mark not in t)
    )


def _comma(best: Numbers, bare: dict[str, str], affixes: dict[str, str], decimal: str, delimiter: str) -> Numbers:
    """Return numbers with commas and no points: decimals, thousands, or open."""
    texts = [bare[text] for text in best.meaning if text in bare]
    commas = [text for text in texts if "," in text]
    such = f"such as {min(text for text in best.meaning if ',' in text)}"
    if any(text.count(",") > 1 for text in commas) or best.style.get("group", ",") != ",":
        return best
    why, wholes = "", [text for text in texts if "," not in text]
    if any(map(CERTAIN[","].fullmatch, commas)):
        mark = ","
    elif any(len(text.lstrip("+-")) > 3 for text in wholes):
        mark, why = ",", f"as {max(wholes, key=len)} is written without one"
    elif decimal:
        mark, why = decimal, f"as the other columns have decimal {NAMES[decimal]}s"
    elif delimiter in ";,":
        mark = "," if delimiter == ";" else "."
        why = f"as {WHERE[delimiter]} between the cells"
    else:
        cause = f"commas that may stand for thousands or for decimals ({such}): read as text"
        return Numbers(best.meaning, said=f"{cause}; write 1234 for thousands, or 1.234 for decimals", open=True)
    whole = mark == "."
    meaning = _spelled({t: one for t, one in bare.items() if t in best.meaning}, mark, "," if whole else "")
    style = affixes | ({"group": ","} if whole else {"decimal": ","})
    style |= _style([bare[text] for text in meaning], mark)
    said = f"decimal commas ({such}): read as numbers" if not whole else f"commas between thousands ({such}): read as numbers"
    return Numbers(meaning, style, whole, f"{said}, {why}" if why else said)


def _style(texts: Collection[str], mark: str = ".") -> dict[str, Any]:
    """Return how many decimals numbers have, whether a power of ten or a plus, and whether whole ones have no mark."""
    signs = {text[0] for text in texts}
    return _decimals(texts, mark) | ({"plus": True} if "+" in signs and signs <= {"+", "-", "0"} else {})


def _decimals(texts: Collection[str], mark: str) -> dict[str, Any]:
    """Return what `_style` says of decimals and powers of ten."""
    letters = "".join(texts).lower()
    if not texts or "e" in letters or "n" in letters:
        powers = [match for text in texts if (match := POWER.fullmatch(text))] if all(map(POWER.fullmatch, texts)) else []
        alike = len({(len(one[2] or ""), one[3]) for one in powers}) == 1
        if alike:
            return {"places": len(powers[0][2] or ""), "exponent": powers[0][3]}
        bare = any(map(INTEGER.fullmatch, texts)) and not any(text.endswith(f"{mark}0") for text in texts)
        return {"trim": True} if bare else {}
    places = {len(text) - place - 1 if (place := text.find(mark)) >= 0 else -1 for text in texts}
    if places == {-1}:
        return {}
    whole, decimals = -1 in places, places - {-1}
    if len(decimals) == 1 and 0 not in decimals:
        return {"places": decimals.pop()} | ({"trim": True} if whole else {})
    return (
        {"trim": True} if whole and not any(text.partition(mark)[2].strip("0") == "" for text in texts if mark in text) else {}
    )


def writer(style: Mapping[str, Any], digits: int | None = None) -> Callable[[float], str]:
    """Return what writes numbers in a style, the inverse of `numbers_of`.

    Args:
        style: of `Numbers.style`.
        digits: the decimals that the numbers of a column have; with fewer than the style has, no zeros are added. None if any.

    >>> writer({"decimal": ",", "group": ".", "places": 2, "after": " €"})(-1234.5)
    '-1.234,50 €'
    >>> writer({"trim": True})(3.0), writer({})(3.0), writer({"places": 2, "exponent": "E"})(0.00123)
    ('3', '3.0', '1.23E-03')
    """
    places, exponent, group, mark = (style.get(key, "") for key in ("places", "exponent", "group", "decimal"))
    before, after, minus = (str(style.get(key, "")) for key in ("before", "after", "minus"))
    trim, plus = (bool(style.get(key)) for key in ("trim", "plus"))
    fixed = isinstance(places, int) and (digits is None or digits >= places or bool(exponent))
    swap = str.maketrans({",": group, ".": mark or "."})

    def write(value: float) -> str:
        if isinstance(value, int):
            text = f"{value:,}" if group else str(value)
        elif trim and value == int(value) and abs(value) < 1e16:
            text = f"{int(value):,}" if group else str(int(value))
        elif fixed:
            text = f"{value:{',' if group else ''}.{places}{exponent.replace('D', 'E') or 'f'}}".replace("E", exponent or "E")
        else:
            text = f"{value:,}" if group and abs(value) < 1e16 else str(value)
        if mark or group:
            text = text.translate(swap)
        if minus == "(" and text[0] == "-":
            return f"({before}{text[1:]}){after}"
        if minus and minus != "(":
            text = text.replace("-", minus, 1)
        if plus and value > 0:
            text = f"+{text}"
        if not before:
            return text + after
        return f"{text[0]}{before}{text[1:]}{after}" if text[0] in ("-", minus) else f"{before}{text}{after}"

    return write
