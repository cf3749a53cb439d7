"""Half of a retrieval set: every second question, so that the other half is left to be judged on.

python configs/real/odd_questions.py DATA/eval/xquad-ar-en ... --output runs/real/dev
"""

import argparse
import json
from pathlib import Path

from mcontriever.texts.beir_folder import BeirFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    for folder in arguments.sets:
        write_odd_half(folder, arguments.output / folder.name)


def write_odd_half(folder: Path, target: Path) -> None:
    """The 2nd, 4th, ... question (numbers 1, 3, ... from 0); all documents stay."""
    beir = BeirFolder.load(folder)
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    odd = list(beir.queries())[1::2]
    relevance = beir.relevance("test")
    for name, rows in (("corpus", beir.documents()), ("queries", odd)):
        with open(target / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for row in rows:
                record = {"_id": row.id, "title": getattr(row, "title", ""), "text": row.text, "language": row.language}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    with open(target / "qrels" / "test.tsv", "w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query in odd:
            for document, grade in relevance.get(query.id, {}).items():
                file.write(f"{query.id}\t{document}\t{grade}\n")


if __name__ == "__main__":
    main()
