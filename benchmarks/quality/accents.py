"""BM25 where a document's words are kept with their accents only, and where they stand without them too.

    python benchmarks/quality/accents.py DATA/eval DATA/text --output FILE.json

Real questions: nDCG@10 of the passages in the question's own language. Where there are none: eight words in a row of a
text are asked, and the text without them must be found (mean reciprocal rank). Both as they are written, and without
their accents.
"""

import argparse
import json
import lzma
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from mcontriever.evaluation.dev_sets import DevSet
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.terms import document_terms, index_terms, without_accents, word_spans

SETS = {"xquad-mixed5": ("es", "ru", "en"), "tydi-fi-fi": ("fi",), "tydi-id-id": ("id",), "tydi-sw-sw": ("sw",)}
TEXTS = ("vi", "pt", "hu", "fr", "es", "pl", "de", "tr", "it", "el", "ro", "fi", "nl", "uk")
MOST_TEXTS, LETTERS, WORDS = 600, 1500, 8
Task = tuple[list[str], list[str], list[set[int]]]  # texts, questions, and the rows that answer each
Measure = Callable[[Sequence[int], set[int]], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    found = {}
    for name, languages in SETS.items():
        pool = DevSet.load(given.sets / name)
        for language in languages:
            found[f"{name} {language}"] = _compared(_of_pool(pool, language), _ndcg)
            print(name, language, found[f"{name} {language}"], flush=True)
    for language in TEXTS:
        found[f"text {language}"] = _compared(_of_texts(given.texts / f"{language}.jsonl.xz"), _reciprocal_rank)
        print(language, found[f"text {language}"], flush=True)
    given.output.write_text(json.dumps(found, indent=1) + "\n")


def _compared(task: Task, measure: Measure) -> dict[str, float]:
    texts, questions, answers = task
    plain = [without_accents(question) for question in questions]
    found: dict[str, float] = {"questions": len(questions)}
    for way, terms in (("accents kept", index_terms), ("both", document_terms)):
        documents = [" ".join(terms(text)) for text in texts]
        index = LexicalIndex.build([documents], lambda texts: [text.split() for text in texts])
        for kind, asked in (("as written", questions), ("without accents", plain)):
            rows = index.search([" ".join(index_terms(question)) for question in asked], 10)[1].tolist()
            scores = [measure(ten, right) for ten, right in zip(rows, answers, strict=True)]
            found[f"{kind}, {way}"] = round(100 * float(np.mean(scores)), 2)
    return found


def _of_pool(pool: DevSet, language: str) -> Task:
    documents = [document for document in pool.documents if document.language == language]
    row_of = {document.id: row for row, document in enumerate(documents)}
    asked = [
        (query.text, {row_of[key] for key, grade in pool.relevance[query.id].items() if grade > 0 and key in row_of})
        for query in pool.queries
        if query.language == language
    ]
    questions, answers = zip(*[pair for pair in asked if pair[1]], strict=True)
    return [document.full_text for document in documents], list(questions), list(answers)


def _of_texts(path: Path) -> Task:
    random = np.random.default_rng(0)
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"][:LETTERS] for line in islice(lines, MOST_TEXTS)]
    questions: list[str] = []
    answers: list[set[int]] = []
    for row, text in enumerate(texts):
        spans = list(word_spans(text))
        if len(spans) < 5 * WORDS:
            continue
        first = int(random.integers(0, len(spans) - WORDS))
        start, stop = spans[first][0], spans[first + WORDS - 1][1]
        questions.append(text[start:stop])
        answers.append({row})
        texts[row] = f"{text[:start]} {text[stop:]}"
    return texts, questions, answers


def _ndcg(rows: Sequence[int], right: set[int]) -> float:
    discounts = 1 / np.log2(np.arange(2, 12))
    gained = sum(discount for discount, row in zip(discounts, rows, strict=False) if row in right)
    return float(gained / discounts[: len(right)].sum())


def _reciprocal_rank(rows: Sequence[int], right: set[int]) -> float:
    return next((1 / rank for rank, row in enumerate(rows, start=1) if row in right), 0.0)


if __name__ == "__main__":
    main()
