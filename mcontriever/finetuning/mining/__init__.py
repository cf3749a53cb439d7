"""Hard negatives: what `mcontriever mine` is made of."""
