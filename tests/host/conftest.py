"""A real ComfyUI with this pack, for all tests below this folder."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from support.browser import ComfyPage
    from support.client import Host, RunningHost

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a host."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="module", autouse=True)
def memory_given_back() -> Iterator[None]:
    """After each module: glibc keeps what freed models took, many gigabytes, until told."""
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@pytest.fixture(scope="session")
def running_host(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> RunningHost:
    """`with running_host("--cache-none") as host:` a server of its own with further arguments.

    It ends with the block: each holds a gigabyte or more.
    """
    from support.client import serving

    def run(*arguments: str, cpu: bool = True) -> AbstractContextManager[Host]:
        return serving(comfyui, tmp_path_factory.mktemp("comfyui"), *arguments, cpu=cpu)

    return run


@pytest.fixture(scope="session")
def shared_host(running_host: RunningHost) -> Iterator[Host]:
    """The server that most tests share."""
    with running_host() as host:
        yield host


@pytest.fixture(scope="session")
def host(shared_host: Host) -> Host:
    """The same, but for modules that say otherwise."""
    return shared_host


@pytest.fixture(scope="module", params=["pinned", "newest"])
def page_host(
    running_host: RunningHost,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Host]:
    """A server with the page that its ComfyUI asks for, or with the newest on PyPI."""
    from support.frontend import newest_frontend

    if request.param == "pinned":
        yield request.getfixturevalue("shared_host")
        return
    page = newest_frontend(tmp_path_factory.mktemp("frontend"))
    with running_host("--front-end-root", str(page)) as newer:
        yield newer


@pytest.fixture
def name() -> str:
    """A name of each test's own, and of each try's: the host caches what was learned before."""
    return f"word-{uuid4().hex[:6]}"


@pytest.fixture
def comfy(page_host: Host, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ComfyPage]:
    """A page, of which a picture is kept in the folder that PAGE_PICTURES names."""
    from support.browser import browser_page

    # The server keeps what tests before this one have set.
    page_host.post("/settings", {"Comfy.VueNodes.Enabled": False, "Comfy.ColorPalette": "dark"})
    newer = "--front-end-root" in page_host.server.arguments
    with browser_page(page_host.server.url, ours_only=newer) as page:
        page.open()
        yield page
        folder = Path(os.environ.get("PAGE_PICTURES") or tmp_path)
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"\W+", "-", request.node.name)
        page.page.screenshot(path=folder / f"{name}.png")
        page_host.interrupt()  # a test that failed leaves nothing running to the next
        assert page.complaints == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers printed last below a test that failed."""
    report = yield
    if report.failed and HERE in item.path.parents:
        from support.client import Host

        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Host):
                report.sections.append((f"Server log of `{name}`", value.server.log_tail()))
    return report
