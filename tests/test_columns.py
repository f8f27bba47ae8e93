"""Natures of columns: what is drawn comes back as the kind of number that the column has: its heaps, its grid, its range."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import each_case

from scorefield import app
from scorefield.data import DataConfig, Dataset, open_again, open_data, open_source
from scorefield.data.table.columns import indicators, width
from scorefield.data.table.coordinates import decode, snapped
from scorefield.data.table.granularity import granularity_of, mean_and_spread, no_data
from scorefield.data.table.tables import aligned, csv_of
from scorefield.errors import NotFinite

CONFIG = DataConfig()
N = 2000
R = np.random.default_rng(0)
NORMAL, AMOUNTS, COUNTS = R.normal(size=N), R.lognormal(3, 1, N), R.poisson(30, N).astype(float)
STARS, DICE = R.integers(1, 11, N) / 2, R.integers(1, 7, N).astype(float)


def some(values: np.ndarray, share: float, value: float) -> np.ndarray:
    """The first share of the rows has one value instead."""
    return np.where(np.arange(len(values)) < share * len(values), value, values)


def table(**columns: Any) -> Dataset:
    """A table with one more column, of plain numbers, so that any other may be constant or left out."""
    return open_data({**columns, "plain": NORMAL[: len(next(iter(columns.values())))]}, CONFIG)


def drawn(data: Dataset, noise: float, rows: int = 10_000) -> dict[str, list[Any]]:
    """What a sampler with errors of `noise` in model space would give: rows of the data again, off by that much."""
    assert data.columns is not None
    which = torch.from_numpy(R.integers(0, len(data.train), rows))
    x = data.x0(which).double() + noise * torch.from_numpy(R.normal(size=(rows, *data.shape)))
    return decode(data.normaliser.decode(x), data.columns)


def column_of(data: Dataset, name: str) -> dict[str, Any]:
    return next(column for column in data.columns or [] if column["name"] == name)


# What numbers are


@each_case(
    values__whole__atoms__levels__step=dict(
        enumerate(
            [
                (NORMAL, False, (), (), 0),
                (NORMAL.round(3), False, (), (), 0.001),
                (1e9 + NORMAL.round(3), False, (), (), 0.001),
                (NORMAL.astype(np.float32).astype(float), False, (), (), 0),
                (some(AMOUNTS, 0.9, 0), False, (0,), (), 0),
                (some(AMOUNTS.round(2), 0.9, 0), False, (0,), (), 0.01),
                (some(AMOUNTS, 0.02, 0), False, (0,), (), 0),
                (some(AMOUNTS.round(2), 0.03, 0), False, (0,), (), 0.01),
                (some(NORMAL, 0.3, -9999), False, (-9999,), (), 0),
                (some(some(STARS, 0.4, -9999), 0.2, -8888), False, (-9999, -8888), (), 0.5),
                (some(10 + 2 * NORMAL, 0.01, -9999), False, (-9999,), (), 0),
                (some(some(COUNTS, 0.01, -9999), 0.005, -8888), True, (-9999, -8888), (), 1),
                (some(AMOUNTS, 0.01, 1e6), False, (1e6,), (), 0),
                (some(AMOUNTS, 0.001, 1e6), False, (), (), 0),
                (NORMAL.clip(-1, 1), False, (-1, 1), (), 0),
                (some(COUNTS, 0.5, 0), True, (0,), (), 1),
                (some(50 + AMOUNTS, 0.5, 0), False, (0,), (), 0),
                (R.choice([0, 1, 1000], N).astype(float), True, (1000,), (), 1),
                (STARS, False, (), (), 0.5),
                (DICE, True, (), (), 1),
                (R.poisson(0.5, N).astype(float), True, (), (), 1),
                (R.poisson(3, N).astype(float), True, (), (), 1),
                (R.geometric(0.1, N).astype(float), True, (), (), 1),
                (1000 * R.integers(20, 90, N), True, (), (), 1000),
                (np.floor(AMOUNTS) + 0.99, False, (), (), 1),
                (1.7e9 + 300 * R.integers(0, 5000, N), True, (), (), 300),
                (R.choice([0.1, 0.25, 0.5, 1, 2.5], N), False, (), (0.1, 0.25, 0.5, 1, 2.5), 0),
                (R.choice([math.pi, 0.3, math.sqrt(2)], N), False, (), (0.3, math.sqrt(2), math.pi), 0),
                (NORMAL * 1e200, False, (), (), 0),
                (some(NORMAL * 1e-200, 0.5, 0), False, (0,), (), 0),
            ]
        )
    )
)
def test_the_granularity_of_numbers_is_seen(
    values: np.ndarray, whole: bool, atoms: tuple[float, ...], levels: tuple[float, ...], step: float
) -> None:
    found = granularity_of(np.asarray(values, dtype=np.float64), whole=whole)
    assert (found.atoms, found.levels, found.step) == (atoms, levels, step)


@pytest.mark.parametrize("power", [-1000, -530, 0, 530, 1000])
def test_mean_and_spread_of_numbers_of_any_size_are_those_of_ordinary_ones_times_the_size(power: int) -> None:
    """A power of two changes no digit of a float64, so the two are equal and not just close."""
    unit = math.ldexp(1.0, power)
    assert mean_and_spread(NORMAL * unit) == tuple(unit * value for value in (mean_and_spread(NORMAL)))
    assert mean_and_spread(NORMAL) == pytest.approx((NORMAL.mean(), NORMAL.std()), rel=1e-12, abs=1e-15)


def test_the_end_of_the_range_of_floats_stands_for_no_data_unless_others_are_near_it() -> None:
    lowest, single = float(np.finfo(np.float64).min), float(np.finfo(np.float32).max)
    assert no_data(np.array([1.0, lowest, math.nan])).tolist() == [False, True, False]
    assert no_data(np.array([-single, 3.0, single])).tolist() == [True, False, True]
    assert not no_data(np.array([1e308, 1.7e308])).any()
    assert not no_data(np.array([1e38, single])).any()
    assert not no_data(np.array([lowest])).any()


# What is drawn


@pytest.mark.parametrize(
    ("values", "value"),
    [
        (some(AMOUNTS, 0.9, 0), 0),
        (some(20 + 3 * NORMAL, 0.3, -8888), -8888),
        (some(COUNTS.astype(int), 0.4, 0), 0),
        (NORMAL.clip(-1, 1), 1),
    ],
)
def test_a_heap_keeps_its_share_and_the_others_their_places(values: np.ndarray, value: float) -> None:
    data = table(x=values)
    rows = drawn(data, 0.05)
    x = np.array(rows["x"])
    trained = np.array(decode(data.train[:], data.columns or [], exact=True)["x"])
    share = float((trained == value).mean())
    assert abs((x == value).mean() - share) < 5 * math.sqrt(share * (1 - share) / len(x))
    rest, others = x[~np.isin(x, [value])], trained[trained != value]
    error = 5 * float(others.std()) / math.sqrt(len(rest)) + 0.05 * data.normaliser.scale[0] * 5 / math.sqrt(len(rest))
    assert abs(rest.mean() - others.mean()) < error + 0.05 * data.normaliser.scale[0]
    assert others.min() <= rest.min() <= rest.max() <= others.max()


def test_an_atom_a_gap_and_a_number_come_back_as_they_were() -> None:
    values: list[Any] = [None if i % 7 == 0 else 0.0 if i % 2 else float(NORMAL[i]) for i in range(200)]
    dates = [
        datetime.date(9999, 12, 31) if i % 3 else datetime.date(2020, 1, 1) + datetime.timedelta(i * i) for i in range(200)
    ]
    data = table(x=values, day=dates)
    assert [len(column_of(data, name)["atoms"]) for name in ("x", "day")] == [1, 1]
    assert data.shape == (1 + 3 + 1 + 2 + 1,)
    train = decode(data.train[:], data.columns or [], exact=True)
    held = decode(data.held_out[:], data.columns or [], exact=True)
    assert sorted(map(str, train["x"] + held["x"])) == sorted(map(str, values))
    assert sorted(train["day"] + held["day"]) == sorted(dates)
    through = decode(data.normaliser.decode(data.x0(slice(None))), data.columns or [])
    assert through["day"] == train["day"]
    assert [value in (None, 0.0) for value in through["x"]] == [value in (None, 0.0) for value in train["x"]]


def test_what_is_drawn_of_amounts_is_never_negative_and_leaves_no_heap_at_the_end() -> None:
    for values, most in ((AMOUNTS, 1.0), (AMOUNTS.round(2), 1.0), (np.floor(AMOUNTS).astype(int), 10.0)):
        data = open_data({"x": values}, DataConfig(transform=False))  # the logarithm of an amount has no such end
        x, least = np.array(drawn(data, 0.3)["x"]), column_of(data, "x")["low"]
        assert x.min() >= least
        assert x.max() <= column_of(data, "x")["high"]
        noisy = data.train[:, 0].double()  # clipping would put a fifth of all there: P(x + 0.3 s z < least)
        below = torch.special.ndtr((least - noisy) / (0.3 * data.normaliser.scale[0])).mean()
        assert below > 0.1
        assert (x <= least + most).mean() < 0.4 * below + (values <= least + most).mean()


def test_noise_folded_back_at_both_walls_leaves_a_uniform_law_uniform() -> None:
    """Reflection of N(0, s²) at the walls of an interval leaves its uniform density as it is: no mass is lost, none heaped."""
    data = table(x=(np.arange(N) + R.random(N)) / N)
    x = np.sort(drawn(data, 0.2)["x"])
    apart = np.abs(x - (np.arange(len(x)) + 0.5) / len(x)).max()
    assert apart < 1 / N + math.sqrt(math.log(2 / 5.7e-7) / 2 * (1 / len(x) + 1 / N))  # Dvoretzky, Kiefer, Wolfowitz: 5 sigma


MONDAY = datetime.date(2024, 1, 1)


@pytest.mark.parametrize(
    ("values", "grid"),
    [
        (STARS, {i / 2 for i in range(1, 11)}),
        (AMOUNTS.round(2), {round(i / 100, 2) for i in range(10**6)}),
        (np.floor(AMOUNTS) + 0.99, {i + 0.99 for i in range(10**4)}),
        (1000 * R.integers(20, 90, N), set(range(20_000, 90_000, 1000))),
        (R.choice([0.1, 0.25, 0.5, 1, 2.5], N), {0.1, 0.25, 0.5, 1, 2.5}),
        (R.choice([2000, 2010, 2024], N), {2000, 2010, 2024}),
        (
            [MONDAY + datetime.timedelta(7 * int(i)) for i in R.integers(0, 400, N)],
            {MONDAY + datetime.timedelta(7 * i) for i in range(400)},
        ),
        (
            [datetime.datetime(2024, 1, 1) + datetime.timedelta(minutes=5 * int(i)) for i in R.integers(0, 2000, N)],
            {datetime.datetime(2024, 1, 1) + datetime.timedelta(minutes=5 * i) for i in range(2000)},
        ),
    ],
)
def test_what_is_drawn_lies_on_the_grid_of_the_column(values: Any, grid: set[Any]) -> None:
    data = table(x=values)
    assert set(drawn(data, 0.03)["x"]) <= grid


def test_marks_are_drawn_as_often_as_they_are() -> None:
    data = table(x=STARS)
    x, trained = np.array(drawn(data, 0.03)["x"]), data.train[:, 0].numpy()
    for mark in np.unique(STARS):
        share = float((trained == mark).mean())
        assert abs((x == mark).mean() - share) < 5 * math.sqrt(share * (1 - share) / len(x))


def test_a_sampler_that_goes_astray_stays_in_the_range() -> None:
    data = table(x=AMOUNTS, n=COUNTS.astype(int), zeros=some(AMOUNTS, 0.9, 0))
    columns = data.columns or []
    for size in (1e6, 1e30, math.inf):
        for sign in (-1, 1):
            rows = torch.full((1, data.shape[0]), sign * size, dtype=torch.float64)
            for name, (value,) in decode(rows, columns).items():
                column = column_of(data, name)
                away = min(abs(value - end) for end in (column["low"], column["high"], *column.get("atoms", [])))
                assert away <= 10.0 ** -column.get("digits", 0) / 2, name
                assert value in column.get("atoms", []) or column["low"] <= value <= column["high"]


def test_snapping_twice_is_snapping_once_with_atoms_too() -> None:
    data = table(x=some(AMOUNTS.round(2), 0.5, 0), y=some(STARS, 0.3, -8888))
    rows = data.train[:] + 0.1 * torch.from_numpy(R.normal(size=tuple(data.train.shape)))
    kept = snapped(rows, data.columns or [])
    assert torch.equal(snapped(kept, data.columns or []), kept)
    assert decode(kept, data.columns or []) == decode(rows, data.columns or [])


def test_a_short_training_gives_zeros_in_their_share_and_no_price_below_the_least(tmp_path: Path) -> None:
    frame = {"amount": some(AMOUNTS[:400].round(2), 0.8, 0), "stars": STARS[:400]}
    app.train(
        frame, out=tmp_path / "run", steps=100, settings=("network.width=64", "training.batch=128", "training.pictures=0")
    )
    app.sample(tmp_path / "run", n=400, steps=12, out=tmp_path / "drawn.npz.csv")
    rows = np.genfromtxt(tmp_path / "drawn.npz.csv", delimiter=",", names=True)
    zeros = float((rows["amount"] == 0).mean())
    assert abs(zeros - 0.8) < 0.15  # of a network of a few seconds; without atoms it is 0
    assert rows["amount"].min() == 0
    assert set(rows["stars"]) <= set(STARS)


# What a column says of itself, and what older ones said


@pytest.mark.parametrize(
    ("values", "continuous"),
    [
        (NORMAL, True),
        (NORMAL.round(3), True),
        ((1000 * NORMAL).round().astype(int), True),
        ([None if i % 2 else float(v) for i, v in enumerate(NORMAL)], True),
        (STARS, False),
        (some(AMOUNTS, 0.5, 0), False),
        (R.choice([0.1, 0.25, 2.5], N), False),
        (["a", "b"] * (N // 2), False),
        ([True, False] * (N // 2), False),
    ],
)
def test_a_column_says_whether_the_numbers_that_are_there_have_a_density(values: Any, continuous: bool) -> None:
    assert column_of(table(x=values), "x")["continuous"] is continuous


def test_atoms_are_said_as_a_person_wrote_them() -> None:
    first, last = datetime.date(2020, 1, 1), datetime.date(9999, 12, 31)
    days = [last if i % 3 else first + datetime.timedelta(i * i % 997) for i in range(N)]
    codes = some(COUNTS.astype(int), 0.3, -1234567)
    notes = table(amount=some(some(AMOUNTS, 0.8, 0), 0.3, -8888), day=days, code=codes).notes
    assert notes[1] == (
        "Values that hold a share of their own, which is learned as such: amount at -8888 and 0; day at 9999-12-31; code at "
        "-1234567."
    )


def test_the_coordinates_that_silence_a_number_are_named() -> None:
    data = table(plainly=NORMAL, gaps=[None, *NORMAL[1:]], heap=some(NORMAL, 0.5, 0), text=["a", "b"] * (N // 2))
    first, found = 0, {}
    for column in data.columns or []:
        found[column["name"]] = data.train[:, [first + i for i in indicators(column)]].sum(dim=1).mean().item()
        first += width(column)
    assert found["plainly"] == found["text"] == 0
    assert found["heap"] == pytest.approx(0.5, abs=0.01)
    assert found["gaps"] <= 1 / len(data.train)


OLD = [
    {"name": "x", "type": "number", "missing": False, "low": 0.0, "high": 7.5, "fill": 1.0, "digits": 6},
    {"name": "n", "type": "integer", "missing": True, "low": 0.0, "high": 9.0, "fill": 4.5},
]


def test_columns_of_older_runs_still_decode() -> None:
    rows = np.array([[1.23456789, 3.4, 0.1], [-0.5, 12.0, 0.9], [9.0, -2.0, 0.0]])
    assert decode(rows, OLD) == {"x": [1.234568, 0.5, 6.0], "n": [3, None, 1]}


def test_the_data_of_an_older_run_are_opened_in_its_own_coordinates() -> None:
    x = some(R.random(100) * 7, 0.5, 0)
    n: list[Any] = [None if i % 5 == 0 else i % 10 for i in range(100)]
    frame = {"x": x, "n": n}
    assert open_data(frame, CONFIG).shape == (1 + 2 + 2,)
    again = open_again(frame, CONFIG, {"columns": OLD, "fingerprint": "of an older version"})
    assert again.columns == OLD
    assert again.shape == (3,)
    rows = torch.cat([again.train[:], again.held_out[:]])
    assert sorted(rows[:, 0].tolist()) == sorted(x.tolist())
    assert rows[rows[:, 2] == 1, 1].unique().tolist() == [4.5]


def test_another_table_is_read_in_coordinates_with_atoms(tmp_path: Path) -> None:
    data = table(
        x=some(AMOUNTS, 0.5, 0), code=["1234567", "7654321"] * (N // 2), yes=["True", "False", "maybe", "True"] * (N // 4)
    )
    rows = {"x": [0.0, 1.5, 0.0, 2.5], "code": [1234567] * 4, "yes": [True, False, False, True], "plain": [0.0, 1.5, 2.5, 1.0]}
    (tmp_path / "other.csv").write_bytes(csv_of(rows))
    found = decode(aligned(str(tmp_path / "other.csv"), data.columns or []), data.columns or [], exact=True)
    assert found["x"] == rows["x"]
    assert found["code"] in (["1234567"] * 4, [1234567] * 4)
    assert found["yes"] == ["True", "False", "False", "True"]


def test_one_cell_of_no_data_is_missing_and_named(tmp_path: Path) -> None:
    for mark in (-1.7976931348623157e308, -3.4028234663852886e38, -1.797e308):
        x = [mark if i == 7 else float(v) for i, v in enumerate(NORMAL[:60])]
        (tmp_path / "map.csv").write_bytes(csv_of({"x": x, "y": list(range(0, 120, 2))}))
        data = open_source(str(tmp_path / "map.csv"), CONFIG)
        column = column_of(data, "x")
        assert column["missing"]
        rest = [v for v in x if v != mark]
        assert (min(rest), max(rest)) == (column["low"], column["high"])
        named = {issue.where: issue.cause for issue in data.issues}["column 'x'"]
        assert named.startswith(f"1 values of {mark!r}, the end of the range of floats")


def test_a_mark_of_no_data_that_is_no_float_is_missing_and_infinity_is_refused(tmp_path: Path) -> None:
    for mark, refused in (("-1.8e308", False), ("1.79769313486232E+308", False), ("-1e999", False), ("-inf", True)):
        (tmp_path / "map.csv").write_text("x\n" + "".join(f"{mark if i == 7 else i * i / 7}\n" for i in range(60)))
        if refused:
            with pytest.raises(NotFinite, match="got '-inf' in column 'x', line 9"):
                open_source(str(tmp_path / "map.csv"), CONFIG)
        else:
            column = column_of(open_source(str(tmp_path / "map.csv"), CONFIG), "x")
            assert (column["missing"], column["low"]) == (True, 0.0)


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-160, 1e160, 1e200, 1e300])
def test_a_table_of_any_unit_is_the_same_in_model_space(size: float) -> None:
    plain, scaled = (table(x=NORMAL[:100] * unit, y=NORMAL[100:200] * unit) for unit in (1.0, size))
    assert (plain.x0(slice(None)) - scaled.x0(slice(None))).abs().max() < (1e-3 if size < 1e-300 else 1e-5)
    back = decode(scaled.normaliser.decode(scaled.x0(slice(None))), scaled.columns or [])
    assert np.abs(np.array(back["x"]) / size - scaled.train[:, 0].numpy() / size).max() < 1e-5


def test_the_code_of_a_well_log_for_no_data_is_missing() -> None:
    depth = np.where(np.arange(N) % 9 == 0, -999.25, NORMAL)
    assert decode(table(depth=depth).train[:], table(depth=depth).columns or [], exact=True)["depth"].count(None) > N // 20
    assert column_of(table(depth=depth), "depth")["stored"] == {"marks": [-999.25], "mark": -999.25}
