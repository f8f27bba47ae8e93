"""Forms: how dates, months and times of day are written, as a text with YYYY, MM, DD, hh, mm, ss and f in place of digits.

    31.12.2023              DD.MM.YYYY
    1/2/2023                D/M/YYYY or M/D/YYYY
    20230131                YYYYMMDD
    2023-01-31T12:30:05Z    YYYY-MM-DDThh:mm:ssZ
    2023-01                 YYYY-MM               a month: the number of months since January 1970
    12:30:05                hh:mm:ss              a time of day, or a duration: seconds

A single letter stands for a number without a leading zero. A form reads and writes: what was read by it is written as it was.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Literal

Kind = Literal["date", "datetime", "month", "time"]
YEARS = range(1900, 2101)  # of dates that are written without any mark between the digits
FEWEST_MONTHS = 5  # different ones, from which on six digits are months: one number in eight would do
MOST_SHAPES = 64
LOOKED_AT = 100  # texts, before all are
MOSTLY = 0.9  # of the different texts have the form: the others are mistakes
TOKEN = re.compile("YYYY|MM?|DD?|hh?|mm|ss|f+")
ZONE = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$")
ZEROS = str.maketrans("123456789", "000000000")
SHAPE = re.compile(
    r"(?:(?P<year>0000)(?P<a>[-./])0{1,2}(?:(?P=a)0{1,2})?|0{1,2}(?P<b>[-./])0{1,2}(?P=b)0000)?"
    r"(?P<between>[T ])?(?P<time>0{1,3}:00(?::00(?:\.0{1,6})?)?)?(?P<zone>Z|[+-]00:?00)?"
)
DIGITS = {6: "YYYYMM", 8: "YYYYMMDD", 10: "YYYYMMDDhh", 12: "YYYYMMDDhhmm", 14: "YYYYMMDDhhmmss"}


def kind_of(form: str) -> Kind:
    """Return what a form writes.

    >>> kind_of("DD.MM.YYYY"), kind_of("YYYY-MM"), kind_of("hh:mm"), kind_of("YYYY-MM-DD hh:mm")
    ('date', 'month', 'time', 'datetime')
    """
    if "D" not in form:
        return "month" if "Y" in form else "time"
    return "datetime" if "h" in form else "date"


def forms_of(texts: Collection[str]) -> list[str]:
    """Return the forms that all texts may have: none, one, or two where it is open whether the day or the month comes first.

    >>> forms_of({"31.12.2023", "01.02.2023"}), forms_of({"12:30:05"}), forms_of({"a"})
    (['DD.MM.YYYY', 'MM.DD.YYYY'], ['hh:mm:ss'], [])
    """
    shapes = _shapes(texts)
    if len(shapes) == 1 and len(first := next(iter(shapes))) in DIGITS and set(first) == {"0"}:
        return [DIGITS[len(first)]]
    matches = [match for shape in shapes if (match := SHAPE.fullmatch(shape))]
    kinds = {(one["year"], one["a"], one["b"], one["between"], one["zone"]) for one in matches}
    times = {time.count(":") if (time := one["time"]) else 0 for one in matches}
    fractions = {len(time.partition(".")[2]) if (time := one["time"]) else 0 for one in matches}
    if not len(kinds) == len(times) == len(fractions) == 1:
        return []
    (year, a, b, between, zone), colons, digits = kinds.pop(), times.pop(), fractions.pop()
    clock = ["", "{}:mm", "{}:mm:ss"][colons] + f".{'f' * digits}" * bool(digits)
    hours = {len(one["time"].partition(":")[0]) for one in matches if one["time"]}
    clock = clock.format("hh" if hours == {2} else "h")
    zones = {match[0] for text in texts if (match := ZONE.search(text))} if zone and clock else {""}
    if bool(between) != bool((a or b) and clock) or (zone and not (clock and (a or b))) or len(zones) > 1:
        return []
    days = _days(shapes, year, a or b or "")
    return [f"{day}{between or ''}{clock}{min(zones)}" for day in days if "D" in day or not (day and clock)]


def _shapes(texts: Collection[str]) -> set[str]:
    """Return the texts that look like dates or times, nine in ten at least, with 0 for every digit; none if they do not."""
    shapes = Counter(text.translate(ZEROS) for text in itertools.islice(texts, LOOKED_AT))
    for count in (len(texts) > LOOKED_AT, False):
        like = {
            shape for shape in shapes if shape and (SHAPE.fullmatch(shape) or (set(shape) == {"0"} and len(shape) in DIGITS))
        }
        if len(like) > MOST_SHAPES or sum(shapes[shape] for shape in like) < MOSTLY * shapes.total():
            return set()
        if count:
            shapes = Counter(text.translate(ZEROS) for text in texts)
    return like


def _days(shapes: set[str], year: str | None, mark: str) -> list[str]:
    """Return the forms of the days of texts of these shapes."""
    if not mark:
        return [""]
    parts = [re.split("[T ]", shape)[0].split(mark) for shape in shapes]
    if len({len(part) for part in parts}) > 1:
        return []

    def padded(place: int, letter: str) -> str:
        return letter * min(len(part[place]) for part in parts)

    if year and len(parts[0]) == 2:
        return [f"YYYY{mark}MM"] if padded(1, "M") == "MM" and mark == "-" else []
    if year:
        return [f"YYYY{mark}{padded(1, 'M')}{mark}{padded(2, 'D')}"]
    return [f"{padded(0, one)}{mark}{padded(1, other)}{mark}YYYY" for one, other in ("DM", "MD")]


@lru_cache
def _reader(form: str) -> tuple[re.Pattern[str], list[str]]:
    """Return the pattern of the texts of a form, and which part each of its groups is: Y, M, D, h, m, s or f."""
    order = [token[0] for token in TOKEN.findall(form)]
    pattern, last = "", 0
    for token in TOKEN.finditer(form):
        text = token[0]
        digits = r"(\d{1,3})" if text == "h" else r"(\d{1,2})" if len(text) == 1 and text != "f" else rf"(\d{{{len(text)}}})"
        pattern, last = pattern + re.escape(form[last : token.start()]) + digits, token.end()
    return re.compile(pattern + re.escape(form[last:])), order


def zone_of(form: str) -> timezone | None:
    """Return the time zone that a form names, or None.

    >>> zone_of("YYYY-MM-DD hh:mm+02:00")
    datetime.timezone(datetime.timedelta(seconds=7200))
    """
    zone = ZONE.search(form)
    if zone is None or "h" not in form:
        return None
    if zone[0] == "Z":
        return UTC
    minutes = 60 * int(zone[0][1:3]) + int(zone[0][-2:])
    return timezone(timedelta(minutes=-minutes if zone[0][0] == "-" else minutes))


def read(texts: Iterable[str], form: str) -> dict[str, Any]:
    """Return what texts of a form mean; those that have no meaning by it are left out.

    Args:
        texts: dates, months or times.
        form: of them.

    Returns:
        Text -> a date or a datetime; months since January 1970; or seconds since midnight.

    >>> read(["31.12.2023", "31.02.2023"], "DD.MM.YYYY")
    {'31.12.2023': datetime.date(2023, 12, 31)}
    >>> read(["2023-02", "2023-13"], "YYYY-MM"), read(["12:30:05", "12:61:05"], "hh:mm:ss")
    ({'2023-02': 637}, {'12:30:05': 45005})
    """
    pattern, order = _reader(form)
    kind, bare, zone, meaning = kind_of(form), form in DIGITS.values(), zone_of(form), dict[str, Any]()
    for text in texts:
        if (match := pattern.fullmatch(text)) is None:
            continue
        parts = {"h": 0, "m": 0, "s": 0} | {key: int(digits) for key, digits in zip(order, match.groups(), strict=True)}
        if "f" in parts:
            parts["f"] = round(parts["f"] * 10 ** (6 - form.count("f")))
        try:
            value = _value(kind, parts, zone)
        except ValueError:
            continue
        if not bare or parts["Y"] in YEARS:
            meaning[text] = value
    return meaning


def _value(kind: Kind, parts: dict[str, int], zone: timezone | None) -> Any:
    """Return what the parts of a text mean; raises `ValueError` for those that no calendar and no clock has."""
    if kind == "date":
        return date(parts["Y"], parts["M"], parts["D"])
    if kind == "month":
        return 12 * (date(parts["Y"], parts["M"], 1).year - 1970) + parts["M"] - 1
    if max(parts["m"], parts["s"]) > 59:
        raise ValueError("no time")
    fraction = parts.get("f", 0)
    if kind == "time":
        seconds = 3600 * parts["h"] + 60 * parts["m"] + parts["s"]
        return seconds + fraction / 1_000_000 if "f" in parts else seconds
    return datetime(parts["Y"], parts["M"], parts["D"], parts["h"], parts["m"], parts["s"], fraction, zone)


def writer(form: str) -> Callable[[Any], str]:
    """Return what writes values in a form, the inverse of `read`.

    >>> writer("D/M/YYYY")(date(2023, 2, 1)), writer("YYYY-MM")(637), writer("hh:mm:ss")(45005)
    ('1/2/2023', '2023-02', '12:30:05')
    """
    kind, zone = kind_of(form), zone_of(form)

    def template(token: re.Match[str]) -> str:
        return f"{{{token[0][0]}:0{len(token[0])}}}"

    text, digits = TOKEN.sub(template, form), form.count("f")
    finest = 10 ** (6 - digits) if "ss" in form else 60_000_000  # microseconds

    def of_day(value: date) -> str:
        return text.format(Y=value.year, M=value.month, D=value.day)

    def of_moment(value: datetime) -> str:
        if finest > 1:  # a draw of a sampler may lie between
            past = (1_000_000 * value.second + value.microsecond) % 60_000_000
            value += timedelta(microseconds=(past + finest // 2) // finest * finest - past)
        value = value.astimezone(zone) if zone else value
        parts = {"h": value.hour, "m": value.minute, "s": value.second, "f": value.microsecond // 10 ** (6 - digits)}
        return text.format(Y=value.year, M=value.month, D=value.day, **parts)

    def of_month(value: int) -> str:
        return text.format(Y=1970 + value // 12, M=value % 12 + 1)

    def of_time(value: float) -> str:
        unit = 1 if "s" in form else 60
        units = round(value * 10**digits / unit)
        whole, fraction = divmod(units, 10**digits)
        seconds = whole * unit
        return text.format(h=seconds // 3600, m=seconds // 60 % 60, s=seconds % 60, f=fraction)

    writers: dict[Kind, Callable[[Any], str]] = {"date": of_day, "datetime": of_moment, "month": of_month, "time": of_time}
    return writers[kind]
