"""Generated tables: each measure has its closed form, equals that of real rows on exact draws, and sees what is broken."""

from __future__ import annotations

import math
from datetime import date, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch

from scorefield import NotFinite, ScorefieldError
from scorefield.metrics.base import Estimate
from scorefield.metrics.closest_record import closest_record, closest_record_of_real
from scorefield.metrics.coded import coded
from scorefield.metrics.dependence import dependence
from scorefield.metrics.detection import detection
from scorefield.metrics.influence import auroc, determination
from scorefield.metrics.tstr import tstr

Table = dict[str, list[Any]]
PHI = NormalDist().cdf
DAY = date(2020, 1, 1)


def copula(n: int, seed: int, rho: float = 0.6) -> Table:
    """Draws of a Gaussian copula with a number, a heavy tail, whole numbers, a date, a boolean, a category and holes.

    All pairs of the normal scores have correlation rho.
    """
    rng = np.random.default_rng(seed)
    z = math.sqrt(rho) * rng.normal(size=(n, 1)) + math.sqrt(1 - rho) * rng.normal(size=(n, 6))
    lost = rng.random((n, 2)) < 0.2
    return {
        "number": z[:, 0].tolist(),
        "income": [None if gone else float(v) for v, gone in zip(np.exp(2 * z[:, 1]), lost[:, 0], strict=True)],
        "whole": np.round(4 * z[:, 2]).astype(int).tolist(),
        "day": [DAY + timedelta(days=round(300 * v)) for v in z[:, 3].tolist()],
        "flag": (z[:, 4] > 0).tolist(),
        "text": [
            None if gone else "abc"[int(v)] for v, gone in zip(np.digitize(z[:, 5], [-0.5, 0.5]), lost[:, 1], strict=True)
        ],
        "one": ["x"] * n,
    }


def shuffled(table: Table, seed: int) -> Table:
    """The same columns, each in an order of its own: right marginals and no dependence."""
    rng = np.random.default_rng(seed)
    return {name: [column[i] for i in rng.permutation(len(column))] for name, column in table.items()}


def near(found: Estimate, truth: float, other: float = 0.0) -> bool:
    """Whether an estimate is within 5 standard errors, its own and another."""
    return abs(found.value - truth) < 5 * math.hypot(found.standard_error, other)


# --- detection --------------------------------------------------------------------------------------------------------


def test_exact_draws_of_a_table_of_all_kinds_are_not_told_from_real_rows() -> None:
    found = detection(copula(400, 0), copula(300, 1))
    assert near(found, 0.5) and found.standard_error < 0.05


def test_columns_with_the_right_marginals_and_no_dependence_are_told_from_real_rows() -> None:
    found = detection(shuffled(copula(600, 0), 9), copula(600, 1))
    assert found.value - 5 * found.standard_error > 0.5


@pytest.mark.parametrize("delta", [0.5, 2.0])
def test_trees_tell_a_shifted_gaussian_no_better_than_the_best_detector_and_more_than_half_as_well(delta: float) -> None:
    """The likelihood ratio rises with x, so its area is P(x' > x) = Phi(delta/sqrt 2); other columns are noise."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 2, 2000))
    rows[0, 1] += delta
    found = detection(*({f"x{i}": column.tolist() for i, column in enumerate(table)} for table in rows))
    best = PHI(delta / math.sqrt(2))
    assert (0.5 + best) / 2 < found.value < best + 5 * found.standard_error


def test_the_best_detector_of_a_shift_that_half_of_the_rows_hide_gains_on_the_other_half_only() -> None:
    """P(right order) with x seen in both, one or none of two rows, which the trees must know of each row."""
    rng, delta, n = np.random.default_rng(1), 2.0, 2000
    tables = []
    for shift in (delta, 0.0):
        x, gone = rng.normal(size=n) + shift, rng.random(n) < 0.5
        tables.append({"x": [None if g else float(v) for v, g in zip(x, gone, strict=True)], "y": rng.normal(size=n).tolist()})
    found = detection(*tables)
    # a row without x has the ratio 1, that of x = delta/2: it lies above half of the others
    one = PHI(delta / 2)
    best = 0.25 * PHI(delta / math.sqrt(2)) + 0.5 * one + 0.25 * 0.5
    assert (0.5 + best) / 2 < found.value < best + 5 * found.standard_error


@pytest.mark.parametrize("values", [(None, 1.0), ("a", "b"), (None, "b"), (True, False), (DAY, date.max)])
def test_two_values_with_shares_p_and_q_are_told_with_area_one_half_and_half_of_the_difference(values: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(2)
    tables = [{"x": [values[i] for i in (rng.random(1000) < p).astype(int)]} for p in (0.2, 0.6)]
    assert near(detection(*tables), 0.5 + (0.6 - 0.2) / 2)


def test_the_stated_error_of_the_area_covers_repeats() -> None:
    drawn = [detection(copula(120, 100 + seed), copula(80, 200 + seed)) for seed in range(12)]
    z = [(one.value - 0.5) / one.standard_error for one in drawn]
    assert np.mean(np.square(z)) < 1 + 5 * math.sqrt(2 / len(z))
    assert abs(np.mean(z)) < 5 / math.sqrt(len(z))


# --- dependence -------------------------------------------------------------------------------------------------------


def grades(rho: float) -> float:
    """Spearman's correlation of a Gaussian copula with correlation rho."""
    return 6 / math.pi * math.asin(rho / 2)


def test_the_dependence_of_a_gaussian_copula_is_known_for_every_pair_of_kinds() -> None:
    """Numbers: 6/pi asin(rho/2), whatever their scales; two halves of the range: V = 2/pi asin(rho); a number and a half:
    the mean grade of a half lies asin(rho/sqrt 2)/pi from 1/2, and grades have variance 1/12."""
    rho, n = 0.6, 20000
    table = copula(n, 0, rho) | {"other": [v > 0 for v in copula(n, 0, rho)["number"]]}
    table["half"] = ["high" if v >= DAY else "low" for v in table["day"]]
    found = dependence(table, table)
    assert found is not None and found.mean.value == 0.0
    known = {
        ("number", "income"): grades(rho),
        ("number", "day"): grades(rho),
        ("income", "whole"): grades(rho),  # ties cost a little of a correlation of grades: 1/12 of a step squared
        ("flag", "other"): 2 / math.pi * math.asin(rho),
        ("flag", "half"): 2 / math.pi * math.asin(rho),
        ("number", "flag"): math.sqrt(12) * math.asin(rho / math.sqrt(2)) / math.pi,
        ("flag", "income"): math.sqrt(12) * math.asin(rho / math.sqrt(2)) / math.pi,
    }
    for (a, b), truth in known.items():
        i, j = found.columns.index(a), found.columns.index(b)
        assert found.real[i][j] == found.real[j][i] == pytest.approx(truth, abs=5 / math.sqrt(0.8 * n)), (a, b)
    assert "one" not in found.columns


def test_independent_columns_with_the_right_marginals_err_by_the_known_dependence() -> None:
    rho, n = 0.5, 4000
    rng = np.random.default_rng(3)
    z = rng.normal(size=(n, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T
    real = {"a": z[:, 0].tolist(), "b": np.exp(3 * z[:, 1]).tolist()}
    found = dependence(shuffled(real, 4), real)
    assert found is not None and found.pair == ("a", "b")
    assert near(found.mean, grades(rho), 1 / math.sqrt(n)) and found.mean == found.largest
    signs = {"a": (z[:, 0] > 0).tolist(), "b": ["xy"[int(v > 0)] for v in z[:, 1]]}
    found = dependence(shuffled(signs, 4), signs)
    assert found is not None and near(found.mean, 2 / math.pi * math.asin(rho), 1 / math.sqrt(n))


def test_the_corrected_measures_of_independent_columns_are_near_none_where_the_plain_ones_are_not() -> None:
    """Of 40 rows in 8 classes plain V is about sqrt(7/40) = .4."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        table = {
            "a": [f"{i}" for i in rng.integers(0, 8, 40)],
            "b": [f"{i}" for i in rng.integers(0, 8, 40)],
            "c": rng.normal(size=40).tolist(),
        }
        one = dependence(table, table)
        assert one is not None
        found.append([one.real[0][1], one.real[0][2]])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / math.sqrt(len(found))
    assert (mean + 5 * error < math.sqrt(7 / 40)).all()
    assert (np.median(np.square(found), axis=0) < 0.02).all()


def test_the_worst_pair_is_the_one_that_was_broken_and_exact_draws_err_as_real_rows_do() -> None:
    real, other, drawn = copula(1500, 5), copula(1500, 6), copula(1500, 7)
    floor, found = dependence(other, real), dependence(drawn, real)
    assert floor is not None and found is not None
    assert near(found.mean, floor.mean.value, floor.mean.standard_error)
    order = np.random.default_rng(0).permutation(1500)
    drawn["text"] = [drawn["text"][i] for i in order]
    broken = dependence(drawn, real)
    assert broken is not None and "text" in broken.pair
    assert broken.mean.value > found.mean.value + 5 * found.mean.standard_error


def test_the_stated_error_of_dependence_covers_repeats_and_a_third_of_it_does_not() -> None:
    """Where the error is not near 0: samples without dependence."""
    real = copula(400, 8)
    drawn = [dependence(shuffled(copula(200, 300 + seed), seed), real) for seed in range(24)]
    for figure in ("mean", "largest"):
        values = [getattr(one, figure) for one in drawn]
        spread = np.std([one.value for one in values], ddof=1)
        stated = math.sqrt(np.mean([one.standard_error**2 for one in values]))
        assert spread < stated * (1 + 5 / math.sqrt(2 * 23)) and spread > stated / 3, figure


# --- distance to closest record ---------------------------------------------------------------------------------------


def rows(n: int, seed: int, steps: float | None = None) -> torch.Tensor:
    """Draws of a Gaussian in four columns, rounded to steps, so that rows repeat."""
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, 4)))
    return x if steps is None else (x / steps).round()


@pytest.mark.parametrize("steps", [None, 0.5, 2.0])
def test_the_share_nearer_to_training_rows_is_a_half_for_new_rows_and_grows_with_the_share_of_copies(
    steps: float | None,
) -> None:
    train, held_out, new = rows(900, 0, steps), rows(100, 1, steps), rows(1000, 2, steps)
    assert near(closest_record(new, train, held_out), 0.5)
    assert near(closest_record(0.3 * new, train, held_out), 0.5)  # blurred, but not copied
    assert near(closest_record_of_real(train, held_out), 0.5)
    if steps is None:
        for share in (0.3, 1.0):
            copied = torch.cat([train[: round(900 * share)], new[: 900 - round(900 * share)]])
            assert near(closest_record(copied, train, held_out), 0.5 + share / 2)
        assert closest_record(train, train, held_out).value == 1.0


def test_the_share_of_real_rows_tells_held_out_rows_of_another_origin() -> None:
    """Each real row's neighbour is of its own set, and so seldom of the other as chance never would have it."""
    found = closest_record_of_real(rows(300, 0), rows(300, 1) + 6)
    assert near(found, 0.5)  # as many neighbours on either side
    found = closest_record_of_real(rows(300, 0) * torch.tensor([1, 1, 1, 0.0]), rows(300, 1))
    assert found.value > 0.5


@pytest.mark.parametrize("steps", [None, 1.0])
def test_the_stated_error_of_the_share_is_that_of_repeats(steps: float | None) -> None:
    values, errors = [], []
    for seed in range(200):
        pool = rows(150, 1000 + seed, steps)
        found = closest_record(rows(60, 5000 + seed, steps), pool[:120], pool[120:])
        values.append(found.value)
        errors.append(found.standard_error**2)
    ratio = np.std(values, ddof=1) / math.sqrt(np.mean(errors))
    assert abs(ratio - 1) < 5 / math.sqrt(2 * 199)
    assert abs(np.mean(values) - 0.5) < 5 * np.std(values, ddof=1) / math.sqrt(200)


# --- train on synthetic, test on real ---------------------------------------------------------------------------------


def test_exact_draws_are_worth_as_much_as_training_rows_and_shuffled_columns_nothing() -> None:
    train, held_out, drawn = copula(800, 10, 0.8), copula(500, 11, 0.8), copula(800, 12, 0.8)
    exact, broken = tstr(drawn, train, held_out), tstr(shuffled(drawn, 0), train, held_out)
    assert exact is not None and broken is not None
    assert list(exact.columns) == ["flag", "text", "number", "income", "whole", "day"]  # categories first, no constants
    for name, one in exact.columns.items():
        assert near(one.gap, 0.0), name
    for score, floor in (("R2", 0.0), ("AUROC", 0.5)):
        assert near(exact.means[score].gap, 0.0)
        lost, real = broken.means[score].synthetic, broken.means[score].real
        assert lost.value < floor + 5 * lost.standard_error
        assert real.value > floor + 5 * real.standard_error
        assert near(broken.means[score].gap, real.value - lost.value)
        assert broken.means[score].gap.value > 5 * broken.means[score].gap.standard_error


def test_rows_that_come_sorted_are_worth_as_much_as_in_any_order() -> None:
    train, held_out, drawn = copula(400, 20, 0.8), copula(400, 21, 0.8), copula(400, 22, 0.8)
    order = np.argsort(drawn["number"])
    found = tstr({name: [column[i] for i in order] for name, column in drawn.items()}, train, held_out, target="flag")
    assert found is not None and near(found.columns["flag"].gap, 0.0)


def test_trees_explain_no_more_than_the_variance_that_can_be_explained() -> None:
    """y = x + noise: R² = var x/(var x + var noise) = 0.8; and P(y > 0 | x) has the area of the best order of x."""
    rng = np.random.default_rng(0)
    tables = []
    for n in (4000, 4000, 2000):
        x = rng.normal(size=n)
        y = x + 0.5 * rng.normal(size=n)
        tables.append({"x": x.tolist(), "y": y.tolist()})
    found = tstr(*tables, target="y")
    assert found is not None and list(found.columns) == ["y"] and found.means["R2"] == found.columns["y"]
    for each in (found.columns["y"].synthetic, found.columns["y"].real):
        assert 0.8 * 0.9 < each.value < 0.8 + 5 * each.standard_error


def test_a_target_that_is_missing_in_places_is_judged_where_it_is_known() -> None:
    rng = np.random.default_rng(0)
    tables = []
    for n in (800, 400, 300):
        x = rng.normal(size=n)
        y = [None if gone else float(v) for v, gone in zip(np.sign(x), rng.random(n) < 0.5, strict=True)]
        tables.append({"x": x.tolist(), "y": y, "text": [None if v is None else "ab"[v > 0] for v in y]})
    for name in ("y", "text"):
        found = tstr(*tables, target=name)
        assert found is not None
        assert found.columns[name].synthetic.value > 0.95


def test_what_cannot_be_predicted_is_left_out_and_a_class_that_was_never_drawn_is_a_guess() -> None:
    held_out = {"one": ["x"] * 60, "two": ["a", "b"] * 30}
    assert tstr(held_out, held_out, held_out, target="one") is None
    never = {"n": [*range(60)], "two": ["a"] * 60}
    real = {"n": [*range(60)], "two": ["a"] * 30 + ["b"] * 30}
    found = tstr(never, real, real, target="two")
    assert found is not None
    assert found.columns["two"].synthetic.value == 0.5 and found.columns["two"].real.value > 0.9
    nothing = {"n": [None] * 60, "two": ["a", "b"] * 30}
    drawn = tstr(nothing, real, real, target="n")
    assert drawn is not None and drawn.columns["n"].synthetic.value == pytest.approx(0.0, abs=1e-12)


# --- influences -------------------------------------------------------------------------------------------------------


def test_the_influence_of_a_row_is_the_slope_of_the_value_in_its_weight() -> None:
    """A row counted once more changes a value by its influence/m, up to 1/m²."""
    rng, m = np.random.default_rng(0), 400
    truth, guess = rng.normal(size=m), rng.normal(size=m)
    guess += truth
    for measure in (
        lambda rows: determination(truth[rows], guess[rows]),
        lambda rows: auroc(guess[rows], truth[rows] > 0.5),
    ):
        whole = measure(np.arange(m))
        assert whole.rows.mean() == pytest.approx(0, abs=1e-12)
        for row in (0, 7, 100):
            more = measure(np.append(np.arange(m), row)).value
            assert m * (more - whole.value) == pytest.approx(whole.rows[row], abs=20 / m * (1 + abs(whole.rows[row])))


def test_values_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import r2_score, roc_auc_score

    rng = np.random.default_rng(1)
    truth, guess = rng.normal(size=50), rng.integers(0, 5, 50).astype(float)
    assert determination(truth, guess).value == pytest.approx(r2_score(truth, guess), rel=1e-12)
    assert auroc(guess, truth > 0).value == pytest.approx(roc_auc_score(truth > 0, guess), rel=1e-12)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_tables_that_cannot_be_measured_are_refused_in_one_sentence() -> None:
    good: Table = {"a": [float(i) for i in range(20)], "b": ["x", "y"] * 10}
    few = {name: column[:19] for name, column in good.items()}
    for bad, kind, says in [
        ({"a": good["a"]}, ScorefieldError, r"got the columns \['a', 'b'\], expected \['a'\]|expected \['a'"),
        (few, ScorefieldError, "expected at least 20"),
        (good | {"a": [math.nan] * 20}, NotFinite, "got NaN or infinity in column 'a'"),
        (good | {"a": good["a"][:5]}, ScorefieldError, "expected one length"),
    ]:
        for measure in (lambda x: detection(x, good), lambda x: dependence(x, good), lambda x: tstr(x, good, good)):
            with pytest.raises(kind, match=says) as refusal:
                measure(bad)
            assert "\n" not in str(refusal.value)
    with pytest.raises(ScorefieldError, match="unknown column 'bb': did you mean 'b'"):
        tstr(good, good, good, target="bb")


def test_a_column_is_of_numbers_only_if_every_value_of_every_table_is_one() -> None:
    one, other = coded({"a": [1, None], "b": [True, None]}, {"a": [2.5, 3], "b": [False, True]})
    assert not one.is_category and other.is_category
    (mixed,) = coded({"a": [1, None, 2]}, {"a": ["x", 1, None]})
    assert mixed.is_category and set(mixed.values) == {1, 2, "x"}
    assert mixed.varies(0) and not coded({"a": [None, 1.0, 1.0]})[0].varies(0)
