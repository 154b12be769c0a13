"""text-embedding: vectors of English texts, whose cosine says how alike two texts are."""
