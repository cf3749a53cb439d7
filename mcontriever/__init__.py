"""Find a document in any language from a query in any language."""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcontriever.assembly.haystack_embedders import HaystackDocumentEmbedder, HaystackTextEmbedder
    from mcontriever.assembly.haystack_store import HaystackRetriever, HaystackStore
    from mcontriever.assembly.langchain_store import LangChainEmbeddings, LangChainStore
    from mcontriever.assembly.llama_index_store import LlamaIndexEmbedding, LlamaIndexStore
    from mcontriever.encoder import Encoder
    from mcontriever.evaluation.mteb_models import mteb_model
    from mcontriever.retrieval.searcher import Index

__version__ = _version("mcontriever")
__all__ = [
    "Encoder",
    "HaystackDocumentEmbedder",
    "HaystackRetriever",
    "HaystackStore",
    "HaystackTextEmbedder",
    "Index",
    "LangChainEmbeddings",
    "LangChainStore",
    "LlamaIndexEmbedding",
    "LlamaIndexStore",
    "__version__",
    "mteb_model",
]

_HOMES = {
    "Encoder": "mcontriever.encoder.encoder",
    "Index": "mcontriever.retrieval.searcher",
    "HaystackDocumentEmbedder": "mcontriever.assembly.haystack_embedders",
    "HaystackTextEmbedder": "mcontriever.assembly.haystack_embedders",
    "HaystackRetriever": "mcontriever.assembly.haystack_store",
    "HaystackStore": "mcontriever.assembly.haystack_store",
    "LangChainEmbeddings": "mcontriever.assembly.langchain_store",
    "LangChainStore": "mcontriever.assembly.langchain_store",
    "LlamaIndexEmbedding": "mcontriever.assembly.llama_index_store",
    "LlamaIndexStore": "mcontriever.assembly.llama_index_store",
    "mteb_model": "mcontriever.evaluation.mteb_models",
}


def __getattr__(name: str) -> Any:
    """Import torch only when something of it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mcontriever' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
