"""What Prometheus reads: requests, times, the waiting line. Several workers share files in PROMETHEUS_MULTIPROC_DIR."""

import os
from collections.abc import Callable
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
KNOWN = {"/", "/search", "/embed", "/v1/embeddings", "/v1/models", "/stats", "/stores", "/health", "/metrics"}
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ServerMetrics:
    def __init__(self, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "mcontriever_requests", "Requests by path and status.", ("path", "status"), registry=registry
        )
        self._seconds = Histogram(
            "mcontriever_request_seconds", "From arrival to answer.", ("path",), buckets=SECONDS, registry=registry
        )
        self._together = Histogram(
            "mcontriever_answered_together", "Requests per batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self._busy = Counter("mcontriever_busy_seconds", "Time spent on searches and embeddings.", registry=registry)
        self._waiting = Gauge(
            "mcontriever_waiting_requests", "The line's length.", multiprocess_mode="livesum", registry=registry
        )
        self._length = waiting

    def count(self, path: str, status: int, seconds: float) -> None:
        path = path if path in KNOWN else "other"  # strangers choose paths, and each label is kept
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        self._waiting.set(self._length())

    def count_batch(self, requests: int, seconds: float) -> None:
        self._together.observe(requests)
        self._busy.inc(seconds)

    def text(self) -> bytes:
        self._waiting.set(self._length())
        if FOLDER not in os.environ:
            return generate_latest(self._registry)
        for file in Path(os.environ[FOLDER]).glob("gauge_live*_*.db"):
            if not psutil.pid_exists(pid := int(file.stem.rpartition("_")[2])):
                mark_process_dead(pid)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        return generate_latest(registry)
