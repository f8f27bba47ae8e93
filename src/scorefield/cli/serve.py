"""`scorefield serve`: the page."""

from __future__ import annotations

import os
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from scorefield.cli.show import tell
from scorefield.errors import ScorefieldError

PORT = 8765


@dataclass
class Serve:
    """Open a page on this machine: see score fields, train, sample, restore, and look at runs, without writing code.

    examples:
      scorefield serve
      scorefield serve /data/runs --port 9000 --no-open
      scorefield serve runs --host 192.168.1.20 --password-file secret.txt
    """

    runs: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUNS_DIR")] = Path("runs")
    """The folder of the runs, made when the first run is; data in it can be learned from."""
    port: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Where it listens, 0 for any free one; default 8765, or the next free one."""
    host: str = "127.0.0.1"
    """The address it listens at. Any other than this machine's own needs --password-file."""
    password_file: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Ask for the password in the first line of this file."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME")] = ()
    """Another name by which browsers may call this machine; may be repeated."""
    open: bool = True
    """Open it in a browser."""

    def run(self) -> None:
        """Serve until an interrupt."""
        password, local = self._password(), self.host in ("127.0.0.1", "localhost", "::1")
        if not local and password is None:
            raise ScorefieldError(
                f"got --host {self.host} without a password, expected one where others reach the page: add --password-file FILE"
            )
        if self.runs.exists() and not self.runs.is_dir():
            raise ScorefieldError(f"got {self.runs}, which is a file, expected the folder of the runs: name another")
        if not self.runs.absolute().parent.is_dir():
            raise ScorefieldError(f"got {self.runs} in a folder that does not exist, expected one that does: make it first")
        if self.port is not None and not 0 <= self.port < 65536:
            raise ScorefieldError(f"got --port {self.port}, expected 0 to 65535: choose another")
        try:
            from scorefield.web.serve import listen, serve
        except ImportError as error:
            raise ScorefieldError(
                f'got no library {error.name}, expected it for the page: run pip install "scorefield[web]"'
            ) from None
        listening = listen(self.host, PORT if self.port is None else self.port, exact=self.port is not None)
        hosts = () if local else (self.host if ":" not in self.host else f"[{self.host}]",)
        serve(self.runs, listening, hosts=(*hosts, *self.allow_host), password=password, ready=self._ready)
        tell("scorefield: the page is closed")

    def _password(self) -> str | None:
        """Return the password that the file holds."""
        if self.password_file is None:
            return None
        try:
            text = self.password_file.read_text(encoding="utf-8").split("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ScorefieldError(
                f"got --password-file {self.password_file}, which cannot be read ({error}), expected a text"
            ) from None
        if len(text) < 8:
            raise ScorefieldError(f"got a password of {len(text)} characters, expected at least 8: choose a longer one")
        return text

    def _ready(self, url: str) -> None:
        print(f"{url}    (Ctrl-C ends it)", flush=True)
        if (
            self.open
            and sys.stdout.isatty()
            and (sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        ):
            webbrowser.open(url)
