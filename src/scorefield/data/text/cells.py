"""Cells: what the texts of a column mean: the narrowest type that all of them fit, and how its values are written.

    boolean     true and false
    code        texts, though they look like numbers: leading zeros, 1E05 beside 1A07, phone numbers
    date        a day, a month, a moment or a time of day, in one form (`forms.py`) or in ISO 8601
    number      whole numbers and others, in one style (`numerals.py`); up to one in ten different texts may be a mistake
    category    everything else

How values are written goes into the column under "text", as JSON values: what `numerals.py` says of numbers, and

    form             of dates, months and times
    true, false      of booleans
    missing          of no value, unless it is an empty cell
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import repeat
from typing import Any

import numpy as np

from scorefield.data.issues import DataIssue
from scorefield.data.table.series import Series, Type, series_of_dates
from scorefield.data.text import forms, numerals
from scorefield.errors import NotFinite

MISSING = {"", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "NAN", "NULL", "null", "None", "<NA>", "?"}
MOST_WORDS = 50  # 48 texts are true or false, in large and small letters
EXACT = 2**53  # float64 has all whole numbers up to it
ZEROS = re.compile(r"^[+-]?0\d+$", re.MULTILINE)
PHONE = re.compile(r"\+\d{7,15}")
DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
POWER = re.compile(r"\d+[eE]\d+")  # without a point and without a sign: seldom a number
MIXED = re.compile(r"(?=\w*\d)(?=\w*[^\W\d_])\w+")  # letters and digits
NAMED = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
DATELIKE = re.compile(  # days with short years or names of months, and hours of half a day
    rf"(\d\d?([./-])\d\d?\2\d\d|\d\d?[ .-]*{NAMED}[ .,-]*\d+|{NAMED} \d\d?,? \d+)([ T].*)?|.*\d:\d\d(:\d\d)? ?[ap]\.?m\.?",
    re.IGNORECASE,
)
COMPACT = re.compile(r"\d{4}-?W\d\d(-?\d)?|\d{8}T\d{4,6}(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?")  # weeks and moments of ISO 8601
SPAN = re.compile(r"(-?\d{1,6}) days \+?(\d\d):(\d\d):(\d\d(?:\.\d{1,9})?)", re.ASCII)
KEYS = re.compile(r"(^|[\W_])(id|uid|key|isbn|zip|plz|postcode|phone|tel|telephone)($|[\W_])|[a-z](Id|ID)$", re.IGNORECASE)
FEWEST_MIXED = 3  # different texts of digits and letters, beside which those of digits alone are codes, whatever their length
FEWEST_CODES = 5  # of two letters, beside which NA is one of them
COUNTRIES = (  # by ISO 3166, and codes in use beside it; and of continents
    "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC "
    "CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD "
    "GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH "
    "KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW "
    "MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC "
    "SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY "
    "UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW EL EU UK XK OC"
)
CODES = frozenset(COUNTRIES.split())


@dataclass(frozen=True)
class Column:
    """The cells of a column, and what is known of them.

    Attributes:
        name: of the column.
        cells: a text for each row, without blanks around it.
        lines: of the file, on which they stand.
        decimal: the mark of decimals elsewhere in the file; "" if it is not known.
        delimiter: what stands between the cells of the file.
        known: the column of an earlier run on the table, which decides what is open here; or None.
    """

    name: str
    cells: Sequence[str]
    lines: Sequence[int]
    decimal: str = ""
    delimiter: str = ","
    known: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Reading:
    """What the texts of a column mean.

    Attributes:
        type: of the values.
        meaning: text -> number or date; of a category nothing: a text means itself. A text that is left out is missing.
        text: how values are written, as JSON values.
        said: causes of issues.
        stored: as of `Series`.
    """

    type: Type
    meaning: Mapping[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    stored: dict[str, Any] = field(default_factory=dict)


def kind_of(cell: str) -> str:
    """Return what a cell alone looks like: "number", "date", "datetime", "month", "time", or "" for a text.

    >>> kind_of("1.234,5"), kind_of("31.12.2023"), kind_of("km/h")
    ('number', 'date', '')
    """
    if numerals.is_number(cell):
        return "number"
    if SPAN.fullmatch(cell):
        return "time"
    return next(map(forms.kind_of, forms.forms_of([cell])), "")


def series_of(column: Column, issues: list[DataIssue]) -> Series:
    """Return a column with the narrowest type that its cells fit.

    Args:
        column: the cells.
        issues: gets what is odd about them.

    Raises:
        NotFinite: an infinite value.
    """
    cells, where = column.cells, f"column {column.name!r}"
    distinct = dict.fromkeys(cells)  # in the order of the file, so that messages do not depend on a hash
    missing, said = _missing(distinct, column.known)
    texts = [text for text in distinct if text not in missing]
    found = _reading(texts, column)
    for cause in (*said, *found.said):
        issues.append(DataIssue(where, cause, used=True))
    style = dict(found.text)
    if len(texts) < len(distinct):
        mark = Counter(cell for cell in cells if cell in missing).most_common(1)[0][0]
        style |= {"missing": mark} if mark else {}
    if found.type == "category":
        values = np.array([None if cell in missing else cell for cell in cells], dtype=object)
        return Series(column.name, "category", values, text=style)
    if len(found.meaning) < len(texts):
        wrong = {text: None for text in texts if text not in found.meaning}
        odd = next(iter(wrong))
        noun = "dates" if "form" in style or found.type in ("date", "datetime") else "numbers"
        count, line = sum(cell in wrong for cell in cells), column.lines[cells.index(odd)]
        cause = f"{count} values among {noun} that are none (such as {odd!r} in line {line}): read as missing"
        issues.append(DataIssue(where, cause, used=True))
        if count > 1 and len(texts) == len(distinct):  # a mark of no value that is not listed here
            style["missing"] = Counter(cell for cell in cells if cell in wrong).most_common(1)[0][0]
    if found.type in ("date", "datetime"):
        return replace(series_of_dates(column.name, [found.meaning.get(cell) for cell in cells]), text=style)
    numbers = np.fromiter(map(found.meaning.get, cells, repeat(math.nan)), np.float64, len(cells))
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        at = f"got {cells[row]!r} in {where}, line {column.lines[row]}"
        raise NotFinite(f"{at}, expected finite numbers: remove or fill it")
    return Series(column.name, found.type, numbers, stored=found.stored, text=style)


def _missing(distinct: Mapping[str, None], known: Mapping[str, Any] | None) -> tuple[set[str], tuple[str, ...]]:
    """Return the texts that stand for no value in a column, and what to say of them: NA is also a country, and a continent."""
    values = known.get("values", [None]) if known is not None and known["type"] == "category" else []
    if "NA" not in distinct or None in values:
        return MISSING, ()
    others, listed = set(distinct) - MISSING, "NA" in values
    if listed or (len(others) >= FEWEST_CODES and others <= CODES):
        return MISSING - {"NA"}, ("NA stands beside codes of two letters: read as one of them, not as missing",)
    if known is None and others and others <= CODES:
        return MISSING, ("NA stands beside few codes of two letters: read as missing; write NAM if it is Namibia",)
    return MISSING, ()


def _reading(texts: list[str], column: Column) -> Reading:
    """Return what the different texts of a column mean."""
    known = column.known
    if not texts or (known is not None and known["type"] == "category"):
        return Reading("category")
    if len(texts) < MOST_WORDS and {text.lower() for text in texts} <= {"true", "false"}:
        return _booleans(texts, column)
    if "." not in texts[0] and (code := _code(texts)):
        return Reading("category", said=(code,))
    plainly = known is not None and known["type"] in ("number", "integer") and "form" not in known.get("text", {})
    if not plainly and (dates := _dates(texts, column)) is not None:
        return dates
    if all(map(SPAN.fullmatch, texts)):
        spans = {text: _span(text) for text in texts}
        cause = f"spans of time (such as {texts[0]}): learned as seconds"
        return Reading("number", spans, said=(cause,), stored={"as": "duration"})
    decimal = column.decimal if known is None else known.get("text", {}).get("decimal", ".")
    numbers = numerals.numbers_of(texts, decimal=decimal, delimiter=column.delimiter)
    if numbers is None or numbers.open:
        return Reading("category", said=(numbers.said,) if numbers else _unread(texts))
    said: tuple[str, ...] = (numbers.said,) if numbers.said else ()
    if numbers.whole and (large := [text for text, value in numbers.meaning.items() if abs(value) > EXACT]):
        return Reading("category", said=(f"whole numbers that float64 does not have (such as {large[0]}): read as text",))
    if numbers.whole and KEYS.search(column.name) and 2 * len(texts) > len(column.cells):
        said += ("numbers things, by its name, and is learned as an amount: leave it out unless it is one",)
    return Reading("integer" if numbers.whole else "number", numbers.meaning, numbers.style, said)


def _span(text: str) -> float:
    """Return the seconds of a span of time as pandas writes it.

    >>> _span("-1 days +23:59:59.5")
    -0.5
    """
    days, hours, minutes, seconds = SPAN.fullmatch(text).groups()  # type: ignore[union-attr]
    return 86_400 * int(days) + 3_600 * int(hours) + 60 * int(minutes) + float(seconds)


def _unread(texts: list[str]) -> tuple[str, ...]:
    """Return what to say of texts that look like dates or numbers and cannot be read as such."""
    if all(map(DATELIKE.fullmatch, texts)) or all(map(COMPACT.fullmatch, texts)):
        return (f"look like dates or times (such as {texts[0]}): read as text; write them as 2023-12-31 or 23:59:59",)
    if all(map(numerals.is_number, texts)):
        other = next((text for text in texts[1:] if numerals.numbers_of([texts[0], text]) is None), texts[-1])
        return (f"numbers in several styles (such as {texts[0]} and {other}): read as text; write them in one",)
    return ()


def _booleans(texts: list[str], column: Column) -> Reading:
    """Return true and false, and the texts that stand for them most often."""
    meaning = {text: float(text.lower() == "true") for text in texts}
    count = Counter(cell for cell in column.cells if cell in meaning)
    style = dict[str, Any]()
    for word in ("true", "false"):
        written = [text for text, _ in count.most_common() if text.lower() == word]
        alike: dict[bool, Callable[[str], str]] = {True: str.upper, False: str.lower}
        other = alike[texts[0].isupper()](word) if texts[0] in (texts[0].upper(), texts[0].lower()) else word.title()
        style[word] = written[0] if written else other
    return Reading("boolean", meaning, {} if style == {"true": "True", "false": "False"} else style)


def _code(texts: Sequence[str]) -> str:
    """Return why texts that look like numbers are codes, or "" if they are none."""
    joined = "\n".join(texts)
    if zeros := ZEROS.search(joined):
        mostly = sum(bool(numerals.NUMBER.fullmatch(text)) for text in texts) >= numerals.MOSTLY * len(texts)
        return f"codes with leading zeros (such as {zeros[0]}): read as text" if mostly else ""
    if texts[0][0] == "+" and all(map(PHONE.fullmatch, texts)):
        return f"phone numbers (such as {min(texts)}): read as text"
    if not joined.isalnum() and not joined.replace("\n", "").isalnum():
        return ""  # a point, a sign or a blank
    powers = [text for text in texts if POWER.fullmatch(text)]
    others = [text for text in texts if MIXED.fullmatch(text) and not POWER.fullmatch(text)]
    mixed = len(powers) + len(others)
    if not all(text.isdigit() for text in texts if not MIXED.fullmatch(text)):
        return ""
    if others and powers:
        such = f"{min(powers)} beside {min(others)}"
    elif others and mixed < len(texts) and (len(set(map(len, texts))) == 1 or len(others) >= FEWEST_MIXED):
        such = min(others)
    elif powers and (mixed < len(texts) or any(re.search("[eE]0", text) for text in powers)):
        such = min(powers)
    else:
        return ""
    return f"codes of digits and letters (such as {such}): read as text"


def _dates(texts: list[str], column: Column) -> Reading | None:
    """Return what texts mean as dates, months or times in one form, or as dates of ISO 8601 in several."""
    known = None if column.known is None else column.known.get("text", {}).get("form")
    candidates = [known] if known else forms.forms_of(texts)
    meanings = {form: forms.read(texts, form) for form in candidates}
    whole = [form for form, meaning in meanings.items() if len(meaning) == len(texts)]
    if len(whole) == 2:
        return _day_or_month_first(meanings, column)
    form = whole[0] if whole else max(meanings, key=lambda form: len(meanings[form]), default=None)
    if form is None or (not whole and (form in forms.DIGITS.values() or len(meanings[form]) < numerals.MOSTLY * len(texts))):
        return _iso(texts)
    if form == "YYYYMM" and len(texts) < forms.FEWEST_MONTHS and not known:
        return None
    return _of_form(form, meanings[form], len(candidates) == 2)


def _of_form(form: str, meaning: dict[str, Any], decided: bool = False, why: str = "") -> Reading:
    """Return the reading of texts in a form, and what to say of it."""
    kind, such = forms.kind_of(form), f"such as {next(iter(meaning))}"
    plain = form.startswith("YYYY-MM-DD")
    if kind == "month":
        said = f"months ({such}): learned as the number of months since January 1970"
        return Reading("integer", meaning, {"form": form}, (said,))
    if kind == "time":
        said = f"times ({such}): learned as seconds"
        return Reading("number" if "f" in form else "integer", meaning, {"form": form}, (said,))
    order = "the day before the month" if form.index("D") < form.index("M") else "the month before the day"
    said = "" if plain else f"dates ({such}): read as {form}"
    said += f", {order}{why or ', by days after the 12th'}" if decided else ""
    return Reading(kind, meaning, {} if form == "YYYY-MM-DD" else {"form": form}, (said,) if said else ())


def _day_or_month_first(meanings: dict[str, dict[str, Any]], column: Column) -> Reading:
    """Return dates that have a meaning with the day first and with the month first: by their order in the file, if it says."""
    day, month = meanings
    if all(meanings[day][text] == value for text, value in meanings[month].items()):
        return _of_form(day, meanings[day])  # 5.5.2023
    ordered = [form for form, meaning in meanings.items() if _in_order([meaning[c] for c in column.cells if c in meaning])]
    if len(ordered) == 1:
        return _of_form(ordered[0], meanings[ordered[0]], True, ", as the rows then are in the order of time")
    such = f"dates (such as {next(iter(meanings[day]))})"
    if "." in day:
        return _of_form(day, meanings[day], True, ", as is usual with points")
    said = f"{such} that may have the day or the month first: read as text; write them as 2023-12-31"
    return Reading("category", said=(said,))


def _in_order(dates: Sequence[date]) -> bool:
    """Whether dates never go back, or never go forward."""
    pairs = list(zip(dates, dates[1:], strict=False))
    return all(a <= b for a, b in pairs) or all(a >= b for a, b in pairs)


def _iso(texts: list[str]) -> Reading | None:
    """Return dates of ISO 8601, some with and some without a time, a fraction or a time zone."""
    meaning = dict[str, Any]()
    for text in texts:
        if (value := _date(text)) is None:
            return None
        meaning[text] = value
    moments = [value for value in meaning.values() if isinstance(value, datetime)]
    if len({value.utcoffset() for value in moments}) < 2 or any(value.tzinfo is None for value in moments):
        return Reading("datetime" if moments else "date", meaning)
    first = texts[0]  # such as those of summer and of winter
    form = f"YYYY-MM-DD{first[10]}hh:mm:ss+00:00"
    said = f"moments of several time zones (such as {first}): read, and written, in universal time"
    return Reading("datetime", meaning, {"form": form} if all(value.microsecond == 0 for value in moments) else {}, (said,))


def _date(text: str) -> date | datetime | None:
    """Return a date or a datetime in ISO 8601, or None."""
    if not DAY.match(text):  # 2023-W01-1 is another form
        return None
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        return None
