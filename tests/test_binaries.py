"""Binaries: MNIST's idx, CIFAR and STL-10 are told by their bytes, with their labels, names and own division."""

import gzip
import pickle
from pathlib import Path

import numpy as np
import pytest
from instrument_files import R, as_a_user, examples, opened, refusal

from scorefield.data.formats import writers


def idx(values: np.ndarray) -> bytes:
    """The content of an idx file of bytes."""
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.astype("u1").tobytes()


def mnist(place: Path, *, packed: bool = True, train: int = 20, test: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The four files of MNIST, small; all images and labels, those for training first."""
    place.mkdir(exist_ok=True)
    images, labels = R.integers(0, 256, (train + test, 7, 5)).astype("u1"), (np.arange(train + test) % 10).astype("u1")
    for name, part in (("train", slice(0, train)), ("t10k", slice(train, None))):
        for what, values in (("images-idx3-ubyte", images[part]), ("labels-idx1-ubyte", labels[part])):
            content = idx(values)
            (place / f"{name}-{what}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    return images, labels


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_keeps_its_images_its_labels_and_its_division(packed: bool, tmp_path: Path) -> None:
    images, labels = mnist(tmp_path / "in", packed=packed)
    data = opened(tmp_path / "in")
    assert (data.kind, data.layout.dtype, data.layout.axes, data.shape) == ("image", "uint8", "yx", (1, 7, 5))
    assert data.classes == tuple("0123456789")
    got = {one.tobytes(): label for part, group in ((data.train, data.labels), (data.held_out, data.held_out_labels))
           for one, label in zip(part[:].numpy(), group.tolist(), strict=True)}  # fmt: skip
    assert got == {one.tobytes(): label for one, label in zip(images, labels.tolist(), strict=True)}
    assert {one.tobytes() for one in data.held_out[:].numpy()} == {one.tobytes() for one in images[20:]}
    assert any("5 examples of the test files are held out" in note for note in data.notes)


@pytest.mark.parametrize("part", ["train", "t10k", "both"])
def test_a_file_that_lies_packed_and_unpacked_is_one(part: str, tmp_path: Path) -> None:
    images, _ = mnist(tmp_path / "in")
    for packed in sorted((tmp_path / "in").glob("*.gz")):
        if part in (packed.name.partition("-")[0], "both"):
            packed.with_suffix("").write_bytes(gzip.decompress(packed.read_bytes()))
    data = opened(tmp_path / "in")
    assert sorted(one.tobytes() for one in data.train[:].numpy()) == sorted(one.tobytes() for one in images[:20])
    assert sorted(one.tobytes() for one in data.held_out[:].numpy()) == sorted(one.tobytes() for one in images[20:])
    assert data.classes == tuple("0123456789")
    assert any("the same file lies unpacked beside it" in note for note in data.notes)


def test_one_file_of_images_finds_its_labels_beside_it(tmp_path: Path) -> None:
    images, _ = mnist(tmp_path / "in")
    data = opened(tmp_path / "in" / "train-images-idx3-ubyte.gz")
    assert len(data.train) + len(data.held_out) == 20
    assert data.classes == tuple("0123456789")
    assert {one.tobytes() for one in examples(data)} == {one.tobytes() for one in images[:20]}
    assert "labels only" in refusal(tmp_path / "in" / "train-labels-idx1-ubyte.gz")


def test_an_idx_file_goes_out_as_it_came(tmp_path: Path) -> None:
    images = R.integers(0, 256, (12, 7, 5)).astype("u1")
    (tmp_path / "x.idx3-ubyte").write_bytes(idx(images))
    data = opened(tmp_path / "x.idx3-ubyte", held_out=0.25)
    writers("image")[".idx3-ubyte"].write(str(tmp_path / "y.idx3-ubyte"), examples(data), data.layout)
    new = (tmp_path / "y.idx3-ubyte").read_bytes()
    assert new[:16] == idx(images)[:16]
    assert sorted(new[16 + 35 * i : 51 + 35 * i] for i in range(12)) == sorted(one.tobytes() for one in images)


def test_other_types_of_idx_are_big_endian(tmp_path: Path) -> None:
    values = R.normal(size=(10, 8, 6)).astype(">f4")
    (tmp_path / "x.idx").write_bytes(bytes([0, 0, 13, 3]) + np.array(values.shape, ">u4").tobytes() + values.tobytes())
    data = opened(tmp_path / "x.idx")
    assert data.layout.dtype == "float32"
    assert np.isclose(float(data.train[:].max()), max(values.max(), 0), atol=0) or len(data.held_out)
    assert {round(float(one.sum()), 3) for one in examples(data)} == {round(float(one.sum()), 3) for one in values}


NAMES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def records(count: int, *most: int, pixels: int = 3072) -> np.ndarray:
    """Records of labels, each below its `most`, and a picture."""
    labels = [np.arange(count) % one for one in most]
    return np.concatenate([*(one[:, None] for one in labels), R.integers(0, 256, (count, pixels))], axis=1).astype("u1")


def test_cifar10_has_its_pictures_channels_first_its_names_and_its_division(tmp_path: Path) -> None:
    parts = {name: records(15, 10) for name in ("data_batch_1", "data_batch_2", "test_batch")}
    for name, part in parts.items():
        (tmp_path / f"{name}.bin").write_bytes(part.tobytes())
    (tmp_path / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    data = opened(tmp_path)
    assert (data.kind, data.layout.axes, data.shape, data.classes) == ("image", "cyx", (3, 32, 32), tuple(NAMES))
    assert {one.tobytes() for one in data.held_out[:].numpy()} == {one[1:].tobytes() for one in parts["test_batch"]}
    truth = {one[1:].tobytes(): int(one[0]) for part in parts.values() for one in part}
    assert all(truth[one.tobytes()] == label for one, label in zip(data.train[:].numpy(), data.labels.tolist(), strict=True))


def test_cifar100_has_fine_labels_and_coarse_ones_on_request(tmp_path: Path) -> None:
    part = records(300, 20, 100)
    (tmp_path / "train.bin").write_bytes(part.tobytes())
    fine, coarse = opened(tmp_path / "train.bin"), opened(tmp_path / "train.bin", key="coarse")
    assert (len(fine.classes), len(coarse.classes)) == (100, 20)
    truth = {one[2:].tobytes(): (str(one[1]), str(one[0])) for one in part}
    for data, which in ((fine, 0), (coarse, 1)):
        for one, label in zip(data.train[:].numpy(), data.labels.tolist(), strict=True):
            assert data.classes[label] == truth[one.tobytes()][which]


def test_stl10_is_stored_column_by_column_and_counts_its_labels_from_one(tmp_path: Path) -> None:
    pictures, labels = R.integers(0, 256, (12, 3, 96, 96)).astype("u1"), (np.arange(12) % 10 + 1).astype("u1")
    (tmp_path / "train_X.bin").write_bytes(pictures.transpose(0, 1, 3, 2).tobytes())
    (tmp_path / "train_y.bin").write_bytes(labels.tobytes())
    (tmp_path / "unlabeled_X.bin").write_bytes(bytes(27648 * 9))
    (tmp_path / "class_names.txt").write_text("\n".join(NAMES))
    data = opened(tmp_path)
    truth = {one.tobytes(): int(label) - 1 for one, label in zip(pictures, labels, strict=True)}
    got = {one.tobytes(): int(label) for one, label in zip(data.train[:].numpy(), data.labels, strict=True)}
    assert got.items() <= truth.items()
    assert len(data.train) + len(data.held_out) == 12
    assert data.classes == tuple(NAMES)
    assert [issue.where for issue in data.issues] == ["unlabeled_X.bin"]


@pytest.mark.parametrize("name", ["data_batch_1", "meta", "train.pkl", "x.pickle"])
def test_a_pickle_is_refused_unopened(name: str, tmp_path: Path) -> None:
    class Opened:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'opened')!r}, 'w')",)

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(pickle.dumps(Opened()))
    sentence = refusal(tmp_path / "in" / name if name != "meta" else tmp_path / "in")
    assert "could run any program when it is opened" in sentence
    assert "binary version" in sentence
    if name.startswith("data"):
        assert "could run any program" in refusal(tmp_path / "in")
    assert not (tmp_path / "opened").exists()


def test_a_bin_of_another_length_is_refused_with_the_lengths_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(12_345))
    sentence = refusal(tmp_path / "x.bin")
    assert "12,345 bytes long" in sentence
    assert "3,073 (CIFAR-10), 3,074 (CIFAR-100), 27,648 (STL-10)" in sentence


def test_each_broken_file_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    mnist(tmp_path)
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        (tmp_path / name).unlink()
    images = idx(R.integers(0, 256, (20, 7, 5)))
    (tmp_path / "a-images-idx3-ubyte").write_bytes(images[:300])
    (tmp_path / "b-images-idx3-ubyte").write_bytes(b"")
    (tmp_path / "c-images-idx3-ubyte").write_bytes(b"no images at all")
    (tmp_path / "d-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 3]) + b"\xff" * 12))
    found = {issue.where: issue.cause for issue in opened(tmp_path).issues}
    causes = {
        "a-images-idx3-ubyte": "truncated: its header states 716 bytes, there are 300",
        "b-images-idx3-ubyte": "empty",
        "c-images-idx3-ubyte": "no idx file",
        "d-images-idx3-ubyte.gz": "GiB, more than the 8 that are read",
    }
    assert found.keys() == causes.keys()
    assert all(part in found[name] for name, part in causes.items()), found


def test_two_sets_in_a_folder_are_asked_for(tmp_path: Path) -> None:
    for name in ("digits", "letters"):
        (tmp_path / f"{name}-train-images-idx3-ubyte").write_bytes(idx(R.integers(0, 256, (20, 7, 5))))
    assert "set data.key=digits-train-images-idx3-ubyte" in refusal(tmp_path)
    assert opened(tmp_path, key="letters").shape == (1, 7, 5)


def test_a_person_gets_digits_back_by_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mnist(tmp_path / "in")
    paths = as_a_user(tmp_path / "in", tmp_path, capsys, "image")
    assert [path.name for path in paths] == ["00000.png", "00001.png"]
