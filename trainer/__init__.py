"""A textual inversion trainer that knows torch but no host.

The parts, in the order in which data flows through them:

- `settings`: every choice, described once; `presets`: those that belong together.
- `data`: pictures, masks and captions as a user has them, made ready.
- `prompts`: where the word stands in a prompt, and the templates of the paper.
- `model`: the one seam: what a frozen text-to-image model must be able to do.
- `initial`: the vectors before the first step.
- `optimizers`, `averaging`, `core_regularizer`, `stopping`: how the vectors move, what of them is
  kept, what they leave alone, and when it is enough.
- `timesteps`, `batches`: what a step sees.
- `objective`, `weighting`: noise, target and loss, and how much each timestep counts.
- `tasks`, `negative_tasks`: what a run learns: a word, a negative one, or a pair.
- `schedule`: the learning rate.
- `loop`: the generator that ties them together.
- `state`: all that one step hands to the next, and its file: how a run is resumed.
- `runs`, `run_folder`: how a run is kept on the disk, written and read; `live`: how it is seen
  and steered while it goes on; `kept_training`: the loop with all of these.
- `sampler`, `previews`: pictures drawn from the seam, and a grid of them.
- `embedding`, `files`: what has been learned, and how it is kept.

`diffusers_model` implements the seam for diffusers, with `clip_tokens` and
`diffusers_files`; `cli` is the command line.
"""
