"""A real ComfyUI with this pack, for all tests below this folder."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.client import Host

HERE = Path(__file__).parent
StartHost = Callable[..., "Host"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs a host."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.host)


@pytest.fixture(scope="session")
def start_host(comfyui: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartHost]:
    """`start_host("--cache-none")`: starts a server of its own with further arguments."""
    from support.client import Host
    from support.server import Server, make_base_directory

    running: list[tuple[Server, Host]] = []

    def start(*arguments: str) -> Host:
        base = tmp_path_factory.mktemp("comfyui")
        make_base_directory(base)
        server = Server(comfyui, base, arguments)
        server.start()
        try:
            host = Host(server)
        except BaseException:
            server.stop()
            raise
        running.append((server, host))
        return host

    yield start
    for server, host in running:
        host.close()
        server.stop()


@pytest.fixture(scope="session")
def host(start_host: StartHost) -> Host:
    """The server that most tests share."""
    return start_host()


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
