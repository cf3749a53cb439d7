"""The command line of the verbs on a store of vectors: `embed`, `search`, `verify`, `delete` and `index`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mcontriever.cli.configuration_options import Engine, Upload
from mcontriever.retrieval.vector_search.index_kinds import KINDS

DetectLanguage = Annotated[
    bool,
    typer.Option(
        "--detect-language/--no-detect-language",
        help="Detect the language of documents without one, or with a wrong one.",
    ),
]

EmbeddingModel = Annotated[
    str | None,
    typer.Option(
        help="mini (the default), nano (70 times as fast or more, finds less), a folder, a hub name, or bm25."
    ),
]


def embed(
    corpus: Annotated[
        str,
        typer.Argument(help="JSON lines, TSV or Parquet (.gz, .xz, .zst may follow), a BEIR folder, hub:NAME, or -"),
    ],
    output: Annotated[Path, typer.Option(help="The store's folder.")],
    model: EmbeddingModel = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the store; ids must be new.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Add to the store, replacing equal ids.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished embedding first.")] = False,
    fields: Annotated[
        list[str] | None, typer.Option(help="The corpus's name of a field: id=NAME, text=NAME, ... Repeatable.")
    ] = None,
    language: Annotated[str, typer.Option(help="The language of documents without one.")] = "",
    detect_language: DetectLanguage = True,
    subset: Annotated[str | None, typer.Option(help="hub: the dataset's configuration.")] = None,
    split: Annotated[str, typer.Option(help="hub: the dataset's split.")] = "train",
    dtype: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="How vectors are stored; fp16 if not given.")
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Store no titles and texts.")] = False,
    queries: Annotated[
        bool, typer.Option("--queries", help="The texts are queries: to learn from a teacher, not to search.")
    ] = False,
    passage_words: Annotated[int | None, typer.Option(min=1, help="Cut documents into passages of N words.")] = None,
    passage_overlap: Annotated[int | None, typer.Option(min=0, help="Words that neighbouring passages share.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine, with Ray on each.")] = 1,
    engine: Engine = "local",
    upload: Upload = None,
    shard_documents: Annotated[int | None, typer.Option(min=1, help="Documents per shard.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 (GPU) or int8 (CPU).")] = "auto",
) -> None:
    """Embed a corpus into a store. The same command resumes an interrupted run."""
    from mcontriever import embed as verb

    request = verb.EmbeddingRequest(
        corpus=corpus,
        output=output,
        model=model,
        mode=verb.mode_of(append=append, replace=replace),
        fields=verb.named_fields(fields or []),
        language=language,
        subset=subset,
        split=split,
        dtype=dtype,
        keeps_text=False if no_text else None,
        passage_words=passage_words,
        passage_overlap=passage_overlap,
        shard_documents=shard_documents,
        device=device,
        precision=precision,
        restart=restart,
        as_queries=queries,
        detects_languages=detect_language,
    )
    verb.run(request, processes, engine, upload)


Merge = Annotated[
    Literal["calibrated", "raw"] | None,
    typer.Option(help="Scores that can be compared between languages (if there are several, or in hybrid), or raw."),
]
Prefer = Annotated[
    str, typer.Option(help="Documents in the query's language: own, any, or a number added to their scores.")
]
MinConfidence = Annotated[float, typer.Option(min=0, max=1, help="Return no hit with a confidence below this.")]
FusionOption = Annotated[
    Literal["rrf", "weighted", "blend"] | None,
    typer.Option(help="hybrid, without calibration: by ranks, stretched scores, or unchanged scores."),
]

DenseWeight = Annotated[
    float | None, typer.Option(help="weighted (0.5), blend (0.24): the weight of the vectors, 0 to 1.")
]
SearchMode = Annotated[
    Literal["dense", "bm25", "hybrid"] | None, typer.Option(help="dense if the store has vectors, else bm25.")
]

CenterLanguages = Annotated[
    bool, typer.Option("--center-languages", help="Subtract each language's mean from its documents.")
]
CenterQueries = Annotated[bool, typer.Option("--center-queries", help="With --queries: and from its queries.")]


def search(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    query: Annotated[str | None, typer.Argument(help="Without it, and on a terminal, a prompt.")] = None,
    queries: Annotated[str | None, typer.Option(help="A file of queries as JSON lines; - is standard input.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits per query.")] = 10,
    mode: SearchMode = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per hit.")] = False,
    trec: Annotated[bool, typer.Option("--trec", help="With --queries: a TREC run instead of JSON lines.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show the scores behind each hit's rank.")] = False,
    language: Annotated[str, typer.Option(help="Only documents in these languages: ar,sw")] = "",
    center_languages: CenterLanguages = False,
    center_queries: CenterQueries = False,
    merge: Merge = None,
    prefer: Prefer = "any",
    min_confidence: MinConfidence = 0.0,
    index: Annotated[str, typer.Option(help="auto, exact, or a kind that mcontriever index made.")] = "auto",
    terms: Annotated[Literal["words", "subwords", "both"], typer.Option(help="What BM25 counts.")] = "words",
    fusion: FusionOption = None,
    dense_weight: DenseWeight = None,
    rerank: Annotated[str | None, typer.Option(help="A cross-encoder: a folder or hub name.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="How many documents are fused and re-ranked.")] = 100,
    model: Annotated[str | None, typer.Option(help="The store's encoder, if it was moved.")] = None,
    memory_mb: Annotated[int, typer.Option(min=1, help="Working memory of exact search.")] = 200,
) -> None:
    """Search a store; results go to stdout."""
    from mcontriever import search as verb

    options = verb.SearchOptions(
        k=k,
        mode=mode,
        index=index,
        languages=tuple(code.strip() for code in language.split(",") if code.strip()),
        terms=terms,
        fusion=fusion,
        dense_weight=dense_weight,
        depth=depth,
        center_languages=center_languages,
        merge=merge,
        prefer=verb.preference(prefer),
        min_confidence=min_confidence,
    )
    verb.run(
        store,
        query=query,
        queries=queries,
        center_queries=center_queries,
        options=options,
        model=model,
        rerank=rerank,
        memory_mb=memory_mb,
        as_json=as_json,
        as_trec=trec,
        explain=explain,
    )


def verify(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed or prepare made, or a model's.")],
    repair: Annotated[bool, typer.Option("--repair", help="Make damaged files again.")] = False,
    model: Annotated[str | None, typer.Option(help="The store's encoder, if it was moved.")] = None,
) -> None:
    """Check a store's, token shards' or a model's checksums, and list what is damaged."""
    from mcontriever import verify as verb

    verb.run(store, repair=repair, model=model)


def delete(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    identifiers: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Documents' ids.")] = None,
    ids_from: Annotated[Path | None, typer.Option(help="A file with an id on each line, or FILE.jsonl.")] = None,
    missing_ok: Annotated[bool, typer.Option("--missing-ok", help="Ignore ids that are not in the store.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Then free the space of deleted documents.")] = False,
) -> None:
    """Delete documents from a store by their ids."""
    from mcontriever import delete as verb

    verb.run(store, identifiers or [], ids_from=ids_from, compact=compact, missing_ok=missing_ok)


def index(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}; auto chooses by size and memory.")] = "auto",
    memory_mb: Annotated[
        int | None, typer.Option(min=1, help="Memory for the index; half of what is free if not given.")
    ] = None,
    recall: Annotated[float, typer.Option(min=0.01, max=1.0, help="The recall@10 to reach.")] = 0.95,
    center_languages: Annotated[
        bool, typer.Option("--center-languages", help="Subtract each language's mean vector.")
    ] = False,
    terms: Annotated[Literal["words", "subwords"], typer.Option(help="bm25: what it counts.")] = "words",
    uri: Annotated[
        str | None,
        typer.Option(help="milvus: a file name.db, or http://host:19530 (its password in MILVUS_TOKEN=user:password)."),
    ] = None,
) -> None:
    """Make an index beside a store, and measure it against exact search."""
    from mcontriever import index as verb

    verb.run(
        store,
        kind=kind,
        memory_mb=memory_mb,
        recall=recall,
        center_languages=center_languages,
        terms=terms,
        uri=uri,
    )
