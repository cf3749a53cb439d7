"""What forked_commands.py's server imports before any command is forked from it."""

import gc

import transformers.models.xlm_roberta.modeling_xlm_roberta  # noqa: F401

import mcontriever.cli
import mcontriever.mine
import mcontriever.retrieval.embedding.embedding_run
import mcontriever.retrieval.vector_search.faiss_index
import mcontriever.train  # noqa: F401
from mcontriever.training.process_group import _import_deepspeed

_import_deepspeed()

gc.freeze()  # collecting in a forked process would copy every page
