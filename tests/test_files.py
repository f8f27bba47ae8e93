"""Files: written whole or not at all, readable by whom the umask says, and never over something unasked."""

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from scorefield import ScorefieldError, files


def _names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_holds_exactly_what_was_written_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    content = bytes(range(256)) * 100 + b"\r\n\n\x00"
    files.write(tmp_path / "model.bin", content)
    assert (tmp_path / "model.bin").read_bytes() == content
    files.write(tmp_path / "model.bin", b"")
    assert (tmp_path / "model.bin").read_bytes() == b""
    assert _names(tmp_path) == ["model.bin"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"])
@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("old", [b"old", None], ids=["over an old file", "a new file"])
def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, monkeypatch, call, fault, old) -> None:
    path = tmp_path / "config.json"
    if old is not None:
        path.write_bytes(old)

    def fail(*_args: object, **_named: object) -> None:
        raise fault

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(fault)):
        files.write(path, b"new")
    monkeypatch.undo()
    assert _names(tmp_path) == ([] if old is None else ["config.json"])
    assert old is None or path.read_bytes() == old


def test_at_the_time_of_renaming_the_new_file_is_whole_and_flushed_and_the_old_one_untouched(tmp_path, monkeypatch) -> None:
    path, replace, fsync = tmp_path / "weights", os.replace, os.fsync
    path.write_bytes(b"old")
    events: list[object] = []

    def watched_fsync(handle: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else os.fstat(handle).st_size)
        fsync(handle)

    def watched_replace(source: str, target: Path) -> None:
        events.append((Path(source).read_bytes(), Path(source).parent == tmp_path, path.read_bytes()))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    files.write(path, b"new content")
    assert events == [len(b"new content"), (b"new content", True, b"old"), "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o000])
def test_a_file_gets_the_permissions_that_the_umask_leaves(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        files.write(tmp_path / "file", b"content")
        assert os.umask(umask) == umask  # and the umask is as it was
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_the_umask_of_the_process_is_never_touched_since_other_threads_write_files_too(tmp_path, monkeypatch) -> None:
    def refuse(_mask: int) -> int:
        raise AssertionError("for a moment, every file of every thread would be open to everybody")

    monkeypatch.setattr(os, "umask", refuse)
    files.write(tmp_path / "file", b"content")


def test_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        files.write(tmp_path / "nowhere" / "file", b"content")
    assert _names(tmp_path) == []


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    files.write(tmp_path / name, b"content")
    assert _names(tmp_path) == [name]


def test_json_comes_back_as_it_was_and_people_can_read_it(tmp_path: Path) -> None:
    value = {"eps": 2e-5, "name": "Schrödinger ✓", "levels": [1, None, True, 0.1 + 0.2], "nested": {"a": {}}}
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == value
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "Schrödinger ✓" in text and text.endswith("}\n") and "\r" not in text


def test_json_has_no_nan_so_none_is_written(tmp_path: Path) -> None:
    """`NaN` is no JSON: other programs refuse the whole file."""
    for number in (float("nan"), float("inf")):
        with pytest.raises(ValueError):
            files.write_json(tmp_path / "a.json", {"loss": number})
    assert _names(tmp_path) == []


DAMAGED = [b"", b"{", b'{"a": 1} trailing', b"\xff\xfe", b"[1, 2,]", b"\x00" * 10]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_json_is_refused_with_one_sentence_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ScorefieldError, match=r"got a damaged .*manifest\.json .*, expected JSON: ") as refusal:
        files.read_json(path)
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == content


def test_missing_json_and_a_folder_in_its_place_are_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ScorefieldError, match=r"got no file .*config\.json, expected the folder of a run: check the path"):
        files.read_json(tmp_path / "config.json")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(ScorefieldError, match=r"config\.json") as refusal:
        files.read_json(tmp_path / "config.json")
    assert "\n" not in str(refusal.value)


def test_a_digest_is_the_sha256_of_the_bytes() -> None:
    """The test vectors of FIPS 180-4: the empty message and "abc"."""
    assert files.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert files.digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.digest(b"\x00" * 1000) == hashlib.new("sha256", bytes(1000)).hexdigest()


def test_a_file_is_not_written_over_unless_forced_and_a_folder_never(tmp_path: Path) -> None:
    path = tmp_path / "out"
    files.refuse_existing(path, force=False)
    path.write_bytes(b"precious")
    with pytest.raises(ScorefieldError, match=r"got --out .*out, where there is a file already, .* or add --force"):
        files.refuse_existing(path, force=False)
    files.refuse_existing(path, force=True)
    assert path.read_bytes() == b"precious"
    path.unlink()
    path.mkdir()
    for force in (False, True):
        with pytest.raises(ScorefieldError, match=r"got --html .*out, where there is a folder already, .*: choose another$"):
            files.refuse_existing(path, force, option="--html")


@pytest.mark.parametrize(
    "name", ["config.json", "manifest.json", "model.safetensors", "checkpoints/step-00000001/ema.safetensors"]
)
def test_what_a_run_cannot_do_without_is_not_written_over_even_if_forced(tmp_path: Path, name: str) -> None:
    for part in ("config.json", "manifest.json", "model.safetensors", "checkpoints/step-00000001/ema.safetensors", "mine.png"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).write_bytes(b"{}")
    os.link(tmp_path / name, tmp_path / "another-name")  # as a file system that ignores case would spell it
    for path in (tmp_path / name, tmp_path / "checkpoints" / ".." / name, tmp_path / "another-name"):
        if name.startswith("checkpoints") and path.name == "another-name":
            continue
        with pytest.raises(ScorefieldError, match=r"which the run .* needs"):
            files.refuse_existing(path, force=True)
    files.refuse_existing(tmp_path / "mine.png", force=True)
    (tmp_path / "manifest.json").unlink()  # a folder of other things, that happen to be called so
    files.refuse_existing(tmp_path / "config.json", force=True)


class _Faulty:
    """The system's calls on names, of which the one with a given number fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail: int, error: BaseException) -> None:
        self.count, self.fail, self.error = 0, fail, error
        for call in ("replace", "link", "unlink", "fsync", "open"):
            monkeypatch.setattr(os, call, self.counted(getattr(os, call)))

    def counted(self, call):
        def wrapped(*given: object, **named: object) -> object:
            self.count += 1
            if self.count == self.fail:
                raise self.error
            return call(*given, **named)

        return wrapped


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["disk full", "ctrl-c"])
def test_files_that_are_written_together_are_all_there_or_none_whichever_call_of_the_system_fails(tmp_path, error) -> None:
    """Two old files and two new ones, with a fault at the first call, the second, and so on to the last."""
    old, new = {"a": b"old a", "c": b"old c"}, {"a": b"new a", "b": b"new b", "c": b"new c", "d": b"new d"}
    seen = set()
    for fail in range(1, 60):
        folder = tmp_path / str(fail)
        folder.mkdir()
        for name, content in old.items():
            (folder / name).write_bytes(content)
        with pytest.MonkeyPatch.context() as monkeypatch:
            faulty = _Faulty(monkeypatch, fail, error)
            try:
                with files.together():
                    for name, content in new.items():
                        files.write(folder / name, content)
                failed = False
            except type(error):
                failed = True
        found = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".partial")}
        assert found == (old if failed else new) or (isinstance(error, KeyboardInterrupt) and found == new), fail
        seen.add(failed)
        if faulty.count < fail:
            assert _names(folder) == sorted(new)  # no call failed: nothing lies beside
            break
    assert seen == {True, False}


def test_a_file_system_without_hard_links_puts_the_old_files_back_too(tmp_path, monkeypatch) -> None:
    (tmp_path / "a").write_bytes(b"old a")
    replace = os.replace

    def no_link(*_given: object) -> None:
        raise OSError(1, "Operation not permitted")

    def only_to_a(source: Path, target: Path) -> None:
        if target.name == "b":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(os, "replace", only_to_a)
    with pytest.raises(OSError, match="Input/output error"), files.together():
        files.write(tmp_path / "a", b"new a")
        files.write(tmp_path / "b", b"new b")
    assert (_names(tmp_path), (tmp_path / "a").read_bytes()) == (["a"], b"old a")


def test_a_stream_takes_its_place_when_all_is_written_and_is_gone_when_anything_fails(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"old")
    with files.writing(path) as stream:
        stream.write(b"one")
        assert path.read_bytes() == b"old"
        stream.write(b"two")
    assert path.read_bytes() == b"onetwo"
    with pytest.raises(KeyboardInterrupt), files.writing(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert (_names(tmp_path), path.read_bytes()) == (["rows"], b"onetwo")


def test_a_full_disk_is_reported_with_the_name_of_the_file(tmp_path, monkeypatch) -> None:
    def full(*_given: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for how in ("write", "writing"):
        with pytest.raises(OSError, match=r"No space left on device: '.*report\.json'"):
            if how == "write":
                files.write(tmp_path / "report.json", b"{}")
            else:
                with files.writing(tmp_path / "report.json") as stream:
                    stream.write(b"{}")
    assert _names(tmp_path) == []


def test_whether_a_folder_can_be_written_is_found_by_writing_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_bytes(b"")
    assert files.can_write(tmp_path)
    assert not files.can_write(tmp_path / "none")
    assert not files.can_write(tmp_path / "a file")

    def full(handle: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert not files.can_write(tmp_path)
    monkeypatch.undo()

    def sealed(path: object, *_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", sealed)
    assert not files.can_write(tmp_path)
    assert _names(tmp_path) == ["a file"]
