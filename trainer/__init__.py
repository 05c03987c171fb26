"""A textual inversion trainer that knows torch but no host.

The parts, in the order in which data flows through them:

- `settings`: every choice, described once.
- `data`: pictures, masks and captions as a user has them, made ready.
- `prompts`: where the word stands in a prompt, and the templates of the paper.
- `model`: the one seam: what a frozen text-to-image model must be able to do.
- `initial`: the vectors before the first step.
- `objective`: noise, timesteps, target and loss.
- `schedule`: the learning rate.
- `loop`: the generator that ties them together.
- `sampler`, `previews`: pictures drawn from the seam, and a grid of them.
- `embedding`, `files`: what has been learned, and how it is kept.

`diffusers_model` implements the seam for diffusers, with `clip_tokens` and
`diffusers_files`; `cli` is the command line.
"""
