"""The methods of the field, each a function or a small class named after what papers call it.

Noise and target, weights and timesteps, learning rates and optimisers, averages, the context
regulariser, a sampler. They know no `Settings` and keep nothing between runs: numbers go in,
numbers come out. May import `errors`, `model`, `prompts` and `embeddings`.
"""
