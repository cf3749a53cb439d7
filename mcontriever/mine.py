"""Find hard negatives for labelled queries in a corpus: `mcontriever mine --config FILE`.

Queries are searched in blocks, by vectors, BM25 or both. Each block becomes a part of the output before the next one
begins, so a killed run resumes, and 500,000 queries never meet 8.8 million passages in one matrix. The output is
examples with `format: dpr`.
"""

import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcontriever.config import MineConfig
from mcontriever.disk import FolderLock, remove_temporaries, write_bytes
from mcontriever.errors import StoreError
from mcontriever.finetuning.examples.passage_collection import text_key
from mcontriever.finetuning.examples.training_set import TrainingSet, open_training_set
from mcontriever.finetuning.mining.hard_negatives import Window
from mcontriever.finetuning.mining.miner import Miner, Searcher, SecondOpinion
from mcontriever.finetuning.mining.mining_loop import mine_blocks
from mcontriever.finetuning.mining.mining_report import mining_report
from mcontriever.finetuning.mining.mining_statistics import PartStatistics
from mcontriever.finetuning.part_folder import PARTS, PartFolder, mined_folder
from mcontriever.progress import log
from mcontriever.retrieval.dense_search import DenseSearch
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import BM25, EmbeddingRequest
from mcontriever.retrieval.lexical_search import LexicalSearch
from mcontriever.retrieval.store.embedding_store import EmbeddingStore
from mcontriever.retrieval.store.store_encoder import check_encoder, encoder_entry
from mcontriever.retrieval.store_calibration import holds_several_languages
from mcontriever.retrieval.store_texts import StoreTexts
from mcontriever.row_search import RowSearch
from mcontriever.texts.json_lines import read_json_objects

if TYPE_CHECKING:
    from mcontriever.encoder import Encoder

READ_EXAMPLES = 10
# These change where the result is kept and how fast it is made, not the result.
NOT_IN_THE_RESULT = {"examples", "output", "memory_mb", "keep_store", "device", "processes"}


def run(config: MineConfig) -> None:
    """Mine, or resume mining; nothing is done if the output is complete."""
    output = Path(config.output)
    examples = open_training_set(**config.examples.model_dump())
    encoder = _encoder(config)
    facts = _facts(config, examples, encoder)
    PARTS.require_own(output)
    with FolderLock(output):
        remove_temporaries(output)
        mined = mined_folder(output)
        mined.begin(facts)
        if mined.is_complete:
            log.info(f"already complete: {output / 'report.md'}")
            return
        opinion = _second_opinion(config)  # before the corpus is embedded, so a wrong name is found at once
        store = _open_store(config, examples, encoder)
        miner = _miner(config, examples, store, encoder, opinion)
        count = mine_blocks(examples, mined, miner, queries_per_block=config.queries_per_block, texts=config.texts)
        parts = range(count)
        total = PartStatistics.sum_of(mined.statistics(number) for number in parts)
        write_bytes(output / "report.md", mining_report(total, facts, _examples_to_read(mined)).encode())
        mined.complete(len(parts), total.totals())
        if not config.keep_store and store.folder.is_relative_to(output):
            shutil.rmtree(store.folder)
    if config.examples.unlabelled:
        log.info(f"{total.unanswered:,} of {total.examples:,} queries are left out: no passage surely answers them")
    log.info(f"{total.negatives:,} negatives for {total.examples:,} examples: {output / 'report.md'}")


def _encoder(config: MineConfig) -> "Encoder | None":
    if all(searcher.kind == "bm25" for searcher in config.searchers):
        return None
    from mcontriever.encoder import Encoder
    from mcontriever.retrieval.embedding.launching import Place

    assert config.model is not None
    return Encoder.load(config.model, device=Place.of_environment().device(config.device), precision="auto")


def _facts(config: MineConfig, examples: TrainingSet, encoder: "Encoder | None") -> dict[str, Any]:
    values = config.model_dump(mode="json", exclude=NOT_IN_THE_RESULT)
    fingerprint = None if encoder is None else encoder.fingerprint()
    return {**values, "examples": examples.fingerprint, "encoder": fingerprint}


def _open_store(config: MineConfig, examples: TrainingSet, encoder: "Encoder | None") -> EmbeddingStore:
    """The corpus as a store: as given, or embedded once in the output folder."""
    corpus = Path(config.corpus) if config.corpus else examples.passages.origin
    if (corpus / "manifest.json").exists():
        store = EmbeddingStore.open(corpus)
    else:
        folder = Path(config.output) / "store"
        fields = config.corpus_fields if config.corpus else examples.passages.fields
        model = BM25 if encoder is None else config.model
        request = EmbeddingRequest(str(corpus), folder, model=model, fields=fields, device=config.device)
        embed(request, config.processes, encoder)
        store = EmbeddingStore.open(folder)
    if not store.manifest.layout.keeps_text:
        raise StoreError(
            "the store was made without texts, so a negative cannot be distinguished from a duplicate of the positive",
            where=store.folder,
            fix="embed the corpus again without --no-text",
        )
    if encoder is not None:
        check_encoder(store.encoder, encoder_entry(str(config.model), encoder), store.folder)
    return store


def _miner(
    config: MineConfig,
    examples: TrainingSet,
    store: EmbeddingStore,
    encoder: "Encoder | None",
    opinion: SecondOpinion | None,
) -> Miner:
    searches: dict[str, RowSearch] = {}
    if encoder is not None:
        searches["dense"] = DenseSearch.rough(
            store, encoder, config.memory_mb << 20, calibrated=_is_calibrated(config, store)
        )
    if any(searcher.kind == "bm25" for searcher in config.searchers):
        searches["bm25"] = LexicalSearch.open(store)
    searchers = [
        Searcher(
            name=section.kind,
            search=searches[section.kind],
            window=Window(**section.model_dump(include={"first_rank", "last_rank", "margin", "relative_margin"})),
            negatives=section.negatives,
            at_random=section.choose == "random",
        )
        for section in config.searchers
    ]
    return Miner(
        examples=examples,
        searchers=searchers,
        store=store,
        texts=StoreTexts.open(store, text_key),
        opinion=opinion,
        seed=config.seed,
    )


def _is_calibrated(config: MineConfig, store: EmbeddingStore) -> bool:
    """A margin was chosen for the encoder's own scores."""
    if config.merge is not None:
        return config.merge == "calibrated"
    has_margin = any(searcher.kind == "dense" and searcher.margin is not None for searcher in config.searchers)
    return holds_several_languages(store) and not has_margin


def _second_opinion(config: MineConfig) -> SecondOpinion | None:
    section = config.cross_encoder
    if section is None:
        return None
    from mcontriever.retrieval.embedding.launching import Place
    from mcontriever.retrieval.rerank import Reranker

    reranker = Reranker.load(section.name, device=Place.of_environment().device(config.device))
    settings = section.model_dump(include={"max_probability", "min_positive_probability", "examined"})
    return SecondOpinion(cross_encoder=reranker, **settings)


def _examples_to_read(mined: PartFolder) -> list[dict[str, Any]]:
    """Evenly spread over the first part."""
    step = max(1, mined.statistics(0)["examples"] // READ_EXAMPLES)
    records = (record for _, record in islice(read_json_objects(mined.part(0)), 0, None, step))
    return [record for record in records if record["hard_negative_ctxs"]][:READ_EXAMPLES]
