"""Embedding files: reading every format that people share, and writing those that tools take.

Nothing in a file is ever run. `layouts` names the tools whose files are understood, `writing` the
formats that are written. May import `errors` and `embeddings`.
"""
