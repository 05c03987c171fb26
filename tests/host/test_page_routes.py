"""What the page asks over HTTP: the right answers, and nothing outside the two folders."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.client import Host
from support.graph import Graph
from support.http import ask
from support.training import batch, checkpoint, photos, train

SECRET = b"\x89PNG concealed"


def ask_json(host: Host, path: str) -> dict:
    status, _, content = ask(host, path)
    assert status == 200, content
    return json.loads(content)


@pytest.fixture(scope="module")
def model(host: Host, sd1_checkpoint: Path) -> str:
    return host.add_checkpoint(sd1_checkpoint)


@pytest.fixture(scope="module")
def run_id(host: Host, model: str) -> str:
    """A run that was stopped by the page after a picture and a saved word were asked for."""
    graph = Graph()
    node = train(
        graph, checkpoint(graph, model), batch(graph, photos(host)), name="routed", steps=3000,
        resolution=64,
    )  # fmt: skip
    queued = host.queue(graph)
    host.wait_for_progress(queued, 2, node.id)
    (live,) = ask_json(host, "/textual_inversion/runs")["live"]
    assert live["owner"]["node"] == node.id
    running = ask_json(host, f"/textual_inversion/run?id={live['id']}")
    assert (running["status"], running["steps"], running["name"]) == ("running", 3000, "routed")
    assert running["seconds_left"] > 0
    for action in ("sample", "save", "stop"):
        body = {"id": live["id"], "action": action}
        assert ask(host, "/textual_inversion/run", "POST", body)[0] == 200
    result = host.wait(queued, timeout=120)
    assert result[node]["textual_inversion_run"] == [live["id"]]
    return str(live["id"])


def test_the_page_stops_samples_and_saves(host: Host, run_id: str) -> None:
    runs = ask_json(host, "/textual_inversion/runs")
    assert runs["live"] == []
    assert run_id in runs["known"]
    run = ask_json(host, f"/textual_inversion/run?id={run_id}")
    step = run["step"]
    assert run["status"] == "stopped"
    assert [row[0] for row in run["rows"]] == list(range(1, step + 1))
    assert run["previews"] == [step]
    assert (
        ask_json(host, f"/textual_inversion/run?id={run_id}&after={step - 1}")["rows"]
        == (run["rows"][-1:])
    )
    assert (host.embeddings / "routed.safetensors").is_file()
    assert (host.embeddings / f"routed-{step}.safetensors").is_file()
    status, kind, content = ask(host, f"/textual_inversion/run/preview?id={run_id}&step={step}")
    assert (status, kind) == (200, "image/png")
    assert content.startswith(b"\x89PNG")
    # The same below the prefix that the page uses.
    assert ask_json(host, f"/api/textual_inversion/run?id={run_id}")["step"] == step


def test_a_step_can_be_chosen(host: Host, run_id: str) -> None:
    step = ask_json(host, f"/textual_inversion/run?id={run_id}")["step"]
    graph = Graph()
    chosen = graph.add("TextualInversionChoose", run=run_id, step=step)
    graph.add("TextualInversionSave", embedding=chosen[0], name="chosen", format="safetensors",
              overwrite=True)  # fmt: skip
    shown = graph.add("PreviewImage", images=chosen[1])
    result = host.run(graph)
    assert host.fetch_image(result[shown]["images"][0]).shape == (64, 64, 3)
    words = [host.embeddings / f"{name}.safetensors" for name in ("chosen", "routed")]
    assert words[0].stat().st_size > 0
    assert {k: v.tolist() for k, v in torch_file(words[0]).items()} == {
        k: v.tolist() for k, v in torch_file(words[1]).items()
    }


def torch_file(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Content_Type": "application/x-www-form-urlencoded"}, 403),
        ({"Content_Type": "text/plain"}, 403),
        ({}, 404),  # allowed, but the run has ended
    ],
)
def test_only_the_own_page_may_change_anything(
    host: Host, run_id: str, headers: dict[str, str], status: int
) -> None:
    body = {"id": run_id, "action": "stop"}
    assert ask(host, "/textual_inversion/run", "POST", body, **headers)[0] == status


ALIKE = "/textual_inversion/run/alike"


def find_alike(host: Host, inputs: object, node: object = "TextualInversionTrain") -> str | None:
    status, kind, content = ask(host, ALIKE, "POST", {"node": node, "inputs": inputs})
    assert (status, kind.partition(";")[0]) == (200, "application/json"), content
    return json.loads(content)


def test_the_run_with_the_settings_of_a_node_is_found(host: Host, run_id: str) -> None:
    node = train(
        Graph(), checkpoint(Graph(), "any"), ["1", 0], name="routed", steps=3000, resolution=64
    )
    given = {key: value for key, value in node.inputs.items() if not isinstance(value, list)}
    assert find_alike(host, given) == run_id
    # Pictures on the way change nothing about a word, and what comes through links is not known.
    assert find_alike(host, {**given, "previews": 4}) == run_id
    assert find_alike(host, {"name": "routed"}) == run_id
    for changed in ({"seed": 8}, {"steps": 2999}, {"name": "never-learned"}, {"preset": "fast"}):
        assert find_alike(host, {**given, **changed}) is None, changed
    unnamed = {key: value for key, value in given.items() if key != "name"}
    assert find_alike(host, unnamed) is None
    for other in ("TextualInversionTrainNegative", "KSampler", "", None, [], {}, 1):
        assert find_alike(host, {**given, "seed": 8}, other) is None, other


@pytest.mark.parametrize(
    "inputs",
    [
        None, [], "name", 1, {}, {"name": None}, {"name": "a b"}, {"name": "../routed"},
        {"name": ["1", 0]}, {"name": "routed", "preset": {}}, {"name": "routed", "preset": "new"},
        {"name": "routed", "steps": "many"}, {"name": "routed", "steps": float("inf")},
        {"name": "routed", "resolution": float("nan")}, {"name": "routed", "learning_rate": 0.1},
        {"name": "routed", "flip": json.loads("[" * 600 + "]" * 600)},
    ],
    ids=lambda inputs: str(inputs)[:40],
)  # fmt: skip
def test_settings_that_no_run_can_have_find_nothing(
    host: Host, run_id: str, inputs: object
) -> None:
    assert find_alike(host, inputs) is None


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        *((body, "application/json", 400) for body in (b"", b"{", [], {}, "x", {"inputs": {}},
                                                       {"node": "TextualInversionTrain"})),
        ({"node": "TextualInversionTrain", "inputs": {"name": "routed"}}, "text/plain", 403),
    ],
)  # fmt: skip
def test_what_asks_for_no_settings_is_refused(
    host: Host, body: object, kind: str, status: int
) -> None:
    refusal = ask(host, ALIKE, "POST", body, Content_Type=kind)
    assert refusal[0] == status
    assert json.loads(refusal[2])["error"]


def test_nothing_is_changed_by_get(host: Host, run_id: str) -> None:
    assert ask(host, f"/textual_inversion/run?id={run_id}&action=stop")[0] == 200
    for path in ("runs", "run/preview", "embeddings", "embeddings/preview", "ratings/picture"):
        assert ask(host, f"/textual_inversion/{path}", "POST", {})[0] == 405


@pytest.mark.parametrize("path", ["run", "ratings"])
@pytest.mark.parametrize(
    "body",
    [
        None, [], {}, {"id": 1, "action": "stop"}, {"id": "x"}, "x",
        {"name": "x", "ratings": [{"key": "0" * 16, "rating": "loved"}]},
        {"name": "x", "ratings": [{"key": 1, "rating": ""}]}, {"name": "x", "ratings": []},
    ],
)  # fmt: skip
def test_nonsense_is_refused(host: Host, path: str, body: object) -> None:
    status, kind, _ = ask(
        host, f"/textual_inversion/{path}", "POST", body, Content_Type="application/json"
    )
    assert status in (400, 404)
    assert kind.startswith("application/json")


def test_nothing_outside_can_be_read(host: Host, run_id: str) -> None:
    base = host.server.base
    outside = base / "outside_00001"
    for part in ("words", "previews", "checkpoints"):
        (outside / part).mkdir(parents=True)
    (outside / "previews" / "step-000001.png").write_bytes(SECRET)
    (outside / "settings.json").write_text('{"settings": {"name": "concealed"}}')
    runs = base / "output" / "textual_inversion"
    (runs / "linked_00001").symlink_to(outside, target_is_directory=True)
    own = runs / "own_00001"
    own.mkdir()
    (own / "previews").symlink_to(outside / "previews", target_is_directory=True)
    (own / "settings.json").symlink_to(outside / "settings.json")
    (own / "loss.csv").symlink_to(outside / "settings.json")
    (runs / run_id / "previews" / "step-999999.png").symlink_to(
        outside / "previews" / "step-000001.png"
    )
    ids = ["linked_00001", "own_00001", "../../outside_00001", "..%2F..%2Foutside_00001",
           str(outside), "..", ".", "", "outside_00001",
           f"{run_id}/../../../outside_00001"]  # fmt: skip
    for run in ids:
        for path in (f"run?id={quote(run)}", f"run/preview?id={quote(run)}&step=1"):
            status, _, content = ask(host, f"/textual_inversion/{path}")
            assert b"concealed" not in content
            assert status == 404 or (run == "own_00001" and path.startswith("run?")), path
    # Larger than a page should be sent at once.
    with (runs / run_id / "previews" / "step-888888.png").open("wb") as large:
        large.write(SECRET)
        large.truncate(9 * 1024 * 1024)
    for step in ("888888", "999999", "-1", "1e3", "²", "../1", "9" * 30):
        path = f"/textual_inversion/run/preview?id={run_id}&step={quote(step)}"
        assert ask(host, path)[0] == 404
    assert "linked_00001" not in ask_json(host, "/textual_inversion/runs")["known"]
    (runs / "concealed_00001").symlink_to(outside, target_is_directory=True)
    assert find_alike(host, {"name": "concealed"}) is None

    ratings, outside, key = base / "output/textual_inversion_ratings", base / "taste", "0" * 16
    for folder in (ratings / "own", outside):
        folder.mkdir(parents=True)
    (outside / f"{key}.json").write_text('{"prompt": "concealed", "rating": "liked"}')
    (outside / f"{key}.png").write_bytes(SECRET)
    (ratings / "linked").symlink_to(outside, target_is_directory=True)
    (ratings / "own" / f"{key}.json").write_text("{}")
    (ratings / "own" / f"{key}.png").symlink_to(outside / f"{key}.png")
    for name in ("linked", "own", "../../taste", "..", "", str(outside)):
        body = {"name": name, "ratings": [{"key": key, "rating": "disliked"}]}
        for answer in (
            ask(host, f"/textual_inversion/ratings?name={quote(name)}"),
            ask(host, f"/textual_inversion/ratings/picture?name={quote(name)}&key={key}"),
            ask(host, "/textual_inversion/ratings", "POST", body),
        ):
            assert b"concealed" not in answer[2]
            assert answer[0] == 404 or name == "own"
    for wrong in ("../" + key, "0" * 15, "²" * 16, ""):
        path = f"/textual_inversion/ratings/picture?name=own&key={quote(wrong)}"
        assert ask(host, path)[0] == 404
    assert '"liked"' in (outside / f"{key}.json").read_text()
    offered = host.object_info("TextualInversionLoadRatings")["input"]["required"]["name"][1]
    assert "own" in offered["options"]
    assert "linked" not in offered["options"]

    (base / "secret.preview.png").write_bytes(SECRET)
    save_file({"emb_params": torch.zeros(1, 768)}, base / "secret.safetensors")
    (host.embeddings / "linked.safetensors").symlink_to(base / "secret.safetensors")
    for file in ("../secret.safetensors", "../../secret.safetensors", "linked.safetensors",
                 str(base / "secret.safetensors"), "", "..", "/etc/passwd"):  # fmt: skip
        status, _, content = ask(host, f"/textual_inversion/embeddings/preview?file={quote(file)}")
        assert status == 404
        assert b"concealed" not in content
    files = [card["file"] for card in ask_json(host, "/textual_inversion/embeddings")]
    assert "linked.safetensors" not in files


def test_a_huge_picture_is_not_shown(host: Host) -> None:
    folder, key = host.server.base / "output/textual_inversion_ratings/huge", "0" * 16
    folder.mkdir(parents=True)
    (folder / f"{key}.json").write_text('{"prompt": "a cat", "seed": 1}')
    picture, address = (
        folder / f"{key}.png",
        f"/textual_inversion/ratings/picture?name=huge&key={key}",
    )
    picture.write_bytes(b"\x89PNG")
    assert ask(host, address)[0] == 200
    with picture.open("ab") as file:
        file.truncate(65 * 1024 * 1024)
    status, _, said = ask(host, address)
    assert status == 404
    assert "is too large to be shown" in json.loads(said)["error"]


def test_cards(host: Host) -> None:
    folder = host.embeddings
    name = "<img src=x onerror=alert(1)>"
    save_file({"emb_params": torch.rand(3, 768)}, folder / f"{name}.safetensors")
    save_file({"clip_l": torch.rand(2, 768), "clip_g": torch.rand(2, 1280)},
              folder / "my-negative.safetensors")  # fmt: skip
    # Larger than the page wants it; what would take too much memory to decode is not shown.
    Image.new("RGB", (2800, 2100), "teal").save(folder / "my-negative.preview.png")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    cards = {card["file"]: card for card in ask_json(host, "/textual_inversion/embeddings")}
    negative = cards["my-negative.safetensors"]
    assert negative["negative"] is True
    assert (negative["family"], negative["vectors"]) == ("SDXL", 2)
    assert (negative["prompt"], negative["preview"]) == ("embedding:my-negative", True)
    assert cards[f"{name}.safetensors"]["vectors"] == 3
    assert cards[f"{name}.safetensors"]["prompt"] == "", "a prompt would end the word at the space"
    assert f"cannot name “{name}”" in cards[f"{name}.safetensors"]["unnamed"]
    assert "broken.safetensors" in cards["broken.safetensors"]["error"]
    status, kind, content = ask(
        host, "/textual_inversion/embeddings/preview?file=my-negative.safetensors"
    )
    assert (status, kind) == (200, "image/jpeg")
    assert len(content) < 300_000
    assert ask(host, "/textual_inversion/embeddings/preview?file=broken.safetensors")[0] == 404
