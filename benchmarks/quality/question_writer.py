"""Train a small model that writes questions, for the rows "genq" and "docT5query" of finetuning_gains.py.

    mcontriever trim MODEL --text ENGLISH --pieces 12288 --layers 0 --output BASE
    python benchmarks/quality/question_writer.py DATA BASE runs/question-writer
    python benchmarks/quality/finetuning_gains.py DATA nano runs/gains-nano --writer runs/question-writer/model

DATA holds supervised/en.jsonl.gz. BASE, a BERT-like encoder, gives its pieces and their vectors; the rest is a small T5
that is laid out to copy from the passage and learns here. It learns to repeat rare spans of passages, and all English
questions but those about the tales of finetuning_gains.py; on these the loss is measured. A call stops after --piece
minutes, and the same call goes on. OUT/model is what `mcontriever generate` loads, OUT/facts.json what was measured.
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gains_data import Pair, pairs_in_parts
from gains_rows import PRESETS
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel, AutoTokenizer, T5Config, T5ForConditionalGeneration

from mcontriever.config import GenerateConfig, load_config
from mcontriever.finetuning.query_writer import QueryWriter
from mcontriever.processor import trains_in_bf16
from mcontriever.retrieval.lexical_index import LexicalIndex
from mcontriever.retrieval.terms import index_terms
from mcontriever.texts.documents import Document

PASSAGE, QUESTION, PART, STRIDE = 160, 48, 60, 15  # at most: tokens, tokens, words; and words between parts
SIZES = {"d_kv": 64, "d_ff": 1024, "num_layers": 1, "num_decoder_layers": 2, "dropout_rate": 0.0}
BATCH_TEXTS, RATE, WARM_UP, CLIP = 24, 1e-3, 0.03, 1.0
SPANS, SPAN, TRIED, COPYING = 2, (6, 16), 3, 0.2  # spans of a passage, their tokens, drawn for each, share of the time
MEASURED, SHOWN = 400, 8  # held-out questions
START, PADDING, END = 0, 1, 2
QUIET = 0.1  # of the usual size, where a layer without a task begins
Tokens = list[int]
Passage = tuple[Tokens, list[Tokens]]  # with its questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("base", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=20.0, help="of the processor")
    parser.add_argument("--piece", type=float, default=1000.0, help="minutes of this call, at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    asked, learned, others = pairs_in_parts(given.data)
    tokenizer = AutoTokenizer.from_pretrained(given.base)
    model = writer_of(given.base)
    training = by_passage(tokenizer, others)
    given.out.mkdir(parents=True, exist_ok=True)
    used, steps = train(model, tokenizer, training, given.out / "state.pt", 60 * given.minutes, 60 * given.piece)
    if used < 60 * given.minutes:
        print(f"{used:.0f} s of {60 * given.minutes:.0f} s are done; the same command goes on")
        return
    held_out = by_passage(tokenizer, random.Random(0).sample(asked + learned, MEASURED), whole=True)
    loss = loss_on(model, held_out)
    with_equal_layers(model).save_pretrained(given.out / "model")
    tokenizer.save_pretrained(given.out / "model")
    facts = {"passages": len(training), "questions": len(others), "steps": steps, "seconds": round(used)}
    facts |= {"held_out_loss": loss, "held_out_perplexity": math.exp(loss)} | fit(given.out / "model", asked)
    (given.out / "facts.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(facts, indent=1, ensure_ascii=False))


@torch.no_grad()
def writer_of(base: Path) -> T5ForConditionalGeneration:
    """A T5 with the vectors of BASE's pieces, whose heads look where copying needs them to.

    Three heads of the encoder see the piece before each piece. The decoder looks in the passage for the place behind
    the piece that it wrote last, and takes that place's vector. All else begins quietly.
    """
    vectors = AutoModel.from_pretrained(base).get_input_embeddings().weight.float()
    places = {"pad_token_id": PADDING, "eos_token_id": END, "decoder_start_token_id": START}
    width = vectors.shape[1]
    heads = max(4, math.ceil(width / SIZES["d_kv"]))
    config = T5Config(vocab_size=len(vectors), d_model=width, num_heads=heads, **SIZES, **places)
    model = T5ForConditionalGeneration(config)
    centred = vectors - vectors.mean(0)
    model.shared.weight.copy_(centred / centred.std())
    for name, weight in model.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            weight.mul_(QUIET)
    reading = model.encoder.block[0].layer[0].SelfAttention
    before, wide = 1, 3 * config.d_kv  # the bucket of the distance -1, and three heads
    reading.relative_attention_bias.weight[before, :3] = 8.0
    reading.o.weight[:, :wide].div_(QUIET)
    of_piece_before = reading.o.weight[:, :wide] @ reading.v.weight[:wide]  # what these three add to a place
    turn = torch.linalg.qr(torch.randn(heads * config.d_kv, width)).Q
    key = turn @ of_piece_before.T
    for block in model.decoder.block:
        copying = block.layer[1].EncDecAttention
        copying.q.weight.copy_(turn / 2)
        copying.k.weight.copy_(key * turn.norm() / key.norm())
        copying.v.weight.copy_(turn)
        copying.o.weight.copy_(turn.T)
    return model


@torch.no_grad()
def with_equal_layers(model: T5ForConditionalGeneration) -> T5ForConditionalGeneration:
    """The same with layers of the encoder that add nothing: generation has places for as many layers as it has."""
    config = T5Config(**model.config.to_dict() | {"num_layers": model.config.num_decoder_layers})
    larger = T5ForConditionalGeneration(config)
    larger.load_state_dict(model.state_dict(), strict=False)
    for block in larger.encoder.block[model.config.num_layers :]:
        block.layer[0].SelfAttention.o.weight.zero_()
        block.layer[1].DenseReluDense.wo.weight.zero_()
    return larger


def by_passage(tokenizer: Any, pairs: Sequence[Pair], *, whole: bool = False) -> list[Passage]:
    """The tokens of passages and their questions, by length; of a long passage, the part that each question fits."""
    questions: dict[str, list[str]] = {}
    for pair in pairs:
        questions.setdefault(pair["text"] if whole else best_part(pair), []).append(pair["query"])
    texts = sorted(questions, key=len)
    passages = tokenizer(texts, truncation=True, max_length=PASSAGE)["input_ids"]
    tokens = [tokenizer(questions[text], truncation=True, max_length=QUESTION)["input_ids"] for text in texts]
    return list(zip(passages, tokens, strict=True))


def best_part(pair: Pair) -> str:
    """The passage, or the part of a long one that has the most words of the question and its answers."""
    words = pair["text"].split()
    asked = set(index_terms(" ".join([pair["query"], *pair["answers"]])))
    starts = range(0, max(1, len(words) - PART + STRIDE), STRIDE)
    parts = [" ".join(words[start : start + PART]) for start in starts]
    return max(parts, key=lambda part: len(asked & set(index_terms(part))))


def low_precision() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=trains_in_bf16())


def train(
    model: T5ForConditionalGeneration,
    tokenizer: Any,
    passages: list[Passage],
    state: Path,
    seconds: float,
    piece: float,
) -> tuple[float, int]:
    """For so many seconds of the processor in all; the learning rate falls to 0 with the second half of them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    before, steps = 0.0, 0
    if state.is_file():
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        before, steps = saved["used"], saved["steps"]
    spans, began, used, stop = Spans(tokenizer, passages), time.process_time(), before, min(seconds, before + piece)
    model.train()
    for batch in batches(passages, random.Random(steps), endless=True):
        if used >= stop:
            break
        share = used / seconds
        optimizer.param_groups[0]["lr"] = RATE * min(share / WARM_UP, 1.0, 2 * (1 - share))
        loss = loss_of(model, [spans.added(passage) for passage in batch] if share < COPYING else batch).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        steps, used = steps + 1, before + time.process_time() - began
        if steps % 20 == 0:
            print(f"step {steps}, {used:.0f} s: loss {loss.item():.3f}", flush=True)
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "used": used, "steps": steps}
    torch.save(saved, state)
    return used, steps


class Spans:
    """Spans of passages, from the beginning of a word: of some drawn ones, that with the rarest pieces."""

    def __init__(self, tokenizer: Any, passages: Sequence[Passage]) -> None:
        counts = Counter(piece for tokens, _ in passages for piece in set(tokens))
        self.rarity = {piece: math.log(len(passages) / found) for piece, found in counts.items()}
        self.first = {number for piece, number in tokenizer.get_vocab().items() if piece.startswith("▁")}
        self.draw = random.Random(0)

    def added(self, passage: Passage) -> Passage:
        return passage[0], [*passage[1], *(self._one(passage[0][1:-1]) for _ in range(SPANS))]

    def _one(self, tokens: Tokens) -> Tokens:
        drawn = [self._any(tokens) for _ in range(TRIED)]
        return [START, *max(drawn, key=lambda some: sum(map(self.rarity.__getitem__, some)) / max(1, len(some))), END]

    def _any(self, tokens: Tokens) -> Tokens:
        length = self.draw.randint(*SPAN)
        start = self.draw.randrange(max(1, len(tokens) - length))
        while start and tokens[start] not in self.first:
            start -= 1
        return tokens[start : start + length]


def batches(passages: Sequence[Passage], draw: random.Random, *, endless: bool = False) -> Iterator[list[Passage]]:
    """Passages of about one length, in a new order each time."""
    for _ in count() if endless else range(1):
        order = sorted(range(len(passages)), key=lambda place: len(passages[place][0]) + draw.random() * 16)
        found: list[list[Passage]] = [[]]
        for place in order:
            if sum(len(asked) for _, asked in found[-1]) + len(passages[place][1]) > BATCH_TEXTS:
                found.append([])
            found[-1].append(passages[place])
        draw.shuffle(found)
        yield from filter(None, found)


def loss_of(model: T5ForConditionalGeneration, batch: Sequence[Passage]) -> torch.Tensor:
    """Of each token of the batch's questions; a passage is read once for all of its own."""
    counts = torch.tensor([len(asked) for _, asked in batch])
    passages, questions = padded([tokens for tokens, _ in batch]), padded([one for _, asked in batch for one in asked])
    mask = (passages != PADDING).long()
    with low_precision():
        read = model.encoder(input_ids=passages, attention_mask=mask).last_hidden_state
        scores = model(
            encoder_outputs=(read.repeat_interleave(counts, dim=0),),
            attention_mask=mask.repeat_interleave(counts, dim=0),
            decoder_input_ids=questions[:, :-1],
            use_cache=False,
        ).logits
    wanted = questions[:, 1:]
    return cross_entropy(scores[wanted != PADDING].float(), wanted[wanted != PADDING], reduction="none")


def padded(rows: Sequence[Tokens]) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PADDING)


@torch.inference_mode()
def loss_on(model: T5ForConditionalGeneration, passages: Sequence[Passage]) -> float:
    """The mean over tokens, with the end of each question."""
    model.eval()
    losses = torch.cat([loss_of(model, batch) for batch in batches(passages, random.Random(0))])
    return float(losses.mean())


def fit(folder: Path, asked: Sequence[Pair]) -> dict[str, Any]:
    """How often BM25 finds a question's own passage first among those asked about: for written and for true ones."""
    texts = list(dict.fromkeys(pair["text"] for pair in asked))
    settings = load_config(GenerateConfig, PRESETS / "queries.yaml").model_dump()
    names = ("prompt", "max_passage_tokens", "max_query_tokens", "temperature", "top_k", "top_p", "seed")
    writer = QueryWriter.load(
        str(folder), device="cpu", per_passage=1, batch_passages=16, **{name: settings[name] for name in names}
    )
    written, _ = writer.write([Document(id=str(place), text=text) for place, text in enumerate(texts)], 0)
    index, own = LexicalIndex.build([texts]), {text: place for place, text in enumerate(texts)}

    def first(questions: Sequence[str], places: Sequence[int]) -> float:
        rows = index.search(questions, 1)[1]
        return float(np.mean(rows[:, 0] == np.array(places)))

    by_place = [(place, one) for place, some in enumerate(written) for one in some]
    true = [own[pair["text"]] for pair in asked]
    return {
        "written_finds_its_passage": first([one for _, one in by_place], [place for place, _ in by_place]),
        "asked_finds_its_passage": first([pair["query"] for pair in asked], true),
        "samples": [
            {"text": texts[place], "written": written[place]} for place in range(0, len(texts), len(texts) // SHOWN)
        ],
    }


if __name__ == "__main__":
    main()
