"""Block after block of queries, each written while the next one is searched; blocks that are there are passed over."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from mcontriever.finetuning.mined_block import MinedBlock
from mcontriever.finetuning.mined_records import mined_records
from mcontriever.finetuning.miner import Miner
from mcontriever.finetuning.part_folder import PartFolder
from mcontriever.finetuning.training_set import TrainingSet
from mcontriever.progress import track


def mine_blocks(examples: TrainingSet, mined: PartFolder, miner: Miner, *, queries_per_block: int, texts: bool) -> int:
    """Returns how many parts there are."""

    def write(number: int, block: MinedBlock) -> None:
        mined.write_part(number, mined_records(block, miner.store, texts=texts), block.statistics.to_json())

    starts = range(0, len(examples), queries_per_block)
    waiting: Future[None] | None = None
    with track(len(examples), "mining", "queries") as progress, ThreadPoolExecutor(1) as writer:
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
