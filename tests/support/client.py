"""Talks to ComfyUI's server over HTTP and its websocket."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .graph import Graph
from .results import GraphFailedError, InvalidGraphError, ProgressText, Result
from .server import Server, make_base_directory

T = TypeVar("T")

# Kinds of the websocket's binary messages.
PREVIEW_IMAGE = 1
TEXT = 3
PREVIEW_IMAGE_WITH_METADATA = 4


class Host:
    """A client of one server for ordinary code: a thread of its own does what is asynchronous."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client_id = uuid.uuid4().hex
        self._results: dict[str, Result] = {}
        self._done: set[str] = set()
        self._current: str | None = None
        self._changed = threading.Condition()
        self._connected = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._session: aiohttp.ClientSession = self._wait_for(self._open_session())
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        if not self._connected.wait(30):
            raise TimeoutError(f"The websocket did not open.\n{server.log_tail()}")

    def close(self) -> None:
        """Close the connection. The server keeps running."""
        self._listener.cancel()
        self._wait_for(self._session.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # Graphs

    def queue(self, graph: Graph | Mapping[str, Any]) -> str:
        """Queue a graph and return its id. Raises `InvalidGraphError` when it is refused."""
        prompt = graph.to_dict() if isinstance(graph, Graph) else dict(graph)
        # With an id of our own no message can come before the place to keep it.
        prompt_id = str(uuid.uuid4())
        with self._changed:
            self._results[prompt_id] = Result(prompt_id)
        body = {"prompt": prompt, "client_id": self.client_id, "prompt_id": prompt_id}
        status, answer = self._wait_for(self._send("POST", "/prompt", json=body))
        content = json.loads(answer)
        if status == 400:
            raise InvalidGraphError(content)
        _check(status, "/prompt", answer)
        if content["node_errors"]:
            # The server runs the rest of such a graph; a test never means that.
            self.post("/queue", {"delete": [prompt_id]})
            self.post("/interrupt", {"prompt_id": prompt_id})
            raise InvalidGraphError(content)
        return str(content["prompt_id"])

    def wait(self, prompt_id: str, timeout: float = 300.0, *, check: bool = True) -> Result:
        """Wait until a queued graph has ended. Without `check` errors are only reported."""
        start = time.monotonic()
        with self._changed:
            while prompt_id not in self._done:
                self.server.check()
                if self._listener.done():
                    raise ConnectionError("The websocket was closed by the server.")
                if time.monotonic() - start > timeout:
                    break
                self._changed.wait(0.5)
            ended = prompt_id in self._done
            result = self._results[prompt_id]
        if not ended:
            self.interrupt()
            result.status = f"not ended after {timeout:.0f} s"
            raise GraphFailedError(result)
        result.seconds = time.monotonic() - start
        outputs = self.get(f"/history/{prompt_id}")[prompt_id]["outputs"]
        # Here are also the outputs of nodes that were answered from the cache.
        result.outputs.update({str(node): output for node, output in outputs.items()})
        return result.check() if check else result

    def run(
        self, graph: Graph | Mapping[str, Any], timeout: float = 300.0, *, check: bool = True
    ) -> Result:
        """Queue a graph and wait for its end."""
        return self.wait(self.queue(graph), timeout, check=check)

    def wait_for_progress(
        self, prompt_id: str, value: float = 1, node_id: str | None = None, timeout: float = 300.0
    ) -> Result:
        """Wait until a queued graph has shown progress up to `value`, or has ended."""
        end = time.monotonic() + timeout
        with self._changed:
            result = self._results[prompt_id]
            while prompt_id not in self._done and not any(
                step.value >= value and node_id in (None, step.node_id) for step in result.progress
            ):
                self.server.check()
                if time.monotonic() > end:
                    raise TimeoutError(f"No progress in {timeout:.0f} s.")
                self._changed.wait(0.5)
        return result

    def interrupt(self) -> None:
        """Interrupt the graph that is running."""
        self.post("/interrupt", {})

    def free(self) -> None:
        """Have the server unload models and forget cached outputs, when it is idle."""
        self.post("/free", {"unload_models": True, "free_memory": True})
        # The server acts on it in its own thread and does not say when it has.
        time.sleep(1.0)

    # Files and facts

    def object_info(self, node_class: str | None = None) -> dict[str, Any]:
        """What the server says about all of its node classes, or about one."""
        if node_class is None:
            return dict(self.get("/object_info"))
        return dict(self.get(f"/object_info/{node_class}").get(node_class, {}))

    def add_checkpoint(self, path: Path) -> str:
        """Offer a checkpoint to the server; returns the name to load it by."""
        return self._add("checkpoints", path)

    def add_lora(self, path: Path) -> str:
        """Offer a LoRA to the server; returns the name to load it by."""
        return self._add("loras", path)

    def _add(self, kind: str, path: Path) -> str:
        link = self.server.base / "models" / kind / path.name
        if not link.is_symlink():
            link.symlink_to(path)
        return link.name

    @property
    def embeddings(self) -> Path:
        """The server's folder of embeddings."""
        return self.server.base / "models" / "embeddings"

    def upload_image(self, image: Path | Image.Image, name: str | None = None) -> str:
        """Put a picture into the server's input folder; returns the name for LoadImage."""
        if isinstance(image, Path):
            content, name = image.read_bytes(), name or image.name
        else:
            buffer = io.BytesIO()
            image.save(buffer, format="PNG")
            content, name = buffer.getvalue(), name or f"{uuid.uuid4().hex}.png"
        return str(json.loads(self._wait_for(self._upload(content, name)))["name"])

    def fetch_image(self, image: Mapping[str, str]) -> NDArray[np.uint8]:
        """The pixels of a picture named in a node's output, as (height, width, channels)."""
        query = {key: image[key] for key in ("filename", "subfolder", "type")}
        status, answer = self._wait_for(self._send("GET", "/view", params=query))
        _check(status, "/view", answer)
        with Image.open(io.BytesIO(answer)) as picture:
            return np.asarray(picture)

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        status, answer = self._wait_for(self._send("GET", path))
        _check(status, path, answer)
        return json.loads(answer)

    def post(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Send JSON to a path."""
        status, answer = self._wait_for(self._send("POST", path, json=dict(body)))
        _check(status, path, answer)
        return answer

    # The thread's side

    def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _open_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self.server.url)

    async def _send(self, method: str, path: str, **arguments: Any) -> tuple[int, bytes]:
        async with self._session.request(method, path, **arguments) as response:
            return response.status, await response.read()

    async def _upload(self, content: bytes, name: str) -> bytes:
        form = aiohttp.FormData({"overwrite": "true", "type": "input"})
        form.add_field("image", content, filename=name, content_type="application/octet-stream")
        status, answer = await self._send("POST", "/upload/image", data=form)
        _check(status, "/upload/image", answer)
        return answer

    async def _listen(self) -> None:
        query = {"clientId": self.client_id}
        async with self._session.ws_connect("/ws", params=query, max_msg_size=0) as socket:
            await socket.send_json(
                {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            )
            async for message in socket:
                self._connected.set()
                with self._changed:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        content = json.loads(message.data)
                        self._take(content["type"], content.get("data") or {})
                    elif message.type == aiohttp.WSMsgType.BINARY:
                        self._take_binary(message.data)
                    self._changed.notify_all()

    def _take(self, kind: str, data: Mapping[str, Any]) -> None:
        result = self._results.get(str(data.get("prompt_id")))
        if result is None:
            return
        if kind == "execution_start":
            self._current = result.prompt_id
        if result.take(kind, data):
            self._done.add(result.prompt_id)
            self._current = None

    def _take_binary(self, data: bytes) -> None:
        # Binary messages name no graph, but the server runs only one at a time.
        result = self._results.get(self._current or "")
        if result is None:
            return
        kind, length = struct.unpack(">II", data[:8])
        if kind == TEXT:
            node_id = data[8 : 8 + length].decode()
            text = data[8 + length :].decode(errors="replace")
            result.texts.append(ProgressText(node_id, text))
        elif kind == PREVIEW_IMAGE:
            result.previews.append(data[8:])
        elif kind == PREVIEW_IMAGE_WITH_METADATA:
            with suppress(IndexError):
                result.previews.append(data[8 + length :])


@contextmanager
def serving(comfyui: Path, base: Path, *arguments: str, cpu: bool = True) -> Iterator[Host]:
    """A block in which a server runs, with the pack in its own folder `base`."""
    make_base_directory(base)
    server = Server(comfyui, base, arguments, cpu=cpu)
    try:
        server.start()
        with closing(Host(server)) as host:
            yield host
    finally:
        server.stop()


RunningHost = Callable[..., AbstractContextManager[Host]]
"""Further arguments of a server -> a block in which it runs."""


def _check(status: int, path: str, answer: bytes) -> None:
    if status != 200:
        raise RuntimeError(f"{path} answered {status}: {answer[:500].decode(errors='replace')}")
