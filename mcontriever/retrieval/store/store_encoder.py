"""Which encoder made a store. Vectors of two encoders cannot be compared, so the fingerprints must be equal."""

from pathlib import Path
from typing import TYPE_CHECKING

from mcontriever.errors import StoreError
from mcontriever.evidence_rule import DEFAULT_RULE
from mcontriever.hub import lasting_name
from mcontriever.retrieval.store.store_manifest import EncoderEntry

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder


def encoder_entry(name: str, encoder: "Encoder | None") -> EncoderEntry | None:
    if encoder is None:
        return None
    return EncoderEntry(
        model=lasting_name(name),
        fingerprint=encoder.fingerprint(),
        spec=encoder.spec(),
        evidence_rule=encoder.evidence_rule or DEFAULT_RULE,
    )


def check_searching_encoder(made_by: EncoderEntry | None, name: str, encoder: "Encoder", folder: Path) -> None:
    """Of two encoders, the store may have been made by the passages' one before the queries' was trained."""
    from mcontriever.encoder.two_encoders import passages_fingerprint

    if made_by is None or made_by.fingerprint != passages_fingerprint(encoder):
        check_encoder(made_by, encoder_entry(name, encoder), folder)


def check_encoder(made_by: EncoderEntry | None, given: EncoderEntry | None, folder: Path) -> None:
    if (made_by and made_by.fingerprint) != (given and given.fingerprint):
        raise StoreError(
            f"the store was made by another encoder: {_encoder_name(made_by)}, not {_encoder_name(given)}"
            + _differences(made_by, given),
            where=folder,
            fix="give the encoder that made the store, or embed the corpus again with this one",
        )


def _encoder_name(encoder: EncoderEntry | None) -> str:
    return f"{encoder.model} (fingerprint {encoder.fingerprint[:12]})" if encoder else "bm25 (no vectors)"


def _differences(made_by: EncoderEntry | None, given: EncoderEntry | None) -> str:
    if not made_by or not given:
        return ""
    keys = sorted(made_by.spec.keys() | given.spec.keys())
    changed = [key for key in keys if made_by.spec.get(key) != given.spec.get(key)]
    return "".join(f"; {key} {made_by.spec.get(key)!r} against {given.spec.get(key)!r}" for key in changed)
