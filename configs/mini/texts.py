"""The texts that mini learns from its teacher on: python configs/mini/texts.py DATA OUTPUT

OUTPUT/passages.jsonl holds passages of 40 to 90 words, OUTPUT/short.jsonl sentences and English questions, both as
corpora for `mcontriever embed`. Every language gives the same number, English more; text is cut at spaces, or by
characters where a script has none. OUTPUT/equal-passages.jsonl and OUTPUT/equal-short.jsonl hold equal contents in many
languages: the lessons of a course, and translated sentences. The choice depends on nothing but DATA.
"""

import gzip
import json
import lzma
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mcontriever.progress import log

PASSAGES, SENTENCES, TRANSLATED, ENGLISH_PASSAGES = 600, 1500, 900, 8_000
COURSE, LESSON_PASSAGES, EQUAL_SENTENCES = "ms_security101", 5, 250
UNSPACED = {"zh", "ja", "th", "my", "km"}
CHARACTERS_A_WORD = 3
END_OF_SENTENCE = re.compile(r"(?<=[.!?。！？।؟։])\s*|\n+")


def pieces(text: str, language: str, words: Callable[[], int]) -> Iterator[str]:
    """The text in consecutive pieces of about so many words."""
    units = list(text) if language in UNSPACED else text.split()
    start = 0
    while start < len(units):
        length = words() * (CHARACTERS_A_WORD if language in UNSPACED else 1)
        yield ("" if language in UNSPACED else " ").join(units[start : start + length]).strip()
        start += length


def sentences(text: str, language: str) -> Iterator[str]:
    for sentence in END_OF_SENTENCE.split(text):
        size = len(sentence) / CHARACTERS_A_WORD if language in UNSPACED else len(sentence.split())
        if 4 <= size <= 30:
            yield " ".join(sentence.split())


def some(found: list[str], count: int, draw: random.Random) -> list[str]:
    distinct = list(dict.fromkeys(text for text in found if len(text) >= 10))
    return draw.sample(distinct, min(count, len(distinct)))


def raw_text(path: Path, language: str, draw: random.Random) -> tuple[list[str], list[str]]:
    passages: list[str] = []
    short: list[str] = []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            parts = list(pieces(text, language, lambda: draw.randint(40, 90)))
            passages += draw.sample(parts, min(30, len(parts)))  # a novel must not be all that a language has
            whole = list(sentences(text, language))
            short += draw.sample(whole, min(80, len(whole)))
    return some(passages, PASSAGES * (3 if language == "en" else 1), draw), some(short, SENTENCES, draw)


def lesson_passages(path: Path, language: str) -> list[str]:
    """Equally many from every lesson, at the same places, so that all languages have the same contents."""
    found: list[str] = []
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for document in filter(lambda one: one["source"] == COURSE, map(json.loads, lines)):
            parts = list(pieces(document["text"], language, lambda: 70))
            places = range(min(LESSON_PASSAGES, len(parts)))
            found += [parts[place * len(parts) // len(places)] for place in places]
    return found


def write(path: Path, rows: list[tuple[str, str]], draw: random.Random) -> None:
    draw.shuffle(rows)
    with path.open("w", encoding="utf-8") as out:
        for number, (language, text) in enumerate(rows):
            row: dict[str, Any] = {"id": str(number), "language": language, "text": text}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    log.info(f"{path}: {len(rows):,} texts")


def main(data: Path, output: Path) -> None:
    draw = random.Random(0)
    passages: list[tuple[str, str]] = []
    short: list[tuple[str, str]] = []
    equal_passages: list[tuple[str, str]] = []
    for path in sorted(data.glob("text/*.jsonl.xz")):
        language = path.name.split(".")[0]
        long_ones, short_ones = raw_text(path, language, draw)
        passages += [(language, text) for text in long_ones]
        short += [(language, text) for text in short_ones]
        equal_passages += [(language, text) for text in lesson_passages(path, language)]
    english: list[str] = []
    sentences_of: dict[str, dict[str, str]] = {"en": {}}
    for path in sorted(data.glob("parallel/*.jsonl.gz")):
        language = path.name.split("-")[1].split(".")[0]
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            pairs = [json.loads(line) for line in lines]
        if not pairs:
            continue
        short += [(language, text) for text in some([pair[language] for pair in pairs], TRANSLATED, draw)]
        english += [pair["en"] for pair in pairs]
        sentences_of[language] = {pair["id"]: pair[language] for pair in pairs}
        sentences_of["en"] |= {pair["id"]: pair["en"] for pair in pairs}
    in_all = sorted(set.intersection(*(set(one) for one in sentences_of.values())))
    chosen = random.Random(0).sample(in_all, min(EQUAL_SENTENCES, len(in_all)))
    equal_short = [(language, one[name]) for language, one in sentences_of.items() for name in chosen]
    short += [("en", text) for text in some(english, 2 * TRANSLATED, draw)]
    with gzip.open(data / "supervised" / "en.jsonl.gz", "rt", encoding="utf-8") as lines:
        questions = [json.loads(line) for line in lines]
    short += [("en", text) for text in some([one["query"] for one in questions], ENGLISH_PASSAGES, draw)]
    cut = [next(pieces(f"{one['title']} {one['text']}".strip(), "en", lambda: 90), "") for one in questions]
    passages += [("en", text) for text in some(cut, ENGLISH_PASSAGES, draw)]
    output.mkdir(parents=True, exist_ok=True)
    write(output / "passages.jsonl", passages, draw)
    write(output / "short.jsonl", short, draw)
    write(output / "equal-passages.jsonl", equal_passages, draw)
    write(output / "equal-short.jsonl", equal_short, draw)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
