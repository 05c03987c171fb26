"""What the page asks this pack over HTTP.

All below `/textual_inversion` (and, as for every route of the host, below `/api` too):

    GET  /runs                      the ids of all runs; of those that go on, their owners too
    GET  /run?id=ID&after=STEP      one run, see `trainer.live.describe`
    GET  /run/preview?id=ID&step=N  a picture of it, PNG
    GET  /run/preview?id=ID&still=S and what it is compared with: `picture` or `before`
    POST /run/alike                 {"node": CLASS, "inputs": {…}}; the id of the newest run of such
                                    a node with these settings, or null
    POST /run                       {"id": ID, "action": "stop" | "sample" | "save"}
    GET  /embeddings                the embeddings folder, see `cards.cards`
    GET  /embeddings/preview?file=F a small picture of one, JPEG
    GET  /ratings?name=NAME         the rated pictures of this name, see `ratings.described`
    GET  /ratings/picture?name=NAME&key=KEY  one of them, PNG
    POST /ratings                   {"name": NAME, "ratings": [{"key": KEY, "rating": RATING}, …]}
                                    in the order in which that was said; the same as GET

Files are named by ids that are looked up, never by paths. Answers are JSON or pictures, and a
refusal is a sentence in `{"error": …}`. Whose requests are answered is the host's to say, for these
as for its own routes: its middleware comes before them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from ...trainer.errors import InputError
from ...trainer.presets import NONE, with_preset
from ...trainer.runs.live import ACTIONS, describe
from ...trainer.runs.ratings import RATINGS
from ...trainer.runs.run_folder import find_run, list_runs
from ...trainer.runs.run_inputs import find_alike
from ..host import library
from ..inputs import TRAINING_NODES
from .cards import cards
from .one_reader import OneReader
from .ratings import described, ratings_of
from .runs import RUNS, runs_folder

ROOT = "/textual_inversion"
LARGEST_PICTURE = 8 * 1024 * 1024
LARGEST_RATED = 64 * 1024 * 1024
"""Bytes: of a picture of a run, which is made small, and of one to be rated, which is not."""

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_CARDS = OneReader(lambda: json.dumps(cards()).encode())
_FILES = ThreadPoolExecutor(2, thread_name_prefix="textual-inversion-files")
"""Threads of our own: in those that it shares the server reads the page's own files."""
_RATINGS = ThreadPoolExecutor(1, thread_name_prefix="textual-inversion-ratings")
"""One thread: what is rated is kept in the order in which it came."""


def add_routes(routes: web.RouteTableDef) -> None:
    """Add them to the host's table, before its server starts."""
    routes.get(f"{ROOT}/runs")(_answering(_runs))
    routes.get(f"{ROOT}/run")(_answering(_run))
    routes.get(f"{ROOT}/run/preview")(_answering(_run_preview))
    routes.post(f"{ROOT}/run")(_control)
    routes.post(f"{ROOT}/run/alike")(_alike)
    routes.get(f"{ROOT}/embeddings")(_embeddings)
    routes.get(f"{ROOT}/embeddings/preview")(_answering(_embedding_preview))
    routes.get(f"{ROOT}/ratings")(_answering(_ratings))
    routes.get(f"{ROOT}/ratings/picture")(_answering(_rated_picture))
    routes.post(f"{ROOT}/ratings")(_rate)


def _answering(answer: Callable[[Mapping[str, str]], bytes]) -> Handler:
    """A handler of what is asked for in an address."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await _answered(answer, request.query)

    return handle


async def _answered(
    answer: Callable[..., bytes], *asked: Any, files: Executor = _FILES
) -> web.StreamResponse:
    """What a function answers that reads files: in a thread, so that the server goes on."""
    try:
        content = await asyncio.get_running_loop().run_in_executor(files, answer, *asked)
    except InputError as error:
        return _refusal(404, str(error))
    except OSError as error:
        # What was listed a moment ago can be gone, or locked by another program.
        return _refusal(404, f"This cannot be read ({error.strerror}).")
    return _found(content)


async def _embeddings(request: web.Request) -> web.StreamResponse:
    return _found(await _CARDS.ask())


def _runs(query: Mapping[str, str]) -> bytes:
    live = [{"id": run.folder.id, "owner": run.owner} for run in RUNS.all()]
    return _json({"live": live, "known": [run.id for run in list_runs(runs_folder())]})


def _run(query: Mapping[str, str]) -> bytes:
    folder = find_run(runs_folder(), query.get("id", ""))
    return _json(describe(folder, RUNS.get(folder.id), _number(query, "after")))


def _run_preview(query: Mapping[str, str]) -> bytes:
    folder = find_run(runs_folder(), query.get("id", ""))
    if still := query.get("still", ""):
        which, is_there, path = f"“{still}”", still in folder.stills(), folder.still_file(still)
    else:
        step = _number(query, "step")
        which, is_there, path = (
            f"of step {step}",
            step in folder.previews(),
            folder.preview_file(step),
        )
    if not is_there or path.stat().st_size > LARGEST_PICTURE:
        raise InputError(f"The run “{folder.id}” has no picture {which}.")
    return _png(path, which)


def _embedding_preview(query: Mapping[str, str]) -> bytes:
    picture = library.preview(query.get("file", ""))
    if picture is None:
        raise InputError("This embedding has no picture.")
    return picture


def _ratings(query: Mapping[str, str]) -> bytes:
    return _json(described(query.get("name", "")))


def _rated_picture(query: Mapping[str, str]) -> bytes:
    folder, key = ratings_of(query.get("name", "")), query.get("key", "")
    path = folder.picture_file(key)
    folder.get(key)
    if path.stat().st_size > LARGEST_RATED:
        raise InputError(f"The picture “{key}” is too large to be shown.")
    return _png(path, f"“{key}”")


async def _rate(request: web.Request) -> web.StreamResponse:
    asked = await _posted(request, "name", "ratings")
    if isinstance(asked, web.Response):
        return asked
    name, ratings = asked
    try:
        said = [(str(one["key"]), one["rating"]) for one in ratings]
    except (TypeError, KeyError):
        said = []
    if not isinstance(name, str) or not said:
        return _refusal(400, "A name and a list of ratings are needed, each with its key.")
    if any(rating not in RATINGS for _, rating in said):
        return _refusal(400, f"A rating must be one of {', '.join(RATINGS[1:])}, or empty.")
    return await _answered(_rated, name, said, files=_RATINGS)


def _rated(name: str, said: Sequence[tuple[str, str]]) -> bytes:
    folder = ratings_of(name)
    refused: InputError | None = None
    for key, rating in said:
        try:
            folder.rate(key, rating)
        except InputError as error:  # The others are kept.
            refused = refused or error
    if refused:
        raise refused
    return _json(described(name))


async def _control(request: web.Request) -> web.StreamResponse:
    asked = await _posted(request, "id", "action")
    if isinstance(asked, web.Response):
        return asked
    run_id, action = asked
    run = RUNS.get(run_id) if isinstance(run_id, str) else None
    if run is None:
        return _refusal(404, "This run has already ended, or is running in another ComfyUI.")
    if not isinstance(action, str) or action not in ACTIONS:
        return _refusal(400, f"The action must be one of {', '.join(sorted(ACTIONS))}.")
    run.ask(action)
    return web.json_response({}, headers=HEADERS)


async def _alike(request: web.Request) -> web.StreamResponse:
    asked = await _posted(request, "node", "inputs")
    if isinstance(asked, web.Response):
        return asked
    return await _answered(_run_alike, *asked)


def _run_alike(node: Any, inputs: Any) -> bytes:
    try:
        given = with_preset(inputs.get("preset", NONE), inputs)
        folder = find_alike(runs_folder(), TRAINING_NODES[node], given)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
        folder = None  # No run was made with such settings.
    return _json(folder.id if folder else None)


async def _posted(request: web.Request, *names: str) -> list[Any] | web.Response:
    """Some values of what was posted, or a refusal."""
    # Another site's form cannot send JSON, and its script must be allowed to by the host.
    if request.content_type != "application/json":
        return _refusal(403, "Send this as JSON, as ComfyUI's own page does.")
    try:
        asked = json.loads(await request.read())
        return [asked[name] for name in names]
    except (ValueError, KeyError, TypeError, RecursionError):
        return _refusal(400, f"{' and '.join(names)} are needed, as JSON.")


def _number(query: Mapping[str, str], name: str) -> int:
    text = query.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f"{name} must be a number.")
    return int(text)


def _png(path: Path, which: str) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise InputError(f"The picture {which} is damaged.")
    return content


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _found(content: bytes) -> web.Response:
    """JSON, PNG or JPEG, told by how it begins."""
    kind = {b"\x89": "image/png", b"\xff": "image/jpeg"}.get(content[:1], "application/json")
    return web.Response(body=content, content_type=kind, headers=HEADERS)


def _refusal(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status, headers=HEADERS)
