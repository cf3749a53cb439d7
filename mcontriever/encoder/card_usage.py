"""The part of every model card that says how the model is used: the Python route, and MTEB's."""

from collections.abc import Mapping
from typing import Any


def usage(spec: Mapping[str, Any]) -> str:
    """Markdown, without a line break at the end."""
    ways = {"cosine": "cosine similarity", "maxsim": "the sum of each token's best product (MaxSim)"}
    compare = ways.get(spec["similarity"], "the dot product (not cosine)")
    kind = "MultiVectorEncoder" if spec["similarity"] == "maxsim" else "SentenceTransformer"
    return (
        f"## Use\n\n```python\nfrom sentence_transformers import {kind}\n\n"
        f'model = {kind}("PATH")\n'
        'questions, passages = model.encode_query(["a question"]), model.encode_document(["a passage"])\n'
        "scores = model.similarity(questions, passages)\n```\n\n"
        f"Embeddings are compared by {compare}.\n\n"
        'On MTEB\'s tasks: `mteb.evaluate(mcontriever.mteb_model("PATH"), tasks)`.'
    )
