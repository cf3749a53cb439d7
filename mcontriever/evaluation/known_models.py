"""Published encoders whose folders do not say how they are used: pooling, similarity, lengths and prefixes, by name.

A plain Hugging Face checkpoint would otherwise be read with mean pooling and the dot product. Beside each group stand
the files of the authors, or of others who publish BEIR figures, that were read for it. None of them has a prefix, and
texts are cut at 512 tokens on BEIR. Other names that MTEB knows (E5, BGE, naver/splade-v3, colbert-ir/colbertv2.0, ...)
are loaded through MTEB. ANCE is sentence-transformers/msmarco-roberta-base-ance-firstp and
TAS-B also sentence-transformers/msmarco-distilbert-base-tas-b, whose folders say all; SPARTA and SPLADE have forms of
their own (sparse_models.py), DPR too (dpr_checkpoints.py).
"""

from dataclasses import dataclass
from typing import Any

from mcontriever.evaluation.model_specs import RERANK, ModelSpec
from mcontriever.progress import log


@dataclass(frozen=True)
class _Group:
    settings: dict[str, Any]
    read: tuple[str, ...]  # repository: file
    names: tuple[str, ...]


_GROUPS = (
    _Group(
        {"pooling": "mean", "similarity": "dot", "max_length": 512},
        ("facebookresearch/contriever: README.md, eval_beir.py, src/beir_utils.py",),
        (
            "facebook/contriever",
            "facebook/contriever-msmarco",
            "facebook/mcontriever",
            "facebook/mcontriever-msmarco",
        ),
    ),
    # Unsupervised SimCSE is used without BERT's pooler (cls_before_pooler), which only its training has. Its own tool
    # cuts sentences at 128 tokens, its evaluation nowhere.
    _Group(
        {"pooling": "cls", "similarity": "cosine", "max_length": 512},
        ("princeton-nlp/SimCSE: README.md (Evaluation), evaluation.py, simcse/tool.py",),
        (
            "princeton-nlp/unsup-simcse-bert-base-uncased",
            "princeton-nlp/unsup-simcse-bert-large-uncased",
            "princeton-nlp/unsup-simcse-roberta-base",
            "princeton-nlp/unsup-simcse-roberta-large",
        ),
    ),
    # Trained on queries of 32 and passages of 144 tokens.
    _Group(
        {"pooling": "cls", "similarity": "dot", "max_length": 512},
        ("staoxiao/RetroMAE: examples/retriever/BEIR/README.md, beir_test.py, sentence_transformer_beir.py",),
        ("Shitao/RetroMAE", "Shitao/RetroMAE_MSMARCO", "Shitao/RetroMAE_MSMARCO_finetune", "Shitao/RetroMAE_BEIR"),
    ),
    # Fine-tuned on queries of 32 and passages of 128 tokens; only the retriever is fine-tuned.
    _Group(
        {"pooling": "cls", "similarity": "dot", "max_length": 512},
        (
            "luyug/Condenser: README.md (Fine-tuning)",
            "texttron/tevatron: examples/coCondenser-marco/README.md, examples/beir/eval_beir.sh, "
            "src/tevatron/retriever/arguments.py, src/tevatron/retriever/modeling/dense.py",
        ),
        (
            "Luyu/condenser",
            "Luyu/co-condenser-wiki",
            "Luyu/co-condenser-marco",
            "Luyu/co-condenser-marco-retriever",
        ),
    ),
    _Group(
        {"pooling": "cls", "similarity": "dot", "max_length": 512},
        ("sebastian-hofstaetter/tas-balanced-dense-retrieval: minimal_bert_dot_usage_example.ipynb",),
        ("sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco",),
    ),
)
KNOWN: dict[str, dict[str, Any]] = {name: dict(group.settings) for group in _GROUPS for name in group.names}
# beir-cellar/beir: examples/retrieval/evaluation/sparse/evaluate_splade.py; naver/splade: README.md
SPLADE = frozenset(
    {
        "naver/splade-cocondenser-ensembledistil",
        "naver/splade-cocondenser-selfdistil",
        "naver/splade_v2_distil",
        "naver/splade_v2_max",
    }
)
# beir-cellar/beir: examples/retrieval/evaluation/sparse/evaluate_sparta.py, beir/retrieval/models/sparta.py
SPARTA = "BeIR/sparta-msmarco-distilbert-base-v1"
# The cross-encoder of BEIR and of Contriever's table, under its new name and its old one.
_MINILM = ("cross-encoder/ms-marco-MiniLM-L6-v2", "cross-encoder/ms-marco-MiniLM-L-6-v2")
# The names of published.json: such a row is shown where the model itself cannot be fetched.
_PUBLISHED_AS = {
    "facebook/contriever": "Contriever",
    "facebook/contriever-msmarco": "Contriever + MS MARCO",
    "facebook/mcontriever": "mContriever",
    "facebook/mcontriever-msmarco": "mContriever + MS MARCO",
    "princeton-nlp/unsup-simcse-bert-base-uncased": "SimCSE",
    "princeton-nlp/unsup-simcse-roberta-large": "SimCSE (RoBERTa large)",
    "Shitao/RetroMAE": "RetroMAE",
    "Luyu/co-condenser-wiki": "coCondenser",
    "sebastian-hofstaetter/distilbert-dot-tas_b-b256-msmarco": "TAS-B",
    "sentence-transformers/msmarco-distilbert-base-tas-b": "TAS-B",
    "sentence-transformers/msmarco-roberta-base-ance-firstp": "ANCE",
    "facebook/dpr-question_encoder-multiset-base": "DPR",
    "facebook/dpr-question_encoder-single-nq-base": "DPR",
    SPARTA: "SPARTA",
    "naver/splade_v2_distil": "Splade v2",
    **{f"bm25{RERANK}{name}": "BM25+CE" for name in _MINILM},
    **{f"facebook/contriever-msmarco{RERANK}{name}": "Contriever + MS MARCO + CE" for name in _MINILM},
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


def published_as(spec: ModelSpec) -> str | None:
    """What published.json calls this model, if it has figures of it."""
    if len(spec.parts) > 1:
        return None
    return _PUBLISHED_AS.get(spec.label({}) if spec.reranker else spec.parts[0].name)
