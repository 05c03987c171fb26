"""Make the tiny model from nothing: draw the world, train every part, write the weights.

    python -m textual_inversion.demo.make_model --work FOLDER [--stage STAGE ...]

The stages are autoencoder, text, denoiser, decoder (sharpens the autoencoder's second
half without moving its latents), pack and estimator. Every stage is seeded and leaves its
result in the work folder, so that a later one can be run again alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from .captioner import NamedText
from .concepts import training_scene
from .model import (
    LATENT_CHANNELS,
    LATENT_SIZE,
    MODEL_FILE,
    TOKENIZER_FOLDER,
    AutoencoderTiny,
    load_tokenizer,
    new_unet,
    new_vae,
    original_weights,
)
from .train_autoencoder import encode_all, normalise_latents, to_network, train_autoencoder
from .train_denoiser import train_denoiser
from .train_text import train_text
from .vocabulary import write_vocabulary
from .workers import add_up, rank, run, share, workers
from .world import Scene, draw

CHUNK = 1000
STAGES = ("autoencoder", "text", "denoiser", "decoder", "pack", "estimator")


def chunk_scenes(chunk: int) -> list[Scene]:
    """The scenes of one chunk of the training set, always the same."""
    rng = np.random.default_rng([2026, chunk])
    return [training_scene(rng) for _ in range(CHUNK)]


def chunk_pictures(chunk: int) -> np.ndarray:
    """The pictures of one chunk as 8-bit values."""
    drawn = np.stack([draw(scene) for scene in chunk_scenes(chunk)])
    return np.round(drawn * 255.0).astype(np.uint8)


def all_scenes(chunks: int) -> list[Scene]:
    """The scenes of the training set, in the order of their pictures."""
    return [scene for chunk in range(chunks) for scene in chunk_scenes(chunk)]


def draw_world(chunks: int, work: Path) -> torch.Tensor:
    """All training pictures (N, H, W, 3), drawn once and kept in the work folder."""
    file = work / f"pictures-{chunks}.npy"
    if not file.exists():
        with Pool(2) as pool:
            np.save(file, np.concatenate(pool.map(chunk_pictures, range(chunks), chunksize=1)))
    return torch.from_numpy(np.load(file, mmap_mode="c"))


def reporter(name: str, every: int = 100) -> Callable[[int, float], None]:
    """A progress callback that prints the mean loss now and then."""
    seen: list[float] = []
    start = time.time()

    def report(step: int, loss: float) -> None:
        seen.append(loss)
        if rank() == 0 and (step + 1) % every == 0:
            mean = float(np.mean(seen[-every:]))
            print(f"{name} {step + 1} loss {mean:.5f} {time.time() - start:.0f}s", flush=True)

    return report


def make_autoencoder(work: Path, chunks: int, steps: int, again: bool) -> None:
    """Train the autoencoder and bring its latents to unit spread."""
    pictures = draw_world(chunks, work)
    start = None
    if again:
        start = new_vae()
        start.load_state_dict(torch.load(work / "vae.pt"))
    vae = train_autoencoder(pictures, steps, start=start, report=reporter("autoencoder"))
    if rank() == 0:
        normalise_latents(vae, pictures[:2000])
        torch.save(vae.state_dict(), work / "vae.pt")


def make_decoder(work: Path, chunks: int, steps: int) -> None:
    """Train the autoencoder's second half further, on unchanged latents."""
    vae = new_vae()
    vae.load_state_dict(torch.load(work / "vae.pt"))
    vae = train_autoencoder(
        draw_world(chunks, work),
        steps,
        start=vae,
        peak=1e-3,
        decoder_only=True,
        seed=1,
        report=reporter("decoder"),
    )
    if rank() == 0:
        torch.save(vae.state_dict(), work / "vae-sharp.pt")


def make_text(work: Path, chunks: int, steps: int, again: bool) -> None:
    """Write the vocabulary and train the text encoder; `again` trains only its namer anew."""
    write_vocabulary(TOKENIZER_FOLDER)
    text = train_text(
        all_scenes(chunks),
        load_tokenizer(),
        steps,
        start=load_text(work).encoder.state_dict() if again else None,
        report=reporter("text"),
    )
    if rank() == 0:
        torch.save(text.state_dict(), work / "text.pt")


def load_text(work: Path) -> NamedText:
    """The text encoder that `make_text` left."""
    text = NamedText(load_tokenizer())
    text.load_state_dict(torch.load(work / "text.pt"))
    return text.eval().requires_grad_(False)


def make_denoiser(work: Path, chunks: int, steps: int, again: bool) -> None:
    """Train the UNet; `again` goes on from the last result."""
    file = work / "unet.pt"
    unet = train_denoiser(
        torch.load(work / "latents.pt"),
        all_scenes(chunks),
        load_tokenizer(),
        load_text(work),
        steps,
        start=torch.load(file) if again else None,
        seed=1 if again else 0,
        report=reporter("denoiser"),
        keep=lambda step, now: torch.save(now.state_dict(), work / f"unet-{step}.pt"),
    )
    if rank() == 0:
        torch.save(unet.state_dict(), file)


def encode_world(work: Path, chunks: int) -> None:
    """Compute all latents once, up front, each worker its part."""
    vae = new_vae().eval()
    vae.load_state_dict(torch.load(work / "vae.pt"))
    pictures = draw_world(chunks, work)
    latents = torch.zeros(len(pictures), LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    latents[rank() :: workers()] = encode_all(vae, share(pictures))
    add_up([latents])
    if rank() == 0:
        torch.save(latents, work / "latents.pt")


def pack(work: Path, unet_file: Path, out: Path) -> None:
    """Write the finished parts as one file in half precision."""
    unet, vae = new_unet(), new_vae()
    unet.load_state_dict(torch.load(unet_file))
    sharp = work / "vae-sharp.pt"
    vae.load_state_dict(torch.load(sharp if sharp.exists() else work / "vae.pt"))
    weights = original_weights(unet, load_text(work).encoder, vae)
    save_file({name: value.half().contiguous() for name, value in weights.items()}, str(out))


@torch.no_grad()
def render(vae: AutoencoderTiny, pictures: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Pictures (8-bit values) as the autoencoder gives them back."""
    result = torch.empty_like(pictures[: len(latents)])
    for at in range(0, len(latents), 50):
        made = vae.decode(latents[at : at + 50]).sample
        made = made.movedim(1, -1).add(1.0).mul(127.5).clamp(0, 255).round()
        result[at : at + 50] = made.to(torch.uint8)
    return result


def make_estimator(work: Path, chunks: int, steps: int, again: bool) -> None:
    """Train the estimator, save it and print its own error; `again` goes on from the last."""
    from .estimator import load_estimator, save_estimator
    from .train_estimator import likeness_floor, measure_estimator, train_estimator

    pictures, scenes = draw_world(chunks, work), all_scenes(chunks)
    vae = new_vae().eval()
    sharp = work / "vae-sharp.pt"
    vae.load_state_dict(torch.load(sharp if sharp.exists() else work / "vae.pt"))
    latents = torch.load(work / "latents.pt")[:4000]
    rendered = render(vae, pictures, latents)
    network = train_estimator(
        pictures,
        scenes,
        steps,
        rendered=rendered,
        start=load_estimator() if again else None,
        report=reporter("estimator", 500),
    )
    save_estimator(network)
    rng = np.random.default_rng(99)
    fresh = [training_scene(rng) for _ in range(1000)]
    drawn = np.round(np.stack([draw(scene) for scene in fresh]) * 255).astype(np.uint8)
    fresh_pictures = torch.from_numpy(drawn)

    def through(seen: torch.Tensor) -> torch.Tensor:
        eight_bit = (seen * 255.0).round().to(torch.uint8)
        return render(vae, eight_bit, encode_all(vae, eight_bit)).float() / 255.0

    returned = through(fresh_pictures.float() / 255.0)
    difference = to_network(fresh_pictures) - returned.movedim(-1, 1) * 2.0 + 1.0
    print(f"autoencoder mean absolute error {difference.abs().mean() / 2:.4f} of the full range")
    print("estimator on drawings", measure_estimator(network, fresh))
    print("estimator through the autoencoder", measure_estimator(network, fresh, returned))
    print("likeness floor, drawings", likeness_floor(network))
    print("likeness floor, autoencoder", likeness_floor(network, through))


def main() -> None:
    """Run the stages asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stage", nargs="*", choices=STAGES, default=STAGES)
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--autoencoder-steps", type=int, default=3000)
    parser.add_argument("--text-steps", type=int, default=1500)
    parser.add_argument("--denoiser-steps", type=int, default=5000)
    parser.add_argument("--decoder-steps", type=int, default=1500)
    parser.add_argument("--estimator-steps", type=int, default=4000)
    parser.add_argument("--again", action="store_true", help="go on from the last result")
    parser.add_argument("--unet", type=Path, help="pack this file of the work folder")
    parser.add_argument("--out", type=Path, default=MODEL_FILE)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    work, chunks, count = options.work, options.chunks, options.workers
    work.mkdir(parents=True, exist_ok=True)
    draw_world(chunks, work)
    if "autoencoder" in options.stage:
        run(count, make_autoencoder, work, chunks, options.autoencoder_steps, options.again)
    if "text" in options.stage:
        run(count, make_text, work, chunks, options.text_steps, options.again)
    if "denoiser" in options.stage:
        if not (work / "latents.pt").exists():
            run(count, encode_world, work, chunks)
        run(count, make_denoiser, work, chunks, options.denoiser_steps, options.again)
    if "decoder" in options.stage:
        run(count, make_decoder, work, chunks, options.decoder_steps)
    if "pack" in options.stage:
        pack(work, options.unet or work / "unet.pt", options.out)
    if "estimator" in options.stage:
        torch.set_num_threads(1)
        make_estimator(work, chunks, options.estimator_steps, options.again)


if __name__ == "__main__":
    main()
