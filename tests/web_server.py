"""What tests of the page share: a server in a process of its own, as `scorefield serve` starts it, and requests of any kind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

OWNER = "owner-of-tests"

# A worker begins as a new Python process, whose imports take seconds. In most tests it is a fork of one that has them: what it
# is told and does is the same, but for the size of evaluations.
FORKED = """
import multiprocessing
from multiprocessing import get_context
multiprocessing.set_forkserver_preload(["forked_workers"])
multiprocessing.get_context = lambda method: get_context("forkserver")
"""


class Server:
    """A running server."""

    def __init__(self, runs: Path, *flags: Any, before: str = FORKED) -> None:
        arguments = ["serve", str(runs), "--port", "0", "--no-open", *map(str, flags)]
        code = f"{before}\nfrom scorefield.cli import main\nmain({arguments!r})"
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the server; a pipe that is not read would fill
        path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("http://"):
            self.process.wait(60)
            self.said.seek(0)
            raise RuntimeError(f"no server: {line}{self.said.read()}")
        self.url = line.split()[0].rstrip("/")
        self.host = self.url.removeprefix("http://")
        self.port = int(self.host.rpartition(":")[2])

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a request, and return status, headers and body; a value that is no bytes is sent as JSON."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes | Iterator):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=any(name.lower() == "host" for name in sent))
            chunked = isinstance(body, Iterator)
            if chunked:
                sent["Transfer-Encoding"] = "chunked"
            elif body is not None:
                sent.setdefault("Content-Length", str(len(body)))
            for name, value in sent.items():
                connection.putheader(name, value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent
                connection.endheaders(body, encode_chunked=chunked)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request that is expected to succeed, and return its JSON."""
        status, _, content = self.ask(method, path, body)
        assert status < 300, (status, content)
        return json.loads(content)

    def start(self, verb: str, owner: str = OWNER, stay: bool = False, **arguments: Any) -> Any:
        """Start a job, and return it."""
        asked = {"verb": verb, "arguments": arguments, "owner": owner, "stay": stay}
        return self.json("POST", "/api/jobs", asked)

    def wait(self, job: Any, *states: str, seconds: float = 240) -> Any:
        """Wait until a job is in one of the states, by default an end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            job = self.json("GET", f"/api/jobs/{job['id']}")
            if job["state"] in (states or ("done", "failed", "cancelled")):
                return job
            time.sleep(0.05)
        raise TimeoutError(job)

    def do(self, verb: str, **arguments: Any) -> Any:
        """Run a job to its end."""
        return self.wait(self.start(verb, **arguments))

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file, and return its name on the page."""
        _, _, answer = self.ask("POST", f"/api/uploads?name={quote(name)}&owner={OWNER}", content)
        return str(json.loads(answer)["id"])

    def file(self, job: Any, name: str | None = None) -> bytes:
        """Return what a job wrote: the file of a name, or the first."""
        listed = next(one for one in job["files"] if name is None or one["name"] == name)
        status, _, content = self.ask("GET", listed["url"])
        assert status == 200
        return content

    def end(self, how: int = signal.SIGINT) -> int:
        """End the server, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.communicate(timeout=240)
        self.said.close()
        return self.process.returncode


@contextlib.contextmanager
def serving(runs: Path, *flags: Any, before: str = FORKED) -> Iterator[Server]:
    """Give a server, which is ended afterwards; `before` is run in its process first."""
    server = Server(runs, *flags, before=before)
    try:
        yield server
    finally:
        server.end()
