"""The text of gzipped JSON lines: prepare's reader (isal, msgspec) beside Python's gzip + json, alternating in one run.

    python benchmarks/speed/read_lines.py --text FOLDER --rounds 9

FOLDER holds JSON lines with `text` and `language`. Three files are made of them: English lines of about 1 KB, lines in
all languages of about 2.5 KB with CCNet's fields, and whole documents in all languages. Seconds are the processor's
own, the best of all rounds; each reader returns the same number of characters. Writes results/read_lines.json.
"""

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from result_files import RESULTS, keep, machine_facts

from mcontriever.preparation.readers import SourceShard, read_shard
from mcontriever.preparation.source_document import SourceDocument
from mcontriever.texts.streams import read_lines

MEGABYTES = 60
FIELDS = {"text": "raw_content"} | dict.fromkeys(["title", "language", "language_score", "perplexity", "bucket"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    options = parser.parse_args()
    report: dict[str, object] = {
        "command": f"python benchmarks/speed/read_lines.py --text TEXT --rounds {options.rounds}",
        "machine": machine_facts(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        for name, lines in shapes(options.text).items():
            path = Path(scratch) / f"{name}.json.gz"
            megabytes = write_gzip(path, lines)
            report[name] = compare(path, megabytes, options.rounds)
            print(name, report[name])
    keep(report, None if options.dry else RESULTS / "read_lines.json")


def shapes(folder: Path) -> dict[str, Iterator[dict[str, object]]]:
    return {
        "english_1_kb": (ccnet_line(piece, "en") for text, _ in texts(folder, "en*") for piece in pieces(text, 700)),
        "ccnet_all_languages": (
            ccnet_line(piece, language) for text, language in texts(folder, "*") for piece in pieces(text, 1500)
        ),
        "documents_all_languages": (
            {"raw_content": text, "language": language} for text, language in texts(folder, "*")
        ),
    }


def texts(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """A few documents of each file in turn, so that the first megabytes hold every language."""
    files = [read_lines(str(path)) for path in sorted(folder.glob(f"{pattern}.jsonl*"))]
    while files:
        for lines in list(files):
            found = next(lines, None)
            if found is None:
                files.remove(lines)
            else:
                document = json.loads(found[1])
                yield document["text"], document["language"]


def pieces(text: str, characters: int) -> Iterator[str]:
    for start in range(0, len(text), characters):
        yield text[start : start + characters]


def ccnet_line(text: str, language: str) -> dict[str, object]:
    return {
        "url": "http://www.example.org/a/page/of/some/length.html",
        "date_download": "2019-02-15T18:40:25Z",
        "digest": "sha1:VQW3KXUOALO543IJGTK2JLVEAN2XXKHI",
        "length": len(text),
        "nlines": text.count("\n") + 1,
        "source_domain": "www.example.org",
        "title": text[:30],
        "raw_content": text,
        "language": language,
        "language_score": 0.97,
        "perplexity": 255.1,
        "bucket": "head",
    }


def write_gzip(path: Path, lines: Iterator[dict[str, object]]) -> float:
    size = 0
    with gzip.open(path, "wb", compresslevel=6) as file:
        for line in lines:
            size += file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            if size > MEGABYTES * 1_000_000:
                break
    return size / 1e6


def compare(path: Path, megabytes: float, rounds: int) -> dict[str, float]:
    readers: dict[str, Callable[[Path], int]] = {"gzip_json": read_with_gzip_and_json, "ours": read_ours}
    seconds = {name: [] for name in readers}
    for _ in range(rounds):
        counts = set()
        for name, reader in readers.items():
            started = time.process_time()
            counts.add(reader(path))
            seconds[name].append(time.process_time() - started)
        assert len(counts) == 1
    best = {name: min(values) for name, values in seconds.items()}
    return {
        "megabytes": round(megabytes, 1),
        "gzip_json_megabytes_per_second": round(megabytes / best["gzip_json"], 1),
        "ours_megabytes_per_second": round(megabytes / best["ours"], 1),
        "ratio": round(best["gzip_json"] / best["ours"], 2),
    }


def read_with_gzip_and_json(path: Path) -> int:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return sum(len(json.loads(line)["raw_content"]) for line in file)


def read_ours(path: Path) -> int:
    shard = SourceShard(0, "jsonl", str(path), None, {}, fields=FIELDS)
    return sum(len(found.text) for found in read_shard(shard) if isinstance(found, SourceDocument))


if __name__ == "__main__":
    main()
