"""Requests as they stand: nothing is tidied up, added or followed."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

from .client import Host


def ask(
    host: Host, path: str, method: str = "GET", body: object = None, **headers: str
) -> tuple[int, str, bytes]:
    """Status, type and body of an answer.

    Bytes go as they are, any other body as JSON. Of the headers, `_` stands for `-`.
    """
    connection = http.client.HTTPConnection(urlsplit(host.server.url).netloc, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    content = body if body is None or isinstance(body, bytes) else json.dumps(body)
    connection.request(method, path, content, headers)
    answer = connection.getresponse()
    received = answer.read()
    connection.close()
    return answer.status, answer.getheader("Content-Type", ""), received
