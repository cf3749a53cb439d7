"""Batches about one topic each, as in TAS-B: queries are clustered, and a batch draws from one cluster only.

    topics = cluster_queries(encoder.embed_queries(texts), clusters=2000, seed=0)
    order = TopicOrder(topics, batch_size=32, seed=0)

The negatives of a batch are then near the query's topic. An epoch has every example once, except that a cluster's last
batch is filled from the cluster's beginning. The order of batches is a pure function of (seed, batch number).

Shapes: E examples, C clusters, R samples asked for.
"""

import numpy as np

from mcontriever.chance import permuted

ITERATIONS = 20


def cluster_queries(queries_EH: np.ndarray, *, clusters: int, seed: int) -> np.ndarray:
    """The topic of each query, by k-means over the directions of their embeddings."""
    import faiss

    unit_EH = queries_EH / np.maximum(np.linalg.norm(queries_EH, axis=1, keepdims=True), 1e-12)
    unit_EH = np.ascontiguousarray(unit_EH, dtype=np.float32)
    settings = {"niter": ITERATIONS, "seed": seed, "spherical": True, "min_points_per_centroid": 1}
    kmeans = faiss.Kmeans(unit_EH.shape[1], clusters, **settings)
    kmeans.train(unit_EH)
    return kmeans.index.search(unit_EH, 1)[1][:, 0].astype(np.int32)


class TopicOrder:
    """`batch_size` is the rows of all ranks in one micro step: those in one loss."""

    def __init__(self, topics_E: np.ndarray, *, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed = batch_size, seed
        self.members = np.argsort(topics_E, kind="stable")
        sizes_C = np.bincount(topics_E)
        self.starts_C = np.cumsum(sizes_C) - sizes_C
        self.sizes_C = sizes_C
        batches_C = -(-sizes_C // batch_size)
        self.cluster_of_batch = np.repeat(np.arange(len(sizes_C)), batches_C)
        first_batch_C = np.cumsum(batches_C) - batches_C
        self.number_in_cluster = np.arange(batches_C.sum()) - first_batch_C[self.cluster_of_batch]

    @property
    def batches(self) -> int:
        """In an epoch."""
        return len(self.cluster_of_batch)

    def examples_of(self, samples_R: np.ndarray) -> np.ndarray:
        samples_R = np.asarray(samples_R, dtype=np.int64)
        examples_R = np.empty(len(samples_R), dtype=np.int64)
        for batch in np.unique(samples_R // self.batch_size):
            inside = samples_R // self.batch_size == batch
            examples_R[inside] = self._examples(int(batch), samples_R[inside] % self.batch_size)
        return examples_R

    def _examples(self, batch: int, places: np.ndarray) -> np.ndarray:
        epoch, number = divmod(batch, self.batches)
        number = int(permuted(self.seed, "topic order", self.batches, np.array(number), epoch))
        cluster = int(self.cluster_of_batch[number])
        size = int(self.sizes_C[cluster])
        in_cluster = (int(self.number_in_cluster[number]) * self.batch_size + places) % size
        shuffled = permuted(self.seed, "order in a topic", size, in_cluster, epoch, cluster)
        return self.members[self.starts_C[cluster] + shuffled]
