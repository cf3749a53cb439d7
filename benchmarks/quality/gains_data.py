"""The data of finetuning_gains.py: tales to learn from, other tales and questions of XQuAD to be asked about."""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcontriever.texts.beir_folder import BeirFolder

HELD_OUT = 600  # questions at least, in whole tales
MOST_WORDS = 100  # of a passage, so that it is read whole
SETS = ("tales", "xquad-en-en", "xquad-ar-en")
TALES = "fairytaleqa"
Pair = dict[str, Any]


def write_data(data: Path, folder: Path) -> None:
    """Tales to learn from, others to be asked about, and all passages of both as raw text."""
    if (folder / "texts.jsonl").is_file():
        return
    asked, learned, _ = pairs_in_parts(data)
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "train.jsonl", ({"query": row["query"], "positive": row["text"]} for row in learned))
    passages = list(dict.fromkeys(row["text"] for row in asked))
    names = {text: f"d{number}" for number, text in enumerate(passages)}
    questions = [(f"q{number}", row["query"], names[row["text"]]) for number, row in enumerate(asked)]
    write_halves(folder, "tales", "en", [(name, text) for text, name in names.items()], questions)
    for language in ("en", "ar"):
        xquad = BeirFolder.load(data / "eval" / f"xquad-{language}-en")
        relevant = xquad.relevance("test")
        questions = [(query.id, query.text, next(iter(relevant[query.id]))) for query in xquad.queries()]
        documents = [(document.id, document.text) for document in xquad.documents()]
        write_halves(folder, f"xquad-{language}-en", language, documents, questions)
    (folder / "learned").mkdir()
    distinct = enumerate(dict.fromkeys(row["text"] for row in learned))
    write_lines(folder / "learned" / "corpus.jsonl", ({"_id": f"l{place}", "text": text} for place, text in distinct))
    texts = dict.fromkeys(row["text"] for rows in (learned, asked) for row in rows)
    write_lines(folder / "texts.jsonl", ({"text": text, "language": "en"} for text in texts))


def pairs_in_parts(data: Path) -> tuple[list[Pair], list[Pair], list[Pair]]:
    """Questions that are asked, those that are learned, both of whole tales, and all about other tales or no tales."""
    with gzip.open(data / "supervised" / "en.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[Pair] = [json.loads(line) for line in lines]
    tales: dict[str, list[Pair]] = defaultdict(list)
    for row in rows:
        if row["source"] == TALES and len(row["text"].split()) <= MOST_WORDS:
            tales[row["title"]].append(row)
    order = sorted(tales)
    random.Random(0).shuffle(order)
    asked: list[Pair] = []
    while len(asked) < HELD_OUT:
        asked += tales.pop(order.pop(0))
    learned = [row for title in order for row in tales[title]]
    used = {row["title"] for row in asked + learned}
    return asked, learned, [row for row in rows if row["source"] != TALES or row["title"] not in used]


def write_halves(
    parent: Path, name: str, language: str, documents: list[tuple[str, str]], asked: list[tuple[str, str, str]]
) -> None:
    """NAME-even with the questions 0, 2, ... and NAME-odd with the others; all documents are in both."""
    for half, some in (("even", asked[::2]), ("odd", asked[1::2])):
        folder = parent / f"{name}-{half}"
        (folder / "qrels").mkdir(parents=True)
        english = ({"_id": place, "title": "", "text": text, "language": "en"} for place, text in documents)
        questions = ({"_id": place, "text": text, "language": language} for place, text, _ in some)
        write_lines(folder / "corpus.jsonl", english)
        write_lines(folder / "queries.jsonl", questions)
        rows = "".join(f"{question}\t{document}\t1\n" for question, _, document in some)
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)


def write_lines(path: Path, rows: Iterable[Any]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
