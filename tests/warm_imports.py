"""What warm_processes.py's server imports before anything is forked from it: the slow parts of the usual commands."""

import gc

import transformers.models.xlm_roberta.modeling_xlm_roberta
import transformers.models.xlm_roberta.tokenization_xlm_roberta  # noqa: F401

from mcontriever import cli, embed, export, search, train  # noqa: F401
from mcontriever.training.process_group import _import_deepspeed

_import_deepspeed()

gc.freeze()  # collecting in a forked process would copy every page
