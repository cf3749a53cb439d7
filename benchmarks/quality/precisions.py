"""What bf16 and int8 cost: nDCG@10 and cosines beside float32, all questions of each set.

    python benchmarks/quality/precisions.py MODEL... --sets DATA/eval/xquad-ar-en ... --output FILE.json

Each set is embedded in each precision that this processor has natively; int8 is calibrated on the set's documents, as
`embed` calibrates on a store's, which its speed includes. Documents and questions are in the same precision.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from mcontriever.encoder import Encoder
from mcontriever.evaluation.dev_sets import DevSet, score_dev_sets
from mcontriever.processor import instruction_sets, trains_in_bf16

ORDER = ("float32", "bfloat16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sets", type=Path, nargs="+", required=True)
    parser.add_argument("--precisions", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    sets = [DevSet.load(folder) for folder in given.sets]
    precisions = [name for name in given.precisions if name != "bfloat16" or trains_in_bf16()]
    rows = {Path(model).name: measured(model, sets, precisions) for model in given.models}
    given.output.write_text(json.dumps({"processor": sorted(instruction_sets()), "models": rows}, indent=1) + "\n")


def measured(model: str, sets: list[DevSet], precisions: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, dict[str, float]]] = {}
    exact: dict[str, np.ndarray] = {}
    for precision in precisions:
        for pool in sets:
            encoder = Encoder.load(model, precision=precision)
            began = time.process_time()
            texts, titles = [one.text for one in pool.documents], [one.title for one in pool.documents]
            vectors = encoder.embed_documents(texts, titles)
            seconds = time.process_time() - began
            exact.setdefault(pool.name, vectors)
            cosines = (unit(vectors) * unit(exact[pool.name])).sum(axis=1)
            scores = score_dev_sets(encoder, [pool])[pool.name]
            found.setdefault(pool.name, {})[precision] = {
                "ndcg@10": round(100 * scores["ndcg@10"], 2),
                "mean cosine to float32": round(float(cosines.mean()), 5),
                "worst percent of cosines": round(float(np.quantile(cosines, 0.01)), 5),
                "documents a second": round(len(texts) / seconds, 1),
            }
            print(model, pool.name, precision, found[pool.name][precision], flush=True)
    return found


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
