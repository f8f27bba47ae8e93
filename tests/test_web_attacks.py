"""The page's server under attack: what another site, a stranger or a broken program sends is refused with a sentence."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import numpy as np
import pytest
from web_server import OWNER, Server, serving

from scorefield import ScorefieldError, app
from scorefield.web import guard, limits, places
from scorefield.web.asking import Unfit, resolved
from scorefield.web.guard import Guard
from scorefield.web.hub import Hub
from scorefield.web.places import Places

TINY = ("network.width=16", "network.depth=1", "training.batch=32", "training.precision=float32", "training.pictures=0")
TABLE = "x,y\n" + "".join(f"{i % 7 + i / 9:.3f},{i % 5 - i / 11:.3f}\n" for i in range(100))
HOST = "127.0.0.1:8765"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("attacked") / "runs"
    folder.mkdir()
    (folder / "table.csv").write_text(TABLE)
    app.train(str(folder / "table.csv"), out=folder / "a run", steps=2, settings=TINY)
    return folder


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    with serving(root, before="") as running:  # with workers as they are
        yield running


# --- the guard, without a server ------------------------------------------------------------------------------------------


async def inside(scope: Any, receive: Any, send: Any) -> None:
    """An application that says yes to everything."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"yes"})


async def asked(of: Guard, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> tuple[int, bytes]:
    """Send a request through a guard; return the status and the body."""
    said = list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        said.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    await of({"type": "http", "method": method, "path": path, "headers": raw}, receive, send)
    return said[0]["status"], said[1]["body"]


def ask(*given: Any, **more: Any) -> tuple[int, bytes]:
    return asyncio.run(asked(*given, **more))


@pytest.mark.parametrize("name", ["host", "Host", "origin", "content-length"])
def test_a_header_that_is_said_twice_is_refused_whichever_is_ours(name: str) -> None:
    ours = {"host": HOST, "origin": f"http://{HOST}", "content-length": "0"}[name.lower()]
    for pair in ((ours, "evil.example"), ("evil.example", ours)):
        given = [("host", HOST)] if name.lower() != "host" else []
        assert ask(Guard(inside, [HOST]), "GET", "/", *given, *((name, value) for value in pair))[0] == 400


def test_a_link_from_another_site_opens_the_page_and_posts_nothing() -> None:
    linked = (("host", HOST), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"))
    methods = ("GET", "HEAD", "POST", "DELETE", "PUT")
    assert [ask(Guard(inside, [HOST]), method, "/", *linked)[0] for method in methods] == [200, 200, 403, 403, 403]


@pytest.mark.parametrize("length", ["-1", "1e3", "²", "9" * 5000, str(guard.MOST_BYTES + 1)])
def test_a_length_that_is_none_or_too_large_is_refused(length: str) -> None:
    assert ask(Guard(inside, [HOST]), "POST", "/", ("host", HOST), ("content-length", length))[0] == 413


def test_passwords_cannot_be_guessed_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PAUSE", 0.05)
    of = Guard(inside, [HOST], "correct horse")

    async def guess() -> tuple[list[int], int]:
        wrong = [asked(of, "POST", "/login", ("host", HOST), body=b"password=wrong") for _ in range(50)]
        statuses = [status for status, _ in await asyncio.gather(*wrong)]
        return statuses, (await asked(of, "POST", "/login", ("host", HOST), body=b"password=correct+horse"))[0]

    statuses, afterwards = asyncio.run(guess())
    assert (statuses.count(401), statuses.count(429)) == (guard.MOST_GUESSES, 50 - guard.MOST_GUESSES)
    assert afterwards == 303


@pytest.mark.parametrize(
    "referer", ["http://evil.example//evil.example/a", "//evil.example", "http://127.0.0.1:8765/\\evil.example", ""]
)
def test_a_right_password_never_leads_to_another_server(referer: str) -> None:
    said = list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"password=correct+horse"}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", HOST.encode()), (b"referer", referer.encode())]
    scope = {"type": "http", "method": "POST", "path": "/login", "headers": headers}
    asyncio.run(Guard(inside, [HOST], "correct horse")(scope, receive, send))
    place = dict(said[0]["headers"])[b"location"].decode()
    assert said[0]["status"] == 303 and urlsplit(urljoin(f"http://{HOST}/login", place.replace("\\", "/"))).netloc == HOST


def test_owners_who_are_gone_are_forgotten_and_those_who_are_here_are_not() -> None:
    hub = Hub()
    hub.enter("here")
    for number in range(1000):
        hub.see(f"gone-{number}")
    hub.forget(0.0)
    assert set(hub.seen) == {"here"}


def test_a_page_that_is_slow_hears_of_the_end_of_a_job_after_its_last_frame() -> None:
    hub = Hub()
    outbox = hub.enter("here")
    hub.tell_frame("here", "b", b"first")
    for name, state in (("b", "running"), ("b", "done"), ("a", "running")):
        hub.tell_job("here", {"id": name, "state": state})
    hub.tell_frame("here", "b", b"last")
    told = asyncio.run(outbox.next())
    assert [one if isinstance(one, bytes) else json.loads(one)["job"]["state"] for one in told] == ["running", b"last", "done"]


# --- places ---------------------------------------------------------------------------------------------------------------


def test_uploads_take_a_bounded_place_and_the_one_used_last_stays(tmp_path: Path) -> None:
    of, names = Places(tmp_path / "runs", tmp_path), list[str]()
    for number in range(places.MOST_UPLOADS + 5):
        name, path = of.new_upload("mask.png")
        path.write_bytes(b"1")
        os.utime(path.parent, (number, number))
        names.append(name)
        os.utime(of.upload(names[0]).parent, (number, number + 0.5))  # it is used all the time
    assert len(list((tmp_path / "uploads").iterdir())) == places.MOST_UPLOADS
    assert of.upload(names[0]).exists() and of.upload(names[-1]).exists()
    with pytest.raises(ScorefieldError, match="upload the file again"):
        of.upload(names[1])


def test_an_upload_that_unpacks_to_much_more_than_it_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST_UNPACKED", 10_000)
    for size, fits in ((1200, True), (1300, False)):
        np.savez_compressed(tmp_path / "zeros.npz", np.zeros(size))
        assert (tmp_path / "zeros.npz").stat().st_size < 1000
        if fits:
            places.check_unpacked(tmp_path / "zeros.npz")
        else:
            with pytest.raises(ScorefieldError, match="unpacks to 10,"):
                places.check_unpacked(tmp_path / "zeros.npz")
    (tmp_path / "a.csv").write_text(TABLE)
    places.check_unpacked(tmp_path / "a.csv")


def test_neither_the_uploads_nor_a_link_is_a_run(root: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(root / "a run", runs / "uploads")
    shutil.copytree(root / "a run", runs / "b run")
    (runs / "link").symlink_to(root / "a run")
    (runs / "nowhere").symlink_to(tmp_path / "outside")
    of = Places(runs, tmp_path)
    assert list(of.runs()) == ["b run"] and of.new_run("b run") == runs / "b run"
    for name in ("uploads", "link", "nowhere", "a new run", "../b", "b/c", "", None):
        with pytest.raises(ScorefieldError, match="expected the name of a new run"):
            of.new_run(name)


def test_the_run_that_is_verified_is_one_of_the_page_s_own(root: Path, tmp_path: Path) -> None:
    of = Places(root, tmp_path)
    assert resolved(of, "verify", {"quick": True}, tmp_path)[0] == {"quick": True}
    assert resolved(of, "verify", {"run": "a run"}, tmp_path)[0] == {"run": str(root / "a run")}
    for outside in ("../a run", str(root / "a run"), "/etc", ""):
        with pytest.raises(Unfit):
            resolved(of, "verify", {"run": outside}, tmp_path)


def test_a_folder_that_cannot_be_read_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("closed", "open"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    allowed = os.access  # a superuser may read everything: the system's answer is given here
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed" and allowed(path, mode))
    assert Places(tmp_path / "runs", tmp_path).folders() == ["open"]


# --- a server -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a" * 5000, "/".join(["a" * 200] * 30), "a\0", ".", "uploads/../../x", "CON/../.."])
def test_a_name_that_no_file_can_have_is_refused_with_a_sentence(server: Server, name: str) -> None:
    status, _, body = server.ask("POST", "/api/jobs", {"verb": "plan", "arguments": {"source": name}, "owner": OWNER})
    assert status == 400 and json.loads(body)["field"] == "source"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "\ud800", "a" * 2**17])
def test_arguments_that_could_not_be_told_again_are_refused_and_do_not_stay(server: Server, wrong: Any) -> None:
    given = {"verb": "sample", "arguments": {"run": "a run", "label": wrong}, "owner": OWNER}
    assert server.ask("POST", "/api/jobs", given)[0] == 400
    assert server.ask("GET", f"/api/jobs?owner={OWNER}")[0] == 200


def test_a_limit_holds_for_texts_too(server: Server) -> None:
    job = server.do("train", source="table.csv", out="long", seconds="1000h", settings=[*TINY])
    assert job["state"] == "failed" and f"{limits.MOST['seconds']:,}" in job["error"] and job["field"] == "seconds"


def test_settings_of_any_form_name_no_file(server: Server, root: Path) -> None:
    outside = f"source={root.parent}/secret.csv"
    for settings in (
        [outside],
        [f" {outside}"],
        {outside: 1},
        outside,
        [[outside]],
        [f"data.{outside}"],
        [f"data.x.{outside}"],
    ):
        job = server.do("plan", source="table.csv", settings=settings)
        assert job["state"] == "failed" and "settings" in job["error"].replace("setting of data", "settings"), job


def test_what_is_asked_of_a_run_is_refused_with_a_sentence_and_not_as_a_failure(server: Server, root: Path) -> None:
    shutil.copytree(root / "a run", root / "without data")
    manifest = json.loads((root / "without data" / "manifest.json").read_text())
    text = json.dumps(manifest).replace("table.csv", "gone.csv")
    (root / "without data" / "manifest.json").write_text(text)
    config = root / "without data" / "config.json"
    config.write_text(config.read_text().replace("table.csv", "gone.csv"))
    for method, path in (
        ("GET", "/api/runs/without%20data/held-out"),
        ("GET", "/api/runs/without%20data/held-out.csv"),
        ("GET", "/api/runs/a%20run/held-out/0.png"),
        ("POST", "/api/fields/a%20run?level=nan"),
        ("POST", "/api/fields/a%20run?level=1"),
    ):
        status, _, body = server.ask(method, path, b"1234567" if method == "POST" else None)
        assert status == 400 and "expected" in json.loads(body)["error"], (path, body)
    assert server.ask("GET", "/api/runs/without%20data")[0] == 200  # what is known of it is still shown


def test_a_message_of_another_kind_does_not_close_the_socket(server: Server) -> None:
    from test_web_server import handshake, messages

    connection, status = handshake(server, Origin=server.url)
    assert status == 101
    for kind in (1, 2):  # text, bytes; masked with zeros
        connection.sendall(bytes([0x80 | kind, 0x80 | 4, 0, 0, 0, 0]) + b"what")
    connection.sendall(bytes([0x89, 0x80, 0, 0, 0, 0]))  # a ping
    assert next(kind for kind, _ in messages(connection) if kind > 2) == 10  # a pong, not the end
    connection.close()


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks at processes in /proc")
def test_a_process_that_died_is_started_again_when_it_is_needed(server: Server) -> None:
    def workers() -> dict[int, str]:
        found = [one for one in children(server.process.pid) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        return {one: Path(f"/proc/{one}/oom_score_adj").read_text().strip() for one in found}

    path = "/api/runs/a%20run/held-out.csv"
    assert server.ask("GET", path)[0] == 200
    end = time.monotonic() + 60
    while set(workers().values()) != {"1000"} and time.monotonic() < end:  # what Linux ends first, where memory is short
        time.sleep(0.1)
    found = workers()
    assert set(found.values()) == {"1000"}
    for one in found:
        os.kill(one, signal.SIGKILL)
    answers = [server.ask("GET", path)[0] for _ in range(3)]
    assert answers[-1] == 200, answers
    job = server.do("plan", source="table.csv")
    assert job["state"] == "done" or server.do("plan", source="table.csv")["state"] == "done"


def test_the_address_shown_is_one_that_answers(root: Path) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with serving(root, "--host", "::1") as running:
        assert running.url == f"http://[::1]:{running.port}"
