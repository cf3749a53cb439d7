"""Documents per second of `Encoder.embed_documents` beside OpenVINO's and onnxruntime's, alternating in one run.

    pip install openvino nncf onnxruntime onnx
    python benchmarks/speed/runtimes_beside.py --size base --documents 128 --rounds 3
    python benchmarks/speed/runtimes_beside.py --size small --precisions float32 int8 --plain f32 --busy --output FILE

The project uses neither; this is to know what they would give. Both take the model as transformers has it with a mean
over the tokens. For 8 bits OpenVINO's is quantised by NNCF as it does with transformers (activations too, on the same
texts), onnxruntime's dynamically. Documents are sorted by length; OpenVINO has two streams, four documents at a time:
the fastest of what was tried (one stream, two; 1, 4 and 16 documents). Model, texts and measuring are those of
embed.py. `--plain` is the type of OpenVINO's model that is not in 8 bits. Writes results/runtimes-SIZE-cpu.json.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import embed
import numpy as np
import torch
from result_files import RESULTS, keep
from transformers import AutoModel

from mcontriever.encoder import Encoder

nncf: Any = importlib.import_module("nncf")
onnxruntime: Any = importlib.import_module("onnxruntime")
openvino: Any = importlib.import_module("openvino")

Contenders = dict[str, Callable[[list[str]], np.ndarray]]
STREAMS, DOCUMENTS_AT_ONCE = 2, 4
CALIBRATION_BATCHES = 16


def main() -> None:
    options = parse_options()
    if options.busy:
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = embed.make_model(Path(scratch), options.size)
        texts = embed.make_texts(folder, options.documents, options.seed)
        contenders = embed.make_contenders(folder, "cpu", options.precisions)
        model = MeanPooled(AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval())
        tokenizer = Encoder.load(folder).tokenizer
        contenders |= openvino_contenders(model, tokenizer, texts, options)
        contenders |= onnxruntime_contenders(model, tokenizer, texts, Path(scratch), options)
        clock = time.process_time if options.busy else time.perf_counter
        seconds, cosines = embed.measure(contenders, texts, options.rounds, clock)
    report = embed.summarise(options, seconds, cosines)
    report["command"] = " ".join(["python benchmarks/speed/runtimes_beside.py", *sys.argv[1:]])
    versions = {module.__name__: module.__version__ for module in (openvino, nncf, onnxruntime)}
    report["machine"] |= versions
    embed.print_table(report)
    if options.output or (options.size != "tiny" and not options.busy):
        keep(report, options.output or RESULTS / f"runtimes-{options.size}-cpu.json")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=sorted(embed.SIZES), default="base")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precisions", nargs="+", default=["bfloat16", "int8"], help="ours: float32 bfloat16 int8")
    parser.add_argument("--plain", choices=["bf16", "f32"], default="bf16", help="OpenVINO's, beside its 8 bits")
    parser.add_argument("--busy", action="store_true", help="one thread, processor seconds, no result file")
    parser.add_argument("--output", type=Path, help="where the result goes, also with --busy")
    return parser.parse_args(namespace=argparse.Namespace(device="cpu"))


class MeanPooled(torch.nn.Module):
    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden_NLH = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight_NL1 = attention_mask[..., None].to(hidden_NLH.dtype)
        return (hidden_NLH * weight_NL1).sum(1) / weight_NL1.sum(1)


def openvino_contenders(model: MeanPooled, tokenizer: Any, texts: list[str], options: argparse.Namespace) -> Contenders:
    inputs = [batch for _, batch in padded_batches(tokenizer, texts)]
    with torch.inference_mode():
        example = {name: torch.from_numpy(values) for name, values in inputs[0].items()}
        plain = openvino.convert_model(model, example_input=example)
        dimension = model(**example).shape[1]
    rounded = nncf.quantize(plain, nncf.Dataset(inputs[:CALIBRATION_BATCHES]), model_type=nncf.ModelType.TRANSFORMER)
    streams = 1 if options.busy else STREAMS

    def contender(converted: Any) -> Callable[[list[str]], np.ndarray]:
        settings = {"NUM_STREAMS": streams, "INFERENCE_PRECISION_HINT": options.plain}
        settings |= {"INFERENCE_NUM_THREADS": 1} if options.busy else {}
        compiled = openvino.Core().compile_model(converted, "CPU", settings)

        def run(some: list[str]) -> np.ndarray:
            found = np.empty((len(some), dimension), dtype=np.float32)
            queue = openvino.AsyncInferQueue(compiled, streams)
            queue.set_callback(lambda request, rows: found.__setitem__(rows, request.get_output_tensor().data))
            for rows, batch in padded_batches(tokenizer, some):
                queue.start_async(batch, rows)
            queue.wait_all()
            return found

        return run

    return {f"OpenVINO {options.plain}": contender(plain), "OpenVINO int8": contender(rounded)}


def onnxruntime_contenders(
    model: MeanPooled, tokenizer: Any, texts: list[str], scratch: Path, options: argparse.Namespace
) -> Contenders:
    quantization = importlib.import_module("onnxruntime.quantization")
    _, batch = next(padded_batches(tokenizer, texts))
    example = tuple(torch.from_numpy(values) for values in batch.values())
    plain, rounded = scratch / "plain.onnx", scratch / "int8.onnx"
    axes = {name: {0: "rows", 1: "tokens"} for name in batch}
    torch.onnx.export(
        model, example, plain, input_names=list(batch), output_names=["vectors"], dynamic_axes=axes, dynamo=False
    )
    quantization.quantize_dynamic(plain, rounded)

    def contender(path: Path) -> Callable[[list[str]], np.ndarray]:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1 if options.busy else 0
        session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])

        def run(some: list[str]) -> np.ndarray:
            found = None
            for rows, batch in padded_batches(tokenizer, some):
                vectors = session.run(None, batch)[0]
                found = np.empty((len(some), vectors.shape[1]), dtype=np.float32) if found is None else found
                found[rows] = vectors
            assert found is not None
            return found

        return run

    return {"onnxruntime f32": contender(plain), "onnxruntime int8": contender(rounded)}


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
