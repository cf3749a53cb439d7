"""Training examples: from any format people hold to rows on disk."""
