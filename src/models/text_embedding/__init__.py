"""text-embedding: converts English texts to vectors whose cosine shows how similar two texts are."""
