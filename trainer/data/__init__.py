"""From the pictures and captions that a user has to the batch that a step sees.

May import `errors`, `prompts`, `model`, `settings`, `methods` and `embeddings`. `picture_folder`
alone reads the disk.
"""
