"""Search a store: one query, a prompt, or a file of queries; only results go to stdout.

mcontriever search STORE "who built the bridge?" --language ar,sw --explain
mcontriever search STORE --queries queries.jsonl --trec -k 100 > run.trec
"""

import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import orjson

from mcontriever.errors import ConfigError, DataError
from mcontriever.retrieval.hit_table import show_hits
from mcontriever.retrieval.search_options import SearchOptions, preference
from mcontriever.retrieval.searcher import Index
from mcontriever.shown_text import has_controls, safe_json
from mcontriever.standard_output import can_write_all_letters, writing_results
from mcontriever.texts.documents import SHOWN_DIGITS, Hit, Query, read_queries

__all__ = ["SearchOptions", "preference", "run"]

RUN_NAME = "mcontriever"
PROMPT = "query> "


def run(
    store: Path,
    *,
    query: str | None,
    queries: str | None,
    center_queries: bool = False,
    options: SearchOptions,
    model: str | None = None,
    rerank: str | None = None,
    memory_mb: int,
    as_json: bool = False,
    as_trec: bool = False,
    explain: bool = False,
) -> None:
    if query is not None and queries is not None:
        raise ConfigError("a query and --queries were both given", fix="give one of them")
    if (as_trec or center_queries) and queries is None:
        raise ConfigError("--trec and --center-queries are for many queries", fix="add --queries FILE")
    if query is not None and not query.strip():
        raise ConfigError("the query is empty", fix="give a query with text")
    index = Index.open(store, model=model, memory_mb=memory_mb)
    if rerank is not None:
        from mcontriever.retrieval.rerank import Reranker

        index.reranker = Reranker.load(rerank)
    if queries is not None:
        asked: Iterable[Query] = read_queries(queries)
        if center_queries:
            asked = list(asked)
            index.center_queries(asked)
        _answer_all(index, asked, options, as_trec, explain)
    elif query is not None:
        _answer(index, Query("0", query), options, as_json, explain)
    elif sys.stdin.isatty():
        _answer_prompt(index, options, as_json, explain)
    else:
        fix = 'add one: mcontriever search STORE "...", or --queries FILE (- is standard input)'
        raise ConfigError("no query was given", fix=fix)


def _answer(index: Index, query: Query, options: SearchOptions, as_json: bool, explain: bool) -> None:
    hits = next(index.search_many([query], options=options))
    if not as_json:
        with writing_results():
            show_hits(hits, explain, none="nothing relevant" if options.min_confidence else "nothing found")
        return
    _write_lines(_json_line(hit.record(explain)) for hit in hits)


def _answer_prompt(index: Index, options: SearchOptions, as_json: bool, explain: bool) -> None:
    while True:
        try:
            text = input(PROMPT).strip()
        except EOFError:
            return
        if text:
            _answer(index, Query("0", text), options, as_json, explain)


def _answer_all(index: Index, queries: Iterable[Query], options: SearchOptions, as_trec: bool, explain: bool) -> None:
    asked, answered = itertools.tee(queries)
    for query, hits in zip(answered, index.search_many(asked, options=options, texts=not as_trec), strict=True):
        if as_trec:
            _write_lines(_trec_line(query, hit) for hit in hits)
        else:
            _write_lines(_json_line({"query": query.id, **hit.record(explain)}) for hit in hits)


def _write_lines(lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    with writing_results():
        sys.stdout.write(text)


def _json_line(record: dict[str, object]) -> str:
    return safe_json(orjson.dumps(record).decode()) if can_write_all_letters() else json.dumps(record)


def _trec_line(query: Query, hit: Hit) -> str:
    for identifier in (query.id, hit.id):
        if not identifier or has_controls(identifier) or any(character.isspace() for character in identifier):
            raise DataError(
                f"the id {identifier!r} cannot be in a TREC run, whose columns are separated by spaces",
                fix="omit --trec to write JSON lines",
            )
    return f"{query.id} Q0 {hit.id} {hit.rank} {hit.score:.{SHOWN_DIGITS}f} {RUN_NAME}"
