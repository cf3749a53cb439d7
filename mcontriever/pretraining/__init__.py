"""From text in many languages to gradients: readers, token shards, sampling, views and objectives."""
