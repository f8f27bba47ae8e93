"""Holders of numbers: a mask is kept or refused, every kind of array gives its own values, and labels are found."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from helpers import each_case
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from scorefield.data import DataConfig, Dataset, open_data, open_source
from scorefield.data.numeric import array_of, masked_as_nan
from scorefield.data.table.coordinates import decode
from scorefield.errors import ScorefieldError
from scorefield.estimator import ScoreDensity

CONFIG = DataConfig()
N = 40
R = np.random.default_rng(0)
ROWS = R.integers(-128, 128, (N, 3)) / 16  # exact in every type below
PIXELS = R.integers(0, 256, (N, 6, 5), dtype=np.uint8)
KINDS = np.arange(N) % 3
MASK = np.zeros((N, 3), dtype=bool)
MASK[::2, 1] = True


def masked(rows: np.ndarray = ROWS) -> np.ma.MaskedArray:
    """Every second value of the middle column is masked, with -9999 under the mask."""
    return np.ma.masked_array(np.where(MASK, -9999, rows), MASK)


def together(data: Dataset) -> list[list[float]]:
    return sorted(torch.cat([data.train[:], data.held_out[:]]).tolist())


# Masks


HELD = {
    "an array": masked(),
    "whole numbers": masked((16 * ROWS).astype(int)),
    "a list": list(masked()),
    "pairs": [(row, i % 2) for i, row in enumerate(masked())],
    "an array and labels": (masked(), KINDS),
    "rows of numbers": [[a, np.ma.masked if i % 2 == 0 else b, c] for i, (a, b, c) in enumerate(ROWS.tolist())],
}


@pytest.mark.parametrize("holder", HELD)
def test_a_masked_value_is_an_unknown_cell_and_never_the_number_under_the_mask(holder: str) -> None:
    data = open_data(HELD[holder], CONFIG)
    scale = 16 if holder == "whole numbers" else 1
    wanted = np.where(MASK, np.nan, scale * ROWS)
    assert sorted(map(str, together(data))) == sorted(map(str, wanted.tolist()))
    assert (
        data.normaliser.holes is not None
        and "of the training examples' cells are unknown (NaN): training goes around them." in data.notes[-1]
    )


def test_masked_whole_numbers_go_back_in_their_own_type() -> None:
    """A column that is masked in every row is filled with the array's own fill value."""
    rows = np.ma.masked_array((16 * ROWS).astype(np.int16), np.tile([False, True, False], (N, 1)), fill_value=-999)
    data = open_data(rows, CONFIG)
    assert data.train.dtype == torch.float32
    back = data.layout.to_source(data.normaliser.decode(data.x0(slice(None)).double()).numpy())
    assert back.dtype == np.int16 and bool((back[:, 1] == -999).all())
    assert sorted(back[:, ::2].tolist()) == sorted(data.train[:, ::2].int().tolist())


@pytest.mark.parametrize(
    ("holder", "count"), [(list(masked(ROWS.astype(int))), 1), ((ROWS, np.ma.masked_array(KINDS, KINDS == 2)), 13)]
)
def test_masked_labels_and_single_examples_of_whole_numbers_are_refused(holder: Any, count: int) -> None:
    with pytest.raises(ScorefieldError, match=rf"got {count} masked values in 'data.*', the first at \[.\], expected none"):
        open_data(holder, CONFIG)


def test_a_masked_value_is_missing_in_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    rows, structured = masked(), np.ma.zeros(N, dtype=[("a", float), ("b", float), ("c", float)])
    for i, name in enumerate("abc"):
        structured[name] = rows[:, i]
    frames = [pandas.DataFrame(rows, columns=list("abc")), {name: rows[:, i] for i, name in enumerate("abc")}, structured]
    for frame in (*frames, {name: list(rows[:, i]) for i, name in enumerate("abc")}):
        data = open_data(frame, CONFIG)
        assert data.shape == (4,)
        found = decode(torch.cat([data.train[:], data.held_out[:]]), data.columns or [], exact=True)
        wanted = sorted(map(str, [*(None for _ in range(20)), *ROWS[1::2, 1].tolist()]))
        assert sorted(map(str, found["b"])) == wanted
        assert sorted(found["a"]) == sorted(ROWS[:, 0].tolist())


def test_an_array_without_a_masked_value_is_the_plain_array() -> None:
    plain = open_data(ROWS, CONFIG).fingerprint
    for none in (np.ma.array(ROWS), np.ma.array(ROWS, mask=False), np.ma.array(ROWS, mask=np.zeros((N, 3), dtype=bool))):
        assert open_data(none, CONFIG).fingerprint == plain
        assert open_data(list(none), CONFIG).fingerprint == plain


def test_the_estimator_learns_from_masks_and_imputes_them_and_measures_none() -> None:
    density, some = ScoreDensity(max_steps=1, random_state=0).fit(ROWS), slice(0, 2)
    for holder in (masked(), list(masked())):
        for refuses in (density.score_samples, density.denoise):
            with pytest.raises(ScorefieldError, match=r"got 20 masked values in 'X', the first at \[0, 1\]"):
                refuses(holder)
        assert np.array_equal(masked_as_nan(holder), np.where(MASK, np.nan, ROWS), equal_nan=True)
    own, nan = (ScoreDensity(max_steps=1, random_state=0).fit(x) for x in (masked(), np.where(MASK, np.nan, ROWS)))
    assert np.array_equal(own.sample(3, random_state=0), nan.sample(3, random_state=0))
    filled = density.impute(masked()[some], particles=1, random_state=0)
    assert np.array_equal(filled, density.impute(np.where(MASK, np.nan, ROWS)[some], particles=1, random_state=0))
    assert np.array_equal(filled[~MASK[some]], ROWS[some][~MASK[some]])
    assert abs(filled[0, 1]) < 100


# Kinds of arrays


class Metres(np.ndarray):
    """An array that knows more than its numbers."""

    unit = "m"


class Named(torch.Tensor):
    """A subclass as people make them."""


READ_ONLY = ROWS.copy()
READ_ONLY.flags.writeable = False
SAME: dict[str, Callable[[], Any]] = {
    "matrix": lambda: np.matrix(ROWS),
    "rows of a matrix": lambda: list(np.matrix(ROWS)),
    "subclass": lambda: ROWS.view(Metres),
    "fortran": lambda: np.asfortranarray(ROWS),
    "strides": lambda: np.ascontiguousarray(ROWS[::-1, ::-1])[::-1, ::-1],
    "part": lambda: np.repeat(np.repeat(ROWS, 2, axis=0), 2, axis=1)[::2, ::2],
    "read-only": lambda: READ_ONLY,
    "big-endian": lambda: ROWS.astype(">f8"),
    "float16": lambda: ROWS.astype(np.float16),
    "float32": lambda: ROWS.astype(np.float32),
    "longdouble": lambda: ROWS.astype(np.longdouble),
    "lists": lambda: ROWS.tolist(),
    "tensor": lambda: torch.tensor(ROWS),
    "parameter": lambda: torch.nn.Parameter(torch.tensor(ROWS)),
    "in a graph": lambda: torch.tensor(ROWS, requires_grad=True) * 1,
    "rows with gradients": lambda: [torch.nn.Parameter(torch.tensor(row)) for row in ROWS],
    "bfloat16": lambda: torch.tensor(ROWS).bfloat16(),
    "half": lambda: torch.tensor(ROWS).half(),
    "turned": lambda: torch.tensor(ROWS.T.copy()).T,
    "negative bit": lambda: torch._neg_view(torch.tensor(-ROWS)),
    "subclass of a tensor": lambda: torch.tensor(ROWS).as_subclass(Named),
    "sparse tensor": lambda: torch.tensor(ROWS).to_sparse(),
    "sparse array": lambda: scipy.sparse.csr_array(ROWS),
    "sparse matrix": lambda: scipy.sparse.coo_matrix(ROWS),
    "tuples of one": lambda: [(row,) for row in ROWS],
    "TensorDataset": lambda: TensorDataset(torch.tensor(ROWS)),
    "dictionaries": lambda: [{"x": row} for row in ROWS],
    "tuples of numbers": lambda: [tuple(row) for row in ROWS.tolist()],
    "named tuples of numbers": lambda: [collections.namedtuple("Row", "a b c")(*row) for row in ROWS.tolist()],
}


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@each_case(holder=list(SAME))
def test_the_same_numbers_in_another_holder_are_the_same_data(holder: str) -> None:
    data = open_data(SAME[holder](), CONFIG)
    assert data.kind == "vector"
    assert data.fingerprint == open_data(ROWS, CONFIG).fingerprint


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_a_unit_that_is_left_out_is_said() -> None:
    assert "what a Metres knows besides, such as a unit, was left out" in open_data(ROWS.view(Metres), CONFIG).notes[0]
    assert open_data(np.matrix(ROWS), CONFIG).notes == ()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_a_quantised_tensor_gives_its_values() -> None:
    codes = torch.quantize_per_tensor(torch.tensor([0.1, 0.4, -0.3]), 0.5, 0, torch.qint8)
    assert array_of(codes, "x").tolist() == [0.0, 0.5, -0.5]


def test_images_are_the_same_in_any_type_of_whole_numbers_and_any_order() -> None:
    plain = open_data(PIXELS, CONFIG).fingerprint
    for other in (PIXELS.astype(np.int64), PIXELS.astype(">u2"), np.asfortranarray(PIXELS), [(one,) for one in PIXELS]):
        assert open_data(other, CONFIG).fingerprint == plain
    assert open_data(PIXELS[:, ::-1], CONFIG).train[:].flip(2).equal(open_data(PIXELS, CONFIG).train[:])


def generated() -> Iterator[np.ndarray]:
    yield from ROWS


class Streamed(IterableDataset):
    def __iter__(self) -> Iterator[np.ndarray]:
        return generated()


REFUSED: dict[str, Callable[[], Any]] = {
    "objects": lambda: ROWS.astype(object),
    "dates": lambda: np.arange(3 * N).astype("M8[D]").reshape(N, 3),
    "durations": lambda: np.arange(3 * N).astype("m8[s]").reshape(N, 3),
    "texts": lambda: ROWS.astype(str),
    "bytes": lambda: ROWS.astype("S8"),
    "numbers": lambda: ROWS[:, 0],
    "a number": lambda: np.array(3.0),
    "no columns": lambda: np.zeros((N, 0)),
    "meta": lambda: torch.empty(N, 3, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2 + i % 2) for i in range(N)], layout=torch.jagged),
    "huge": lambda: scipy.sparse.csr_array((10**6, 10**6)),
    "loader": lambda: DataLoader(TensorDataset(torch.tensor(ROWS)), batch_size=4),
    "generator": generated,
    "stream": Streamed,
    "set": lambda: {1.0, 2.0},
    "nothing": lambda: None,
    "integer": lambda: 7,
    "raw bytes": lambda: b"abcdefghijkl",
    "three": lambda: TensorDataset(*[torch.tensor(ROWS)] * 3),
    "label first": lambda: [(i % 2, row) for i, row in enumerate(ROWS)],
    "two arrays": lambda: [(row, row) for row in ROWS],
    "records": lambda: [{"a": 1.0, "b": 2.0}] * N,
    "two of each": lambda: [{"left": row, "right": row} for row in ROWS],
    "unequal columns": lambda: {"a": [1.0] * N, "b": [2.0] * (N - 1)},
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@each_case(holder=list(REFUSED))
def test_what_cannot_be_read_is_refused_in_one_sentence(holder: str) -> None:
    with pytest.raises(ScorefieldError, match=r"^got .*expected .*: ") as refusal:
        open_data(REFUSED[holder](), CONFIG)
    assert "\n" not in str(refusal.value)


@pytest.mark.filterwarnings("ignore:The PyTorch API of MaskedTensors")
def test_a_masked_tensor_is_refused() -> None:
    with pytest.raises(ScorefieldError, match="got a tensor"):
        open_data(torch.masked.masked_tensor(torch.tensor(ROWS), torch.tensor(~MASK)), CONFIG)


def test_named_fields_dictionaries_and_series_are_tables(tmp_path: Path) -> None:
    fields = np.array([(*row, i % 3, b"ab"[i % 2 : i % 2 + 1]) for i, row in enumerate(ROWS.tolist())], dtype="f8,f4,f8,i4,S1")
    np.save(tmp_path / "fields.npy", fields)
    columns = {name: fields[name].tolist() for name in fields.dtype.names}
    prints = {
        open_data(same, CONFIG).fingerprint for same in (fields, fields.view(np.recarray), columns, tmp_path / "fields.npy")
    }
    assert len(prints) == 1
    data = open_data(fields, CONFIG)
    assert [column["type"] for column in data.columns or []] == ["number"] * 3 + ["integer", "category"]
    pandas = pytest.importorskip("pandas")
    series = open_data(pandas.Series(ROWS[:, 0], name="depth"), CONFIG)
    assert (series.kind, series.shape, (series.columns or [{}])[0]["name"]) == ("table", (1,), "depth")
    sparse = pandas.DataFrame({"a": pandas.arrays.SparseArray(ROWS[:, 0]), "b": ROWS[:, 1]})
    assert together(open_data(sparse, CONFIG)) == sorted(ROWS[:, :2].tolist())


def test_columns_of_one_name_as_text_are_told_apart() -> None:
    pandas = pytest.importorskip("pandas")
    data = open_data(pandas.DataFrame({0: ROWS[:, 0], "0": ROWS[:, 1], "0 (2)": ROWS[:, 2]}), CONFIG)
    assert [column["name"] for column in data.columns or []] == ["0", "0 (3)", "0 (2)"]
    assert together(data) == sorted(ROWS.tolist())
    assert data.issues[0].cause == "a second one of this name: called '0 (3)'"
    assert [column["name"] for column in open_data({1: ROWS[:, 0], "1": ROWS[:, 1]}, CONFIG).columns or []] == ["1", "1 (2)"]


# Labels


class Vision(torch.utils.data.Dataset):
    """As those of torchvision: labels beside the things, and names of the classes."""

    def __init__(self, targets: Any, classes: Any = ()) -> None:
        self.targets, self.classes = targets, classes

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> np.ndarray:
        return PIXELS[index]


def pairs(label: Callable[[int], Any]) -> list[tuple[np.ndarray, Any]]:
    return [(row, label(i % 3)) for i, row in enumerate(ROWS)]


NUMBERS, LETTERS = ("0", "1", "2"), ("a", "b", "c")
LABELLED: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "whole": (lambda: pairs(int), NUMBERS),
    "floats": (lambda: pairs(float), NUMBERS),
    "tensors": (lambda: pairs(torch.tensor), NUMBERS),
    "tensors of one": (lambda: pairs(lambda k: torch.tensor([k])), NUMBERS),
    "one-hot": (lambda: pairs(lambda k: np.eye(3)[k]), NUMBERS),
    "texts": (lambda: pairs(lambda k: "abc"[k]), LETTERS),
    "bytes": (lambda: pairs(lambda k: b"abc"[k : k + 1]), LETTERS),
    "TensorDataset": (lambda: TensorDataset(torch.tensor(ROWS), torch.tensor(KINDS)), NUMBERS),
    "one-hot TensorDataset": (lambda: TensorDataset(torch.tensor(ROWS), torch.eye(3)[KINDS]), NUMBERS),
    "(X, y)": (lambda: (ROWS, KINDS), NUMBERS),
    "(X, one-hot)": (lambda: (torch.tensor(ROWS), np.eye(3)[KINDS]), NUMBERS),
    "dictionaries": (lambda: [{"x": row, "label": k} for row, k in zip(ROWS, KINDS, strict=True)], NUMBERS),
    "named tuples": (
        lambda: [collections.namedtuple("One", "data y")(row, int(k)) for row, k in zip(ROWS, KINDS, strict=True)],
        NUMBERS,
    ),
    "targets": (lambda: Vision(torch.tensor(KINDS)), NUMBERS),
    "listed targets": (lambda: Vision(KINDS.tolist()), NUMBERS),
    "named targets": (lambda: Vision(KINDS, ["a", "b", "c"]), LETTERS),
}


@each_case(holder=list(LABELLED))
def test_labels_are_found_and_stay_with_their_examples(holder: str) -> None:
    made, classes = LABELLED[holder]
    data = open_data(made(), CONFIG)
    assert data.classes == classes
    examples = PIXELS if data.kind == "image" else ROWS
    owner = {
        tuple(example.ravel().tolist()): kind for example, kind in zip(examples.astype(float), KINDS.tolist(), strict=True)
    }
    for part, labels in ((data.train, data.labels), (data.held_out, data.held_out_labels)):
        assert labels is not None
        assert labels.tolist() == [owner[tuple(row.flatten().tolist())] for row in part[:]]


@each_case(key=["labels", "label", "y", "Y", "targets", "target"])
@pytest.mark.parametrize("form", ["whole", "one-hot", "one-hot floats", "bytes", "texts"])
def test_labels_of_an_archive_are_found_by_their_usual_names_and_forms(tmp_path: Path, key: str, form: str) -> None:
    forms = {"whole": KINDS, "one-hot": np.eye(3, dtype=np.uint8)[KINDS], "one-hot floats": np.eye(3)[KINDS]}
    forms |= {"bytes": np.array([b"a", b"b", b"c"])[KINDS], "texts": np.array(list("abc"))[KINDS]}
    np.savez(tmp_path / "data.npz", x=np.stack([KINDS, ROWS[:, 0]], axis=1), **{key: forms[form]})
    data = open_source(str(tmp_path / "data.npz"), CONFIG)
    assert data.classes == (LETTERS if form in ("bytes", "texts") else NUMBERS)
    assert data.labels is not None
    assert data.labels.equal(data.train[:, 0].long())


def test_names_of_classes_may_be_bytes_and_belong_to_one_hot_rows_too(tmp_path: Path) -> None:
    for y in (KINDS, np.eye(3)[KINDS]):
        np.savez(tmp_path / "data.npz", x=ROWS, y=y, classes=np.array([b"u", b"v", b"w"]))
        assert open_source(str(tmp_path / "data.npz"), CONFIG).classes == ("u", "v", "w")


def test_what_may_have_been_meant_as_labels_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=ROWS, diagnosis=KINDS, weight=ROWS[:, 0])
    assert open_source(str(tmp_path / "data.npz"), CONFIG).notes == (
        "Left out of 'data.npz': 'diagnosis', 40 whole numbers or texts; call it 'labels' if it holds labels.",
    )
    np.savez(tmp_path / "data.npz", x=ROWS, labels=KINDS, y=KINDS[::-1])
    assert open_source(str(tmp_path / "data.npz"), CONFIG).notes == (
        "Left out of 'data.npz': 'y', 40 whole numbers or texts; 'labels' holds the labels.",
    )


# Fingerprints


def test_a_fingerprint_forgets_place_time_and_container(tmp_path: Path) -> None:
    plain = open_data(ROWS, CONFIG).fingerprint
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, ROWS)
        os.utime(tmp_path / name, (10, 10))
        assert open_source(str(tmp_path / name), CONFIG).fingerprint == plain
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "c.npz", x=ROWS)
        assert open_source(str(tmp_path / "c.npz"), CONFIG).fingerprint == plain
    np.save(tmp_path / "a.npy", np.asfortranarray(ROWS.astype(">f4")))
    assert open_source(str(tmp_path / "a.npy"), CONFIG).fingerprint == plain


def changed(rows: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    other = rows.copy()
    other[place] = value
    return other


def test_a_fingerprint_looks_at_every_value_and_at_what_they_mean() -> None:
    kinds, names = KINDS.copy(), np.array(["a", "b", "c"])
    kinds[17] = (kinds[17] + 1) % 3
    table = {"t": names[KINDS].tolist(), "x": ROWS[:, 0].tolist()}
    data = [
        *(changed(ROWS, (i, k), ROWS[i, k] + 2**-10) for i in range(N) for k in (0, 2)),
        ROWS,
        ROWS[::-1],
        ROWS[:, ::-1],
        ROWS[1:],
        PIXELS,
        PIXELS.reshape(N, 5, 6),
        (ROWS, KINDS),
        (ROWS, kinds),
        (ROWS, names[KINDS]),
        table,
        {"t": table["x"], "x": table["t"]},
        {**table, "t": np.array(["a", "b", "d"])[KINDS].tolist()},
        {**table, "one": [1] * N},
        {**table, "one": [2] * N},
        {"other": table["t"], "x": table["x"]},
    ]
    prints = [open_data(one, CONFIG).fingerprint for one in data]
    assert len(set(prints)) == len(prints)


def test_a_run_of_an_older_version_knows_its_data_by_the_coordinates_alone() -> None:
    for data in (open_data((ROWS, KINDS), CONFIG), open_data({"t": ["a", "b"] * 20, "x": ROWS[:, 0]}, CONFIG)):
        assert data.coordinates_print != data.fingerprint
        assert data.is_what_made(data.coordinates_print)
        assert data.is_what_made(data.fingerprint)
        assert not data.is_what_made(open_data(ROWS, CONFIG).fingerprint)
    assert open_data(ROWS, CONFIG).coordinates_print == open_data(ROWS, CONFIG).fingerprint
