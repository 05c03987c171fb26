"""Steps on diffusers models: diffusers' own loss, exact gradients, frozen weights."""

from __future__ import annotations

import copy

import pytest
import torch
from support.tiny_models import TinyParts, pictures
from textual_inversion.trainer.data.batches import draw_batch
from textual_inversion.trainer.data.training_set import encode
from textual_inversion.trainer.just_in_time import blocks_of
from textual_inversion.trainer.learning.loop import train
from textual_inversion.trainer.learning.losses import batch_losses
from textual_inversion.trainer.settings import Settings

PROMPT = "a red photo of [name], a [name] toy"


def hashes(parts: TinyParts) -> list[int]:
    return [hash(p.detach().numpy().tobytes()) for m in parts.modules() for p in m.parameters()]


def test_step_loss_is_that_of_diffusers_training(any_family: TinyParts) -> None:
    from diffusers import DDPMScheduler

    model, vectors = any_family.model(), any_family.vectors()
    chosen = Settings(resolution=64, batch_size=2)
    training_set = encode(model, pictures(), chosen)
    tokenized = {p: model.tokenize(p, 2) for ps in training_set.prompts for p in ps}
    seen = {}
    original = model.predict

    def watch(noisy, timesteps, conditioning):
        seen.update(noisy=noisy, timesteps=timesteps, conditioning=conditioning)
        return original(noisy, timesteps, conditioning)

    model.predict = watch
    ours = batch_losses(
        model, draw_batch(training_set, model.schedule, chosen, 0), tokenized, vectors
    ).mean()

    oracle = DDPMScheduler.from_config(any_family.scheduler.config)
    timesteps, conditioning = seen["timesteps"], seen["conditioning"]
    # The pictures come in another order every turn; the noise tells them apart.
    alphas = oracle.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    losses = []
    both = torch.stack([view.latents for (view,) in training_set.pictures])
    for latents in (both, both.flip(0)):
        noise = (seen["noisy"] - alphas.sqrt() * latents) / (1 - alphas).sqrt()
        torch.testing.assert_close(oracle.add_noise(latents, noise, timesteps), seen["noisy"])
        added = None
        if conditioning.pooled is not None:
            time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1)
            added = {"text_embeds": conditioning.pooled, "time_ids": time_ids}
        predicted = any_family.unet(
            seen["noisy"], timesteps, conditioning.states, added_cond_kwargs=added
        ).sample
        is_v = oracle.config.prediction_type == "v_prediction"
        target = oracle.get_velocity(latents, noise, timesteps) if is_v else noise
        losses.append(torch.nn.functional.mse_loss(predicted, target))
    assert min(abs(loss - ours) for loss in losses) < 1e-5


def test_gradient_is_that_of_finite_differences(any_family: TinyParts) -> None:
    parts = copy.deepcopy(any_family)
    for module in parts.modules():
        module.double()
    model = parts.model()
    vectors = {k: v.double().requires_grad_() for k, v in parts.vectors().items()}
    prompts = [model.tokenize(PROMPT, 2)]
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double()

    def value(rows: dict[str, torch.Tensor]) -> torch.Tensor:
        conditioning = model.encode_prompts(prompts, rows)
        return (model.predict(noisy, torch.tensor([300]), conditioning).double() * weights).sum()

    value(vectors).backward()
    for key, rows in vectors.items():
        assert rows.grad.norm() > 0
        # Along the gradient: there float32 at the end of `predict` matters least.
        direction, step = rows.grad / rows.grad.norm(), 1e-3
        with torch.no_grad():
            ahead = value({**vectors, key: rows + step * direction})
            behind = value({**vectors, key: rows - step * direction})
        slope = (ahead - behind) / (2 * step)
        assert slope.item() == pytest.approx(rows.grad.norm().item(), rel=2e-3)


def test_checkpointing_gives_the_same_gradient(any_family: TinyParts) -> None:
    again: list[str] = []
    gradients = []
    watched = [any_family.text_encoders[0], any_family.unet.up_blocks[0].resnets[0]]
    hooks = [m.register_forward_pre_hook(lambda m, _: again.append(type(m))) for m in watched]
    for checkpointing in (False, True):
        vectors = {k: v.requires_grad_() for k, v in any_family.vectors().items()}
        model = any_family.model(checkpointing=checkpointing)
        conditioning = model.encode_prompts([model.tokenize(PROMPT, 2)], vectors)
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        loss = model.predict(noisy, torch.tensor([300]), conditioning).square().mean()
        again.clear()
        loss.backward()
        # Going backward, the encoder and the inside of every block run once more.
        assert len(again) == (2 if checkpointing else 0)
        gradients.append({key: rows.grad for key, rows in vectors.items()})
    any_family.model()
    for hook in hooks:
        hook.remove()
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


def test_offloading_gives_the_same_gradient(any_family: TinyParts) -> None:
    """Blocks compute with stand-ins, twice in a step; their own weights stay where they are."""
    parts = copy.deepcopy(any_family)
    seen: list[bool] = []
    layers = [next(blocks_of(parts.text_encoders[0])), parts.unet.up_blocks[0].resnets[0]]
    own = [next(layer.parameters()) for layer in layers]
    for layer, weight in zip(layers, own, strict=True):
        inner = next(m for m in layer.modules() if any(p is weight for p in m.parameters(False)))
        inner.register_forward_pre_hook(
            lambda m, _, w=weight: seen.append(all(p is not w for p in m._parameters.values()))
        )
    gradients = []
    for options in ({}, {"offload": torch.device("cpu:0")}):
        seen.clear()
        vectors = {k: v.requires_grad_() for k, v in any_family.vectors().items()}
        model = parts.model(**options)
        conditioning = model.encode_prompts([model.tokenize(PROMPT, 2)], vectors)
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        model.predict(noisy, torch.tensor([300]), conditioning).square().mean().backward()
        gradients.append({key: rows.grad for key, rows in vectors.items()})
    assert seen == [True] * 4
    assert all(next(layer.parameters()) is w for layer, w in zip(layers, own, strict=True))
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)


def test_offloaded_blocks_for_which_there_is_room_stay(any_family: TinyParts) -> None:
    """None, some or all; the others come, and the gradient is the same."""
    gradients, own = [], []
    for staying in (0, 150_000, 1 << 30):
        parts = copy.deepcopy(any_family)
        before = [p for part in (parts.unet, *parts.text_encoders) for p in part.parameters()]
        model = parts.model(offload=torch.device("cpu:0"), staying=staying)
        after = [p for part in (parts.unet, *parts.text_encoders) for p in part.parameters()]
        own.append(sum(one is other for one, other in zip(before, after, strict=True)))
        vectors = {k: v.requires_grad_() for k, v in any_family.vectors().items()}
        conditioning = model.encode_prompts([model.tokenize(PROMPT, 2)], vectors)
        noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        model.predict(noisy, torch.tensor([300]), conditioning).square().mean().backward()
        gradients.append({key: rows.grad for key, rows in vectors.items()})
    assert own[0] > own[1] > own[2] == 0
    for found in gradients[1:]:
        for key, gradient in gradients[0].items():
            torch.testing.assert_close(found[key], gradient)


def test_training_changes_no_weight_and_leaves_no_gradient(any_family: TinyParts) -> None:
    before = hashes(any_family)
    chosen = Settings(init_words="toy cat", num_vectors=2, resolution=64, steps=3, batch_size=2)
    runs = [list(train(any_family.model(), pictures(), chosen)) for _ in range(2)]
    assert hashes(any_family) == before
    for module in any_family.modules():
        assert not module.training
        assert all(p.grad is None and not p.requires_grad for p in module.parameters())
    assert runs[0][-1].last.fingerprint == runs[1][-1].last.fingerprint
    start = runs[0][0].last.vectors
    for key, rows in runs[0][-1].last.vectors.items():
        assert rows.shape[0] == 2
        assert not torch.equal(rows, start[key])
    # No hook is left behind on the vocabulary.
    for encoder in any_family.text_encoders:
        assert not encoder.get_input_embeddings()._forward_hooks


def test_learning_lowers_the_loss(sd1: TinyParts) -> None:
    model = sd1.model()
    chosen = Settings(init_words="cat", num_vectors=4, resolution=64, steps=40, batch_size=4,
                      learning_rate="0.1")  # fmt: skip
    training_set = encode(model, pictures(1), chosen)
    tokenized = {p: model.tokenize(p, 4) for p in training_set.prompts[0]}

    def fixed_loss(rows: dict[str, torch.Tensor]) -> float:
        with torch.no_grad():
            return sum(
                batch_losses(
                    model,
                    draw_batch(training_set, model.schedule, chosen, 10_000 + i),
                    tokenized,
                    rows,
                )
                .mean()
                .item()
                for i in range(4)
            )

    run = list(train(model, pictures(1), chosen))
    assert fixed_loss(run[-1].last.vectors) < fixed_loss(run[0].last.vectors) - 1e-3


def test_half_precision_unet(sd1: TinyParts) -> None:
    parts = copy.deepcopy(sd1)
    parts.unet.to(torch.bfloat16)
    model = parts.model()
    assert model.compute_dtype == torch.bfloat16
    chosen = Settings(init_words="cat", resolution=64, steps=2)
    *_, progress = train(model, pictures(1), chosen)
    assert progress.last.vectors["clip_l"].dtype == torch.float32
