"""Somebody has decided on every family that the host knows, and the page says what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support.families import build, supported
from support.family_table import PAGE, filled, small_family
from support.loaded import executing
from support.paths import ROOT
from support.small_families import FAMILIES as SMALL

if TYPE_CHECKING:
    from textual_inversion.nodes.host.families import Family


@pytest.fixture(scope="module")
def known(host_modules: ModuleType) -> Mapping[str, Family]:
    from textual_inversion.nodes.host.families import FAMILIES

    return FAMILIES


def test_every_family_of_the_host_is_decided_on(known: Mapping[str, Family]) -> None:
    """A new class fails here until it is trained with in small, or refused in `families`."""
    import comfy.supported_models

    trained = {small.config for small in SMALL.values()}
    for config in comfy.supported_models.models:
        name = config.__name__
        assert name in known, f"{name}: add it to nodes/host/families.py"
        if not known[name].refused:
            assert name in trained, (
                f"{name}: add it to tests/support/small_families.py, or refuse it"
            )


def test_none_is_both_trained_with_and_refused(known: Mapping[str, Family]) -> None:
    for small in SMALL.values():
        assert not known[small.config].refused
    for family in known.values():
        assert family.refused or family.stills


def test_a_refusal_says_why_and_what_to_do(known: Mapping[str, Family]) -> None:
    from textual_inversion.trainer.errors import InputError

    refused = {name: family for name, family in known.items() if family.refused}
    for family in refused.values():
        with pytest.raises(
            InputError, match=r"^This is a model of the family “.+”, which .+: .+\.$"
        ):
            family.check()


def test_a_model_is_told_by_what_it_is_made_of(known: Mapping[str, Family]) -> None:
    """Also of a class that a newer host derives from one that we know."""
    import comfy.supported_models
    from textual_inversion.nodes.host.families import family_of

    def of(config: Any) -> Family | None:
        return family_of(SimpleNamespace(model=SimpleNamespace(model_config=config)))

    wan = supported(SMALL["wan"])
    assert of(wan) is known["WAN21_T2V"]
    assert of(type("WAN30_T2V", (type(wan),), {})(dict(wan.unet_config))) is known["WAN21_T2V"]
    assert of(comfy.supported_models.WAN21_I2V(dict(wan.unet_config))) is known["WAN21_I2V"]
    assert of(object()) is None


def test_a_resolution_far_from_usual_is_told(
    host_modules: ModuleType, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    from textual_inversion.nodes.host.model import HostModel

    folder = tmp_path_factory.mktemp("models")
    loaded = build("sdxl", folder, folder)
    for resolution, told in ((512, True), (768, False), (1024, False), (2048, True)):
        with (
            executing(),
            HostModel(loaded.model, loaded.clip, loaded.vae, resolution=resolution) as model,
        ):
            assert any("made for pictures of 1024 pixels" in n for n in model.notes) is told


@pytest.mark.parametrize(
    ("name", "previews"),
    [
        *[("sdxl", 7), ("pixart", 7), ("flux", 3.5), ("flux-fill", 7), ("flux-schnell", 1)],
        *[("ovis", 5), ("flux2", 4), ("flux2-klein", 5**0.5), ("z-image", 2)],
    ],
)
def test_previews_are_drawn_with_usual_guidance(
    known: Mapping[str, Family], name: str, previews: float
) -> None:
    """Between that of distilled models and of others, and never more than 7."""
    assert small_family(SMALL[name]).for_previews() == pytest.approx(previews)


@pytest.mark.parametrize(
    ("name", "guidance", "said"),
    [
        ("flux", 3, "Models of the family “Flux.1” are usually drawn with a cfg of 1, where"),
        ("flux-schnell", 1, "Models of the family “Flux.1 schnell” are usually drawn with a cfg"),
        ("flux2", 3, "Models of the family “Flux.2” are usually drawn with a cfg of 1, where"),
        ("z-image", 3, "Distilled models of the family “Z-Image” are usually drawn with a cfg"),
        ("sdxl", 12.5, "with a cfg of 7 to 8, and this word is trained for 12.5: set guidance to"),
        ("sdxl", 12, ""),
        ("sdxl", 1, ""),
        ("pixart", 30, ""),
        ("flux", None, ""),
    ],
)
def test_a_negative_that_usual_guidance_leaves_out_is_told(
    known: Mapping[str, Family], name: str, guidance: float | None, said: str
) -> None:
    family = small_family(SMALL[name])
    notes = family.notes_on(family.sides[0], guidance)
    assert len(notes) == bool(said)
    assert said in "".join(notes)


def test_an_encoder_that_reads_numbers_is_refused(host_modules: ModuleType, tmp_path: Path) -> None:
    """HiDream-O1's encoder is inside its network, and gets the ids of tokens."""
    import comfy.sd
    import comfy.supported_models
    from textual_inversion.nodes.host.text_encoders import text_encoders
    from textual_inversion.trainer.errors import InputError

    config = comfy.supported_models.HiDreamO1({"image_model": "hidream_o1"})
    clip = comfy.sd.CLIP(config.clip_target({}), embedding_directory=[str(tmp_path)])
    with pytest.raises(InputError, match="HiDreamO1TE takes no vectors in place of words"):
        text_encoders(clip)


def test_the_page_says_what_the_tests_show(known: Mapping[str, Family]) -> None:
    """`cd tests && python -m support.family_table` brings it up to date."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == filled(page, known)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    named = readme.split("\n## Models\n")[1].split("\n## ")[0].split("**")[1].split(", ")
    assert len(named) == 10
    assert set(named) <= {small.title for small in SMALL.values()}
