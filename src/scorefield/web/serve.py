"""Serve: the process behind the page.

The runs' folder is read and written; a temporary folder holds uploads and what jobs write, and is removed at the end. One that
a killed server has left is removed by the next: it holds a lock that died with its process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn

from scorefield.errors import ScorefieldError
from scorefield.web.api import make_app
from scorefield.web.guard import Guard

PREFIX, LOCK = "scorefield-serve-", "lock"
LOCAL = ("127.0.0.1", "localhost", "[::1]")


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder of this process; remove those of servers that are no more."""
    above = Path(tempfile.gettempdir())
    for old in above.glob(f"{PREFIX}*"):
        if not old.is_symlink() and old.is_dir() and old.stat().st_uid == os.getuid() and _is_free(old / LOCK):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with open(folder / LOCK, "x") as lock:
        _lock(lock.fileno())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _lock(handle: int) -> bool:
    """Lock a file until this process ends; return whether no other has."""
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_free(path: Path) -> bool:
    try:
        with open(path) as lock:
            return _lock(lock.fileno())
    except OSError:
        return False


def listen(host: str, port: int, exact: bool) -> socket.socket:
    """Return a socket that listens at an address; at the next free port where `port` is taken, unless it must be this one.

    Raises:
        ScorefieldError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for one in range(port, port + (1 if exact or port == 0 else 20)):
        found = socket.socket(family, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, one))
            found.listen(128)
        except OSError as error:
            found.close()
            reason = error.strerror or str(error)
            continue
        return found
    raise ScorefieldError(
        f"got {host} port {port}, which cannot be used ({reason}), expected a free one: choose another --port"
    )


def serve(
    root: Path,
    listening: socket.socket,
    *,
    hosts: tuple[str, ...] = (),
    password: str | None = None,
    ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        root: the runs' folder.
        listening: where; see `listen`.
        hosts: names of this machine that browsers may use, beside 127.0.0.1 and localhost.
        password: asked for, unless it is None.
        ready: called with the page's address when it answers.
    """
    port = listening.getsockname()[1]
    known = [f"{host}:{port}" for host in (*LOCAL, *hosts)]
    known += [*LOCAL, *hosts] if port == 80 else []  # which browsers leave out
    shown = LOCAL[2] if listening.family == socket.AF_INET6 else LOCAL[0]
    with temporary_folder() as temporary:
        guarded = Guard(make_app(root, temporary), known, password)
        config = uvicorn.Config(
            guarded,
            http="h11",  # of which the limit below is
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="websockets-sansio",
            ws_max_size=2**16,
            h11_max_incomplete_event_size=2**16,
            timeout_graceful_shutdown=2,
            lifespan="on",
        )
        server = uvicorn.Server(config)
        original = server.startup

        async def startup(sockets: list[socket.socket] | None = None) -> None:
            await original(sockets)
            ready(f"http://{hosts[0] if hosts else shown}:{port}/")

        server.startup = startup  # type: ignore[method-assign]
        server.run(sockets=[listening])
