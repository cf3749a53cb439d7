"""duplicates.py against a plain dictionary of first places, and near-duplicates against real Jaccard similarity."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mcontriever.preparation.duplicates import NearDuplicateKeys, repeats, text_key

Keys = list[list[list[int]]]


def naive_repeats(shards: Keys, columns: list[int]) -> list[bool]:
    marks = []
    seen: dict[int, set[int]] = {column: set() for column in columns}
    for shard in shards:
        for row in shard:
            marks.append(any(row[column] in seen[column] for column in columns))
            for column in columns:
                seen[column].add(row[column])
    return marks


@settings(max_examples=60, deadline=None)
@given(
    shards=st.lists(
        st.lists(st.lists(st.sampled_from([0, 1, 2**63, 2**64 - 1, 77, 2**62]), min_size=2, max_size=2), max_size=30),
        min_size=1,
        max_size=6,
    ),
    columns=st.sampled_from([[0], [1], [0, 1]]),
    sorted_at_once=st.integers(1, 40),
)
def test_first_occurrences_stay_however_many_ranges(shards: Keys, columns: list[int], sorted_at_once: int) -> None:
    arrays = [np.array(shard, dtype=np.uint64).reshape(-1, 2) for shard in shards]
    marks = repeats(
        lambda shard, column: arrays[shard][:, column], [len(array) for array in arrays], columns, sorted_at_once
    )
    assert marks.tolist() == naive_repeats(shards, columns)


def test_equal_texts_have_equal_keys() -> None:
    assert text_key("Mto Nile") == text_key("Mto " + "Nile")
    texts = [f"hati {number}" for number in range(20_000)]
    assert len({text_key(text) for text in texts}) == len(texts)
    assert all(0 <= text_key(text) < 2**64 for text in texts[:100])


def shingles(text: str) -> set[str]:
    return {text[start : start + 8] for start in range(len(text) - 7)}


def test_texts_that_are_nearly_the_same_share_a_band() -> None:
    random = np.random.default_rng(5)
    alphabet = np.array(list("abcdefghijklmnopqrstuvwxyz अआइ你好"))
    keys = NearDuplicateKeys(0.8)

    def shared(first: str, second: str) -> bool:
        return bool((keys.of(first) == keys.of(second)).any())

    found = {"near": 0, "far": 0}
    for _ in range(30):
        text = "".join(random.choice(alphabet, 2000))
        near, far = (
            text[:1940] + "".join(random.choice(alphabet, 60)),
            text[:700] + "".join(random.choice(alphabet, 1300)),
        )
        a, b, c = shingles(text), shingles(near), shingles(far)
        assert len(a & b) / len(a | b) > 0.9
        assert len(a & c) / len(a | c) < 0.3
        found["near"] += shared(text, near)
        found["far"] += shared(text, far)
    assert found["near"] >= 28
    assert found["far"] == 0
    assert shared("Mto  NILE\nni mrefu", "mto nile ni mrefu")
    assert shared("x", "x")
