"""Topic-aware batches: clusters that are there are found, and batches keep to them."""

from collections import Counter

import numpy as np

from mcontriever.finetuning.topic_batches import TopicOrder, cluster_queries

BATCH = 8


def test_clusters_are_found() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(5, 16)[random.integers(0, 5, size=200)]
    rows = centres * random.uniform(0.5, 9, size=(200, 1)) + random.normal(scale=0.01, size=(200, 16))
    topics = cluster_queries(rows, clusters=5, seed=3)
    assert len({(topic, centre) for topic, centre in zip(topics, centres.argmax(axis=1), strict=True)}) == 5
    assert (cluster_queries(rows, clusters=5, seed=3) == topics).all()


def topics() -> np.ndarray:
    """Three clusters of 20, 8 and 3 examples, mixed."""
    return np.random.default_rng(1).permutation([0] * 20 + [1] * 8 + [2] * 3)


def test_a_batch_is_of_one_topic_and_an_epoch_has_every_example() -> None:
    order = TopicOrder(topics(), batch_size=BATCH, seed=5)
    assert order.batches == 3 + 1 + 1
    samples = np.arange(order.batches * BATCH)
    for epoch in range(3):
        drawn = order.examples_of(samples + epoch * len(samples))
        for batch in drawn.reshape(-1, BATCH):
            assert len(set(topics()[batch])) == 1
        counts = Counter(drawn.tolist())
        assert set(counts) == set(range(31))
        assert sum(counts[example] for example in np.flatnonzero(topics() == 1)) == 8  # a full batch repeats nothing


def test_any_rank_may_ask_for_any_stretch() -> None:
    order = TopicOrder(topics(), batch_size=BATCH, seed=5)
    whole = order.examples_of(np.arange(80))
    parts = [order.examples_of(np.arange(start, start + 4)) for start in range(0, 80, 4)]
    assert whole.tolist() == np.concatenate(parts).tolist()
    assert whole[:40].tolist() != whole[40:].tolist()
