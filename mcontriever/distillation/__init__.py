"""Learning from a teacher's vectors, which come from stores that `mcontriever embed` made."""
