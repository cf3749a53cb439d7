"""MTEB's tasks with parallel documents (XQuAD, Belebele, MLQA) as one pool, each passage in one language only.

MTEB asks for the documents of each language apart, under ids that may differ. Two documents are versions of one passage
if a question has each of them as its only answer in its language: one question to documents in several languages, or,
where MTEB keeps a question's id in all languages, its translations. Passages that cannot be told apart (one version in
one language belongs to two in another) are left out with their questions, and counted.
"""

from collections.abc import Mapping
from typing import Any

from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mcontriever.errors import ConfigError, DataError
from mcontriever.evaluation.beir_tasks import subsets_of
from mcontriever.evaluation.language_names import direction, short_code
from mcontriever.evaluation.mteb_search import document_texts
from mcontriever.evaluation.pools import Pool, Relevance, asked_in_their_own_language, deal_out, passages_of
from mcontriever.progress import log
from mcontriever.texts.documents import Document, Query

SHARED_QUESTION_IDS = ("XQuADRetrieval",)


class ParallelTask(AbsTaskRetrieval):
    """`source` is a task of MTEB with the subsets and the split to read. A subset here is a language of questions."""

    data_loaded: bool = False

    def __init__(self, source: Any, pool: Pool) -> None:
        self.source, self.pool = source, pool
        name = source.metadata.name
        self.joins_ids = name in SHARED_QUESTION_IDS
        ways = {subset: _languages(source.directions[subset]) for subset in source.hf_subsets}
        if not self.joins_ids and all(asked == answer for asked, answer in ways.values()):
            fix = "scatter XQuADRetrieval, BelebeleRetrieval, MLQARetrieval, or folders in BEIR layout"
            raise ConfigError(f"--scatter: {name} keeps each language's documents apart", fix=fix)
        codes = {
            language: code
            for subset in source.hf_subsets
            for code in source.metadata.hf_subsets_to_langscripts[subset]
            for language in [short_code(code)]
        }
        answers = {answer for _, answer in ways.values()}
        self.directions = {asked: direction(asked, answers) for asked in sorted({asked for asked, _ in ways.values()})}
        self.metadata = TaskMetadata(
            name=f"{name}-{pool}",
            description=f"{name} with each passage in one language only.",
            dataset=dict(source.metadata.dataset),
            type="Retrieval",
            category="t2t",
            eval_splits=list(source.eval_splits),
            eval_langs={
                asked: list(dict.fromkeys(codes[one] for one in (asked, *sorted(answers)))) for asked in self.directions
            },
            main_score="ndcg_at_10",
            reference=source.metadata.reference,
            license=source.metadata.license,
        )
        self.counts: dict[str, int] = {}
        super().__init__()

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        if self.data_loaded:
            return
        self.source.metadata = self.source.metadata.model_copy(update={"dataset": self.metadata.dataset})
        self.source.load_data(num_proc=num_proc)
        self.source.convert_v1_dataset_format_to_v2(num_proc=num_proc)
        split = self.eval_splits[0]
        documents, queries, relevance = self._pool(split)
        asked = [query for query in queries.values() if relevance.get(query.id)]
        self.dataset, _ = subsets_of(documents, asked, relevance, split)
        if silent := sorted(self.directions.keys() - self.dataset.keys()):
            what = f"{self.metadata.name}: no question in {', '.join(silent)} has an answer"
            raise DataError(what, where=self.metadata.dataset["path"], fix="take fewer languages: name the subsets")
        log.info(f"{self.metadata.name}: {len(asked):,} queries, {len(documents):,} documents")
        self.data_loaded = True

    def unload_data(self) -> None:
        """MTEB's method also drops the metadata, which belong to the instance here."""
        self.dataset, self.data_loaded = {}, False

    def _pool(self, split: str) -> tuple[dict[str, Document], dict[str, Query], Relevance]:
        documents, queries, judged, joined = self._whole(split)
        passages = passages_of(documents, {key: found for key, found in joined.items() if _is_clear(documents, found)})
        unclear = {key for versions in passages if not _is_clear(documents, versions) for key in versions}
        clear = [versions for versions in passages if unclear.isdisjoint(versions)]
        versions_of = {key: versions for versions in clear for key in versions}
        relevance = {
            query: {version: 1 for key in found for version in versions_of.get(key, {key})}
            for query, found in judged.items()
            if unclear.isdisjoint(found)
        }
        self.counts = {
            "documents of passages that cannot be told apart": len(unclear),
            "queries about them": len(judged) - len(relevance),
        }
        kept = {key: document for key, document in documents.items() if key not in unclear}
        kept, relevance = deal_out(kept, relevance, clear)
        if self.pool == "own":
            relevance = asked_in_their_own_language(kept, queries, relevance)
        return kept, queries, relevance

    def _whole(self, split: str) -> tuple[dict[str, Document], dict[str, Query], Relevance, Relevance]:
        """Every document and question once, what MTEB judges, and the answers that tell what is parallel."""
        documents: dict[tuple[str, str], Document] = {}
        queries: dict[tuple[str, str], Query] = {}
        judged: Relevance = {}
        joined: Relevance = {}
        for subset in self.source.hf_subsets:
            asked, answer = _languages(self.source.directions[subset])
            data = self.source.dataset[subset][split]
            texts = dict(zip(data["corpus"]["id"][:], document_texts(data["corpus"]), strict=True))
            for text in texts.values():
                documents.setdefault((answer, text), Document(f"{answer}-{len(documents)}", text, language=answer))
            for key, text in zip(data["queries"]["id"][:], data["queries"]["text"][:], strict=True):
                query = queries.setdefault((asked, text), Query(f"{asked}-q{len(queries)}", text, asked))
                found = {
                    documents[answer, texts[document]].id: 1
                    for document, grade in data["relevant_docs"].get(key, {}).items()
                    if grade > 0 and document in texts
                }
                judged.setdefault(query.id, {}).update(found)
                joined.setdefault(key if self.joins_ids else query.id, {}).update(found)
        by_id = {document.id: document for document in documents.values()}
        return by_id, {query.id: query for query in queries.values()}, judged, joined


def _languages(way: str) -> tuple[str, str]:
    """Of a direction, "ar->en" or "ar": the question's and the documents'."""
    asked, _, answer = way.partition("->")
    return asked, answer or asked


def _is_clear(documents: Mapping[str, Document], versions: Mapping[str, int] | set[str]) -> bool:
    """One document a language."""
    return len({documents[key].language for key in versions}) == len(versions)
