"""Feature extractors: what they see is what is there, their hash is their weights, and worse images score worse.

Images of this file are real digits (1,797 of 8 x 8 pixels, on the machine already) and two photographs that come with
scikit-learn.
"""

import functools
import hashlib
import importlib.util
import io
import json
import pickle
from pathlib import Path

import pytest
import torch
from helpers import each_case
from safetensors import safe_open
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from scipy.stats import spearmanr
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F

from scorefield import NotFinite, ScorefieldError, registry
from scorefield.metrics import inception, lite0
from scorefield.metrics.extractor import Identity, Module, resized, three_channels
from scorefield.metrics.features import Extractor, Learned, learn, load, open_extractor, save
from scorefield.metrics.frechet import Frechet
from scorefield.metrics.inception import Inception, InceptionNetwork, _linear
from scorefield.metrics.lite0 import Lite0, Lite0Network
from scorefield.metrics.pretrained import read_weights
from scorefield.randomness import SampleRng

EPS32 = torch.finfo(torch.float32).eps
_bunch = load_digits()
_order = torch.from_numpy(_bunch.target).new_tensor(range(1797))[SampleRng(range(1797), stream=5).uniform(()).argsort()]
DIGITS = torch.from_numpy((_bunch.images * 255 / 16).round()).to(torch.uint8)[_order, None]
LABELS = torch.from_numpy(_bunch.target).long()[_order]
TRAIN, HELD_OUT = DIGITS[:1198], DIGITS[1198:]
needs_lite0 = pytest.mark.skipif(importlib.util.find_spec(lite0.PACKAGE) is None, reason="needs the extra features")


def _photographs() -> Tensor:
    """A Chinese palace by a lake, and an orange daisy, uint8 `(2, 3, 427, 640)`."""
    return torch.stack([torch.from_numpy(image.copy()).permute(2, 0, 1) for image in load_sample_images().images])


def _brief(labels: Tensor | None = None, seed: int = 0, images: Tensor = TRAIN[:200]) -> Learned:
    return learn(images, labels, seed=seed, steps=5)


# What all of them share


@pytest.fixture(scope="module")
def small() -> dict[str, Extractor]:
    """Cheap extractors that look at images of one channel."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten())
    return {"labelled": _brief(LABELS[:200]), "unlabelled": _brief(), "module": open_extractor(module)}


@functools.cache
def _random(architecture: type[nn.Module], seed: int = 0) -> dict[str, Tensor]:
    """Random weights whose activations neither vanish nor grow."""
    with torch.device("meta"):
        network = architecture()
    weights, generator = {}, torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        normal = torch.randn(value.shape, generator=generator)
        if value.ndim == 4:
            weights[name] = normal * (2 / value[0].numel()) ** 0.5
        elif not value.is_floating_point():
            weights[name] = torch.zeros(value.shape, dtype=value.dtype)
        elif name.endswith("var") or (name.endswith("weight") and value.ndim == 1):
            weights[name] = 1 + 0.1 * normal.abs()
        else:
            weights[name] = 0.1 * normal
    return weights


@pytest.mark.parametrize("name", ["labelled", "unlabelled", "module"])
def test_features_of_images_one_by_one_are_those_of_all_together(small: dict[str, Extractor], name: str) -> None:
    images = DIGITS[:300]  # more than are looked at at once
    whole = small[name](images)
    alone = torch.cat([small[name](image[None]) for image in images[250:262]])
    assert isinstance(small[name], Extractor)
    assert whole.dtype == torch.float64 and len(whole) == 300 and whole.shape[1] in (small[name].dim, 4 * 6 * 6)
    assert float((whole[250:262] - alone).abs().max()) < 1e3 * EPS32 * float(whole.abs().max())


@pytest.mark.parametrize("name", ["labelled", "unlabelled", "module"])
def test_the_hash_changes_with_any_weight_and_with_nothing_else(small: dict[str, Extractor], name: str) -> None:
    extractor = small[name]
    assert len(extractor.version_hash) == 16 and int(extractor.version_hash, 16) >= 0
    seen = {extractor.version_hash}
    network = extractor.network  # type: ignore[attr-defined]
    for weight in network.state_dict().values():
        kept = weight.clone()
        weight.view(-1)[-1] += 1
        again = Learned(network, extractor.shape, extractor.classes) if isinstance(extractor, Learned) else Module(network)
        seen.add(again.version_hash.replace(extractor.version_hash, "unchanged"))
        weight.copy_(kept)
    assert len(seen) == 1 + len(network.state_dict()) and "unchanged" not in seen


@each_case(name=["labelled", "unlabelled", "module"])
@each_case(images=[torch.zeros(2, 1, 8, 8), torch.zeros(2, 64).byte(), DIGITS[:0], torch.zeros(2, 1, 4, 8, 8).byte()])
def test_what_is_no_images_of_bytes_is_refused(small: dict[str, Extractor], name: str, images: Tensor) -> None:
    with pytest.raises(ScorefieldError, match=r"expected uint8 images \(n, channels, height, width\)"):
        small[name](images)


def test_published_networks_refuse_more_channels_than_colour_and_opacity_have() -> None:
    extractor = Lite0(_random(Lite0Network), "own")
    with pytest.raises(ScorefieldError, match=r"expected uint8 images \(n, 1 to 4 channels, height, width\)"):
        extractor(torch.zeros(2, 5, 8, 8, dtype=torch.uint8))


def test_no_figure_is_called_fid_but_those_on_inceptions_weights(
    small: dict[str, Extractor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {e.score_name for e in small.values()} == {"FD-data", "FD-module-Sequential"}
    assert open_extractor("identity").score_name == "FD-identity"
    weights = _random(Lite0Network)
    for stem, called in (("mine", "FD-mine"), ("my_FID", "FD-own")):
        path = tmp_path / f"{stem}.safetensors"
        path.write_bytes(save_tensors(weights))
        assert open_extractor(path).score_name == called
    path = tmp_path / "inception.safetensors"
    path.write_bytes(save_tensors(_random(InceptionNetwork)))
    assert open_extractor(path).score_name == "FD-own"
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    assert open_extractor(path).score_name == "FID"


# Sizes and channels


def test_a_constant_image_stays_constant_at_any_size() -> None:
    for size in ((3, 5), (8, 8), (224, 224)):
        assert torch.equal(
            resized(torch.full((1, 2, 9, 7), 200, dtype=torch.uint8), *size).round().unique(), torch.tensor([200.0])
        )


def test_an_image_of_the_wanted_size_is_left_as_it_is() -> None:
    assert torch.equal(resized(DIGITS[:3], 8, 8), DIGITS[:3].float())


def test_shrinking_shows_no_pattern_that_is_not_there() -> None:
    """Stripes of one pixel are grey from afar; without antialiasing they come out as broad stripes."""
    stripes = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    inner = slice(4, -4)  # at the border a kernel sees half of a stripe
    ours = resized(stripes, 24, 24)[..., inner]
    bare = F.interpolate(stripes.float(), (24, 24), mode="bicubic")[..., inner]
    assert float((ours - 127.5).abs().max()) < 0.05 * float((bare - 127.5).abs().max())


def test_grey_is_shown_three_times_and_transparent_pixels_over_white() -> None:
    grey = DIGITS[:2]
    assert torch.equal(three_channels(grey), torch.cat([grey] * 3, dim=1))
    clear = torch.zeros(1, 4, 2, 2, dtype=torch.uint8)
    assert bool((three_channels(clear) == 255).all())
    assert torch.equal(three_channels(torch.cat([grey, torch.full_like(grey, 255)], dim=1)), three_channels(grey))


@pytest.mark.parametrize(
    "shape", [(1, 5, 5), (2, 17, 9), (3, 64, 64), (4, 40, 100), (3, 1, 300), (7, 9, 9), (70, 8, 8), (1500, 2, 2)]
)
def test_images_of_any_size_and_any_number_of_channels_can_be_learned(shape: tuple[int, int, int]) -> None:
    images = (SampleRng(range(12)).uniform(shape) * 256).to(torch.uint8)
    learned = _brief(images=images)
    assert learned(images).shape == (12, learned.dim)
    assert max(learned.shape[1:]) <= 64 and learned.shape[0] == shape[0]


def test_another_size_is_brought_to_the_learned_one_but_other_channels_are_refused(small: dict[str, Extractor]) -> None:
    larger = F.interpolate(DIGITS[:4].float(), (32, 32), mode="nearest").to(torch.uint8)
    assert small["labelled"](larger).shape == (4, 64)
    with pytest.raises(ScorefieldError, match="got images of 3 channels, expected 1, as the features 'data' were learned on"):
        small["labelled"](three_channels(DIGITS[:4]))


# Learning


def test_learning_depends_on_the_seed_alone_and_touches_no_global_generator() -> None:
    for labels in (LABELS[:200], None):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = _brief(labels, seed=3)
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(2)
        assert _brief(labels, seed=3).version_hash == first.version_hash != _brief(labels, seed=4).version_hash


def test_learning_says_how_far_it_is() -> None:
    told: list[tuple[float, str]] = []
    learn(TRAIN[:50], steps=8, progress=lambda fraction, text: told.append((fraction, text)))
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and len(set(fractions)) >= 8 and all(text for _, text in told)


def test_labels_of_one_class_are_no_labels() -> None:
    assert _brief(torch.zeros(200, dtype=torch.int64)).version_hash == _brief(None).version_hash


def test_only_who_has_learned_classes_names_them(small: dict[str, Extractor]) -> None:
    assert isinstance(small["labelled"], Learned) and isinstance(small["unlabelled"], Learned)
    assert small["labelled"].classes == 10 and small["unlabelled"].classes == 0
    assert small["labelled"].classify(DIGITS[:7]).shape == (7,)
    with pytest.raises(ScorefieldError, match="got no class labels to learn from"):
        small["unlabelled"].classify(DIGITS[:7])


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (TRAIN[:1], None, "expected 2 or more uint8 images"),
        (TRAIN[:9].float(), None, "expected 2 or more uint8 images"),
        (TRAIN[:1].expand(9, -1, -1, -1), None, "got 9 images that are all alike"),
        (TRAIN[:9], LABELS[:8], r"expected int64 of shape \(9,\), 0-based"),
        (TRAIN[:9], LABELS[:9] - 1, "0-based"),
        (TRAIN[:9], LABELS[:9].float(), "expected int64"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(images: Tensor, labels: Tensor | None, sentence: str) -> None:
    with pytest.raises(ScorefieldError, match=sentence):
        learn(images, labels)


# Ordering: worse images score worse


def _blurred(images: Tensor, sigma: float) -> Tensor:
    kernel = torch.exp(-(torch.arange(-3, 4).float() ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None]
    wide = F.pad(images.float(), (3, 3, 3, 3), mode="replicate")
    smooth = F.conv2d(F.conv2d(wide, kernel[..., None, :]), kernel[..., None])
    return smooth.round().to(torch.uint8)


@pytest.fixture(scope="module")
def distances() -> dict[str, dict[str, list[float]]]:
    """Frechet distances of ever worse sets, as who has learned with and without labels sees them."""
    z = SampleRng(range(len(HELD_OUT)), stream=1).normal((1, 8, 8))
    sets = {
        "noise": [(HELD_OUT + 255 * s * z).round().clamp(0, 255).to(torch.uint8) for s in (0.0, 0.1, 0.2, 0.4)],
        "blur": [_blurred(HELD_OUT, sigma) for sigma in (0.1, 0.5, 0.8, 1.3)],
        "dropped classes": [HELD_OUT[LABELS[1198:] >= k] for k in (0, 1, 3, 5, 8)],
    }
    assert torch.equal(sets["noise"][0], HELD_OUT) and torch.equal(sets["blur"][0], HELD_OUT)
    rows = min(len(some) for kind in sets.values() for some in kind)  # of one size: fewer are biased further upwards
    found = {}
    for name, labels in (("labels", LABELS[:1198]), ("no labels", None)):
        extractor = learn(TRAIN, labels, steps=80)
        real = extractor(TRAIN)
        found[name] = {kind: [Frechet()(extractor(some[:rows]), real).value for some in worse] for kind, worse in sets.items()}
    return found


@pytest.mark.parametrize("kind", ["noise", "blur", "dropped classes"])
@pytest.mark.parametrize("name", ["labels", "no labels"])
def test_the_frechet_distance_grows_as_images_get_worse(
    distances: dict[str, dict[str, list[float]]], name: str, kind: str
) -> None:
    values = distances[name][kind]
    assert values == sorted(values) and len(set(values)) == len(values)


def test_who_learns_without_labels_ranks_as_who_has_them(distances: dict[str, dict[str, list[float]]]) -> None:
    """Two rankings that had nothing to do with each other would agree so well once in a thousand times."""
    ranked = [[value for kind in distances[name].values() for value in kind] for name in ("labels", "no labels")]
    agreement = spearmanr(*ranked)
    assert agreement.statistic > 0 and agreement.pvalue < 1e-3


# Files


def test_what_is_saved_opens_as_what_it_was(small: dict[str, Extractor], tmp_path: Path) -> None:
    for name in ("labelled", "unlabelled"):
        original, path = small[name], tmp_path / f"{name}.safetensors"
        assert isinstance(original, Learned)
        save(original, path)
        for again in (load(path), open_extractor(path), open_extractor(str(path))):
            assert isinstance(again, Learned)
            assert (again.version_hash, again.shape, again.classes) == (original.version_hash, original.shape, original.classes)
            assert torch.equal(again(DIGITS[:9]), original(DIGITS[:9]))


def _changed(content: bytes, **about: object) -> bytes:
    length = int.from_bytes(content[:8], "little")
    old = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["scorefield-extractor"])
    return save_tensors(load_tensors(content), metadata={"scorefield-extractor": json.dumps({**old, **about})})


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-10],
        lambda content: b"",
        lambda content: save_tensors(load_tensors(content)),
        lambda content: _changed(content, shape=[3, 8, 8]),
        lambda content: _changed(content, outputs=11),
        lambda content: _changed(content, outputs=-1),
        lambda content: _changed(content, strides=[1]),
        lambda content: _changed(content, shape=None),
    ],
)
def test_a_damaged_file_of_features_is_refused_in_a_sentence(
    small: dict[str, Extractor], tmp_path: Path, damage: object
) -> None:
    assert isinstance(small["labelled"], Learned) and callable(damage)
    path = tmp_path / "data.safetensors"
    save(small["labelled"], path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ScorefieldError, match="which does not open as features") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_features_with_nan_among_their_weights_are_refused(small: dict[str, Extractor], tmp_path: Path) -> None:
    assert isinstance(small["labelled"], Learned)
    path = tmp_path / "data.safetensors"
    save(small["labelled"], path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = load_tensors(path.read_bytes())
    weights["head.bias"][3] = torch.nan
    path.write_bytes(save_tensors(weights, metadata=metadata))
    with pytest.raises(NotFinite, match=r"got NaN or infinity in the weight head\.bias of"):
        open_extractor(path)


def test_a_missing_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for name in ("none.safetensors", "none.pth"):
        with pytest.raises(ScorefieldError, match="got no readable"):
            open_extractor(tmp_path / name)
    with pytest.raises(ScorefieldError, match="which does not open as features"):
        load(tmp_path / "none.safetensors")


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.path),)  # type: ignore[attr-defined,return-value]


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    bomb, target = _Bomb(), tmp_path / "ran"
    bomb.path = str(target)  # type: ignore[attr-defined]
    torch.save({"weight": bomb}, tmp_path / "bomb.pth")
    torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert target.exists()  # it is one
    target.unlink()
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(bomb))
    for name in ("bomb.pth", "bare.pth"):
        with pytest.raises(ScorefieldError, match="which does not open as weights alone") as refusal:
            open_extractor(tmp_path / name)
        assert "\n" not in str(refusal.value) and not target.exists()


def _bytes(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _with(weights: dict[str, Tensor], **more: Tensor | None) -> dict[str, Tensor]:
    return {name: value for name, value in {**weights, **more}.items() if value is not None}


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        ([1, 2], "which holds list and not weights by name"),
        ({}, "which holds dict and not weights by name"),
        ({"a": 1}, "which holds dict and not weights by name"),
        ({"a": torch.ones(2)}, "are of no architecture that is known here"),
        ({"a": torch.tensor([1.0, torch.nan])}, "got NaN or infinity in the weight a"),
    ],
)
def test_weights_of_nothing_known_are_refused(held: object, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(_bytes(held))
    with pytest.raises(ScorefieldError, match=sentence):
        open_extractor(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"_bn1.bias": torch.zeros(7)}, r"with _bn1.bias of shape \(7,\), expected _bn1.bias of shape \(1280,\), as Lite0 has"),
        ({"_bn1.bias": None}, r"with no _bn1.bias, expected _bn1.bias of shape \(1280,\)"),
        ({"extra": torch.zeros(7)}, r"with extra of shape \(7,\), expected no extra"),
        ({"_bn1.bias": torch.full((1280,), torch.inf)}, "got NaN or infinity in the weight _bn1.bias"),
    ],
)
def test_weights_that_do_not_fit_their_architecture_are_refused(
    change: dict[str, Tensor | None], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "tuned.safetensors"
    path.write_bytes(save_tensors(_with(_random(Lite0Network), **change)))
    with pytest.raises(ScorefieldError, match=sentence):
        open_extractor(path)


def test_an_unknown_name_gets_a_guess() -> None:
    with pytest.raises(ScorefieldError, match="unknown extractor 'lite': did you mean 'lite0'"):
        open_extractor("lite")
    assert {"data", "identity", "inception", "lite0"} <= set(registry.names("extractor"))


@pytest.mark.parametrize(("name", "advice"), [("data", "evaluate the run"), ("inception", "give its path")])
def test_a_name_whose_weights_are_elsewhere_says_where(name: str, advice: str) -> None:
    with pytest.raises(ScorefieldError, match=f"got features '{name}' without .*: {advice}"):
        open_extractor(name)


# Vectors and modules


def test_identity_returns_the_rows_themselves() -> None:
    rows = SampleRng(range(5)).normal((3,)).float()
    assert torch.equal(Identity()(rows), rows.double())
    with pytest.raises(ScorefieldError, match=r"expected vectors \(n, d\)"):
        Identity()(DIGITS[:3])


def test_a_module_sees_images_between_0_and_1_and_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)).train()
    extractor = open_extractor(module)
    assert torch.equal(extractor(DIGITS[:5]), (DIGITS[:5].flatten(1).float() / 255).double())
    assert module.training and extractor.name == "module-Sequential"


@pytest.mark.parametrize("module", [nn.Identity(), nn.Flatten(0), nn.Unflatten(1, (1, 1))])
def test_a_module_that_gives_no_row_an_image_is_refused(module: nn.Module) -> None:
    with pytest.raises(ScorefieldError, match="return one row an image"):
        open_extractor(module)(DIGITS[:5])


def test_a_module_that_gives_nan_stops() -> None:
    class Divided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x / 0).flatten(1)

    with pytest.raises(NotFinite, match="among the features of the images"):
        open_extractor(Divided())(DIGITS[:5])


# EfficientNet-Lite0


@needs_lite0
def test_lite0_recognises_a_palace_by_a_lake_and_a_daisy() -> None:
    """The features times the layer that was left out are the logits of ImageNet's classes: 698 palace, 985 daisy."""
    found = importlib.util.find_spec(lite0.PACKAGE)
    assert found is not None and found.submodule_search_locations
    weights = read_weights(Path(found.submodule_search_locations[0]) / lite0.FILE)
    features = open_extractor("lite0")(_photographs())
    chances = (features @ weights["_fc.weight"].double().mT + weights["_fc.bias"].double()).softmax(dim=1)
    best = chances.topk(3).indices
    assert 698 in best[0] and best[1, 0] == 985


@needs_lite0
def test_lite0_is_known_by_its_hash() -> None:
    extractor = open_extractor("lite0")
    assert (extractor.name, extractor.score_name, extractor.dim) == ("lite0", "FD-lite0", 1280)
    assert extractor.version_hash == "b56eec259c3f0133"


@needs_lite0
def test_lite0_with_another_file_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "SHA256", "0" * 64)
    with pytest.raises(ScorefieldError, match=r"with the sha256 579344248a93\.\.\., expected 000000000000"):
        open_extractor("lite0")


def test_lite0_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    with pytest.raises(ScorefieldError, match=r"run pip install 'scorefield\[features\]'"):
        open_extractor("lite0")


def test_weights_of_lite0s_shapes_open_from_a_file_whatever_their_last_layer(tmp_path: Path) -> None:
    weights, images = _random(Lite0Network), _photographs()[:, :, ::4, ::4]
    direct = Lite0(weights, "direct")
    tuned = {**weights, "_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}
    (tmp_path / "tuned.safetensors").write_bytes(save_tensors(tuned))
    (tmp_path / "nested.pth").write_bytes(_bytes({"state_dict": tuned, "epoch": 3}))
    for name in ("tuned.safetensors", "nested.pth"):
        opened = open_extractor(tmp_path / name)
        assert opened.score_name == f"FD-{name.partition('.')[0]}" and opened.version_hash == direct.version_hash
        assert torch.equal(opened(images), direct(images))
    alone = torch.cat([direct(image[None]) for image in images])
    assert float((alone - direct(images)).abs().max()) < 1e3 * EPS32 * float(alone.abs().max())


# Inception-v3


def test_inception_has_the_size_of_the_published_network() -> None:
    """Szegedy et al.: 23.8 million weights with the last layer of 1,000 classes, which are 2.05 million."""
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in InceptionNetwork().parameters())
    assert weights == 21_785_568


def test_inception_enlarges_linearly_from_the_first_pixel_on() -> None:
    """As the network of 2015: pixel i comes from the place i·size/299, so the first pixel stays and the last ones repeat."""
    ramp = torch.arange(23.0)
    made = _linear(23, 299) @ ramp
    expected = (torch.arange(299, dtype=torch.float64) * 23 / 299).clamp(max=22)
    assert float((made - expected).abs().max()) < 23 * 4 * EPS32
    assert torch.equal(_linear(299, 299), torch.eye(299))


def test_inception_sees_images_one_by_one_as_all_together() -> None:
    extractor = Inception(_random(InceptionNetwork), "inception")
    images = _photographs()[:, :, ::8, ::8]
    features = extractor(images)
    alone = torch.cat([extractor(image[None]) for image in images])
    assert features.shape == (2, 2048)
    assert float((alone - features).abs().max()) < 1e3 * EPS32 * float(alone.abs().max())
