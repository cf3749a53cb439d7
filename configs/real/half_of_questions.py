"""Half of a retrieval set: every second question, so that the other half is left to be judged on.

python configs/real/half_of_questions.py DATA/eval/xquad-ar-en ... --output runs/real/dev
python configs/real/half_of_questions.py DATA/eval/xquad-ar-en ... --output runs/real/even --even
"""

import argparse
import json
from pathlib import Path

from mcontriever.texts.beir_folder import BeirFolder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--even", action="store_true", help="the other half")
    arguments = parser.parse_args()
    for folder in arguments.sets:
        write_half(folder, arguments.output / folder.name, first=0 if arguments.even else 1)


def write_half(folder: Path, target: Path, first: int) -> None:
    """Every second question from number `first` on, counted from 0; all documents stay."""
    beir = BeirFolder.load(folder)
    (target / "qrels").mkdir(parents=True, exist_ok=True)
    half = list(beir.queries())[first::2]
    relevance = beir.relevance("test")
    for name, rows in (("corpus", beir.documents()), ("queries", half)):
        with open(target / f"{name}.jsonl", "w", encoding="utf-8") as file:
            for row in rows:
                record = {"_id": row.id, "title": getattr(row, "title", ""), "text": row.text, "language": row.language}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
    with open(target / "qrels" / "test.tsv", "w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for query in half:
            for document, grade in relevance.get(query.id, {}).items():
                file.write(f"{query.id}\t{document}\t{grade}\n")


if __name__ == "__main__":
    main()
