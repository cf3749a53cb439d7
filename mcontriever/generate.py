"""Write queries for passages, or passages expanded by them: `mcontriever generate --config FILE`.

`queries` makes training data for a corpus that has none (GenQ): use it with `format: dpr`. `expansion` appends the
queries to each passage, so that BM25 finds it by them (docT5query): embed that corpus with `--model bm25`. Shards of
the corpus become parts of the output, so a killed run resumes at the shard that it had started.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from mcontriever.config import GenerateConfig
from mcontriever.disk import FolderLock, remove_temporaries
from mcontriever.finetuning.part_folder import PARTS, PartFolder
from mcontriever.finetuning.query_writer import QueryWriter
from mcontriever.progress import log, track
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.texts.documents import Document

NOT_IN_THE_RESULT = {"output", "device"}


def run(config: GenerateConfig) -> None:
    output = Path(config.output)
    corpus = Corpus.open(config.corpus, fields=config.corpus_fields, language=config.language)
    PARTS.require_own(output)
    with FolderLock(output):
        remove_temporaries(output)
        folder = PartFolder(output, "generated" if config.write == "queries" else "expanded")
        folder.begin({**config.model_dump(mode="json", exclude=NOT_IN_THE_RESULT), "corpus_state": corpus.state()})
        if folder.is_complete:
            log.info(f"already complete: {output}")
            return
        totals = _write_parts(config, corpus, folder)
    log.info(f"{totals['texts']:,} texts for {totals['passages']:,} passages: {output}")


def _write_parts(config: GenerateConfig, corpus: Corpus, folder: PartFolder) -> Counter[str]:
    writer, number = None, 0
    documents = islice((document for _, document in corpus.documents()), config.max_passages)
    with track(config.max_passages, f"writing {config.write}", "passages") as progress:
        while shard := list(islice(documents, config.shard_passages)):
            if not folder.has_part(number):
                writer = writer or _writer(config)
                records, counts = _shard(config, writer, shard, number)
                folder.write_part(number, records, {"counts": counts})
            number += 1
            progress.advance(len(shard))
    totals: Counter[str] = Counter()
    for part in range(number):
        totals.update(folder.statistics(part)["counts"])
    folder.complete(number, {"counts": totals})
    return totals


def _writer(config: GenerateConfig) -> QueryWriter:
    from mcontriever.retrieval.embedding.launching import Place

    settings = config.model_dump(
        include={
            "per_passage",
            "prompt",
            "max_passage_tokens",
            "max_query_tokens",
            "temperature",
            "top_k",
            "top_p",
            "seed",
        }
    )
    device = Place.of_environment().device(config.device)
    return QueryWriter.load(config.model, device=device, batch_passages=config.batch_passages, **settings)


def _shard(
    config: GenerateConfig, writer: QueryWriter, documents: list[Document], number: int
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    kept = [document for document in documents if document.text.strip()]
    queries, dropped = writer.write(kept, number)
    record = _examples if config.write == "queries" else _expanded
    counts = {
        "passages": len(kept),
        "empty_passages": len(documents) - len(kept),
        "texts": sum(map(len, queries)),
        **dropped,
    }
    records = [line for document, texts in zip(kept, queries, strict=True) for line in record(document, texts)]
    return records, counts


def _examples(document: Document, queries: list[str]) -> Iterator[dict[str, Any]]:
    passage = {"id": document.id, "title": document.title, "text": document.text}
    for number, query in enumerate(queries):
        identity = {"id": f"{document.id}-{number}", "language": document.language}
        yield {**identity, "question": query, "positive_ctxs": [passage], "hard_negative_ctxs": []}


def _expanded(document: Document, queries: list[str]) -> Iterator[dict[str, Any]]:
    text = " ".join([document.text, *queries])
    yield {"id": document.id, "title": document.title, "text": text, "language": document.language}
