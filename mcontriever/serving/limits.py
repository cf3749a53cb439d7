"""Who needs a token, how much a client may ask for, and how long it may take."""

from dataclasses import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # this machine's own names, for which no token is needed
MOST_HITS = 1000  # offset and k together
MOST_QUERY_CHARACTERS = 10_000
MOST_TEXTS = 256
MOST_TEXT_CHARACTERS = 100_000


@dataclass(frozen=True)
class Limits:
    """`waiting` requests may wait; `together` texts are answered at once; one takes `answer_seconds` in all.

    `arrival_seconds` is for a request's head and its body to arrive, each.
    """

    waiting: int = 256
    together: int = 64
    answer_seconds: float = 30.0
    body_bytes: int = 4 << 20
    arrival_seconds: float = 10.0
