"""Formats: each is one file that claims its sources and reads them; names, sentences and help follow from the registry."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import each_case

from scorefield import ScorefieldError, registry
from scorefield.data import DataConfig, known_formats, open_data, open_source
from scorefield.data.formats import Format, ordered

TOY = '''
from scorefield.data.formats import Format
from scorefield.registry import register


@register("format", "numbers")
class Numbers(Format):
    """Numbers in a text file, one vector a line."""

    description, takes = "a .numbers file", "path"

    def claims(self, source):
        return source.endswith(".numbers")

    def read(self, source, spec):
        import numpy as np
        from scorefield.data.arrays import of_array

        return of_array(np.loadtxt(source), "numbers", spec.config)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file beside those of the package, with a format that nothing else knows; and a source of it."""
    formats = importlib.import_module("scorefield.data.formats")
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "numbers.py").write_text(TOY)
    np.savetxt(tmp_path / "rows.numbers", np.random.default_rng(0).normal(size=(30, 3)))
    with monkeypatch.context() as patch:
        patch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path / "house")])
        patch.setattr(registry, "_tables", {kind: dict(table) for kind, table in registry._tables.items()})
        importlib.invalidate_caches()
        try:
            yield tmp_path / "rows.numbers"
        finally:
            sys.modules.pop("scorefield.data.formats.numbers", None)
            vars(formats).pop("numbers", None)


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of every table of the registry."""
    monkeypatch.setattr(registry, "_tables", {kind: dict(table) for kind, table in registry._tables.items()})


def test_one_file_adds_a_format_to_what_is_opened_to_the_names_and_to_the_sentence_on_an_unknown_source(toy: Path) -> None:
    data = open_data(toy, DataConfig())
    assert (data.name, data.shape, len(data.train)) == ("numbers", (3,), 27)
    assert open_source(str(toy), DataConfig()).fingerprint == data.fingerprint
    assert "numbers" in registry.names("format")
    assert "a .numbers file" in known_formats()
    (toy.parent / "rows.numbres").write_text("1 2 3")
    with pytest.raises(ScorefieldError, match=r"rows\.numbres', expected a built-in source .* a \.numbers file: save"):
        open_data(toy.parent / "rows.numbres", DataConfig())
    with pytest.raises(
        ScorefieldError, match=r"expected a built-in source .*, or data that `scorefield list format` names: no"
    ):
        open_data("rows.numbres", DataConfig())


def test_a_format_is_gone_with_its_file() -> None:
    assert "numbers" not in registry.names("format")
    assert ".numbers" not in known_formats()


@pytest.mark.usefixtures("scratch")
def test_a_format_of_python_data_is_asked_before_sequences_take_what_is_left() -> None:
    class Ladder:
        def __len__(self) -> int:
            return 20

        def __getitem__(self, i: int) -> list[float]:
            return [float(i), float(i % 3)]

    assert open_data(Ladder(), DataConfig()).shape == (2,)

    @registry.register("format", "ladders")
    class Ladders(Format):
        """Ladders, read as one column."""

        description, takes = "a ladder", "data"

        def claims(self, source: Any) -> bool:
            return isinstance(source, Ladder)

        def read(self, source: Any, spec: Any) -> Any:
            return open_data(np.arange(20.0)[:, None], spec.config)

    assert open_data(Ladder(), DataConfig()).shape == (1,)
    assert "a ladder" in known_formats("data")


@each_case(name=registry.names("format"))
def test_every_format_declares_a_phrase_for_people_and_what_it_takes(name: str) -> None:
    form = registry.find("format", name)
    assert issubclass(form, Format) and form.__bases__ == (Format,)
    assert form.takes in ("path", "data")
    assert 0 < len(form.description) < 80 and not form.description.endswith(".")


def test_a_format_that_does_not_say_what_it_reads_cannot_be_made() -> None:
    both: dict[str, Any] = {"description": "a thing", "takes": "path", "claims": lambda *_: True, "read": lambda *_: None}
    assert type("Whole", (Format,), both)().claims("x")
    for missing in ("description", "takes"):
        with pytest.raises(TypeError, match="Broken declares no description"):
            type("Broken", (Format,), {key: value for key, value in both.items() if key != missing})
    for missing in ("claims", "read"):
        part = type("Broken", (Format,), {key: value for key, value in both.items() if key != missing})
        with pytest.raises(TypeError, match=f"abstract method '?{missing}"):
            part()


def test_shards_are_asked_before_folders_and_sequences_last() -> None:
    assert [form.priority for form in ordered("path")] == sorted(form.priority for form in ordered("path"))
    names = [registry.name_of("format", form) for form in ordered("path")]
    assert names.index("shards") < names.index("images")
    assert registry.name_of("format", ordered("data")[-1]) == "sequence"


def test_a_path_that_is_not_there_is_claimed_by_none_but_a_pattern_of_shards(tmp_path: Path) -> None:
    for name in ("x", "x.npy", "x.zip", "x.csv", "x.parquet", "x.tar"):
        assert not [form for form in ordered("path") if form.claims(str(tmp_path / name))], name


def test_the_descriptions_cost_no_torch() -> None:
    script = (
        "import sys; from scorefield.data import known_formats; print(known_formats(plugins=False)); "
        "print(*{name.split('.')[0] for name in sys.modules} & {'torch', 'numpy', 'pydantic', 'PIL', 'narwhals'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    phrase, loaded = done.stdout.split("\n")[:2]
    assert phrase == known_formats()
    assert "a folder or .zip of images, " in phrase and "a .npy or .npz file, " in phrase and ", or " in phrase
    assert loaded == ""
