"""Audio: clips come in and go out with their values, rate, depth and channels; what is of another rate or length is said."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers import each_case
from instrument_files import R, as_a_user, examples, opened, refusal, sent_back

RATE = 8000
DEPTHS = {"PCM_U8": 2**7, "PCM_16": 2**15, "PCM_24": 2**23, "PCM_32": 2**31, "FLOAT": None, "DOUBLE": None}


def folder(place: Path, clips: list[np.ndarray], *, depth: str = "PCM_16", ending: str = ".wav", rate: int = RATE) -> Path:
    """A folder with a file for each clip."""
    place.mkdir(exist_ok=True, parents=True)
    for number, clip in enumerate(clips):
        soundfile.write(place / f"c{number:02d}{ending}", clip, rate, subtype=depth)
    return place


def clips(*lengths: int, channels: int = 1) -> list[np.ndarray]:
    """Clips of these lengths that use the range to both its ends."""
    made = [R.uniform(-1, 1, (length, channels)).squeeze(1) if channels == 1 else R.uniform(-1, 1, (length, channels))
            for length in lengths]  # fmt: skip
    for one in made:
        one.reshape(-1)[:2] = -1.0, 1.0
    return made


@each_case(channels=[1, 2])
@each_case(depth=list(DEPTHS))
def test_a_clip_goes_out_with_the_values_rate_depth_and_channels_that_it_came_with(
    depth: str, channels: int, tmp_path: Path
) -> None:
    source = folder(tmp_path / "in", clips(*[64] * 9, channels=channels), depth=depth)
    data = opened(source)
    assert (data.kind, data.shape) == ("signal", (channels, 64))
    for came, path in sent_back(data, tmp_path / "out", ".wav").items():
        old, new = soundfile.info(source / came), soundfile.info(path)
        assert (new.samplerate, new.subtype, new.channels, new.frames) == (RATE, depth, channels, 64) == (
            old.samplerate, old.subtype, old.channels, old.frames,
        )  # fmt: skip
        levels = DEPTHS[depth]
        a, b = soundfile.read(source / came)[0], soundfile.read(path)[0]
        exact = levels is not None and levels <= 2**15  # model space is float32
        assert np.abs(a - b).max() <= (0 if exact else 4 * np.finfo("f4").eps)


def test_all_numbers_of_16_bits_come_back_themselves(tmp_path: Path) -> None:
    """Model space may move a value by a rounding: writing must round to the nearest step, and not down, as the library does."""
    every = np.arange(-(2**15), 2**15).astype("i2")
    source = folder(tmp_path / "in", [R.permutation(every) for _ in range(8)])
    for came, path in sent_back(opened(source), tmp_path / "out", ".wav").items():
        assert np.array_equal(soundfile.read(path, dtype="int16")[0], soundfile.read(source / came, dtype="int16")[0])


def test_flac_is_read_and_written_without_loss(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", clips(*[64] * 8, channels=2), ending=".flac")
    for came, path in sent_back(opened(source), tmp_path / "out", ".flac").items():
        assert soundfile.info(path).format == "FLAC"
        assert np.array_equal(soundfile.read(path)[0], soundfile.read(source / came)[0])


def test_what_leaves_the_range_is_clipped_where_the_files_hold_integers_and_kept_where_they_hold_floats(tmp_path: Path) -> None:
    from scorefield.data.formats import writers

    loud = np.array([1.5, -1.5, 0.25], "f4")
    for depth, wanted in (("PCM_16", [32767 / 32768, -1.0, 0.25]), ("FLOAT", [1.5, -1.5, 0.25])):
        data = opened(folder(tmp_path / depth, clips(*[3] * 8), depth=depth), axes="t")
        writers("signal")[".wav"].write(str(tmp_path / f"{depth}.wav"), loud, data.layout)
        assert soundfile.read(tmp_path / f"{depth}.wav")[0].tolist() == wanted


def test_clips_of_almost_one_length_are_cut_to_the_shortest(tmp_path: Path) -> None:
    data = opened(folder(tmp_path / "in", clips(*range(100, 109))))
    assert data.shape == (1, 100)
    assert any(note.startswith("Clips of 100 to 108 samples were cut to the shortest") for note in data.notes)
    for name, one in zip(data.names, examples(data), strict=True):
        assert np.abs(one - soundfile.read(tmp_path / "in" / name)[0][:100]).max() <= 2 * np.finfo("f4").eps


def test_clips_of_unlike_lengths_are_asked_for_windows(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", clips(50, 200, 1030, 400, 300, 500, 700, 200, 800))
    asked = refusal(place)
    assert "got clips of 50 to 1,030 samples at 8,000 Hz" in asked
    assert "--set data.shape=[400]" in asked
    data = opened(place, shape=(100,))
    assert len(data.train) + len(data.held_out) == 2 + 10 + 4 + 3 + 5 + 7 + 2 + 8
    assert [issue.where for issue in data.issues] == ["c00.wav"]
    for name, window in zip(data.names, examples(data), strict=True):
        start = 100 * int(name.partition("[")[2][:-1])
        whole = soundfile.read(place / name.partition("[")[0])[0]
        assert np.abs(window - whole[start : start + 100]).max() <= 2 * np.finfo("f4").eps


def test_a_single_recording_is_asked_for_windows(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", clips(10_000)) / "c00.wav"
    assert "got one recording of 10,000 samples at 8,000 Hz in 'c00.wav'" in refusal(place)
    assert "--set data.shape=[1000] cuts it into windows of 0.125 s" in refusal(place)
    assert len(opened(place, shape=(1000,)).train) == 9


def test_clips_of_another_rate_are_left_out_and_named_and_without_a_common_rate_all_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", clips(*[64] * 9))
    soundfile.write(place / "x.wav", clips(64)[0], 44_100)
    (issue,) = opened(place).issues
    assert issue.where == "x.wav"
    assert "rate 44100" in issue.cause
    assert "rate 8000" in issue.cause
    for number in range(10):
        soundfile.write(place / f"y{number}.wav", clips(64)[0], 44_100 if number else 16_000)
    assert "expected one" in refusal(place)


def test_folders_are_labels(tmp_path: Path) -> None:
    folder(tmp_path / "in" / "yes", clips(*[64] * 6))
    folder(tmp_path / "in" / "no", clips(*[64] * 6))
    data = opened(tmp_path / "in")
    assert data.classes == ("no", "yes")
    assert [data.classes[int(label)] for label in data.labels] == [
        name.partition("/")[0] for name in data.names[: len(data.train)]
    ]


def test_each_broken_file_is_named_with_its_cause_and_the_others_are_used(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", clips(*[640] * 9))
    soundfile.write(place / "long.flac", clips(6400)[0], RATE)
    soundfile.write(place / "cut.flac", clips(640)[0], RATE)
    (place / "cut.flac").write_bytes((place / "cut.flac").read_bytes()[:1000])
    whole = (place / "c00.wav").read_bytes()
    (place / "cut.wav").write_bytes(whole[:700])
    (place / "empty.wav").write_bytes(b"")
    (place / "text.wav").write_bytes(b"no sound at all")
    soundfile.write(place / "silent.wav", np.zeros(0), RATE)
    found = {issue.where: issue.cause for issue in opened(place).issues}
    causes = {
        "long.flac": "of 6,400 samples, most files have 640",
        "cut.flac": "",
        "cut.wav": "truncated: its header states 1,324 bytes, there are 700",
        "empty.wav": "empty",
        "text.wav": "no whole sound file: Format not recognised",
        "silent.wav": "without a sound",
    }
    assert found.keys() == causes.keys()
    assert all(part in found[name] for name, part in causes.items()), found


def test_a_flac_that_promises_more_samples_than_can_be_is_not_read(tmp_path: Path) -> None:
    place = folder(tmp_path / "in", clips(*[640] * 9), ending=".flac")
    lying = bytearray((place / "c00.flac").read_bytes())
    lying[21] |= 0x0F  # of the 36 bits of the number of samples
    (place / "lying.flac").write_bytes(lying)
    (issue,) = opened(place).issues
    assert issue.where == "lying.flac"
    assert "GiB, more than the 8 that are read" in issue.cause


def test_a_person_gets_clips_back_by_three_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "in", clips(*[64] * 12, channels=2))
    paths = as_a_user(source, tmp_path, capsys, "signal")
    assert [path.name for path in paths] == ["00000.wav", "00001.wav"]
    new = soundfile.info(paths[0])
    assert (new.samplerate, new.subtype, new.channels, new.frames) == (RATE, "PCM_16", 2, 64)
