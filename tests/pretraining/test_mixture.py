"""A mixture gives each source its share, without a gap in the source's own numbering."""

import numpy as np
import pytest

from mcontriever.errors import ConfigError
from mcontriever.pretraining.mixture import SOURCE_SHIFT, Mixture
from mcontriever.pretraining.pairs import TokenPairs
from mcontriever.ragged import Ragged


class Numbered:
    """Query and key hold the source's mark and the sample number it was asked for."""

    def __init__(self, mark: int) -> None:
        self.mark = mark

    def draw(self, samples: np.ndarray) -> TokenPairs:
        rows = Ragged.of([[self.mark, sample] for sample in samples])
        return TokenPairs(rows, rows, np.full(len(samples), self.mark), samples)


def mixture(seed: int = 0) -> Mixture:
    return Mixture([(6.0, Numbered(7)), (3.0, Numbered(8)), (1.0, Numbered(9))], seed=seed)


def test_every_source_gets_its_share_of_each_block_and_its_numbers_have_no_gap() -> None:
    pairs = mixture().draw(np.arange(3000))
    rows = np.array(pairs.queries.to_lists())
    for mark, share in ((7, 600), (8, 300), (9, 100)):
        assert sorted(rows[rows[:, 0] == mark, 1].tolist()) == list(range(3 * share))
        assert (rows[:1000, 0] == mark).sum() == share
    assert pairs.language_B.tolist() == rows[:, 0].tolist()
    assert len(np.unique(pairs.text_B)) == 3000
    assert (pairs.text_B >> SOURCE_SHIFT).tolist() == (rows[:, 0] - 7).tolist()
    assert np.abs(np.diff(rows[:50, 0])).sum() > 1  # not in stretches


def test_a_sample_is_the_same_in_any_batch_and_another_with_another_seed() -> None:
    whole = mixture().draw(np.arange(2000)).queries.to_lists()
    assert mixture().draw(np.array([1999, 3, 500])).keys.to_lists() == [whole[1999], whole[3], whole[500]]
    assert mixture(seed=1).draw(np.arange(2000)).queries.to_lists() != whole


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"the weights of a mixture are \[1\.0, 0\.0\]"):
        Mixture([(1.0, Numbered(1)), (0.0, Numbered(2))], seed=0)
    with pytest.raises(ConfigError, match="less than one sample in 1000"):
        Mixture([(1e5, Numbered(1)), (1.0, Numbered(2))], seed=0)


def test_samples_together_come_from_one_source_and_leave_no_gap() -> None:
    parts = [(6.0, Numbered(7)), (4.0, Numbered(8))]
    source = Mixture(parts, seed=0, samples_together=4)
    rows = np.array(source.draw(np.arange(8000)).queries.to_lists())
    assert (rows[:, 0].reshape(-1, 4) == rows[::4, :1]).all()
    for mark, share in ((7, 4800), (8, 3200)):
        assert sorted(rows[rows[:, 0] == mark, 1].tolist()) == list(range(share))
    assert source.draw(np.array([4001])).queries.to_lists() == [rows[4001].tolist()]
