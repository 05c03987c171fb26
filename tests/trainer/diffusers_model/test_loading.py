"""Loading models from folders and single files, and what is said where that fails."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support.tiny_models import TinyParts, scheduler, tokenizer
from textual_inversion.trainer.diffusers_model.loading import _marked_scheduler, load_parts
from textual_inversion.trainer.diffusers_model.model import DiffusersModel
from textual_inversion.trainer.errors import InputError


def test_folder_is_the_model_that_was_saved(any_family: TinyParts, tmp_path: Path) -> None:
    any_family.pipeline().save_pretrained(tmp_path / "some-model")
    saved = any_family.model()
    loaded = DiffusersModel.from_pretrained(tmp_path / "some-model")
    assert loaded.description["sd_checkpoint_name"] == "some-model"
    assert loaded.parameterization == saved.parameterization
    prompt = saved.tokenize("a red cat", 1)
    assert loaded.tokenize("a red cat", 1) == prompt
    noisy, t = torch.randn(1, 4, 8, 8), torch.tensor([400])
    with torch.no_grad():
        expected = saved.predict(noisy, t, saved.encode_prompts([prompt], {}))
        found = loaded.predict(noisy, t, loaded.encode_prompts([prompt], {}))
    torch.testing.assert_close(found, expected)


def test_only_the_unet_has_the_given_type(saved_sd1: Path) -> None:
    parts = load_parts(saved_sd1, torch.bfloat16)
    assert parts.unet.dtype == torch.bfloat16
    assert parts.vae.dtype == parts.text_encoders[0].dtype == torch.float32


def test_folder_that_holds_only_fp16_weights(saved_sd1: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_sd1, tmp_path / "half")
    for name in ("unet", "vae", "text_encoder"):
        for file in (folder / name).glob("*.safetensors"):
            file.rename(file.with_name(f"{file.stem}.fp16.safetensors"))
    assert load_parts(folder, torch.float32).unet.config.cross_attention_dim == 32


def test_folders_that_are_no_models(saved_sd1: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable model_index\.json"):
        load_parts(tmp_path, torch.float32)
    index = {"_class_name": "FluxPipeline", "vae": ["diffusers", "AutoencoderKL"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="holds a FluxPipeline without unet"):
        load_parts(tmp_path, torch.float32)
    (tmp_path / "model_index.json").write_text("5")
    with pytest.raises(InputError, match=r"no readable model_index\.json"):
        load_parts(tmp_path, torch.float32)
    broken = shutil.copytree(saved_sd1, tmp_path / "broken")
    index = json.loads((broken / "model_index.json").read_text())
    del index["scheduler"]
    (broken / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(
        InputError, match=r"The scheduler in .* cannot be loaded .*does not name it"
    ):
        load_parts(broken, torch.float32)
    shutil.rmtree(broken / "vae")
    with pytest.raises(InputError, match=r"The vae in “.*broken” cannot be loaded"):
        load_parts(broken, torch.float32)


def test_folder_may_not_name_other_libraries(saved_sd1: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved_sd1, tmp_path / "hostile")
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["os", "system"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="The vae in"):
        load_parts(folder, torch.float32)


def test_missing_path() -> None:
    with pytest.raises(InputError, match=r"There is no model at “nowhere\.ckpt”"):
        load_parts(Path("nowhere.ckpt"), torch.float32)


def test_without_diffusers_the_extra_is_named(saved_sd1: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r'pip install "textual-inversion\[diffusers\]"'):
        DiffusersModel.from_pretrained(saved_sd1)


def test_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora_unet": torch.zeros(1)}, file)
    with pytest.raises(
        InputError, match=r"“lora\.safetensors” is not a Stable Diffusion checkpoint"
    ):
        load_parts(file, torch.float32)
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        load_parts(file, torch.float32)


def test_file_without_a_configuration_at_hand(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    file = tmp_path / "model.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, file)
    with pytest.raises(InputError, match=r"“model\.safetensors” cannot be loaded .*with --config"):
        load_parts(file, torch.float32)
    with pytest.raises(InputError, match="is not a diffusers folder"):
        load_parts(file, torch.float32, tmp_path)


@pytest.mark.slow
def test_single_file_with_a_local_configuration(sd1_checkpoint: Path, tmp_path: Path) -> None:
    from support.checkpoints import SD1
    from support.diffusers_folder import write_folder

    tokenizer(tmp_path / "words", pads_with_end=True)
    config = write_folder(SD1, tmp_path / "config", tmp_path / "words")
    model = DiffusersModel.from_pretrained(sd1_checkpoint, dtype=torch.bfloat16, config=config)
    assert model.compute_dtype == torch.bfloat16
    assert model.description["modelspec.architecture"] == "stable-diffusion-v1/textual-inversion"
    (encoder,) = model.text_encoders
    assert (encoder.key, encoder.vocabulary.dtype) == ("clip_l", torch.float32)
    with safe_open(sd1_checkpoint, "pt") as file:
        (key,) = (k for k in file.keys() if k.endswith("token_embedding.weight"))  # noqa: SIM118
        assert torch.equal(encoder.vocabulary, file.get_tensor(key).float())


def test_marks_of_v_prediction_in_a_file() -> None:
    plain = scheduler()
    assert _marked_scheduler(plain, {"conditioner.x"}) is plain
    marked = _marked_scheduler(plain, {"v_pred"})
    assert marked.config.prediction_type == "v_prediction"
    torch.testing.assert_close(marked.alphas_cumprod, plain.alphas_cumprod)
    assert _marked_scheduler(plain, {"v_pred", "ztsnr"}).alphas_cumprod[-1] == 0
