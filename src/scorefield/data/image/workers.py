"""Workers: processes of our own that decode image files, since threads of one process wait for each other's lock.

A worker is another Python that imports nothing but the decoder, in a tenth of a second. It is no fork, so threads and devices
of this process do not matter, and it never imports the program that a person runs. A thread of this process owns each worker:

    to it      one line of JSON: what is wanted, and the files, by path or by the length of their content; then the contents
    from it    one line of JSON: a header or a cause for each; then the pixels

Neither side unpickles anything. What a worker should not do, as it is too large for several at once, comes back as it is, and
this process does it; so it does with the files of a worker that died, or that could not be started.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, astuple
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from scorefield.data.files.archives import Content, Entry, Listing
from scorefield.data.image.decode import LARGE, Header, Seen, Strict, TooLarge, Wanted, see
from scorefield.errors import ScorefieldError

Array = NDArray[Any]
LATER = "later"  # instead of a cause: this process reads it
AHEAD = 2**26  # bytes of files that may wait for their turn
CHUNK, CHUNK_BYTES = 16, 2**20  # files, and bytes of them, that are asked for at once
MOST_WORKERS = 8
A_FILE, A_BYTE, WORTH = 1.5e-4, 2e-8, 0.8  # seconds that a file takes, and a byte of it; from which on workers are started
START = "import sys; sys.path[:] = sys.argv[1:]; from scorefield.data.image.workers import serve; serve()"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class Worker:
    """A process that decodes, for one thread of this one."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            OSError: it cannot be started.
        """
        environment = {**os.environ, **ONE_THREAD}
        command = [sys.executable, "-c", START, *(path or os.getcwd() for path in sys.path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def see(self, entries: Sequence[Entry], wanted: Wanted | None, strict: Strict) -> list[Seen | None]:
        """Return what `see` returns of each; None for what this process should read.

        Raises:
            OSError, EOFError, ValueError: the worker has died.
        """
        contents = [_content(entry) for entry in entries]
        sent = [(entry, content) for entry, content in zip(entries, contents, strict=True) if content is not None]
        asked = {
            "wanted": None if wanted is None else asdict(wanted),
            "strict": strict,
            "files": [[one.path, one.size, one.place, len(content)] for one, content in sent],
        }
        out, back = self.process.stdin, self.process.stdout
        assert out and back, "both are pipes"
        out.write(json.dumps(asked).encode() + b"\n")
        out.writelines(content for _, content in sent)
        out.flush()
        listed = json.loads(back.readline())
        if len(listed) != len(sent):
            raise EOFError
        answers = iter(listed)
        return [None if content is None else _received(next(answers), back) for content in contents]

    def close(self) -> None:
        """End it."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                with contextlib.suppress(OSError):  # it has ended before
                    stream.close()
        self.process.wait()


def _content(entry: Entry) -> bytes | None:
    """Return what is sent of a file: its content, where it has no place of its own; None where that cannot be read."""
    if entry.place is not None:
        return b""
    try:
        with entry.open() as stream:
            return stream.read()
    except Exception:  # `see` says what is wrong
        return None


def _received(answer: tuple[list[Any] | None, list[int] | None, str, str], back: IO[bytes]) -> Seen | None:
    """Return an answer, with the pixels that follow it."""
    header, shape, dtype, cause = answer
    if cause == LATER:
        return None
    pixels = None
    if shape is not None:
        content = bytearray(math.prod(shape) * np.dtype(dtype).itemsize)
        if back.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise EOFError
        pixels = np.frombuffer(content, dtype).reshape(shape)
    return None if header is None else Header(tuple(header[0]), *header[1:]), pixels, cause


class Readers:
    """Threads that read the files of a listing ahead, each with a worker of its own where there is much to decode.

    >>> with Readers(Listing("none", [])) as readers:
    ...     list(readers.each([], lambda: None, ""))
    []
    """

    def __init__(self, listing: Listing) -> None:
        """Decide who reads."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count, size = listing.amount()
        self.threads = min(cores, MOST_WORKERS)
        python = bool(sys.executable) and not getattr(sys, "frozen", False)  # otherwise it is a program that embeds Python
        much = cores > 1 and count * A_FILE + size * A_BYTE > WORTH
        self.workers: list[Worker] | None = [] if python and much else None
        self.own = threading.local()

    def __enter__(self) -> Readers:
        self.pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        for worker in self.workers or ():
            worker.close()

    def each(
        self, entries: Iterable[Entry], wanted: Callable[[], Wanted | None], strict: Strict
    ) -> Iterator[tuple[Entry, Seen]]:
        """Yield each file, in order, with what is seen of it.

        Args:
            entries: the files.
            wanted: gives what is wanted of the next file to be read ahead.
            strict: as of `see`.
        """
        waiting: deque[tuple[list[Entry], Future[list[Seen]]]] = deque()
        ahead = 0
        for chunk in _chunks(entries, wanted):
            waiting.append((chunk, self.pool.submit(self._see, chunk, wanted(), strict)))
            ahead += sum(entry.size for entry in chunk)
            while waiting and (len(waiting) > 3 * self.threads or ahead > AHEAD):
                chunk, future = waiting.popleft()
                ahead -= sum(entry.size for entry in chunk)
                yield from zip(chunk, future.result(), strict=True)
        for chunk, future in waiting:
            yield from zip(chunk, future.result(), strict=True)

    def _see(self, chunk: list[Entry], wanted: Wanted | None, strict: Strict) -> list[Seen]:
        """Return what is seen of some files, by the worker of this thread if it has one."""
        found: list[Seen | None] = [None] * len(chunk)
        if self.workers is not None and not getattr(self.own, "alone", False):
            try:
                if not hasattr(self.own, "worker"):
                    self.own.worker = Worker()
                    self.workers.append(self.own.worker)
                found = self.own.worker.see(chunk, wanted, strict)
            except (OSError, EOFError, ValueError):  # it died, or never lived: this thread goes on alone
                self.own.alone = True
        return [one or see(entry, wanted, strict) for entry, one in zip(chunk, found, strict=True)]


def _chunks(entries: Iterable[Entry], wanted: Callable[[], Wanted | None]) -> Iterator[list[Entry]]:
    """Yield files a few at a time, so that what is said of them costs little, and their pixels take little memory."""
    chunk, size = list[Entry](), 0
    for entry in entries:
        chunk.append(entry)
        size += entry.size
        one = wanted()
        pixels = 0 if one is None else math.prod(one.size) * one.channels * np.dtype(one.dtype).itemsize
        if len(chunk) == CHUNK or size > CHUNK_BYTES or len(chunk) * pixels > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def serve() -> None:
    """Decode what is asked for on the standard input, until it ends: the program of a worker."""
    import signal
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its owner ends it
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb", 2**20)
    os.dup2(2, 1)  # what a decoder prints is no answer
    while line := asked.readline():
        _answer(json.loads(line), asked, answers)


def _answer(request: dict[str, Any], asked: IO[bytes], answers: IO[bytes]) -> None:
    """Answer one request."""
    told = request["wanted"]
    wanted = None if told is None else Wanted(**{**told, "size": tuple(told["size"])})
    seen, parts = list[tuple[list[Any] | None, list[int] | None, str, str]](), list[Any]()
    for path, size, place, length in request["files"]:
        content = asked.read(length)
        entry = Entry(path, size, partial(_opened, place, content), None, place)
        header, pixels, cause = _see_small(entry, wanted, request["strict"])
        plain = None if header is None else [list(header.size), *astuple(header)[1:]]
        if pixels is None:
            seen.append((plain, None, "", cause))
        else:
            seen.append((plain, list(pixels.shape), pixels.dtype.str, cause))
            parts.append(np.ascontiguousarray(pixels).data)
    answers.write(json.dumps(seen).encode() + b"\n")
    answers.writelines(parts)
    answers.flush()


def _opened(place: str | None, content: bytes) -> Content:
    """Return the content of a file, by its path where it has one."""
    return io.BytesIO(content) if place is None else open(place, "rb")


def _see_small(entry: Entry, wanted: Wanted | None, strict: Strict) -> Seen:
    """Return what `see` returns, but leave to the owner what is large, or needs a library that is missing."""
    if entry.size > LARGE:
        return None, None, LATER
    try:
        return see(entry, wanted, strict, LARGE)
    except (ScorefieldError, TooLarge):
        return None, None, LATER
