"""Whatever is asked, and whatever lies in the folders: an answer or a sentence, never an error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.client import Host
from support.http import ask

EXAMPLES = int(os.environ.get("FUZZED_REQUESTS", "150"))
"""How many of each kind; many more for a night."""

ROUTES = ("runs", "run", "run/preview", "embeddings/preview", "ratings", "ratings/picture")
fuzzed = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

texts = st.one_of(
    st.binary(max_size=60),
    st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass")),
    st.sampled_from([b"\0.pt", b"x" * 300, b"..", b"/", b"fuzzed_00001", b"a/../b.png", b"con"]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
NESTED = b"[" * 100_000 + b"]" * 100_000


def refused(status: int, content: bytes) -> bool:
    """Whether it is a refusal in a sentence."""
    return status in (400, 403, 404) and bool(json.loads(content)["error"])


@fuzzed
@given(route=st.sampled_from(ROUTES), values=st.dictionaries(
    st.sampled_from(["id", "step", "still", "after", "file", "changed", "name", "key"]), texts,
    max_size=4,
))  # fmt: skip
@example(route="run", values={"id": b"x" * 251 + b"_00001"})
@example(route="run", values={"id": b"x\0_00001"})
@example(route="embeddings/preview", values={"file": b"\0.pt"})
@example(route="embeddings/preview", values={"file": b"x" * 300 + b".pt"})
@example(route="ratings", values={"name": b"x" * 300})
@example(route="ratings/picture", values={"name": b"fuzzed", "key": b"x" * 300})
def test_any_query(host: Host, route: str, values: dict[str, bytes]) -> None:
    query = "&".join(f"{key}={quote(value)}" for key, value in values.items())
    status, _, content = ask(host, f"/textual_inversion/{route}?{query}")
    assert status == 200 or refused(status, content), content


@fuzzed
@given(query=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#")))
def test_any_text_behind_the_question_mark(host: Host, query: str) -> None:
    for route in ROUTES:
        status, _, content = ask(host, f"/textual_inversion/{route}?{query}")
        assert status == 200 or refused(status, content), content


@pytest.mark.parametrize("route", ["run", "run/alike", "ratings"])
@fuzzed
@given(
    body=st.binary(max_size=100)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries({"id": json_values, "action": json_values}).map(
        lambda value: json.dumps(value).encode()
    )
    | st.fixed_dictionaries({
        "name": json_values | st.just("x"), "ratings": json_values | st.lists(
            st.fixed_dictionaries({"key": json_values, "rating": json_values | st.just("liked")})
        ),
    }).map(lambda value: json.dumps(value).encode()),
    kind=st.sampled_from([
        "application/json", "application/json; charset=foo", "application/json; charset=utf-16",
        "application/json;;;", "text/plain", "", 'application/json; x="', "multipart/form-data",
    ]),
)  # fmt: skip
@example(body=NESTED, kind="application/json")
@example(body=b'{"id": "x", "action": []}', kind="application/json")
@example(body=b'{"id": [], "action": "stop"}', kind="application/json; charset=foo")
@example(
    body=b'{"name": "\\ud800", "ratings": [{"key": "x", "rating": "liked"}]}',
    kind="application/json",
)
@example(
    body=b'{"name": "x", "ratings": [{"key": "\\ud800", "rating": "liked"}]}',
    kind="application/json",
)
@example(body=b'{"id": ' + b"9" * 5000 + b', "action": 1}', kind="application/json")
def test_any_body(host: Host, route: str, body: bytes, kind: str) -> None:
    path = f"/textual_inversion/{route}"
    status, _, content = ask(host, path, "POST", body, Content_Type=kind)
    assert refused(status, content), content


@pytest.fixture(scope="module")
def run_folder(host: Host) -> Path:
    folder = host.server.base / "output" / "textual_inversion" / "fuzzed_00001"
    folder.mkdir(parents=True)
    return folder


values_of_settings = st.dictionaries(
    st.sampled_from([
        "preset", "init_words", "num_vectors", "steps", "resolution", "learning_rate", "schedule",
        "seed", "flip", "previews", "timesteps", "memory", "templates", "noise_offset",
    ]),
    json_values | st.sampled_from(["auto", "1e999", "0.1:5, 1e-3", "9" * 5000, "²", "\0", 10**400]),
    max_size=4,
)  # fmt: skip


@fuzzed
@given(
    node=st.sampled_from(["TextualInversionTrain", "TextualInversionTrainNegative"]) | json_values,
    inputs=values_of_settings | json_values,
    noted=values_of_settings | json_values,
)
@example(node="TextualInversionTrain", inputs={}, noted={})
@example(node="TextualInversionTrain", inputs={"seed": 1}, noted={"steps": "many"})
def test_any_settings(
    host: Host, run_folder: Path, node: object, inputs: object, noted: object
) -> None:
    """Asked for by a node, and in the folder of a run of the same name."""
    name = {"name": "fuzzed"}
    inputs, noted = ({**v, **name} if isinstance(v, dict) else v for v in (inputs, noted))
    (run_folder / "settings.json").write_text(json.dumps({"settings": noted}))
    body = {"node": node, "inputs": inputs}
    status, _, content = ask(host, "/textual_inversion/run/alike", "POST", body)
    assert status == 200, content
    found = json.loads(content)
    assert found in (None, "fuzzed_00001")
    if (node, inputs, noted) == ("TextualInversionTrain", name, name):
        assert found == "fuzzed_00001"


@fuzzed
@given(
    chosen=json_values.map(lambda value: json.dumps({"settings": value}).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60),
    status=st.dictionaries(
        st.sampled_from(["status", "message", "step", "steps"]), json_values
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60),
    losses=st.binary(max_size=200)
    | st.lists(
        st.lists(st.sampled_from(["1", "2", "nan", "1e999", '"', "", "-3", "9" * 5000, "\0"]),
                 min_size=5, max_size=7).map(",".join)
    ).map(lambda lines: "\n".join([*lines, ""]).encode()),
)  # fmt: skip
@example(chosen=b'{"settings": null}', status=b"[]", losses=b"")
@example(chosen=NESTED, status=NESTED, losses=NESTED)
@example(chosen=b"{}", status=b"{}", losses=b'"' + b"x" * 200_000 + b",1,1,1,1,1\n")
def test_any_folder_of_a_run(
    host: Host, run_folder: Path, chosen: bytes, status: bytes, losses: bytes
) -> None:
    (run_folder / "settings.json").write_bytes(chosen)
    (run_folder / "status.json").write_bytes(status)
    (run_folder / "loss.csv").write_bytes(losses)
    answer = ask(host, "/textual_inversion/run?id=fuzzed_00001")
    assert answer[0] == 200, answer
    run: dict[str, Any] = json.loads(answer[2])
    assert isinstance(run["name"], str)
    assert "fuzzed_00001" in json.loads(ask(host, "/textual_inversion/runs")[2])["known"]


@fuzzed
@given(
    said=st.dictionaries(
        st.sampled_from(["prompt", "seed", "model", "rating", "date"]),
        json_values | st.sampled_from(["liked", "disliked", "\0", 10**400, float("inf")]),
    ).map(lambda value: json.dumps(value).encode())
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=60),
    picture=st.binary(max_size=20) | st.just(b"\x89PNG"),
)
@example(said=NESTED, picture=b"")
@example(said=b'{"seed": ' + b"9" * 5000 + b"}", picture=b"")
def test_any_folder_of_ratings(host: Host, said: bytes, picture: bytes) -> None:
    key, folder = "0" * 16, host.server.base / "output" / "textual_inversion_ratings" / "fuzzed"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{key}.json").write_bytes(said)
    (folder / f"{key}.png").write_bytes(picture)
    status, _, content = ask(host, "/textual_inversion/ratings?name=fuzzed")
    assert status == 200, content
    known = bool(json.loads(content)["ratings"])
    path = f"/textual_inversion/ratings/picture?name=fuzzed&key={key}"
    status, _, content = ask(host, path)
    assert status == 200 if known and picture == b"\x89PNG" else refused(status, content)
