"""How much of exact calibrated search the indexes find, in a store of languages of very different sizes.

    python benchmarks/quality/index_recall.py --model nano --text DATA/text --rows en=8000 sw=100 --output FILE.json

Documents are the first ones of LANGUAGE.jsonl.xz in the folder, cut to their first letters. Questions are some words in
a row of documents evenly drawn from every language. For each kind: recall@10 of the best ten of calibrated vectors, by
the language of what exact search finds, and how many of the first ten of hybrid search stay the same.
"""

import argparse
import json
import lzma
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mcontriever import index as index_verb
from mcontriever.encoder import Encoder
from mcontriever.progress import setup_logging
from mcontriever.retrieval.search_options import SearchOptions
from mcontriever.retrieval.searcher import Index
from mcontriever.retrieval.unanswered import piece_of
from mcontriever.retrieval.vector_search.index_kinds import FAISS_KINDS, FLAT_INT8
from mcontriever.texts.documents import Document, Query

LETTERS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", required=True, help="LANGUAGE=COUNT")
    parser.add_argument("--questions", type=int, default=30, help="of each language")
    parser.add_argument("--recall", type=float, default=0.95, help="as `mcontriever index --recall`")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    setup_logging()
    counts = {language: int(count) for language, count in (item.split("=") for item in given.rows)}
    documents = [one for language, count in counts.items() for one in _documents(given.text, language, count)]
    encoder = Encoder.load(given.model, precision="auto")
    with tempfile.TemporaryDirectory() as folder:
        index = Index.build(encoder, documents, Path(folder) / "store")
        found = _measured(index, _questions(documents, given.questions), given.recall)
    result = {"model": given.model, "rows": counts, "questions_a_language": given.questions, "kinds": found}
    print(json.dumps(result, indent=1))
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n")


def _documents(folder: Path, language: str, count: int) -> Iterator[Document]:
    with lzma.open(folder / f"{language}.jsonl.xz", "rt", encoding="utf-8") as lines:
        for number, line in enumerate(islice(lines, count)):
            yield Document(f"{language}{number}", json.loads(line)["text"][:LETTERS], language=language)


def _questions(documents: list[Document], wanted: int) -> list[Query]:
    random = np.random.default_rng(0)
    by_language: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        by_language[document.language].append(document)
    drawn = [
        own[place]
        for own in by_language.values()
        for place in np.unique(np.linspace(0, len(own) - 1, wanted).astype(int))
    ]
    return [Query(one.id, piece, one.language) for one in drawn if (piece := piece_of(one.text, random))]


def _measured(index: Index, queries: list[Query], recall: float) -> dict[str, Any]:
    exact = {mode: _ten(index, queries, mode, "exact") for mode in ("dense", "hybrid")}
    found = {}
    for kind in (FLAT_INT8, *FAISS_KINDS):
        index_verb.run(index.store.folder, kind=kind, recall=recall)
        by_vectors = _ten(index, queries, "dense", kind)
        both = _ten(index, queries, "hybrid", kind)
        found[kind] = {
            "recall_at_10": _share(exact["dense"], by_vectors),
            "by_language": _by_language(exact["dense"], by_vectors),
            "hybrid_recall_at_10": _share(exact["hybrid"], both),
        }
        print(kind, json.dumps(found[kind]), flush=True)
    return found


def _ten(index: Index, queries: list[Query], mode: Any, kind: str) -> list[dict[str, str]]:
    """Id -> language of the first ten hits of each question."""
    options = SearchOptions(mode=mode, index=kind, merge="calibrated")
    return [{hit.id: hit.language for hit in hits} for hits in index.search_many(queries, options=options, texts=False)]


def _share(exact: list[dict[str, str]], found: list[dict[str, str]]) -> float:
    shares = [len(true.keys() & some.keys()) / len(true) for true, some in zip(exact, found, strict=True)]
    return round(float(np.mean(shares)), 4)


def _by_language(exact: list[dict[str, str]], found: list[dict[str, str]]) -> dict[str, float]:
    seen: dict[str, list[bool]] = defaultdict(list)
    for true, some in zip(exact, found, strict=True):
        for key, language in true.items():
            seen[language].append(key in some)
    return {language: round(float(np.mean(hits)), 4) for language, hits in sorted(seen.items())}


if __name__ == "__main__":
    main()
