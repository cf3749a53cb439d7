"""From vectors to hits: the store, its indexes, BM25, fusion and re-ranking."""
