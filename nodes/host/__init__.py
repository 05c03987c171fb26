"""The only place that knows ComfyUI's internals.

`model` implements the trainer's seam over the host's loaded objects; `gradients` makes them
differentiable and puts them back; `library` is the embeddings folder.
"""
