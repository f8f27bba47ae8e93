"""Clusters in place of classes: what they divide, that samples have each as often as the data, and what stays without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import command, contents, small_evaluations
from numpy.typing import NDArray

from scorefield import ScorefieldError, app
from scorefield.data import DataConfig, open_data
from scorefield.data.doctor import examine
from scorefield.drawing import labels_of
from scorefield.runs import open_run
from scorefield.specs import TrainSpec
from scorefield.training.resolve import resolve

SMALL = ("network.width=16", "network.depth=2", "training.pictures=0", "training.batch=32")
SHARES = (0.5, 0.3, 0.2)


def blobs(seed: int = 0, n: int = 600) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three groups that are 20 deviations apart, and the group of each."""
    rng = np.random.default_rng(seed)
    group = rng.choice(3, n, p=SHARES)
    centres = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 5.0], [0.0, 20.0, -5.0]])
    return (centres[group] + rng.normal(size=(n, 3))).astype(np.float32), group


def test_clusters_are_the_groups_that_there_are_and_no_part_of_the_data(tmp_path: Path) -> None:
    x, group = blobs()
    data = resolve(x, TrainSpec(steps=1, settings=("training.clusters=3",))).data
    plain = open_data(x, DataConfig())
    assert data.clustered and data.classes == ("cluster 0", "cluster 1", "cluster 2")
    assert data.fingerprint == plain.fingerprint and not plain.classes
    assert examine(data).counts == {}  # so no warning of unequal ones
    for part, labels in ((data.train, data.labels), (data.held_out, data.held_out_labels)):
        assert labels is not None
        rows = torch.as_tensor(part[:])
        true = torch.tensor([int(group[(x == row.numpy()).all(axis=1).argmax()]) for row in rows])
        pairs = {(int(a), int(b)) for a, b in zip(labels, true, strict=True)}
        assert len(pairs) == 3  # each cluster is one group, and each group one cluster


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clusters")
    np.save(folder / "x.npy", blobs()[0])
    app.train(
        str(folder / "x.npy"), out=folder / "run", steps=150, settings=("training.clusters=3", "optimiser.warmup=10", *SMALL)
    )
    return folder / "run"


def test_samples_have_each_cluster_as_often_as_the_data_and_one_alone_where_it_is_asked_for(run: Path) -> None:
    opened, n = open_run(run), 4000
    counts = torch.tensor(opened.manifest["data"]["class_counts"]).double()
    drawn = labels_of(opened, range(n))
    assert drawn is not None
    share = counts / counts.sum()
    error = (share * (1 - share) / n).sqrt()
    assert ((drawn.bincount(minlength=3) / n - share).abs() < 5 * error).all()
    app.sample(run, n=100, label="cluster 1", out=run.with_name("one.npy"))
    data = resolve(blobs()[0], TrainSpec(steps=1, settings=("training.clusters=3",))).data
    assert data.labels is not None
    own = torch.as_tensor(data.train[:])[data.labels == 1].mean(dim=0)
    away = np.linalg.norm(np.load(run.with_name("one.npy")) - own.numpy(), axis=1)
    assert (away < 10).mean() > 0.9  # half way to any other group


def test_all_that_asks_for_the_whole_density_works_and_a_training_goes_on_with_the_same_clusters(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_evaluations(monkeypatch)
    before = open_run(run).manifest["data"]["class_counts"]
    report = app.likelihood(run, n=8)
    assert np.isfinite(report.flow.value)
    again = app.train(str(run.with_name("x.npy")), out=run, steps=160, resume=True)
    assert again.step == 160 and open_run(run).manifest["data"]["class_counts"] == before
    quality = app.evaluate(run, n=60)
    assert quality.samples == 60


def test_what_has_no_clusters_is_refused_and_labels_of_the_data_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("a,b\n" + "\n".join(f"{i / 7:.3f},{i * i % 11}" for i in range(60)) + "\n")
    holed = blobs(n=100)[0]
    holed[3, 1] = np.nan
    np.save(tmp_path / "holed.npy", holed)
    np.save(tmp_path / "few.npy", blobs(n=50)[0])
    for source, said in (
        (table, "got training.clusters=3 for a table"),
        (tmp_path / "holed.npy", "for examples with unknown cells"),
        (tmp_path / "few.npy", "for 45 examples, expected 2 to 2, for each needs 20: lower it"),
    ):
        before = contents(tmp_path)
        assert (
            command("train", str(source), "--steps", "1", "--set", "training.clusters=3", "--out", str(tmp_path / "run")) == 2
        )
        assert said in " ".join(capsys.readouterr().err.split())
        assert contents(tmp_path) == before
    x, group = blobs()
    np.savez(tmp_path / "labelled.npz", x=x, labels=group)
    found = resolve(str(tmp_path / "labelled.npz"), TrainSpec(steps=1, settings=("training.clusters=5",))).data
    assert not found.clustered and len(found.classes) == 3
    with pytest.raises(ScorefieldError, match="clusters"):
        resolve(x, TrainSpec(steps=1, settings=("training.clusters=-1",)))


def test_many_grey_images_without_classes_are_clustered_by_default_and_nothing_else_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    many = rng.integers(0, 255, (11_200, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "many.npz", images=many)
    np.savez(tmp_path / "few.npz", images=many[:11_000])  # 9,900 to learn from
    np.savez(tmp_path / "colour.npz", images=np.stack([many] * 3, axis=-1))
    np.savez(tmp_path / "told.npz", images=many, labels=np.arange(11_200) % 7)

    def found(source: str, recipe: str | None = None, *settings: str) -> tuple[int, float, int]:
        run = resolve(str(tmp_path / source), TrainSpec(steps=1, recipe=recipe, settings=settings))
        return run.config.training.clusters, run.config.training.labels, len(run.data.classes)

    assert found("many.npz") == (56, 0.9, 56)  # one for 180 of 10,080
    assert found("few.npz") == (0, 0.0, 0)
    assert found("colour.npz") == (0, 0.0, 0)
    assert found("told.npz") == (0, 0.9, 7)
    assert found("many.npz", None, "training.clusters=0") == (0, 0.0, 0)
    assert found("many.npz", None, "training.labels=0") == (0, 0.0, 0)
    assert found("many.npz", "ncsn") == (0, 0.0, 0)
    vectors = resolve(many.reshape(11_200, 16).astype(np.float32), TrainSpec(steps=1))
    assert vectors.config.training.clusters == 0
