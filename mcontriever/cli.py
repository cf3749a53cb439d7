"""`mcontriever <verb>`: the command line. Each verb is imported when it runs, so help needs no torch."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.core import TyperCommand

from mcontriever.errors import UserError
from mcontriever.progress import log, setup_logging

if TYPE_CHECKING:
    from mcontriever.config import Section

app = typer.Typer(
    name="mcontriever",
    help="Find a document in any language from a query in any language.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

HEAD_START_SECONDS = 10.0
INTERRUPTED = 130

Overrides = Annotated[list[str] | None, typer.Option("--set", help="Change one value: section.key=value. Repeatable.")]
PrintConfig = Annotated[bool, typer.Option("--print-config", help="Show the resolved values and stop.")]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a verb; a user's mistake becomes one message on stderr and exit code 2."""
    try:
        app(args=arguments, standalone_mode=True)
    except UserError as error:
        fail(error)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            log.warning("interrupted; run the same command again to go on")
        raise
    sys.exit(0)


def fail(error: UserError) -> NoReturn:
    """Of the ranks of a distributed run the first speaks at once; its launcher then ends the others before they do."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(HEAD_START_SECONDS)
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mcontriever import __version__

        print(f"mcontriever {__version__}")
        raise typer.Exit


def _print_config(config: "Section") -> NoReturn:
    from mcontriever.config import dump_config

    print(dump_config(config), end="")
    raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings, errors and results.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    if log_level not in ("debug", "info", "warning", "error"):
        from mcontriever.errors import ConfigError

        raise ConfigError(f"--log-level {log_level} is not a level", fix="choose debug, info, warning or error")
    setup_logging(log_level, quiet)


@app.command()
def prepare(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML), or the name of one that ships: atlas, ccnet29, ...")],
    output: Annotated[str, typer.Option(help="The folder for the token shards.")],
    tokenizer: Annotated[str, typer.Option(help="The encoder's tokenizer: a folder, a hub name, or nano.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores if not given.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first damaged line or file.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what the folder holds, begin anew.")] = False,
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Turn shards of text into token shards, by a recipe. Interrupted, it goes on where it was."""
    from mcontriever import prepare as verb
    from mcontriever.config import load_recipe

    loaded = load_recipe(recipe, overrides)
    if print_config:
        _print_config(loaded)
    verb.run(loaded, output, tokenizer, workers=workers, strict=strict, restart=restart)


@app.command()
def tokenizer(
    recipe: Annotated[str, typer.Argument(help="A recipe (YAML), or the name of one that ships.")],
    output: Annotated[str, typer.Option(help="The folder for the tokenizer.")],
    vocabulary: Annotated[int, typer.Option(min=50, help="How many pieces, special ones included.")],
    alpha: Annotated[float, typer.Option(help="A language's share grows with its size to this power.")] = 0.3,
    max_characters: Annotated[int, typer.Option(min=1000, help="How much text to train on.")] = 100_000_000,
    seed: Annotated[int, typer.Option(help="Which texts are sampled.")] = 0,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Fold case: a word and its capital are one.")] = False,
    dictionaries: Annotated[
        str | None,
        typer.Option(help="Bilingual word lists, as data/en-{language}.tsv.gz, whose words may become pieces."),
    ] = None,
    overrides: Overrides = None,
) -> None:
    """Train a sentencepiece tokenizer in XLM-R's layout on a recipe's text."""
    from mcontriever import tokenizer as verb
    from mcontriever.config import load_recipe

    loaded = load_recipe(recipe, overrides)
    verb.run(
        loaded,
        output,
        vocabulary=vocabulary,
        alpha=alpha,
        max_characters=max_characters,
        seed=seed,
        lowercase=lowercase,
        dictionaries=dictionaries,
    )


class _SeveralValues(TyperCommand):
    """Lets `--tasks a b c` stand for `--tasks a --tasks b --tasks c`, as a shell's wildcards write it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        spread: list[str] = []
        option = ""
        for argument in args:
            if argument.startswith("--"):
                option = argument
            elif option in ("--model", "--tasks", "--store") and spread[-1] != option:
                spread.append(option)
            spread.append(argument)
        return super().parse_args(ctx, spread)


@app.command(cls=_SeveralValues)
def benchmark(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="nano, a folder, hub name, bm25, bm25:subwords=TOKENIZER, hybrid:A,B, X+rerank:CE. Several may follow."
        ),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="atlas, beir, nano-beir, cross-script, mr-tydi, ... or a YAML file.")
    ] = None,
    tasks: Annotated[
        list[str] | None, typer.Option(help="Folders in BEIR layout, or names of MTEB's tasks. Several may follow.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="The folder for scores.json, scores.md and scores.png.")] = None,
    offline: Annotated[
        Path | None, typer.Option(help="Use what --prefetch put into this folder, and no network.")
    ] = None,
    prefetch: Annotated[Path | None, typer.Option(help="Fetch the suite's data and models into this folder.")] = None,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="Two results (DIR or DIR:MODEL): what changed, beyond noise?")
    ] = None,
    store: Annotated[
        list[Path] | None,
        typer.Option(help="Stores of psgs_w100.tsv for the suites open-qa and mkqa. Several may follow."),
    ] = None,
    center_languages: Annotated[
        bool, typer.Option("--center-languages", help="Each encoder a second time, less each language's mean vector.")
    ] = False,
    rerank_depth: Annotated[int, typer.Option(min=1, help="How many hits +rerank: reads anew.")] = 100,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    card: Annotated[
        bool, typer.Option("--card", help="Write the scores into the model card of each model folder.")
    ] = False,
) -> None:
    """Score models on retrieval tasks through MTEB, beside the published figures."""
    from mcontriever import benchmark as verb

    verb.run(
        verb.Request(
            models=model or (),
            suite=suite,
            tasks=tasks or (),
            output=output,
            offline=offline,
            prefetch=prefetch,
            compare=compare,
            stores=store or (),
            center_languages=center_languages,
            rerank_depth=rerank_depth,
            device=device,
            card=card,
        )
    )


@app.command()
def embed(
    corpus: Annotated[
        str,
        typer.Argument(help="JSON lines, TSV or Parquet (.gz, .xz, .zst may follow), a BEIR folder, hub:NAME, or -"),
    ],
    output: Annotated[Path, typer.Option(help="The store's folder.")],
    model: Annotated[
        str | None, typer.Option(help="A folder, a hub name, or bm25; the store's own, or nano, if not given.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the store; ids must be new.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Add to the store, in the place of equal ids.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Give up an unfinished embedding first.")] = False,
    fields: Annotated[
        list[str] | None, typer.Option(help="What the corpus calls a field: id=NAME, text=NAME, ... Repeatable.")
    ] = None,
    language: Annotated[str, typer.Option(help="The language of documents that name none.")] = "",
    subset: Annotated[str | None, typer.Option(help="hub: the dataset's configuration.")] = None,
    split: Annotated[str, typer.Option(help="hub: the dataset's split.")] = "train",
    dtype: Annotated[
        Literal["fp32", "fp16", "int8"] | None, typer.Option(help="How vectors are kept; fp16 if not given.")
    ] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="Keep ids and languages, no titles and texts.")] = False,
    passage_words: Annotated[
        int | None, typer.Option(min=1, help="Cut documents into passages of so many words.")
    ] = None,
    passage_overlap: Annotated[int | None, typer.Option(min=0, help="Words that neighbours share.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    shard_documents: Annotated[int | None, typer.Option(min=1, help="Documents per shard.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16 (GPU) or int8 (CPU).")] = "auto",
) -> None:
    """Embed a corpus into a store. Interrupted, it goes on where it was."""
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
    )
    verb.run(request, processes)


@app.command()
def search(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    query: Annotated[str | None, typer.Argument(help="Without it, and on a terminal, a prompt.")] = None,
    queries: Annotated[str | None, typer.Option(help="A file of queries as JSON lines; - is standard input.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits per query.")] = 10,
    mode: Annotated[
        Literal["dense", "bm25", "hybrid"] | None, typer.Option(help="dense if the store has vectors, else bm25.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per hit.")] = False,
    trec: Annotated[bool, typer.Option("--trec", help="With --queries: a TREC run instead of JSON lines.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Show what put each hit where it is.")] = False,
    language: Annotated[str, typer.Option(help="Only documents in these languages: ar,sw")] = "",
    center_languages: Annotated[
        bool, typer.Option("--center-languages", help="Take each language's mean off its documents.")
    ] = False,
    center_queries: Annotated[
        bool, typer.Option("--center-queries", help="With --queries: and each language's mean off its queries.")
    ] = False,
    index: Annotated[str, typer.Option(help="auto, exact, or a kind that mcontriever index made.")] = "auto",
    terms: Annotated[Literal["words", "subwords", "both"], typer.Option(help="What BM25 counts.")] = "words",
    fusion: Annotated[
        Literal["rrf", "weighted", "blend"] | None,
        typer.Option(help="hybrid: by ranks, stretched scores, or scores as they are (if cosine: then the default)."),
    ] = None,
    dense_weight: Annotated[
        float | None, typer.Option(help="weighted (0.5), blend (0.25): the dense part's weight, 0 to 1.")
    ] = None,
    rerank: Annotated[str | None, typer.Option(help="A cross-encoder: a folder or hub name.")] = None,
    depth: Annotated[int, typer.Option(min=1, help="How many documents fusion and re-ranking see.")] = 100,
    model: Annotated[str | None, typer.Option(help="Where the store's encoder is now, if it moved.")] = None,
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


@app.command()
def verify(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    repair: Annotated[bool, typer.Option("--repair", help="Make what is damaged again.")] = False,
    model: Annotated[str | None, typer.Option(help="Where the store's encoder is now, if it moved.")] = None,
) -> None:
    """Check a store's checksums and counts, and name what is damaged."""
    from mcontriever import verify as verb

    verb.run(store, repair=repair, model=model)


@app.command()
def delete(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    identifiers: Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Documents' ids.")] = None,
    ids_from: Annotated[Path | None, typer.Option(help="A file with an id on each line.")] = None,
    compact: Annotated[bool, typer.Option("--compact", help="Then free the space of all deleted documents.")] = False,
) -> None:
    """Delete documents from a store by their ids."""
    from mcontriever import verify as verb

    verb.delete(store, identifiers or [], ids_from=ids_from, compact=compact)


@app.command()
def index(
    store: Annotated[Path, typer.Argument(help="A folder that mcontriever embed made.")],
    kind: Annotated[
        Literal["auto", "flat", "hnsw", "ivf-sq", "ivf-pq", "rabitq", "milvus", "bm25"],
        typer.Option(help="auto chooses by size and memory."),
    ] = "auto",
    memory_mb: Annotated[
        int | None, typer.Option(min=1, help="What the index may take; half of what is free if not given.")
    ] = None,
    recall: Annotated[float, typer.Option(min=0.01, max=1.0, help="The recall@10 to reach.")] = 0.95,
    center_languages: Annotated[
        bool, typer.Option("--center-languages", help="Take each language's mean vector off.")
    ] = False,
    terms: Annotated[Literal["words", "subwords"], typer.Option(help="bm25: what it counts.")] = "words",
    uri: Annotated[str | None, typer.Option(help="milvus: a file name.db, or http://host:19530")] = None,
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


@app.command()
def train(
    config: Annotated[str, typer.Option(help="An experiment (YAML), for example configs/pretrain/tiny_cpu.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Show size, memory, tokens and time; do nothing.")
    ] = False,
    gpus: Annotated[int, typer.Option(min=1, help="With --estimate: on how many GPUs.")] = 1,
    local_rank: Annotated[int, typer.Option("--local_rank", "--local-rank", hidden=True)] = 0,
) -> None:
    """Train in this process; for several, `deepspeed mcontriever/train.py` takes the same options."""
    from mcontriever import train as verb
    from mcontriever.config import load_train_config

    loaded = load_train_config(config, overrides)
    if print_config:
        _print_config(loaded)
    if estimate:
        from mcontriever.run_cost import run_cost

        print(run_cost(loaded, world_size=gpus))
    else:
        verb.run(loaded)


@app.command()
def export(
    checkpoint: Annotated[
        str,
        typer.Argument(help="A run's folder (its newest checkpoint), a checkpoint's, or a model: a folder, or nano."),
    ],
    output: Annotated[Path, typer.Option(help="The folder for the model.")],
    weights: Annotated[
        Literal["float32", "float16", "float8", "int4", "int2"],
        typer.Option(help="In how many bytes tables are stored; int4, int2: for mcontriever alone."),
    ] = "float32",
) -> None:
    """Write a checkpoint's model as a folder that sentence-transformers and transformers open too."""
    from mcontriever import export as verb

    verb.run(checkpoint, output, weights=weights)


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs (run.output).")],
    output: Annotated[Path, typer.Option(help="The picture to write.")] = Path("curves.png"),
    metric: Annotated[
        Literal["ndcg@10", "mrr@100", "recall@100"], typer.Option(help="Which dev score to draw.")
    ] = "ndcg@10",
) -> None:
    """Draw the curves of one or several runs: loss, accuracy, alignment and uniformity, dev scores."""
    from mcontriever import plot as verb

    verb.run(runs, output, metric)


@app.command()
def mine(
    config: Annotated[str, typer.Option(help="What to mine (YAML), for example configs/mine/msmarco_dense.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Find hard negatives for labelled queries in a corpus. Interrupted, it goes on where it was."""
    from mcontriever import mine as verb
    from mcontriever.config import MineConfig, load_config

    loaded = load_config(MineConfig, config, overrides)
    if print_config:
        _print_config(loaded)
    verb.run(loaded)


@app.command()
def demo(
    output: Annotated[str, typer.Option(help="The folder for all that it makes.")] = "runs/demo",
) -> None:
    """The main job on the bundled atlas: embed, search in Arabic and Swahili, train on two processes, benchmark."""
    from mcontriever import demo as verb

    verb.run(output)


@app.command()
def generate(
    config: Annotated[str, typer.Option(help="What to write (YAML), for example configs/generate/queries.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Write queries for passages, or passages expanded by them, with a sequence-to-sequence model."""
    from mcontriever import generate as verb
    from mcontriever.config import GenerateConfig, load_config

    loaded = load_config(GenerateConfig, config, overrides)
    if print_config:
        _print_config(loaded)
    verb.run(loaded)


@app.command()
def run(
    plan: Annotated[str, typer.Argument(help="Stages (YAML), for example configs/finetune/contriever_two_stage.yaml.")],
    overrides: Overrides = None,
    print_config: PrintConfig = False,
) -> None:
    """Run several verbs one after another: train, mine, train again. Interrupted, it goes on where it was."""
    from mcontriever import plan as verb
    from mcontriever.config import PlanConfig, load_config

    loaded = load_config(PlanConfig, plan, overrides)
    if print_config:
        _print_config(loaded)
    verb.run(loaded)
