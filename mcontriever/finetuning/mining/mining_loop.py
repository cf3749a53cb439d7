"""Block after block of queries, each written while the next one is searched; finished blocks are skipped."""

import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mcontriever.finetuning.examples.training_set import TrainingSet
from mcontriever.finetuning.mining.mined_block import MinedBlock
from mcontriever.finetuning.mining.mined_records import mined_records
from mcontriever.finetuning.mining.miner import Miner
from mcontriever.finetuning.part_folder import PartFolder
from mcontriever.progress import track


def mine_blocks(examples: TrainingSet, mined: PartFolder, miner: Miner, *, queries_per_block: int, texts: bool) -> int:
    """Returns the number of parts."""

    def write(number: int, block: MinedBlock) -> None:
        mined.write_part(number, mined_records(block, miner.store, texts=texts), block.statistics.to_json())

    starts = range(0, len(examples), queries_per_block)
    waiting: Future[None] | None = None
    with (
        track(len(examples), "mining", "queries") as progress,
        ThreadPoolExecutor(1) as writer,
        _quick_turns(),
    ):
        for number, start in enumerate(starts):
            rows_Q = np.arange(start, min(start + queries_per_block, len(examples)))
            if not mined.has_part(number):
                block = miner.mine(rows_Q)
                if waiting is not None:
                    waiting.result()
                waiting = writer.submit(write, number, block)
            progress.advance(len(rows_Q))
        if waiting is not None:
            waiting.result()
    return len(starts)


@contextlib.contextmanager
def _quick_turns() -> Iterator[None]:
    """By default the writer holds the interpreter for 5 ms at a time; the search would wait thousands of times."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
