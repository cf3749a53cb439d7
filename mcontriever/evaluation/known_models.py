"""Published encoders whose folders do not say how they are used: pooling, similarity, lengths and prefixes, by name.

A plain Hugging Face checkpoint would otherwise be read with mean pooling and the dot product. Other names that MTEB
knows (E5, BGE, naver/splade-v3, colbert-ir/colbertv2.0, ...) are loaded through MTEB.
"""

from typing import Any

from mcontriever.progress import log

_CLS_DOT = {"pooling": "cls", "similarity": "dot", "max_length": 512}
_MEAN_DOT = {"pooling": "mean", "similarity": "dot", "max_length": 512}
_SIMCSE = {"pooling": "cls", "similarity": "cosine", "max_length": 512}

KNOWN: dict[str, dict[str, Any]] = {
    "facebook/contriever": _MEAN_DOT,
    "facebook/contriever-msmarco": _MEAN_DOT,
    "facebook/mcontriever": _MEAN_DOT,
    "facebook/mcontriever-msmarco": _MEAN_DOT,
    "princeton-nlp/unsup-simcse-bert-base-uncased": _SIMCSE,
    "princeton-nlp/unsup-simcse-roberta-base": _SIMCSE,
    "Shitao/RetroMAE": _CLS_DOT,
    "Shitao/RetroMAE_MSMARCO": _CLS_DOT,
    "Shitao/RetroMAE_BEIR": _CLS_DOT,
    "Luyu/co-condenser-wiki": _CLS_DOT,
    "Luyu/co-condenser-marco": _CLS_DOT,
    "Luyu/co-condenser-marco-retriever": _CLS_DOT,
    "sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco": {**_CLS_DOT, "max_length": 256},
}


def known_settings(name: str) -> dict[str, Any]:
    """What `Encoder.load` must be told of this hub name; {} for an unknown one."""
    settings = KNOWN.get(name, {})
    if settings:
        log.info(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items()))
    return settings
