"""A corpus to a store: what `mcontriever embed` is made of."""
