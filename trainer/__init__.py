"""A textual inversion trainer that knows torch but no host.

Imports go one way, from the lower rows to the upper ones:

- `errors`, `prompts`, `model` (the one seam: what a frozen text-to-image model can do),
  `just_in_time` (weights that come when a block computes), `memory` (what of a step fits into a
  GPU's), `version`
- `embeddings`: the learned word as a value
- `methods`: the methods of the field, pure
- `settings`, `presets`: every choice, described once
- `files`: embedding files; `data`: pictures and captions, made ready
- `learning`: the loop and all that a step needs
- `diffusers_model`: the seam over diffusers; `runs`: a whole training, kept in a folder
- `cli`: the command line
"""
