"""What the page asks over HTTP: runs as they go on, and cards of embeddings."""
