"""Published encoders whose folders do not say how they are used: pooling, similarity, lengths and prefixes, by name.

A plain Hugging Face checkpoint would otherwise be read with mean pooling and the dot product. Pooling and similarity
were compared with the authors' evaluation code where there is some (Contriever), else with that of others who
publish BEIR figures of the model. Other names that MTEB knows (E5, BGE, naver/splade-v3, colbert-ir/colbertv2.0, ...)
are loaded through MTEB. ANCE is sentence-transformers/msmarco-roberta-base-ance-firstp, whose folder says all; SPARTA
has a form of its own (sparta.py).
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
    "Shitao/RetroMAE_MSMARCO_finetune": _CLS_DOT,
    "Shitao/RetroMAE_BEIR": _CLS_DOT,
    "Luyu/condenser": _CLS_DOT,
    "Luyu/co-condenser-wiki": _CLS_DOT,
    "Luyu/co-condenser-marco": _CLS_DOT,
    "Luyu/co-condenser-marco-retriever": _CLS_DOT,
    "sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco": _CLS_DOT,
}
SPARTA = "BeIR/sparta-msmarco-distilbert-base-v1"
# The names of published.json: such a row is shown where the model itself cannot be fetched.
PUBLISHED_AS = {
    "facebook/contriever": "Contriever",
    "facebook/contriever-msmarco": "Contriever + MS MARCO",
    "facebook/mcontriever": "mContriever",
    "facebook/mcontriever-msmarco": "mContriever + MS MARCO",
    "princeton-nlp/unsup-simcse-bert-base-uncased": "SimCSE",
    "Shitao/RetroMAE": "RetroMAE",
    "Luyu/co-condenser-wiki": "coCondenser",
    "sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco": "TAS-B",
    "sentence-transformers/msmarco-distilbert-base-tas-b": "TAS-B",
    "sentence-transformers/msmarco-roberta-base-ance-firstp": "ANCE",
    "facebook/dpr-question_encoder-multiset-base": "DPR",
    "facebook/dpr-question_encoder-single-nq-base": "DPR",
    SPARTA: "SPARTA",
    "intfloat/multilingual-e5-small": "multilingual-e5-small",
    "intfloat/multilingual-e5-base": "multilingual-e5-base (XLM-R base)",
    "intfloat/multilingual-e5-large": "multilingual-e5-large",
    "BAAI/bge-m3": "BGE-M3 dense",
    "sentence-transformers/LaBSE": "LaBSE",
}


def known_settings(name: str) -> dict[str, Any]:
    """The arguments of `Encoder.load` for this hub name; {} for an unknown one."""
    settings = KNOWN.get(name, {})
    if settings:
        log.info(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in settings.items()))
    return settings
