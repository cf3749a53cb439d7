"""Train a small model that writes questions, for the rows "genq" and "docT5query" of finetuning_gains.py.

    mcontriever trim MODEL --text ENGLISH --pieces 16384 --layers 0-5 --output BASE
    python benchmarks/quality/question_writer.py DATA BASE runs/question-writer
    python benchmarks/quality/finetuning_gains.py DATA nano runs/gains-nano --writer runs/question-writer/model

DATA holds supervised/en.jsonl.gz. BASE, a BERT-like encoder, reads each passage once and stays as it is: a copy of its
lower layers is trained as the decoder. Questions about the tales that finetuning_gains.py leaves alone are learned, on
those about its own tales the loss is measured. OUT/model is what `mcontriever generate` loads, OUT/facts.json what was
measured.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from gains_data import Pair, pairs_in_parts
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

from mcontriever.processor import trains_in_bf16

PASSAGE, QUESTION = 160, 48  # tokens at most
DECODER_LAYERS, BATCH_TOKENS, RATE, WARM_UP, CLIP = 3, 6144, 5e-4, 0.05, 1.0
MEASURED, SHOWN = 400, 5  # held-out questions
START, PADDING, END = 0, 1, 2
Passage = tuple[torch.Tensor, list[list[int]]]  # a vector of each of its tokens, and the tokens of its questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of the processor")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    asked, learned, others = pairs_in_parts(given.data)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    model = writer_of(given.base)
    held_out = by_passage(model, tokenizer, random.Random(0).sample(asked + learned, MEASURED))
    training = by_passage(model, tokenizer, others)
    facts: dict[str, Any] = {"passages": len(training), "questions": len(others)}
    steps = train(model, training, 60 * given.minutes)
    loss = loss_on(model, held_out)
    facts |= {"steps": steps, "held_out_loss": loss, "held_out_perplexity": math.exp(loss)}
    model.save_pretrained(given.out / "model")
    tokenizer.save_pretrained(given.out / "model")
    facts["samples"] = samples(model, tokenizer, asked)
    (given.out / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(facts, indent=1, ensure_ascii=False))


def writer_of(base: Path) -> EncoderDecoderModel:
    """The decoder begins as the lower layers of the encoder, and reads the passage as these read themselves."""
    changes = {"is_decoder": True, "add_cross_attention": True, "num_hidden_layers": DECODER_LAYERS}
    config = BertConfig.from_pretrained(base, **changes, attention_probs_dropout_prob=0.0)  # with it attention is slow
    decoder = BertLMHeadModel.from_pretrained(base, config=config)
    for layer in decoder.bert.encoder.layer:
        layer.crossattention.load_state_dict(layer.attention.state_dict())
    model = EncoderDecoderModel(encoder=BertModel.from_pretrained(base), decoder=decoder)
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = START, PADDING, END
    return model


@torch.inference_mode()
def by_passage(model: EncoderDecoderModel, tokenizer: Any, pairs: Sequence[Pair]) -> list[Passage]:
    questions: dict[str, list[str]] = {}
    for pair in sorted(pairs, key=lambda pair: len(pair["text"])):
        questions.setdefault(pair["text"], []).append(pair["query"])
    texts, vectors = list(questions), list[torch.Tensor]()
    for start in range(0, len(texts), 32):
        inputs = tokenizer(
            texts[start : start + 32], truncation=True, max_length=PASSAGE, padding=True, return_tensors="pt"
        )
        mask = inputs["attention_mask"]
        with low_precision():
            read = model.encoder.eval()(input_ids=inputs["input_ids"], attention_mask=mask).last_hidden_state
        vectors += [row[: int(length)].bfloat16() for row, length in zip(read, mask.sum(1), strict=True)]
    tokens = [tokenizer(asked, truncation=True, max_length=QUESTION)["input_ids"] for asked in questions.values()]
    return list(zip(vectors, tokens, strict=True))


def low_precision() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=trains_in_bf16())


def train(model: EncoderDecoderModel, passages: list[Passage], seconds: float) -> int:
    """For so many seconds of the processor; the learning rate falls to 0 with them."""
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    draw, began, steps, used = random.Random(0), time.process_time(), 0, 0.0
    while used < seconds:
        for batch in batches(passages, draw):
            share = used / seconds
            optimizer.param_groups[0]["lr"] = RATE * min(share / WARM_UP, 1 - share)
            model.decoder.train()
            loss = loss_of(model, batch).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
            steps, used = steps + 1, time.process_time() - began
            if steps % 20 == 0:
                print(f"step {steps}, {used:.0f} s: loss {loss.item():.3f}", flush=True)
            if used >= seconds:
                break
    return steps


def batches(passages: Sequence[Passage], draw: random.Random) -> Iterator[list[Passage]]:
    """Passages of about one length, in a new order each time."""
    order = sorted(range(len(passages)), key=lambda place: len(passages[place][0]) + draw.random() * 16)
    found: list[list[Passage]] = [[]]
    texts = 0  # a passage counts for each of its questions
    for passage in (passages[place] for place in order):
        texts += len(passage[1])
        if texts * len(passage[0]) > BATCH_TOKENS:
            found.append([])
            texts = len(passage[1])
        found[-1].append(passage)
    draw.shuffle(found)
    yield from filter(None, found)


def loss_of(model: EncoderDecoderModel, batch: Sequence[Passage]) -> torch.Tensor:
    """Of each token of the batch's questions."""
    counts = torch.tensor([len(asked) for _, asked in batch])
    read = pad_sequence([vectors for vectors, _ in batch], batch_first=True)
    lengths = torch.tensor([len(vectors) for vectors, _ in batch])
    mask = torch.arange(read.shape[1]) < lengths[:, None]
    questions = [torch.tensor(tokens) for _, asked in batch for tokens in asked]
    tokens = pad_sequence(questions, batch_first=True, padding_value=PADDING)
    with low_precision():
        scores = model.decoder(
            input_ids=tokens[:, :-1],
            encoder_hidden_states=read.float().repeat_interleave(counts, dim=0),
            encoder_attention_mask=mask.long().repeat_interleave(counts, dim=0),
            use_cache=False,
        ).logits
    wanted = tokens[:, 1:]
    return cross_entropy(scores[wanted != PADDING].float(), wanted[wanted != PADDING], reduction="none")


@torch.inference_mode()
def loss_on(model: EncoderDecoderModel, passages: Sequence[Passage]) -> float:
    """The mean over tokens, with the end of each question."""
    model.eval()
    losses = torch.cat([loss_of(model, batch) for batch in batches(passages, random.Random(0))])
    return float(losses.mean())


@torch.inference_mode()
def samples(model: EncoderDecoderModel, tokenizer: Any, pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """What the model writes, drawn as configs/generate/queries.yaml does, beside what was asked."""
    found = []
    for pair in random.Random(1).sample(list(pairs), SHOWN):
        inputs = tokenizer(pair["text"], truncation=True, max_length=PASSAGE, return_tensors="pt")
        read = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        drawn = model.generate(**read, do_sample=True, top_k=25, top_p=0.95, max_new_tokens=QUESTION)
        written = tokenizer.decode(drawn[0], skip_special_tokens=True)
        found.append({"text": pair["text"], "asked": pair["query"], "written": written})
    return found


if __name__ == "__main__":
    main()
