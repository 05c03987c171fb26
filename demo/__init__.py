"""The demo: a procedural world, a tiny Stable Diffusion trained on it, and its measures.

Nothing is imported here, so that drawing pictures needs neither torch nor diffusers.
"""
