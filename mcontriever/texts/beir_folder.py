"""A BEIR folder: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (each plain, .gz, .xz or .zst)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mcontriever.errors import DataError
from mcontriever.texts.documents import Document, Query, read_documents, read_queries
from mcontriever.texts.locations import PACKED_SUFFIXES
from mcontriever.texts.streams import read_lines

MOST_GRADE = (1 << 31) - 1  # the libraries that score take 32 bits


@dataclass(frozen=True)
class BeirFolder:
    folder: Path

    @classmethod
    def load(cls, folder: str | Path) -> "BeirFolder":
        beir = cls(Path(folder))
        if not beir.folder.is_dir():
            raise DataError("no such folder", where=folder, fix="give a folder with corpus, queries and qrels/")
        for name in ("corpus.jsonl", "queries.jsonl"):
            beir.path_of(name)
        return beir

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def documents(self) -> Iterator[Document]:
        return read_documents(self.path_of("corpus.jsonl"))

    def queries(self) -> Iterator[Query]:
        return read_queries(self.path_of("queries.jsonl"))

    def relevance(self, split: str = "test") -> dict[str, dict[str, int]]:
        """query id -> {document id: grade}, in file order."""
        relevance: dict[str, dict[str, int]] = {}
        for _, query_id, document_id, grade in self.judgements(split):
            relevance.setdefault(query_id, {})[document_id] = grade
        return relevance

    def judgements(self, split: str) -> Iterator[tuple[str, str, str, int]]:
        """("file:line", query id, document id, grade); a line that cannot be read is a DataError."""
        path = self.path_of(f"qrels/{split}.tsv")
        for number, raw in read_lines(str(path)):
            line = raw.decode("utf-8", errors="replace").rstrip("\r")
            if not line or (number == 1 and line.split("\t")[-1] == "score"):
                continue
            parts = line.split("\t")
            try:
                yield f"{path}:{number}", parts[0], parts[1], _grade(parts[2])
            except (IndexError, ValueError) as error:
                raise DataError(
                    f"expected query-id, corpus-id and a whole number between tabs, found {line!r}",
                    where=f"{path}:{number}",
                    fix="fix the line",
                ) from error

    def path_of(self, name: str) -> Path:
        for suffix in ("", *PACKED_SUFFIXES):
            path = self.folder / (name + suffix)
            if path.is_file():
                return path
        raise DataError(
            f"no file {name} (or {name}.gz, .xz, .zst)",
            where=self.folder,
            fix="a BEIR folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv",
        )


def _grade(text: str) -> int:
    grade = int(text)
    if abs(grade) > MOST_GRADE:
        raise ValueError(f"{grade} is no grade")
    return grade
