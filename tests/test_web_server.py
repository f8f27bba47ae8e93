"""The page's server: only this machine asks, only runs and uploads are read, jobs end, and nothing differs from the command."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import pickle
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import command, contents, small_evaluations
from PIL import Image
from web_server import FORKED, OWNER, Server, serving

from scorefield import ScorefieldError, app
from scorefield.web import forms, guard, refusals
from scorefield.web.places import Places

TINY = ("network.width=16", "network.depth=1", "training.batch=32", "training.precision=float32", "training.pictures=0")
SMALL = (
    *("network.channels=8,16", "network.blocks=1", "training.batch=16"),
    *("training.precision=float32", "training.pictures=0", "training.ema=0.999"),
)
ROWS = (f"{3 * math.sin(1.7 * i):.4f},{math.cos(0.9 * i) + i / 300:.4f},{'ab'[i % 2]}\n" for i in range(400))
TABLE = "x,y,kind\n" + "".join(ROWS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs' folder with a run of digits that has learned next to nothing, and data to learn from."""
    folder = tmp_path_factory.mktemp("web") / "runs"
    app.train("digits", out=folder / "digits", steps=8, settings=SMALL)
    (folder / "data").mkdir()
    (folder / "data" / "table.csv").write_text(TABLE)
    (folder.parent / "secret.csv").write_text(TABLE)
    (folder / "data" / "link.csv").symlink_to(folder.parent / "secret.csv")
    return folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root) as running:
        yield running


def png(shade: int = 128, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size), shade, dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


# --- who may ask --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""]
)
def test_a_forged_host_is_refused(server: Server, host: str) -> None:
    status, _, body = server.ask("GET", "/api/runs", headers={"Host": host.format(port=server.port)})
    assert status == 400
    assert server.host in json.loads(body)["error"]


@pytest.mark.parametrize("path", ["/api/jobs", "/api/uploads?name=a.png&owner=" + OWNER, "/api/fields/digits?level=1"])
@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"}],
)
def test_a_post_from_another_site_is_refused(server: Server, path: str, headers: dict[str, str]) -> None:
    assert server.ask("POST", path, b"{}", headers)[0] == 403


def test_the_page_itself_may_ask_and_a_link_from_elsewhere_opens_it(server: Server) -> None:
    assert server.ask("GET", "/api/runs", headers={"Origin": server.url, "Sec-Fetch-Site": "same-origin"})[0] == 200
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.ask("GET", "/runs", headers=linked)[0] == 200


def handshake(server: Server, **headers: str) -> tuple[socket.socket, int]:
    """Ask for a WebSocket, and return the connection and the status of the answer."""
    sent = {"Host": server.host, "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    sent |= {"Sec-WebSocket-Key": base64.b64encode(b"0123456789abcdef").decode()} | headers
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    lines = [f"GET /ws?owner={OWNER} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    return connection, int(answer.split()[1])


def messages(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield (kind, content) of what comes through a WebSocket: kind 1 is text, 2 is bytes."""
    stream = connection.makefile("rb")
    while True:
        first, second = stream.read(2)
        length = second & 127
        if length > 125:
            length = int.from_bytes(stream.read(2 if length == 126 else 8), "big")
        yield first & 15, stream.read(length)


def test_a_websocket_from_another_site_is_refused(server: Server) -> None:
    for wrong in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        connection, status = handshake(server, **wrong)
        connection.close()
        assert status == 403
    connection, status = handshake(server, Origin=server.url)
    connection.close()
    assert status == 101


def test_a_body_above_20_megabytes_is_refused_whether_it_says_its_length_or_not(server: Server) -> None:
    path = f"/api/uploads?name=large.npy&owner={OWNER}"
    assert server.ask("POST", path, b"", {"Content-Length": str(20 * 2**20 + 1)})[0] == 413
    chunk = b"0" * 2**20
    assert server.ask("POST", path, iter([chunk] * 21))[0] == 413
    assert server.ask("POST", path, iter([chunk] * 20))[0] == 200


def test_every_answer_forbids_the_browser_to_ask_anyone_else(server: Server) -> None:
    for path in ("/field", "/api/runs", "/static/style.css", "/nothing", "/api/runs/none"):
        _, headers, _ = server.ask("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "http" not in policy and "*" not in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


# --- what may be read -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret.csv", "data/../../secret.csv", "/etc/passwd", "data/link.csv", "%2e%2e/secret.csv", "..%2fsecret.csv"]
)
def test_nothing_outside_the_runs_folder_is_read(server: Server, root: Path, name: str) -> None:
    from urllib.parse import unquote

    asked = {"verb": "plan", "arguments": {"source": unquote(name)}, "owner": OWNER}
    status, _, body = server.ask("POST", "/api/jobs", asked)
    assert (status, json.loads(body)["field"]) == (400, "source") if "link" not in name else status == 400
    status, _, body = server.ask("GET", f"/api/runs/digits/files/{name}")
    assert status in (400, 404) and TABLE[:40].encode() not in body and b"root:" not in body
    assert server.ask("GET", f"/static/{name}")[0] in (404, 400, 405)


def test_a_path_of_the_server_inside_an_operator_or_a_run_is_refused(server: Server, root: Path) -> None:
    for operator in (f"mask:{root.parent}/secret.csv", "blur:../secret.csv", "mask:secret.png", "blur:1,mask:~/a.npy"):
        asked = {"run": "digits", "source": "held-out:0", "operator": operator}
        status, _, body = server.ask("POST", "/api/jobs", {"verb": "restore", "arguments": asked, "owner": OWNER})
        assert (status, json.loads(body)["field"]) == (400, "operator"), body
    for run in ("../runs/digits", str(root / "digits"), "", None, 3, "digit"):
        asked = {"verb": "sample", "arguments": {"run": run}, "owner": OWNER}
        assert server.ask("POST", "/api/jobs", asked)[0] in (400, 404)


def test_names_of_uploads_never_leave_their_folder(tmp_path: Path) -> None:
    places = Places(tmp_path / "runs", tmp_path)
    for name in ("../../a.png", "..\\a.png", "/etc/a.png", "a/../../b.png", ".hidden.png", "a b;c.png"):
        shown, path = places.new_upload(name)
        assert path.parent.parent == tmp_path / "uploads", name
        path.write_bytes(b"1")
        assert places.upload(shown) == path
    for name in ("", "..", "/", "..."):
        with pytest.raises(ScorefieldError, match="rename"):
            places.new_upload(name)
    with pytest.raises(ScorefieldError):
        places.upload("upload:../runs/config.json")


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_nothing_that_is_uploaded_is_unpickled(server: Server, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Trap(str(touched))] * 4, dtype=object), allow_pickle=True)
    for name, content in (
        ("a.npy", buffer.getvalue()),
        ("a.pkl", pickle.dumps(Trap(str(touched)))),
        ("a.pt", buffer.getvalue()),
    ):
        job = server.do("plan", source=server.upload(name, content))
        assert job["state"] == "failed" and "expected" in job["error"], job
        assert not touched.exists()


# --- jobs ---------------------------------------------------------------------------------------------------------------


def test_eight_jobs_wait_and_the_next_is_refused_with_a_reason(server: Server) -> None:
    first = server.start("sample", run="digits", n=2000, steps=500)
    waiting = [server.start("sample", run="digits", n=4, seed=seed) for seed in range(8)]
    asked = {"verb": "sample", "arguments": {"run": "digits", "n": 4}, "owner": OWNER}
    status, _, body = server.ask("POST", "/api/jobs", asked)
    assert status == 503 and "8 wait" in json.loads(body)["error"]
    assert [server.json("GET", f"/api/jobs/{job['id']}")["place"] for job in waiting] == list(range(1, 9))
    for job in waiting[:7]:
        assert server.json("DELETE", f"/api/jobs/{job['id']}")["state"] == "cancelled"
    server.json("DELETE", f"/api/jobs/{first['id']}")
    assert server.wait(first)["state"] == "cancelled"
    assert server.wait(waiting[7])["state"] == "done"


def test_200_requests_at_8_at_once_are_answered_while_samples_are_drawn(server: Server) -> None:
    job = server.start("sample", run="digits", n=2000, steps=200)
    server.wait(job, "running")
    paths = ["/api/health", "/api/runs", "/api/runs/digits", "/field", "/api/runs/digits/held-out/3.png"]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: server.ask("GET", paths[i % 5])[0], range(200)))
    assert answers == [200] * 200
    server.json("DELETE", f"/api/jobs/{job['id']}")
    server.wait(job)


def test_what_a_page_may_ask_for_is_bounded(server: Server) -> None:
    for verb, wrong in (
        ("sample", {"n": 10**6}),
        ("sample", {"steps": 10**6}),
        ("restore", {"samples": 1000}),
        ("plan", {"size": 10**4}),
    ):
        asked = {"verb": verb, "arguments": {"run": "digits", "source": "digits", "operator": "mask"} | wrong, "owner": OWNER}
        status, _, body = server.ask("POST", "/api/jobs", asked)
        assert (status, json.loads(body)["field"]) == (400, next(iter(wrong)))


def test_a_page_sees_every_job_of_its_own_and_the_frames_end_with_the_samples(server: Server) -> None:
    connection, status = handshake(server, Origin=server.url)
    assert status == 101
    job = server.start("sample", run="digits", n=5, steps=6, out="five.npz")
    frames, states = list[tuple[dict[str, Any], bytes]](), list[str]()
    for kind, content in messages(connection):
        if kind == 2:
            (length,) = struct.unpack_from("<I", content)
            frames.append((json.loads(content[4 : 4 + length]), content[4 + length :]))
        elif (message := json.loads(content))["type"] == "job" and message["job"]["id"] == job["id"]:
            states.append(message["job"]["state"])
            if states[-1] == "done":
                break
    connection.close()
    head, pixels = frames[-1]
    assert head["shape"] == [5, 8, 8, 1] and head["step"] == head["steps"]
    (drawn,) = (array for name, array in np.load(io.BytesIO(server.file(server.wait(job)))).items() if array.ndim > 2)
    # The data's 17 levels, 0 to 16, are shown from black, 0, to white, 255.
    shown = np.frombuffer(pixels, dtype=np.uint8).reshape(5, 8, 8)
    assert np.abs(shown / 255 * 16 - drawn.reshape(5, 8, 8)).max() <= 0.5 + 16 / 255


def test_a_killed_server_loses_nothing_of_a_training(server: Server, root: Path, tmp_path: Path) -> None:
    """Another server on the same runs goes on with it."""
    asked = {"steps": 240, "settings": [*TINY]}
    killed, run = Server(root), root / "killed"
    job = killed.start("train", source="data/table.csv", out="killed", **asked)
    end = time.monotonic() + 240
    while time.monotonic() < end and (killed.json("GET", f"/api/jobs/{job['id']}")["fraction"] or 0) < 0.1:
        time.sleep(0.05)
    killed.end(signal.SIGKILL)
    while time.monotonic() < end and not list(run.glob("checkpoints/step-*")):
        time.sleep(0.05)  # the worker saves the state after its step, and ends
    assert list(run.glob("checkpoints/step-*"))
    status = 400
    while time.monotonic() < end and status != 202:
        body = {"verb": "train", "arguments": {"out": "killed", "resume": True}, "owner": OWNER}
        status, _, answer = server.ask("POST", "/api/jobs", body)
    job = server.wait(json.loads(answer))
    if job["state"] == "failed" and "training now" in job["error"]:  # the old worker was still saving
        time.sleep(2)
        job = server.do("train", out="killed", resume=True)
    assert job["state"] == "done", job
    app.train(root / "data" / "table.csv", out=tmp_path / "whole", **asked)
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_jobs_end_when_their_owner_leaves_but_a_training_may_stay(root: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(root / "digits", runs / "digits")
    with serving(runs, before=f"{FORKED}from scorefield.web import jobs; jobs.GRACE = jobs.SWEEP = 0.2") as server:
        drawing = server.start("sample", "the-first-owner", run="digits", n=5000, steps=2000)
        staying = server.start("train", "another-owner", True, source="digits", out="stays", seconds=100, settings=[*SMALL])
        training = server.start("train", "the-first-owner", source="digits", out="away", seconds=100, settings=[*SMALL])
        assert (training["state"], training["place"]) == ("waiting", 1)
        end, states = time.monotonic() + 240, list[str]()
        while time.monotonic() < end and states != ["cancelled", "running", "cancelled"]:
            time.sleep(0.6)  # as long as the server looks away, and then some: who asks is there
            states = [server.json("GET", f"/api/jobs/{job['id']}")["state"] for job in (drawing, staying, training)]
        assert states == ["cancelled", "running", "cancelled"] and not (runs / "away").exists()
        server.json("DELETE", f"/api/jobs/{staying['id']}")
        assert server.wait(staying)["state"] == "cancelled"


HOLD = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from scorefield.web.serve import temporary_folder
with temporary_folder() as folder:
    (folder / "upload.png").write_bytes(b"1")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_is_temporary_is_removed_at_the_end_and_after_a_kill_by_the_next_server(tmp_path: Path) -> None:
    def begin() -> tuple[subprocess.Popen[str], Path]:
        command = [sys.executable, "-c", HOLD, str(tmp_path)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    first, kept = begin()
    second, own = begin()
    assert (kept / "upload.png").exists() and (own / "upload.png").exists()  # neither removes that of a server that lives
    first.kill()
    first.communicate()
    third, _ = begin()
    assert not kept.exists() and (own / "upload.png").exists()
    for process in (second, third):
        process.communicate("")
    assert not list(tmp_path.glob("scorefield-serve-*"))


def test_a_job_that_fails_shows_the_commands_own_sentence_beside_the_field(
    server: Server, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [
        ("sample", {"run": "digits", "sampler": "heum"}, "sampler", "did you mean 'heun'"),
        ("sample", {"run": "digits", "steps": 0}, "steps", "at least 1"),
        ("sample", {"run": "digits", "n": 0}, "n", "at least 1"),
        ("sample", {"run": "digits", "label": "ten"}, "label", "unknown class"),
        ("sample", {"run": "digits", "guidance_interval": "1,2"}, "guidance_interval", "without guidance"),
        ("sample", {"run": "digits", "out": "a.xyz"}, "out", "expected"),
        ("train", {"source": "digits", "out": "digits"}, "out", "expected"),
        ("evaluate", {"run": "digits", "n": 3}, "n", "at least"),
        ("denoise", {"run": "digits", "source": "data/noisy.png", "sigma": "-1"}, "sigma", "expected"),
        ("restore", {"run": "digits", "source": "data/noisy.png", "operator": "blurr:1"}, "operator", "did you mean 'blur'"),
    ]
    (root / "data" / "noisy.png").write_bytes(png())
    inside = contents(root)
    for verb, given, field, words in wrong:
        job = server.do(verb, **given)
        assert job["state"] == "failed" and words in job["error"], (verb, given, job)
        assert job["field"] == field, (verb, given, job["field"], job["error"])
        line = job["command"].replace("runs/", f"{root}/")
        assert command(*shlex.split(line)[1:]) == 2
        # Paths differ in how they are written, nothing else.
        said = capsys.readouterr().err.replace("\n", " ")
        assert _plain(job["error"], root) in _plain(said, root), line
    assert contents(root) == inside


def test_the_commands_sentence_about_a_training_is_shown_beside_the_field(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [one.name for one in forms.fields_of("train")]
    for flag, value, field, words in (
        ("--recipe", "ncns", "recipe", "did you mean 'ncsn'"),
        ("--time", "3 parsecs", "seconds", "expected a duration"),
        ("--set", "training.bath=3", "settings", "did you mean"),
    ):
        assert command("train", "digits", "--out", root / "new", flag, value) == 2
        said = " ".join(capsys.readouterr().err.split()).removeprefix("scorefield: ")
        assert words in said and refusals.field_of(said, names) == field, said
    assert not (root / "new").exists()


def _plain(text: str, root: Path) -> str:
    return re.sub(r"\S*scorefield-serve-\w+/jobs/[\w-]+/|" + re.escape(f"{root}/"), "", " ".join(text.split()))


# --- the same as the command ---------------------------------------------------------------------------------------------


def test_a_question_that_is_refused_is_answered_with_its_sentence(server: Server) -> None:
    for method, path, body, sentence in (
        ("POST", "/api/fields/digits?level=1", b"12345678", "expected points of the plane"),
        ("GET", "/api/runs/digits/held-out/99999.png", None, "got held-out:99999 for digits"),
    ):
        status, _, answer = server.ask(method, path, body, {"Origin": server.url})
        assert status == 400 and sentence in json.loads(answer)["error"]


def test_the_forms_are_those_of_the_command(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    shown = server.json("GET", "/api/forms")
    for verb, form in shown.items():
        assert command(verb, "--help") == 0
        text = " ".join(capsys.readouterr().out.split())
        for field in form["fields"]:
            assert field["help"], (verb, field["name"])
            flag = refusals.FLAGS.get(field["name"], "--" + field["name"].replace("_", "-"))
            if not field["required"] and (verb, field["name"]) not in NO_FLAG:
                assert flag in text, (verb, flag)


NO_FLAG = {("plan", "out"), ("verify", "run")}  # --json, and the page shows the plan; a word without a flag

SAME = [
    ("sample", {"run": "digits", "n": 5, "seed": 3, "out": "grid.png", "gif": True}),
    ("sample", {"run": "digits", "n": 5, "steps": 4, "sampler": "heun", "out": "five.npz"}),
    ("denoise", {"run": "digits", "source": "noisy.png", "sigma": "2", "samples": 2}),
    ("restore", {"run": "digits", "source": "noisy.png", "operator": "mask:hole.png", "samples": 2, "noise": "1"}),
    ("interpolate", {"run": "digits", "a": 1, "b": 2, "frames": 3}),
]


@pytest.mark.parametrize(("verb", "asked"), SAME, ids=[f"{verb}-{asked.get('out', '')}" for verb, asked in SAME])
def test_page_and_command_give_the_same_bytes(server: Server, root: Path, tmp_path: Path, verb: str, asked: Any) -> None:
    hole = np.zeros((8, 8), dtype=np.uint8)
    hole[2:5, 2:6] = 255
    buffer = io.BytesIO()
    Image.fromarray(hole).save(buffer, "png")
    given = {"noisy.png": png(90), "hole.png": buffer.getvalue()}
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    names = {name: server.upload(name, content) for name, content in given.items()}
    job = server.do(verb, **{key: _renamed(value, names) for key, value in asked.items()})
    assert job["state"] == "done", job
    line = job["command"].replace("runs/", f"{root}/")
    words = [_renamed(word, {name: str(tmp_path / name) for name in given}) for word in shlex.split(line)[1:]]
    words = [word for word in words if word not in ("--out", asked.get("out"))]
    out = tmp_path / (asked.get("out") or "answer")
    assert command(*words, "--out", out) == 0
    ours = (
        contents(out) if out.is_dir() else {one.name: one.read_bytes() for one in tmp_path.iterdir() if one.name not in given}
    )
    theirs = {one["name"].removeprefix("answer/"): server.file(job, one["name"]) for one in job["files"]}
    assert ours.keys() == theirs.keys()
    assert all(ours[name] == theirs[name] for name in ours if not name.endswith(".json")), verb
    for name in (name for name in ours if name.endswith(".json")):
        said = [re.sub(rb"/[\w./-]+/hole", b"hole", content) for content in (ours[name], theirs[name])]
        assert json.loads(said[0]) == json.loads(said[1])


def _renamed(value: Any, names: dict[str, str]) -> Any:
    for name, other in names.items():
        value = value.replace(name, other) if isinstance(value, str) else value
    return value


@pytest.mark.usefixtures("whole_curves")
def test_page_and_command_leave_the_same_run_and_the_same_figures(
    server: Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_evaluations(monkeypatch)  # as those of the server are
    asked = {"source": "data/table.csv", "steps": 20, "seed": 4, "settings": [*TINY[:-1], "training.pictures=1"]}
    trained = server.do("train", out="table", **asked)
    assert trained["state"] == "done", trained
    assert trained["plan"]["kind"] == "table" and trained["plan"]["training"] + trained["plan"]["held_out"] == 400
    here = tmp_path / "runs"
    here.mkdir()
    line = trained["command"].replace("runs/data", f"{root}/data").replace("runs/table", f"{here}/table")
    assert command(*shlex.split(line)[1:]) == 0
    ours, theirs = contents(here / "table"), contents(root / "table")
    assert ours.keys() == theirs.keys()
    same = [name for name in ours if name.endswith((".safetensors", ".png", "config.json", "levels.json"))]
    assert len(same) > 4
    assert [name for name in same if ours[name] != theirs[name] and "checkpoints" not in name] == []
    for verb, more in (
        ("evaluate", {"n": 40, "features": "identity"}),
        ("tune", {"n": 64, "samplers": ["heun"], "evaluations": [5], "seconds": 20}),
        ("likelihood", {"n": 4}),
    ):
        job = server.do(verb, run="table", **more)
        assert job["state"] == "done", job
        report = app.__dict__[verb](here / "table", **more)
        values = json.loads(json.dumps(report.to_dict()))
        assert _untimed(values) == _untimed(job["report"]), verb
    _same_tables(server, here / "table", tmp_path)


def _same_tables(server: Server, run: Path, folder: Path) -> None:
    """Page and command fill the same holes, and find the same rows odd."""
    holes = folder / "holes.csv"
    holes.write_text("x,y,kind\n0.5,,a\n,-0.25,b\n1.0,0.75,\n90.0,-80.0,a\n")
    upload = server.upload("holes.csv", holes.read_bytes())
    filled = server.do("impute", run="table", source=upload, draws=2, seed=5)
    assert command("impute", run, holes, "--draws", 2, "--seed", 5, "--out", folder / "filled.csv") == 0
    assert {one["name"] for one in filled["files"]} == {"filled.csv", "filled-intervals.csv"}, filled
    assert all(server.file(filled, one["name"]) == (folder / one["name"]).read_bytes() for one in filled["files"])
    whole = folder / "whole.csv"
    whole.write_text("x,y,kind\n0.5,0.5,a\n1.0,0.75,b\n90.0,-80.0,a\n")
    odd = server.do("odd", run="table", source=server.upload("whole.csv", whole.read_bytes()), out="odd.csv")
    assert odd["state"] == "done", odd
    assert command("odd", run, whole, "--out", folder / "odd.csv") == 0
    assert server.file(odd, "odd.csv") == (folder / "odd.csv").read_bytes()


def _untimed(value: Any) -> Any:
    """A report without what a clock measured, and without paths."""
    timed = (
        "verdict",
        "sentence",
        "second",
        "time",
        "written",
        "path",
        "made",
        "source",
        "per_",
        "expect",
        "step",
        "memory",
        "pace",
    )
    timed += ("run", "flags")
    if isinstance(value, dict):
        return {key: _untimed(inner) for key, inner in value.items() if not any(word in key for word in timed)}
    return [_untimed(inner) for inner in value] if isinstance(value, list) else value


def test_an_upload_that_trains_is_kept_and_one_that_is_refused_is_not(server: Server, root: Path) -> None:
    job = server.do("train", source=server.upload("mine.csv", TABLE.encode()), out="mine", steps=2, settings=[*TINY])
    assert job["state"] == "done", job
    assert (root / "uploads" / "mine.csv").read_text() == TABLE
    assert server.do("train", source=server.upload("bad.csv", b"a,b\n1,2\n"), out="bad", steps=2)["state"] == "failed"
    assert not (root / "uploads" / "bad.csv").exists() and not (root / "bad").exists()
    assert server.do("train", out="mine", resume=True, steps=4)["report"]["step"] == 4


# --- passwords ----------------------------------------------------------------------------------------------------------


def test_outside_of_this_machine_a_password_is_asked_for(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("serve", root, "--host", "0.0.0.0", "--no-open") == 2
    assert "--password-file" in capsys.readouterr().err
    (tmp_path / "short").write_text("abc\n")
    assert command("serve", root, "--host", "0.0.0.0", "--password-file", tmp_path / "short") == 2
    monkeypatch.setattr(guard, "PAUSE", 0.0)
    guarded = guard.Guard(whatever, ["here:80"], "correct horse")
    assert asked(guarded, "GET", "/api/runs")[0] == 401
    assert asked(guarded, "GET", "/ws", kind="websocket")[0] == 1008
    status, _, body = asked(guarded, "GET", "/field")
    assert status == 200 and b'type="password"' in body
    status, headers, _ = asked(guarded, "POST", "/login", b"password=wrong+horse")
    assert status == 401 and "set-cookie" not in headers
    status, headers, _ = asked(guarded, "POST", "/login", b"password=correct+horse")
    assert status == 303 and "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0]
    assert asked(guarded, "GET", "/api/runs", cookie=cookie)[::2] == (200, b"passed")
    assert asked(guarded, "GET", "/api/runs", cookie=cookie[:-1])[0] == 401


async def whatever(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"passed"})


def asked(
    app: Any, method: str, path: str, body: bytes = b"", cookie: str = "", kind: str = "http"
) -> tuple[int, dict[str, str], bytes]:
    """Ask an application in this process; return status, or the code with which a WebSocket is closed, headers and body."""
    sent = list[Any]()

    async def receive() -> Any:
        return {"type": f"{kind}.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"here:80"), (b"cookie", cookie.encode())]
    asyncio.run(app({"type": kind, "method": method, "path": path, "headers": headers}, receive, send))
    first = sent[0]
    found = {name.decode(): value.decode() for name, value in first.get("headers", ())}
    return first.get("status") or first.get("code"), found, b"".join(one.get("body", b"") for one in sent)


def test_a_port_in_use_and_a_folder_that_cannot_be_are_refused(
    server: Server, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (["--port", server.port], ["--port", 70000]):
        assert command("serve", root, *wrong, "--no-open") == 2
        assert "--port" in capsys.readouterr().err
    assert command("serve", root / "digits" / "config.json") == 2
    assert command("serve", tmp_path / "none" / "runs") == 2
