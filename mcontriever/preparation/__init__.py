"""Text to token shards: what `mcontriever prepare` and `tokenizer` are made of."""
