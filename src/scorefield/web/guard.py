"""Guard: who may ask, and how much. It sees every request, and every WebSocket, before anything else does.

A page of another site can make a browser send requests to this machine. Two headers tell: Host, which names what the browser
believes it speaks to (a foreign name that resolves to 127.0.0.1 is how DNS rebinding works), and Origin, which names the page
that asks. A Host that is not ours is refused with 400, an Origin that is not ours with 403. Bodies are counted as they arrive,
for one in chunks states no length. Outside of this machine a password is asked for; the browser keeps a cookie for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 20 * 2**20
COOKIE = "scorefield"
PAGE = re.compile(r"(/[A-Za-z0-9.~%_-]+)+")  # an address on this server, as //name would not be
PAUSE = 1.0  # seconds after a wrong password
MOST_GUESSES = 10  # wrong passwords whose pause is not over; until then no other is compared

OURS = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
)
REPORTS = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data: 'self'; frame-ancestors 'self'"  # no scripts
HEADERS = {
    b"content-security-policy": OURS.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",  # with none, a browser does not say where the form of the password comes from
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-cache",
}

LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><title>scorefield</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/style.css">
<main class="login"><h1>scorefield</h1><form method="post" action="/login">
<label for="password">Password</label> <input id="password" name="password" type="password" autofocus required>
<button>Open</button></form><p role="alert">{}</p></main></html>"""


class _TooLarge(Exception):
    """More bytes came than a body may have."""


class Guard:
    """An ASGI application around another, which sees only what may pass."""

    def __init__(self, app: App, hosts: Iterable[str], password: str | None = None) -> None:
        """Take the application.

        Args:
            app: what is guarded.
            hosts: what Host may say, with the port: `127.0.0.1:8765`.
            password: asked for, unless it is None.
        """
        self.app, self.hosts, self.password = app, frozenset(host.lower() for host in hosts), password
        self.token, self.guesses = secrets.token_urlsafe(32), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(scope, receive, send, *refusal)
        elif self.password is not None and not self._is_known(headers) and scope["path"] != "/static/style.css":
            await self._log_in(scope, receive, send, headers)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self._pass(scope, receive, send, headers)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Return the status and the sentence with which a request is refused; None if it may pass."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        names = [name.lower() for name, _ in scope["headers"]]
        if any(names.count(name) > 1 for name in (b"host", b"origin", b"content-length")):
            return 400, "got a request that says its host, origin or length twice, expected each once: send it again"
        if host not in self.hosts:
            sentence = f"got a request to the host {host[:80]!r}, expected {sorted(self.hosts)[0]}: open the address shown"
            return 400, f"{sentence}, or start with --allow-host for another name of this machine"
        foreign = origin is not None and origin.lower() not in {f"{scheme}://{host}" for scheme in ("http", "https")}
        within = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        # A link from another site is a cross-site request, too, and only opens the page.
        linked = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") in ("GET", "HEAD")
        if foreign or not (within or linked):
            return 403, f"got a request from the page of {str(origin)[:80]!r}, expected one of this server's own: open that"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 20 or int(length) > MOST_BYTES:
            return 413, f"got a body of {length[:20]} bytes, expected at most {MOST_BYTES:,}: use the command for larger files"
        return None

    async def _pass(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Pass a request on, counting its body, with our headers on the answer."""
        count, begun, refused = 0, False, False

        async def counted() -> Message:
            nonlocal count, refused
            message = await receive()
            count += len(message.get("body", b""))
            if count > MOST_BYTES and not begun:
                refused = True
                sentence = f"got a body of more than {MOST_BYTES:,} bytes, expected fewer: use the command for larger files"
                await _answer(scope, receive, send, 413, sentence)
            if count > MOST_BYTES:
                raise _TooLarge
            return message

        async def headed(message: Message) -> None:
            nonlocal begun
            if refused:  # what the application says of the body that was cut short
                return
            if message["type"] == "http.response.start":
                begun = True
                own = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name, value) for name, value in HEADERS.items() if name not in own]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        with contextlib.suppress(_TooLarge):
            await self.app(scope, counted, headed)

    # --- passwords ----------------------------------------------------------------------------------------------------

    def _is_known(self, headers: dict[str, str]) -> bool:
        """Whether the browser has the cookie that a right password was answered with."""
        given = [pair.strip().partition("=") for pair in headers.get("cookie", "").split(";")]
        return any(name == COOKIE and hmac.compare_digest(value.encode(), self.token.encode()) for name, _, value in given)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send, headers: dict[str, str]) -> None:
        """Ask for the password, or compare it."""
        if scope["type"] == "websocket" or scope["path"].startswith("/api/"):
            await _answer(scope, receive, send, 401, "got no password, expected one: open the page in a browser first")
            return
        note = ""
        if (scope["method"], scope["path"]) == ("POST", "/login"):
            body, more = b"", True
            while more and len(body) < 4096:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            password = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            if self.guesses >= MOST_GUESSES:
                await _answer(scope, receive, send, 429, "got many wrong passwords at once, expected few: wait for a second")
                return
            if _same(password, str(self.password)):
                cookie = f"{COOKIE}={self.token}; HttpOnly; SameSite=Strict; Path=/"
                asked = urlsplit(headers.get("referer", "")).path
                back = asked if PAGE.fullmatch(asked) and asked != "/login" else "/"
                await _send(send, 303, b"", {b"location": back.encode(), b"set-cookie": cookie.encode()})
                return
            self.guesses += 1
            try:
                await asyncio.sleep(PAUSE)
            finally:
                self.guesses -= 1
            note = "That is not the password."
        await _send(send, 401 if note else 200, LOGIN.format(note).encode(), {b"content-type": b"text/html; charset=utf-8"})


def _same(one: str, other: str) -> bool:
    """Compare two texts in a time that says nothing about where they differ, nor about their lengths."""
    first, second = (hashlib.sha256(text.encode()).digest() for text in (one, other))
    return hmac.compare_digest(first, second)


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    """Refuse with a sentence; a WebSocket before it is opened, where the browser sees status 403."""
    if scope["type"] == "websocket":
        await receive()  # the request to open it
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
        return
    await _send(send, status, json.dumps({"error": sentence}).encode(), {b"content-type": b"application/json"})


async def _send(send: Send, status: int, body: bytes, headers: dict[bytes, bytes]) -> None:
    extra = {b"content-length": str(len(body)).encode(), b"connection": b"close" if status == 413 else b"keep-alive"}
    await send({"type": "http.response.start", "status": status, "headers": list({**HEADERS, **headers, **extra}.items())})
    await send({"type": "http.response.body", "body": body})
