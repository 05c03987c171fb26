"""The only place that knows ComfyUI's internals.

`model` implements the trainer's seam over the host's loaded objects; `weights`, `memory` and
`held` bring their weights to where they compute and put them back; `gradients` holds what else a
gradient needs; `library` is the embeddings folder.
"""
