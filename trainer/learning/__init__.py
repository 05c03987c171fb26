"""Textual inversion itself: start at `loop`.

What a run minimises (`objectives`, `losses`), what it moves (`vectors`), what it carries from one
step to the next (`state`) and what it finds out on the way (`diagnostics`). May import `data`,
`methods`, `embeddings`, `settings` and what these stand on; knows no file, no folder and no model
but the seam in `model`.
"""
