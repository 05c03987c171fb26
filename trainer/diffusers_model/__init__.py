"""The seam over a diffusers pipeline: SD1, SD2 and SDXL base, for the command line.

`loading` alone imports diffusers and transformers, when a model is asked for. May import `errors`,
`prompts`, `model` and `embeddings`.
"""
