"""Documents per second of `Encoder.embed_documents` beside OpenVINO's, in bf16 and in 8 bits, alternating in one run.

    pip install openvino nncf
    python benchmarks/speed/openvino_beside.py --documents 128 --rounds 3

The project does not use OpenVINO; this is to know what it would give. It takes the model as transformers has it with a
mean over the tokens, converted, and for 8 bits quantised by NNCF as it does with transformers (activations too, on the
same texts). Documents are sorted by length and go to two streams, a few at a time: the fastest of what was tried (one
stream, two; 1, 4 and 16 documents). Model, texts and measuring are those of embed.py. Writes
results/openvino-SIZE-cpu.json.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import embed
import numpy as np
import torch
from transformers import AutoModel

from mcontriever.encoder import Encoder

openvino: Any = importlib.import_module("openvino")
nncf: Any = importlib.import_module("nncf")

STREAMS, DOCUMENTS_AT_ONCE = 2, 4
CALIBRATION_BATCHES = 16


def main() -> None:
    options = parse_options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = embed.make_model(Path(scratch), options.size)
        texts = embed.make_texts(folder, options.documents, options.seed)
        contenders = embed.make_contenders(folder, "cpu", ["bfloat16", "int8"])
        contenders |= openvino_contenders(folder, texts)
        seconds, cosines = embed.measure(contenders, texts, options.rounds, time.perf_counter)
    report = embed.summarise(options, seconds, cosines)
    report["command"] = " ".join(["python benchmarks/speed/openvino_beside.py", *sys.argv[1:]])
    report["machine"] |= {"openvino": openvino.__version__, "nncf": nncf.__version__}
    embed.print_table(report)
    if options.size != "tiny":
        (embed.RESULTS / f"openvino-{options.size}-cpu.json").write_text(json.dumps(report, indent=2) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(embed.SIZES), default="base")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(namespace=argparse.Namespace(device="cpu"))


class MeanPooled(torch.nn.Module):
    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden_NLH = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight_NL1 = attention_mask[..., None].to(hidden_NLH.dtype)
        return (hidden_NLH * weight_NL1).sum(1) / weight_NL1.sum(1)


def openvino_contenders(folder: Path, texts: list[str]) -> dict[str, Callable[[list[str]], np.ndarray]]:
    tokenizer = Encoder.load(folder).tokenizer
    model = MeanPooled(AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval())
    inputs = [batch for _, batch in padded_batches(tokenizer, texts)]
    with torch.inference_mode():
        example = {name: torch.from_numpy(values) for name, values in inputs[0].items()}
        plain = openvino.convert_model(model, example_input=example)
        dimension = model(**example).shape[1]
    rounded = nncf.quantize(plain, nncf.Dataset(inputs[:CALIBRATION_BATCHES]), model_type=nncf.ModelType.TRANSFORMER)

    def contender(converted: Any) -> Callable[[list[str]], np.ndarray]:
        settings = {"NUM_STREAMS": STREAMS, "INFERENCE_PRECISION_HINT": "bf16"}
        compiled = openvino.Core().compile_model(converted, "CPU", settings)

        def run(some: list[str]) -> np.ndarray:
            found = np.empty((len(some), dimension), dtype=np.float32)
            queue = openvino.AsyncInferQueue(compiled, STREAMS)
            queue.set_callback(lambda request, rows: found.__setitem__(rows, request.get_output_tensor().data))
            for rows, batch in padded_batches(tokenizer, some):
                queue.start_async(batch, rows)
            queue.wait_all()
            return found

        return run

    return {"OpenVINO bfloat16": contender(plain), "OpenVINO int8": contender(rounded)}


def padded_batches(tokenizer: Any, texts: list[str]) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    ids = tokenizer(texts, truncation=True, max_length=embed.MAX_LENGTH)["input_ids"]
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    for start in range(0, len(order), DOCUMENTS_AT_ONCE):
        rows = order[start : start + DOCUMENTS_AT_ONCE]
        shape = (len(rows), max(len(ids[row]) for row in rows))
        batch = {"input_ids": np.full(shape, tokenizer.pad_token_id), "attention_mask": np.zeros(shape, dtype=np.int64)}
        for place, row in enumerate(rows):
            batch["input_ids"][place, : len(ids[row])] = ids[row]
            batch["attention_mask"][place, : len(ids[row])] = 1
        yield rows, batch


if __name__ == "__main__":
    main()
