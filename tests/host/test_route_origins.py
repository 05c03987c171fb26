"""Whose requests are answered: for our routes it is as for the host's own, whatever it allows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, product

import pytest
from support.client import Host, RunningHost
from support.http import ask

HERE = "127.0.0.1:PORT"
HOSTS = [
    HERE, "127.0.0.1", "localhost:PORT", "localhost", "LOCALHOST:PORT", "[::1]:PORT",
    # Names and addresses of others, behind a proxy or in the same network.
    "192.0.2.7", "192.0.2.7:443", "192.0.2.7:8080",
]  # fmt: skip
ORIGINS = [
    None, "null", "", "http://127.0.0.1:PORT", "https://127.0.0.1:PORT", "http://127.0.0.1",
    "http://127.0.0.1:1", "http://[", "http://localhost:PORT", "http://localhost", "http://[::1]:PORT",
    "http://192.0.2.7", "https://192.0.2.7", "http://192.0.2.7:8080", "https://comfy.invalid",
    "http://comfy.invalid:8080", "http://evil.example", "file://", "chrome-extension://abcdef",
]  # fmt: skip
SITES = ["same-origin", "same-site", "none", "cross-site"]
CHANGES: dict[str, dict[str, object]] = {
    "run": {"id": "x", "action": "stop"},
    "ratings": {"name": "x", "ratings": [{"key": "x", "rating": "liked"}]},
}
"""What is posted, by paths."""
FORWARDED = {"X_Forwarded_Host": "comfy.invalid", "X_Forwarded_Proto": "https"}


@pytest.fixture(
    scope="module",
    params=[(), ("--enable-cors-header",), ("--listen", "0.0.0.0")],
    ids=["default", "cors", "listen"],
)
def server(request: pytest.FixtureRequest, running_host: RunningHost, host: Host) -> Iterator[Host]:
    if not request.param:
        yield host
        return
    with running_host(*request.param) as started:
        yield started


def headers(server: Host) -> Iterator[dict[str, str]]:
    port = server.server.url.rpartition(":")[2]
    # Every pair of host and origin; what browsers say of the site, for two of the hosts.
    everything = product(HOSTS, ORIGINS, (None,)), product(HOSTS[:3:2], ORIGINS, SITES)
    for host, origin, site in chain(*everything):
        asked = {"Host": host, "Origin": origin, "Sec_Fetch_Site": site}
        yield {k: v.replace("PORT", port) for k, v in asked.items() if v is not None}
    for host, origin in product((HERE, "comfy.invalid"), ("https://comfy.invalid", "http://x.y")):
        yield {"Host": host.replace("PORT", port), "Origin": origin, **FORWARDED}


def test_ours_are_answered_where_the_hosts_own_are(server: Host) -> None:
    """All of them are asked for, and not one may be answered otherwise."""
    different, refused, answered = [], 0, 0
    for sent in headers(server):
        read = ask(server, "/queue", **sent)[0]
        changed = ask(server, "/queue", "POST", {"delete": []}, **sent)[0]
        ours = [
            ask(server, "/textual_inversion/runs", **sent)[0],
            *(
                ask(server, f"/textual_inversion/{path}", "POST", body, **sent)[0]
                for path, body in CHANGES.items()
            ),
        ]
        # There is no such run or picture, which is only told to those who may ask.
        wanted = [read, *[404 if changed == 200 else changed] * len(CHANGES)]
        refused, answered = refused + (changed == 403), answered + (changed == 200)
        if ours != wanted:
            different.append((sent, ours, wanted))
    assert different == []
    assert answered > 50
    assert (refused > 50) != ("--enable-cors-header" in server.server.arguments)
