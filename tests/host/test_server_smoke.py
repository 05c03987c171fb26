"""The server starts with this pack, and stock graphs run on the checkpoints made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.client import Host, RunningHost
from support.graph import Graph, sample
from support.results import GraphFailedError, InvalidGraphError, Result
from support.server import PACK

Picture = NDArray[np.uint8]


def draw(host: Host, checkpoint: Path, detours: int = 0) -> tuple[Result, Picture]:
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name=host.add_checkpoint(checkpoint))
    saved = sample(graph, loaded[0], loaded[1], loaded[2], detours=detours)
    result = host.run(graph)
    return result, host.fetch_image(result[saved]["images"][0])


def test_the_pack_is_imported(host: Host) -> None:
    assert host.server.failed_imports() == []
    assert "does not fully fit" not in host.server.log()
    assert any(path.endswith(f"/{PACK}") for path in host.server.imports())


@pytest.mark.parametrize(
    "checkpoint",
    [
        "sd1_checkpoint",
        pytest.param("sd2_v_checkpoint", marks=pytest.mark.slow),
        pytest.param("sdxl_checkpoint", marks=pytest.mark.slow),
    ],
)
def test_a_stock_graph_gives_the_same_picture_twice(
    host: Host, checkpoint: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(checkpoint)
    first, picture = draw(host, path)
    assert picture.shape == (128, 128, 3)
    assert picture.std() > 5
    assert [step.value for step in first.progress] == [1, 2]

    second, again = draw(host, path, detours=1)
    # The sampler's progress bar is there again: it was not answered from the cache.
    assert [step.value for step in second.progress] == [1, 2]
    np.testing.assert_array_equal(picture, again)


def test_an_unchanged_graph_is_answered_from_the_cache(host: Host, sd1_checkpoint: Path) -> None:
    draw(host, sd1_checkpoint)
    result, _ = draw(host, sd1_checkpoint)
    assert result.executed == []
    assert len(result.cached) == 7


def test_a_graph_that_cannot_be_run_is_refused_readably(host: Host) -> None:
    graph = Graph()
    graph.add("CheckpointLoaderSimple", ckpt_name="absent.safetensors")
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    graph.add("SaveImage", images=image[0])
    with pytest.raises(InvalidGraphError, match=r"SaveImage \(3\): .*filename_prefix"):
        host.queue(graph)


def test_an_error_in_a_node_is_reported(host: Host) -> None:
    graph = Graph()
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    cropped = graph.add("ImageFromBatch", image=image[0], batch_index=0, length=1)
    mask = graph.add("MaskToImage", mask=graph.add("SolidMask", value=1, width=8, height=8)[0])
    joined = graph.add("ImageCompositeMasked", destination=cropped[0], source=mask[0],
                       x=0, y=0, resize_source=False)  # fmt: skip
    graph.add("SaveImage", images=joined[0], filename_prefix="../outside")
    result = host.run(graph, check=False)
    assert result.status == "error"
    assert result.error is not None
    assert result.error.node_type == "SaveImage"
    with pytest.raises(GraphFailedError, match="SaveImage"):
        result.check()


def test_an_interrupt_ends_a_graph(host: Host, sd1_checkpoint: Path) -> None:
    graph = Graph()
    loaded = graph.add("CheckpointLoaderSimple", ckpt_name=host.add_checkpoint(sd1_checkpoint))
    sample(graph, loaded[0], loaded[1], loaded[2], steps=500, seed=2)
    queued = host.queue(graph)
    host.wait_for_progress(queued, value=2)
    host.interrupt()
    assert host.wait(queued, check=False).status == "interrupted"


def test_pictures_go_in_and_come_out_unchanged(host: Host) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    name = host.upload_image(Image.fromarray(pixels))
    graph = Graph()
    image = graph.add("LoadImage", image=name)
    saved = graph.add("SaveImage", images=image[0], filename_prefix="same")
    result = host.run(graph)
    np.testing.assert_array_equal(host.fetch_image(result[saved]["images"][0]), pixels)


def test_memory_of_the_server_can_be_read(host: Host) -> None:
    memory = host.server.memory()
    assert 0 < memory.now <= memory.peak
    host.server.reset_peak()
    assert host.server.memory().peak <= memory.peak


def test_a_server_takes_further_arguments(running_host: RunningHost) -> None:
    graph = Graph()
    image = graph.add("EmptyImage", width=64, height=64, batch_size=1, color=0)
    graph.add("PreviewImage", images=image[0])
    with running_host("--cache-none") as host:
        assert host.run(graph).cached == []
        assert host.run(graph).cached == []
        assert "PreviewImage" in host.object_info("PreviewImage")["name"]
