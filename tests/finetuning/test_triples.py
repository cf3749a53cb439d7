"""The loader: a pure function of sample numbers, whose draws follow the ratios that were asked for."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest

from mcontriever.encoder import Encoder
from mcontriever.finetuning.example_order import ShuffledOrder
from mcontriever.finetuning.examples.training_set import TrainingSet, open_training_set
from mcontriever.finetuning.passage_draw import draw_passages
from mcontriever.finetuning.triples import TripleLoader
from mcontriever.tokens import PackedBatch
from tests.conftest import SENTENCES

EXAMPLES, HARD = 30, 4
WORDS = list(dict.fromkeys(" ".join(SENTENCES["en"]).lower().replace(".", "").replace(",", "").split()))


def query_text(number: int) -> str:
    return f"rain of {WORDS[number]}"


def positive_text(number: int, which: int) -> str:
    return f"{WORDS[number]} {'sea' if which else 'river'}"


def negative_text(number: int, rank: int) -> str:
    return f"{WORDS[number]} {WORDS[40 + rank]}"


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Example e: a positive (two if e is even), four hard negatives with teacher scores; example 7 has none."""
    path = tmp_path_factory.mktemp("examples") / "train.jsonl"
    records = []
    for number in range(EXAMPLES):
        positives = [positive_text(number, which) for which in range(2 - number % 2)]
        negatives = [negative_text(number, rank) for rank in range(HARD if number != 7 else 0)]
        scores = [10.0] * len(positives) + [9.0, 8.9, 8.8, 1.0][: len(negatives)]
        records.append({"query": query_text(number), "positive": positives, "negative": negatives, "scores": scores})
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return open_training_set(format="columns", paths=[str(path)])


def loader(encoder: Encoder, examples: TrainingSet, **settings: object) -> TripleLoader:
    values = {"negatives": 2, "hard_ratio": 0.5, "seed": 3, "query_length": 24, "passage_length": 24, **settings}
    return TripleLoader.for_encoder(encoder, examples=examples, **values)  # type: ignore[arg-type]


def rows_of(side: PackedBatch) -> list[list[int]]:
    return [row.token_ids_T.tolist() for row in side.split([1] * len(side))]


def test_a_batch_is_what_its_samples_alone_would_be(tiny_encoder: Encoder, examples: TrainingSet) -> None:
    whole = loader(tiny_encoder, examples).batch(np.arange(20, 28))
    parts = [loader(tiny_encoder, examples).batch(np.array([sample])) for sample in range(20, 28)]
    assert whole.passages_per_query == 3
    for side in ("queries", "passages"):
        tokens = [row for part in parts for row in getattr(part, side).token_ids_T.tolist()]
        assert getattr(whole, side).token_ids_T.tolist() == tokens
    assert whole.passage_keys_P.tolist() == [key for part in parts for key in part.passage_keys_P.tolist()]


def test_texts_prefixes_and_lengths(tiny_encoder: Encoder, examples: TrainingSet) -> None:
    prefixes = {"query_prefix": "query: ", "document_prefix": "text: "}
    encoder = Encoder(tiny_encoder.backbone, tiny_encoder.tokenizer, max_length=64, **prefixes)
    batch = loader(encoder, examples, hard_ratio=1.0).batch(np.arange(EXAMPLES))
    queries, passages = rows_of(batch.queries), rows_of(batch.passages)

    def tokens(text: str) -> list[int]:
        return encoder.tokenizer(text)["input_ids"]

    numbers = ShuffledOrder(EXAMPLES, seed=3).examples_of(np.arange(EXAMPLES)).tolist()
    assert queries == [tokens(f"query: {query_text(number)}") for number in numbers]
    for row, number in enumerate(numbers):
        positive, *negatives = passages[row * 3 : row * 3 + 3]
        assert positive in [tokens(f"text: {positive_text(number, which)}") for which in range(2 - number % 2)]
        if number != 7:
            assert negatives[0] != negatives[1]
            wanted = [tokens(f"text: {negative_text(number, rank)}") for rank in range(HARD)]
            assert all(negative in wanted for negative in negatives)
    short = loader(encoder, examples, passage_length=4).batch(np.arange(4))
    assert (short.passages.max_length, short.stats()["truncated"]) == (4, 12)


def test_an_epoch_visits_each_example_once_and_the_next_in_another_order() -> None:
    order = ShuffledOrder(EXAMPLES, seed=1)
    first, second = (order.examples_of(np.arange(epoch * EXAMPLES, (epoch + 1) * EXAMPLES)) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(EXAMPLES))
    assert first.tolist() != second.tolist()


def test_few_examples_are_the_same_ones_in_every_epoch() -> None:
    drawn = [ShuffledOrder(EXAMPLES, seed, most=3).examples_of(np.arange(60)).reshape(-1, 3) for seed in range(20)]
    for epochs in drawn:
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len(set(epochs[0])) == 3
    assert len({tuple(sorted(epochs[0])) for epochs in drawn}) > 15  # another seed draws others
    assert ShuffledOrder(EXAMPLES, 1, most=999).examples_of(np.arange(9)).tolist() == (
        ShuffledOrder(EXAMPLES, 1).examples_of(np.arange(9)).tolist()
    )


def draw(examples: TrainingSet, row: int, samples: int, **settings: Any) -> Any:
    values: dict[str, Any] = {"negatives": 1, "hard_ratio": 1.0, "margin_bins": None, "seed": 5, **settings}
    return draw_passages(examples, np.full(samples, row), np.arange(samples), **values)


def test_hard_negatives_come_as_often_as_asked_and_evenly(examples: TrainingSet) -> None:
    drawn = draw(examples, 4, 20_000, hard_ratio=0.1)
    assert drawn.hard_Bn.mean() == pytest.approx(0.1, abs=0.01)
    hard = Counter(drawn.passages_Bn[:, 1][drawn.hard_Bn[:, 0]].tolist())
    assert set(hard) == set(examples.negatives[4].tolist())
    assert min(hard.values()) > 0.8 * max(hard.values())
    random = Counter(drawn.passages_Bn[:, 1][~drawn.hard_Bn[:, 0]].tolist())
    assert len(random) == len(examples.passages)
    assert np.isnan(drawn.scores_Bn[:, 1][~drawn.hard_Bn[:, 0]]).all()


def test_hard_negatives_of_one_sample_differ_and_random_ones_fill_up(examples: TrainingSet) -> None:
    drawn = draw(examples, 4, 200, negatives=6)
    assert (drawn.hard_Bn == [True] * HARD + [False] * 2).all()
    assert all(len(set(row[1 : 1 + HARD])) == HARD for row in drawn.passages_Bn.tolist())
    assert not draw(examples, 7, 50).hard_Bn.any()
    assert draw(examples, 4, 50, negatives=0).passages_Bn.shape == (50, 1)


def test_both_positives_are_drawn(examples: TrainingSet) -> None:
    positives = Counter(draw(examples, 4, 2_000).passages_Bn[:, 0].tolist())
    assert set(positives) == set(examples.positives[4].tolist())
    assert min(positives.values()) > 800


def test_margins_are_drawn_evenly_over_their_range(examples: TrainingSet) -> None:
    """Margins 1, 1.1 and 1.2 share one of ten ranges, 9 has one of its own: each range is drawn half the time."""
    drawn = Counter(draw(examples, 4, 10_000, margin_bins=10).scores_Bn[:, 1].round(1).tolist())
    assert drawn[1.0] == pytest.approx(5_000, rel=0.05)
    for score in (9.0, 8.9, 8.8):
        assert drawn[np.float32(score).round(1).item()] == pytest.approx(5_000 / 3, rel=0.1)


def test_known_positives_have_one_width_in_every_batch(tiny_encoder: Encoder, examples: TrainingSet) -> None:
    batches = [loader(tiny_encoder, examples).batch(np.arange(start, start + 5)) for start in range(0, 30, 5)]
    assert {tuple(batch.known_positives_BK.shape) for batch in batches} == {(5, 2)}
    moved = batches[0].to("cpu")
    assert moved.passages.token_ids_T.equal(batches[0].passages.token_ids_T)
    assert 0 < batches[0].stats()["hard_share"] < 1
