"""All that turns text into vectors. `from mcontriever.encoder import Encoder` loads it on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcontriever.encoder.encoder import Encoder

__all__ = ["Encoder"]


def __getattr__(name: str) -> Any:
    if name != "Encoder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mcontriever.encoder.encoder import Encoder

    return Encoder
