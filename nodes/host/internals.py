"""All that the pack takes from the host's internals, which promise nothing to anyone.

One list: what it is, how it is called, what for, and since which version of ComfyUI it has been
there (0.3.10 is the oldest that was looked at). `compatibility` looks everything up when the pack
is loaded; what a part lacks switches off that part alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .compatibility import Call, Internal, Part

Row = tuple[str, Call | None, str, str]
"""As the attributes of `Internal`: name, call, since, used for."""


def _of(module: str, part: Part, *rows: Row, can_be_absent: bool = False) -> Iterator[Internal]:
    for row in rows:
        yield Internal(module, *row, part, can_be_absent)


LIBRARY, PROMPTS, MESSAGES, TRAINING, DEMO, PAGE = Part

INTERNALS: Sequence[Internal] = (
    *_of(
        "folder_paths", LIBRARY | DEMO,
        ("get_folder_paths", Call(1), "0.3.10", "the embeddings folders"),
    ),
    *_of(
        "folder_paths", TRAINING | PAGE,
        ("get_output_directory", Call(0), "0.3.10", "the folder of runs"),
    ),
    *_of(
        "folder_paths", TRAINING,
        ("get_temp_directory", Call(0), "0.3.10", "where a word goes that cannot be saved"),
    ),
    *_of(
        "server", MESSAGES | PAGE,
        ("PromptServer.instance", None, "0.3.10", "the server that runs"),
    ),
    *_of(
        "server", MESSAGES,
        ("PromptServer.send_progress_text", Call(2), "0.3.34", "text on a node"),
    ),
    *_of(
        "server", TRAINING,
        ("PromptServer.send_sync", Call(2), "0.3.10", "tell pages of a run"),
    ),
    *_of(
        "server", PAGE,
        ("PromptServer.routes", None, "0.3.10", "answer the page"),
    ),
    *_of(
        "comfy.sd1_clip", PROMPTS,
        ("load_embed", Call(4), "0.3.10", "answer for words that are in no file; replaced"),
        ("SDTokenizer", None, "0.3.10", "one encoder's tokenizer"),
        ("SDTokenizer.embedding_directory", None, "0.3.10", "whether it looks for embeddings"),
        ("SDTokenizer.embedding_key", None, "0.3.10", "what files call its vectors"),
        ("SDTokenizer.tokenizer", None, "0.3.10", "ids of a text, text of an id"),
        ("SDTokenizer.tokens_start", None, "0.3.10", "leave out the start of ids"),
        ("SDTokenizer.tokenizer_adds_end_token", None, "0.3.10", "leave out their end"),
        ("SDTokenizer.pad_token", None, "0.3.10", "the empty token"),
        ("SD1Tokenizer.tokenize_with_weights", None, "0.3.10", "fill in words; replaced"),
        ("SDClipModel.transformer", None, "0.3.10", "the table of token vectors"),
        ("SDClipModel.process_tokens", None, "0.3.23", "tell encoders that take vectors"),
    ),
    *_of(
        "comfy.sd", PROMPTS,
        ("CLIP.tokenizer", None, "0.3.10", "tokenizers of all encoders"),
        ("CLIP.cond_stage_model", None, "0.3.10", "all encoders"),
        ("CLIP.clone", Call(0), "0.3.10", "a CLIP that knows a word"),
        ("CLIP.tokenize", Call(1), "0.3.10", "tokens of a prompt"),
        ("CLIP.encode_from_tokens_scheduled", Call(1, ("add_dict",)), "0.3.10",
         "conditioning for a part of the sampling"),
    ),
    *_of(
        "comfy.sd", TRAINING,
        ("CLIP.layer_idx", None, "0.3.10", "clip skip"),
        ("CLIP.patcher", None, "0.3.10", "load the encoders"),
        ("VAE.encode", Call(1), "0.3.10", "latents of pictures"),
        ("VAE.decode", Call(1), "0.3.10", "pictures of latents"),
    ),
    *_of(
        "comfy.sd1_clip", TRAINING,
        ("SDClipModel.forward", Call(1), "0.3.10", "encode a batch of prompts"),
        ("SDClipModel.encode", Call(1), "0.3.10", "answer from that batch; replaced"),
        ("SD1ClipModel.encode_token_weights", Call(1), "0.3.10", "conditioning of a family"),
        ("SD1ClipModel.reset_clip_options", Call(0), "0.3.10", "forget other nodes' options"),
        ("SD1ClipModel.set_clip_options", Call(1), "0.3.10", "clip skip and device"),
    ),
    *_of(
        "comfy.model_management", TRAINING,
        ("load_models_gpu", Call(1, ("memory_required", "force_full_load")), "0.3.10",
         "bring the weights to where they compute"),
        ("unload_all_models", Call(0), "0.3.10", "after a GPU is full"),
        ("soft_empty_cache", Call(0), "0.3.10", "after a GPU is full"),
        ("extra_reserved_memory", Call(0), "0.3.10", "what other programs need"),
        ("get_total_memory", Call(1), "0.3.10", "the GPU's memory"),
        ("throw_exception_if_processing_interrupted", Call(0), "0.3.10", "notice a cancel"),
    ),
    *_of(
        "comfy.model_management", TRAINING,
        ("in_training", None, "0.14.0", "have operations that have a gradient"),
        ("is_oom", Call(1), "0.17.0", "tell errors of a full GPU"),
        can_be_absent=True,
    ),
    *_of(
        "comfy.model_patcher", TRAINING,
        ("ModelPatcher", None, "0.3.10", "not to look for weights in the host's books"),
        ("ModelPatcher.get_model_object", Call(1), "0.3.10", "sampling and casts, as patched"),
        ("ModelPatcher.model", None, "0.3.10", "the network"),
        ("ModelPatcher.load_device", None, "0.3.10", "where it computes"),
        ("ModelPatcher.model_options", None, "0.3.10", "patches of other nodes"),
        ("ModelPatcher.wrappers", None, "0.3.10", "wrappers of other nodes"),
        ("ModelPatcher.callbacks", None, "0.3.10", "callbacks of other nodes"),
    ),
    *_of(
        "comfy.model_patcher", TRAINING,
        ("ModelPatcher.cached_patcher_init", None, "0.15.1", "the checkpoint's name"),
        can_be_absent=True,
    ),
    *_of(
        "comfy.patcher_extension", TRAINING,
        ("copy_nested_dicts", Call(1), "0.3.10", "patches of other nodes"),
        ("merge_nested_dicts", Call(2, ("copy_dict1",)), "0.3.10", "their wrappers"),
    ),
    *_of(
        "comfy.model_base", TRAINING,
        ("BaseModel.apply_model", Call(2, ("transformer_options",)), "0.3.10",
         "what the network predicts"),
        ("BaseModel.extra_conds", None, "0.3.10", "what a family takes beside the prompt"),
        ("BaseModel.get_dtype", Call(0), "0.3.10", "the number format of weights"),
        ("BaseModel.memory_required", Call(1), "0.3.10", "the host's reckoning"),
        ("BaseModel.process_latent_in", Call(1), "0.3.10", "scale latents"),
        ("BaseModel.process_latent_out", Call(1), "0.3.10", "scale them back"),
        ("BaseModel.diffusion_model", None, "0.3.10", "the network without its surroundings"),
        ("BaseModel.latent_format", None, "0.3.10", "channels and frames of latents"),
        ("BaseModel.model_sampling", None, "0.3.10", "have the network's own output"),
    ),
    *_of(
        "comfy.latent_formats", TRAINING,
        ("LatentFormat.latent_channels", None, "0.3.10", "the shape of latents"),
    ),
    *_of(
        "comfy.latent_formats", TRAINING,
        ("LatentFormat.latent_dimensions", None, "0.3.10", "whether they have frames"),
        ("LatentFormat.spacial_downscale_ratio", None, "0.11.0", "their size"),
        can_be_absent=True,
    ),
    *_of(
        "comfy.model_sampling", TRAINING,
        ("EPS.calculate_input", Call(2), "0.3.10", "tell what is predicted"),
        ("EPS.noise_scaling", Call(3), "0.3.10", "tell what is predicted"),
        ("EPS.calculate_denoised", Call(3), "0.3.10", "tell what is predicted; replaced"),
    ),
    *_of(
        "comfy.samplers", TRAINING,
        ("cond_cat", Call(1), "0.3.10", "batches of prompts"),
        ("cond_equal_size", Call(2), "0.3.10", "which prompts fit into one"),
        ("encode_model_conds", Call(5, ("latent_image",)), "0.3.10",
         "what a family takes beside the prompt"),
    ),
    *_of(
        "comfy.sampler_helpers", TRAINING,
        ("convert_cond", Call(1), "0.3.10", "conditioning as samplers have it"),
    ),
    *_of(
        "comfy.conds", TRAINING,
        ("CONDRegular.process_cond", Call(0, ("batch_size", "device", "area")), "0.3.10",
         "conditioning of one prompt"),
        ("CONDRegular.cond", None, "0.3.10", "its tensor"),
    ),
    *_of(
        "comfy.ldm.modules.attention", TRAINING,
        ("attention_pytorch", None, "0.3.10", "attention that has a gradient"),
        ("optimized_attention", None, "0.3.10", "tell kernels that have none"),
    ),
    *_of(
        "comfy.ldm.modules.diffusionmodules.openaimodel", TRAINING,
        ("UNetModel", None, "0.3.10", "tell networks that overwrite nothing"),
    ),
    *_of(
        "comfy.ops", TRAINING,
        ("materialize_meta_param", None, "0.21.0", "tell that missing weights are zeros"),
        can_be_absent=True,
    ),
    *_of(
        "comfy.utils", TRAINING,
        ("ProgressBar", Call(1), "0.3.10", "the bar on the node"),
        ("ProgressBar.update_absolute", Call(2), "0.3.10", "move it"),
    ),
    *_of(
        "comfy_execution.graph_utils", TRAINING,
        ("ExecutionBlocker", Call(1), "0.3.48", "an output with nothing in it"),
    ),
    *_of(
        "comfyui_version", TRAINING,
        ("__version__", None, "0.3.10", "note with which version a word was made"),
        can_be_absent=True,
    ),
    *_of(
        "comfy.sd", DEMO,
        ("CLIP", Call(1, ("embedding_directory", "model_options")), "0.3.10", "the encoder"),
        ("CLIP.load_sd", Call(1), "0.3.10", "its weights"),
        ("VAE", Call(0, ("sd",)), "0.3.10", "the autoencoder"),
    ),
    *_of(
        "comfy.sd1_clip", DEMO,
        ("SDTokenizer", Call(1, ("embedding_directory", "embedding_size", "tokenizer_data")),
         "0.3.10", "its own words; the base of a class"),
        ("SD1Tokenizer", Call(2, ("tokenizer",)), "0.3.10", "the base of a class"),
        ("SDClipModel", Call(0, ("device", "dtype", "textmodel_json_config", "special_tokens",
                                 "return_projected_pooled", "model_options")),
         "0.3.10", "the base of a class"),
        ("SDClipModel.operations", None, "0.3.10", "layers that the host casts"),
        ("SD1ClipModel", Call(3, ("clip_model",)), "0.3.10", "the base of a class"),
    ),
    *_of(
        "comfy.supported_models_base", DEMO,
        ("BASE", Call(1), "0.3.10", "the network's description; the base of a class"),
        ("BASE.set_inference_dtype", Call(2), "0.3.10", "its number format"),
        ("ClipTarget", Call(2), "0.3.10", "which tokenizer and encoder"),
    ),
    *_of(
        "comfy.latent_formats", DEMO,
        ("SD15", None, "0.3.10", "its latents"),
    ),
    *_of(
        "comfy.model_base", DEMO,
        ("BaseModel", Call(2), "0.3.10", "the network"),
        ("BaseModel.load_model_weights", Call(2), "0.3.10", "its weights"),
        ("ModelType.V_PREDICTION", None, "0.3.10", "what it predicts"),
    ),
    *_of(
        "comfy.model_patcher", DEMO,
        ("ModelPatcher", Call(1, ("load_device", "offload_device")), "0.3.10", "what nodes take"),
    ),
    *_of(
        "comfy.model_management", DEMO,
        ("get_torch_device", Call(0), "0.3.10", "where it computes"),
        ("unet_offload_device", Call(0), "0.3.10", "where it waits"),
    ),
)  # fmt: skip

MARKS: dict[str, tuple[str, str]] = {
    "_v": ("0.12.0", "a layer's place in dynamic VRAM"),
    "_v_weight": ("0.14.0", "what has come to that place"),
    "_v_bias": ("0.14.0", "the same"),
    "_v_signature": ("0.12.0", "whether it is still there"),
    "_prefetch": ("0.21.0", "what is on its way"),
    "_pin_state": ("0.23.0", "pinned copies"),
    "comfy_cast_weights": ("0.3.10", "a layer that casts its weights at each use"),
    "comfy_force_cast_weights": ("0.8.1", "a layer that does not pack what it multiplies"),
    "_lowvram_function": ("0.12.0", "LoRAs that are held back until a weight comes"),
    "_function": ("0.3.10", "what else is done to a weight as it comes"),
    "_comfy_model_dtype": ("0.12.0", "the number format in which a weight comes"),
}
"""What the host hangs on layers, or on the names of their weights: since when, and what it says.

A layer without it has nothing to say, so that nothing is missing where there is none.
"""
