"""What the page asks this pack over HTTP.

All below `/textual_inversion` (and, as for every route of the host, below `/api` too):

    GET  /runs                      the ids of all runs; of those that go on, their owners too
    GET  /run?id=ID&after=STEP      one run, see `trainer.live.describe`
    GET  /run/preview?id=ID&step=N  a picture of it, PNG
    POST /run                       {"id": ID, "action": "stop" | "sample" | "save"}
    GET  /embeddings                the embeddings folder, see `cards.cards`
    GET  /embeddings/preview?file=F a small picture of one, JPEG

Files are named by ids that are looked up, never by paths. Answers are JSON or pictures, and a
refusal is a sentence in `{"error": …}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...trainer.errors import InputError
from ...trainer.runs.live import ACTIONS, describe
from ...trainer.runs.run_folder import find_run, list_runs
from ..host import library
from .cards import cards
from .runs import RUNS, runs_folder

ROOT = "/textual_inversion"
LARGEST_PICTURE = 8 * 1024 * 1024
HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_routes(routes: web.RouteTableDef) -> None:
    """Add them to the host's table, before its server starts."""
    routes.get(f"{ROOT}/runs")(_answering(_runs))
    routes.get(f"{ROOT}/run")(_answering(_run))
    routes.get(f"{ROOT}/run/preview")(_answering(_run_preview))
    routes.post(f"{ROOT}/run")(_control)
    routes.get(f"{ROOT}/embeddings")(_answering(_embeddings))
    routes.get(f"{ROOT}/embeddings/preview")(_answering(_embedding_preview))


def _answering(answer: Callable[[Mapping[str, str]], Any]) -> Handler:
    """A handler that reads files in a thread, so that the server goes on meanwhile."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            content = await asyncio.to_thread(answer, request.query)
        except InputError as error:
            return _refusal(404, str(error))
        if isinstance(content, bytes):
            kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
            return web.Response(body=content, content_type=kind, headers=HEADERS)
        return web.json_response(content, headers=HEADERS)

    return handle


def _runs(query: Mapping[str, str]) -> Any:
    live = [{"id": run.folder.id, "owner": run.owner} for run in RUNS.all()]
    return {"live": live, "known": [run.id for run in list_runs(runs_folder())]}


def _run(query: Mapping[str, str]) -> Any:
    folder = find_run(runs_folder(), query.get("id", ""))
    return describe(folder, RUNS.get(folder.id), _number(query, "after"))


def _run_preview(query: Mapping[str, str]) -> bytes:
    folder = find_run(runs_folder(), query.get("id", ""))
    step = _number(query, "step")
    path = folder.preview_file(step)
    if step not in folder.previews() or path.stat().st_size > LARGEST_PICTURE:
        raise InputError(f"The run “{folder.id}” has no picture of step {step}.")
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise InputError(f"The picture of step {step} is damaged.")
    return content


def _embeddings(query: Mapping[str, str]) -> Any:
    return cards()


def _embedding_preview(query: Mapping[str, str]) -> bytes:
    picture = library.preview(query.get("file", ""))
    if picture is None:
        raise InputError("This embedding has no picture.")
    return picture


async def _control(request: web.Request) -> web.StreamResponse:
    if not _of_own_page(request):
        return _refusal(403, "Only ComfyUI's own page can ask for this.")
    try:
        asked = await request.json()
        run_id, action = asked["id"], asked["action"]
    except (ValueError, KeyError, TypeError):
        return _refusal(400, "An id and an action are needed, as JSON.")
    run = RUNS.get(run_id) if isinstance(run_id, str) else None
    if run is None:
        return _refusal(404, "This run has already ended.")
    if action not in ACTIONS:
        return _refusal(400, f"The action must be one of {', '.join(sorted(ACTIONS))}.")
    run.ask(action)
    return web.json_response({}, headers=HEADERS)


def _of_own_page(request: web.Request) -> bool:
    """Whether a request that changes something comes from a page of this server.

    JSON cannot be sent by another site's form, and what a browser says of the origin must be
    this server. Programs that are no browsers say nothing of it.
    """
    if request.content_type != "application/json":
        return False
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == request.host.lower()


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f"{name} must be a number.")
    return int(text)


def _refusal(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=HEADERS)
