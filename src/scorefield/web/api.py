"""Api: the addresses of the page. Each answers with a file, with JSON, or with one sentence of what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from importlib.resources import files as resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteError

from scorefield import __version__
from scorefield.errors import ScorefieldError, unknown
from scorefield.web import guard, limits
from scorefield.web.asking import as_command
from scorefield.web.hub import LIVE, Hub
from scorefield.web.jobs import GRACE, Busy, Job, Jobs
from scorefield.web.listing import described, listed, metrics
from scorefield.web.places import Places, check_unpacked
from scorefield.web.processes import Asked
from scorefield.web.refusals import command, field_of

STATIC = Path(str(resources("scorefield.web").joinpath("static")))
VIEWS = ("field", "train", "sample", "restore", "tables", "runs")
MOST_TOLD = 2**16  # bytes of the arguments of a job
OWNER = re.compile(r"[A-Za-z0-9_-]{8,64}")


class State:
    """What the addresses share, made when the server begins."""

    places: Places
    hub: Hub
    jobs: Jobs
    asked: Asked


def make_app(root: Path, temporary: Path) -> FastAPI:
    """Return the application, without its guard.

    Args:
        root: the runs' folder.
        temporary: a folder for uploads and for what jobs write.
    """
    state = State()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.places, state.hub = Places(root, temporary), Hub()
        state.asked, state.jobs = Asked(most=8), Jobs(state.places, state.hub)
        watching = asyncio.create_task(state.jobs.watch())
        state.asked.ready.add_done_callback(lambda ready: _names_fields(state.jobs, ready))
        yield
        watching.cancel()
        state.asked.close()
        await asyncio.to_thread(state.jobs.close)

    app = FastAPI(title="scorefield", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _refusals(app)
    _pages(app)
    _of_runs(app, state)
    _of_data(app, state)
    _of_jobs(app, state)
    _of_the_plane(app, state)
    _socket(app, state)
    return app


def _names_fields(jobs: Jobs, ready: asyncio.Future[dict[str, Any]]) -> None:
    """Let jobs name the field of a form that a refusal is about, now that the forms are known."""
    if ready.cancelled() or ready.exception() is not None:
        return
    names = {verb: tuple(field["name"] for field in form["fields"]) for verb, form in ready.result()["forms"].items()}
    jobs.field_of = lambda verb, sentence: field_of(sentence, names.get(verb, ()))  # type: ignore[method-assign]
    jobs.warm()  # after the other: both at once would delay the first view


def _refusals(app: FastAPI) -> None:
    """Answer what is wrong with a sentence."""

    def answer(status: int, sentence: str, field: str | None = None) -> JSONResponse:
        return JSONResponse({"error": sentence, "field": field}, status)

    @app.exception_handler(ScorefieldError)
    async def refused(_: Request, error: ScorefieldError) -> JSONResponse:
        return answer(404 if str(error).startswith("unknown run") else 400, str(error))

    @app.exception_handler(Busy)
    async def busy(_: Request, __: Busy) -> JSONResponse:
        return answer(503, f"got a job while {limits.MOST_WAITING} wait, expected fewer: wait for one to end, or cancel one")

    @app.exception_handler(BlockingIOError)
    async def too_many(_: Request, __: BlockingIOError) -> JSONResponse:
        return answer(503, "got more questions at once than can be answered, expected fewer: ask again in a moment")

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        cause = str(error) if isinstance(error, RuntimeError) else f"got {type(error).__name__}, expected none"
        return answer(500, f"{cause}: see the terminal of the server")

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return answer(400, f"got a request whose {'.'.join(map(str, first['loc']))} is wrong ({first['msg']}): correct it")

    @app.exception_handler(StarletteError)
    async def missing(request: Request, error: StarletteError) -> JSONResponse:
        if error.status_code == 404 and not str(error.detail).startswith("got"):
            return answer(
                404, f"got the address {request.url.path[:200]}, where there is nothing, expected one of the page: open /"
            )
        return answer(error.status_code, str(error.detail))


def _pages(app: FastAPI) -> None:
    """Give the page, which is one for all views, and its parts."""

    @app.get("/")
    async def first() -> RedirectResponse:
        return RedirectResponse("/field")

    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", media_type="text/html")

    for view in VIEWS:
        app.get(f"/{view}")(page)
    app.get("/runs/{name}")(page)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return Response(status_code=204)


def _of_runs(app: FastAPI, state: State) -> None:
    """Say what runs there are and what is in them."""

    def training() -> set[str]:
        return {Path(str(job.arguments["out"])).name for job in state.jobs.running.values() if job.verb == "train"}

    @app.get("/api/runs")
    def runs() -> list[dict[str, Any]]:
        return [listed(state.places.run(name), name in training()) for name in state.places.runs()]

    @app.get("/api/runs/{name}")
    def run(name: str) -> dict[str, Any]:
        return described(state.places.run(name), name in training())

    @app.get("/api/runs/{name}/metrics")
    def run_metrics(name: str) -> dict[str, Any]:
        return {"lines": metrics(state.places.run(name))}

    @app.get("/api/runs/{name}/files/{path:path}")
    def run_file(name: str, path: str) -> FileResponse:
        return _sent(state.places.file(state.places.run(name), path))

    @app.get("/api/runs/{name}/held-out")
    async def held_out(name: str, first: int = 0, count: int = 24) -> Any:
        count = max(1, min(count, 100))
        return await state.asked.ask("held_out", run=str(state.places.run(name)), first=max(0, first), count=count)

    @app.get("/api/runs/{name}/held-out/{index}.png")
    async def held_out_picture(name: str, index: int) -> Response:
        found = await state.asked.ask("held_out_picture", run=str(state.places.run(name)), index=index)
        return Response(found, media_type="image/png")

    @app.get("/api/runs/{name}/held-out.csv")
    async def held_out_rows(name: str, first: int = 0, count: int = 20) -> Response:
        count = max(1, min(count, 1000))
        found = await state.asked.ask("held_out_rows", run=str(state.places.run(name)), first=max(0, first), count=count)
        return Response(found, media_type="text/csv")


def _of_data(app: FastAPI, state: State) -> None:
    """Say what can be learned from, and take uploads."""

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        return {"ok": True, "version": __version__, "running": len(state.jobs.running), "waiting": len(state.jobs.waiting())}

    @app.get("/api/forms")
    async def forms() -> Any:
        return (await state.asked.ready)["forms"]

    @app.get("/api/sources")
    async def sources() -> dict[str, Any]:
        builtin = (await state.asked.ready)["sources"]
        found = await asyncio.to_thread(state.places.folders)
        uploads = [name for name in found if name.startswith("uploads/")]
        return {"builtin": builtin, "folders": [name for name in found if name not in uploads], "uploads": uploads}

    @app.post("/api/uploads")
    async def upload(request: Request, name: str, owner: str) -> dict[str, Any]:
        _owner(state, owner)
        found, path = state.places.new_upload(name)
        count = 0
        try:
            with open(path, "xb") as stream:
                async for chunk in request.stream():
                    count += len(chunk)
                    stream.write(chunk)
            await asyncio.to_thread(check_unpacked, path)
        except BaseException:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
            raise
        return {"id": found, "name": path.name, "bytes": count}


def _of_jobs(app: FastAPI, state: State) -> None:
    """Take jobs, say how they stand, end them, give their files."""

    def job_of(name: str) -> Job:
        job = state.jobs.jobs.get(name)
        if job is None:
            raise HTTPException(
                404,
                "got a job that this server does not know, expected one of its own: begin again, or go on with its run",
            )
        state.hub.see(job.owner)
        return job

    @app.post("/api/jobs", status_code=202)
    async def add(
        verb: Annotated[str, Body()],
        arguments: Annotated[dict[str, Any], Body()],
        owner: Annotated[str, Body()],
        stay: Annotated[bool, Body()] = False,
    ) -> JSONResponse:
        forms = (await state.asked.ready)["forms"]
        _owner(state, owner)
        _plain(arguments)
        if verb not in forms:
            raise unknown("verb", verb, forms)
        try:
            job = state.jobs.add(verb, arguments, owner, stay)
        except ScorefieldError as error:
            names = tuple(field["name"] for field in forms[verb]["fields"])
            field = getattr(error, "field", None) or field_of(str(error), names)
            return JSONResponse({"error": str(error), "field": field}, 400)
        job.command = command(verb, forms[verb]["fields"], as_command(state.places, job.asked, job.arguments))
        return JSONResponse(state.jobs.told(job), 202)

    @app.get("/api/jobs")
    async def jobs(owner: str) -> list[dict[str, Any]]:
        _owner(state, owner)
        for job in state.jobs.jobs.values():  # a training that stays is the next page's, so that someone can stop it
            if job.state in LIVE and job.stays and state.hub.away(job.owner) > GRACE:
                job.owner = owner
        return [state.jobs.told(job) for job in state.jobs.jobs.values() if job.owner == owner]

    @app.get("/api/jobs/{name}")
    async def job(name: str) -> dict[str, Any]:
        return state.jobs.told(job_of(name))

    @app.delete("/api/jobs/{name}")
    async def cancel(name: str) -> dict[str, Any]:
        found = job_of(name)
        state.jobs.cancel(found)
        return state.jobs.told(found)

    @app.get("/api/jobs/{name}/files/{path:path}")
    async def job_file(name: str, path: str) -> FileResponse:
        return _sent(state.places.file(job_of(name).folder, path))


def _of_the_plane(app: FastAPI, state: State) -> None:
    """Answer with scores of learned fields in the plane."""

    @app.post("/api/fields/{name}")
    async def field(name: str, level: Annotated[float, Query()], request: Request) -> Response:
        body = await request.body()
        found, about = await state.asked.ask("scores", run=str(state.places.run(name)), level=level, positions=body)
        return Response(found, media_type="application/octet-stream", headers=about)


def _socket(app: FastAPI, state: State) -> None:
    """Tell pages what happens."""

    @app.websocket("/ws")
    async def socket(page: WebSocket, owner: str) -> None:
        if not OWNER.fullmatch(owner):
            await page.close(1008, "got no owner")
            return
        await page.accept()
        outbox = state.hub.enter(owner)
        for job in state.jobs.jobs.values():
            if job.owner == owner:
                state.hub.tell_job(owner, state.jobs.told(job))

        async def tell() -> None:
            while True:
                for message in await outbox.next():
                    await (page.send_bytes(message) if isinstance(message, bytes) else page.send_text(message))

        async def listen() -> None:
            while (await page.receive())["type"] != "websocket.disconnect":
                pass  # nothing is asked for here; an end is noticed

        tasks = [asyncio.create_task(tell()), asyncio.create_task(listen())]
        try:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            state.hub.leave(owner, outbox)


def _owner(state: State, owner: str) -> None:
    """Note that an owner is here; raises `ScorefieldError` for a name that is none."""
    if not OWNER.fullmatch(owner):
        raise ScorefieldError(
            "got an owner that is no name of 8 to 64 letters, digits and dashes, expected one: open the page again"
        )
    state.hub.see(owner)


def _plain(arguments: dict[str, Any]) -> None:
    """Raise `ScorefieldError` for what cannot be written as JSON, or is too long to be sent often."""
    with contextlib.suppress(ValueError):  # no finite number, or half a character
        if len(json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()) <= MOST_TOLD:
            return
    raise ScorefieldError(
        f"got arguments that are no plain JSON, or more than {MOST_TOLD:,} bytes of it, expected less: correct them"
    )


def _sent(path: Path) -> FileResponse:
    """Return a file, a report without the right to run scripts."""
    headers = {"content-security-policy": guard.REPORTS} if path.suffix == ".html" else {}
    return FileResponse(path, headers=headers)
