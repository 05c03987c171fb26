"""The learned word as a value, and what can be done with it without a model.

Arithmetic with words, a report on one, a drawing of its vectors, what its notes say. May import
`errors`, `model` and `prompts`; knows no files.
"""
