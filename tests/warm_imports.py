"""What warm_processes.py's server imports before anything is forked from it: the slow parts of the usual commands."""

import gc

import transformers.models.xlm_roberta.modeling_xlm_roberta
import transformers.models.xlm_roberta.tokenization_xlm_roberta  # noqa: F401

import mcontriever.cli
import mcontriever.embed
import mcontriever.export
import mcontriever.search
import mcontriever.train  # noqa: F401

gc.freeze()  # collecting in a forked process would copy every page
