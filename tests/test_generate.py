"""Writing queries with a tiny random T5: shape of the output, drops, resuming, and both uses read back."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mcontriever import generate
from mcontriever.chance import random_bits
from mcontriever.config import GenerateConfig, parse_config
from mcontriever.errors import ConfigError, ModelError, StoreError
from mcontriever.finetuning.examples.training_set import open_training_set
from mcontriever.finetuning.part_folder import PartFolder
from mcontriever.retrieval.embedding.corpus import Corpus
from mcontriever.tokens import load_tokenizer
from tests.conftest import SENTENCES

Config = Callable[..., GenerateConfig]


@pytest.fixture(scope="module")
def t5_dir(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_dir: Path) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration

    folder = tmp_path_factory.mktemp("t5") / "tiny"
    tokenizer = load_tokenizer(str(tiny_tokenizer_dir))
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=1,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(1)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(tmp_path: Path, t5_dir: Path) -> Config:
    corpus = tmp_path / "corpus.jsonl"
    texts = [*SENTENCES["en"], " ", *SENTENCES["sw"]]
    records = [{"_id": f"d{number}", "title": "Title", "text": text} for number, text in enumerate(texts)]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))

    def make(**changes: Any) -> GenerateConfig:
        values = {
            "corpus": str(corpus),
            "model": str(t5_dir),
            "output": str(tmp_path / "written"),
            "max_query_tokens": 8,
            "batch_passages": 2,
            "shard_passages": 3,
            **changes,
        }
        return GenerateConfig.model_validate(values)

    return make


def lines(output: str | Path) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in sorted(Path(output).glob("*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n") if line]


def test_queries_become_training_examples(config: Config) -> None:
    made = config()
    generate.run(made)
    examples = open_training_set(format="dpr", paths=[f"{made.output}/generated-*.jsonl"], strict=True)
    counts = json.loads((Path(made.output) / "manifest.json").read_text())["counts"]
    assert counts["passages"] == len(examples.passages) == 8
    assert counts["empty_passages"] == 1
    assert counts["texts"] == len(examples) <= 8 * made.per_passage
    assert counts["texts"] + counts["empty_texts"] + counts["repeated_texts"] == 8 * made.per_passage
    of_first = [example for example in map(examples.__getitem__, range(len(examples))) if example.id.startswith("d0-")]
    assert {example.positives[0].text for example in of_first} == {SENTENCES["en"][0]}
    assert len({example.query for example in of_first}) == len(of_first) > 1


def test_questions_are_those_that_transformers_draws(config: Config, t5_dir: Path, tmp_path: Path) -> None:
    """T5, and an encoder and decoder of BERT's layers: the naive form is one call for the one batch, and no shards."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    for model in (t5_dir, save_encoder_decoder(tmp_path / "bert", t5_dir)):
        made = config(
            model=str(model), output=str(tmp_path / f"of-{model.name}"), max_passages=2, temperature=1.5, top_k=7
        )
        generate.run(made)
        tokenizer = AutoTokenizer.from_pretrained(model)
        inputs = tokenizer(SENTENCES["en"][:2], padding=True, return_tensors="pt")
        writer = AutoModelForSeq2SeqLM.from_pretrained(model)
        torch.manual_seed(int(random_bits(made.seed, "written queries", np.array(0), np.array(0))) >> 1)
        drawn = writer.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            num_return_sequences=3,
            max_new_tokens=8,
            temperature=1.5,
            top_k=7,
            top_p=0.95,
        )
        texts = [" ".join(text.split()) for text in tokenizer.batch_decode(drawn, skip_special_tokens=True)]
        expected = [text for three in (texts[:3], texts[3:]) for text in dict.fromkeys(three) if text]
        assert [record["question"] for record in lines(made.output)] == expected != []


def save_encoder_decoder(folder: Path, tokenizer_folder: Path) -> Path:
    """Two models of BERT's layers, saved as one."""
    from transformers import AutoTokenizer, BertConfig, BertLMHeadModel, BertModel, EncoderDecoderModel

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(tokenizer), **sizes)
    reader = BertConfig(vocab_size=len(tokenizer), **sizes, is_decoder=True, add_cross_attention=True)
    torch.manual_seed(2)
    model = EncoderDecoderModel(encoder=BertModel(config), decoder=BertLMHeadModel(reader))
    for settings in (model.config, model.generation_config):
        settings.decoder_start_token_id = tokenizer.bos_token_id
        settings.pad_token_id, settings.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_expanded_passages_are_a_corpus(config: Config) -> None:
    made = config(write="expansion")
    generate.run(made)
    documents = [document for _, document in Corpus.open(f"{made.output}/expanded-*.jsonl").documents()]
    texts = [*SENTENCES["en"], *SENTENCES["sw"]]
    assert [document.id for document in documents] == ["d0", "d1", "d2", "d3", "d5", "d6", "d7", "d8"]
    assert all(document.text.startswith(f"{text} ") for document, text in zip(documents, texts, strict=True))


def test_interrupted_it_continues_and_ends_the_same(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate.run(config(output=str(tmp_path / "straight")))
    write_part, written = PartFolder.write_part, []

    def fail_once_at_part_1(self: PartFolder, number: int, *arguments: Any) -> None:
        written.append(number)
        if written == [0, 1]:
            raise KeyboardInterrupt
        write_part(self, number, *arguments)

    monkeypatch.setattr(PartFolder, "write_part", fail_once_at_part_1)
    with pytest.raises(KeyboardInterrupt):
        generate.run(config())
    generate.run(config())
    generate.run(config())
    assert written == [0, 1, 1, 2]
    assert lines(tmp_path / "written") == lines(tmp_path / "straight")
    with pytest.raises(StoreError, match="seed: 0 there, 9 here"):
        generate.run(config(seed=9))


def test_prompts_seeds_and_limits(config: Config, tmp_path: Path) -> None:
    found = {}
    for name, changes in {"a": {}, "b": {"seed": 1}, "c": {"prompt": "write a query: {title} {text}"}}.items():
        made = config(output=str(tmp_path / name), max_passages=2, **changes)
        generate.run(made)
        found[name] = [record["question"] for record in lines(made.output)]
        assert {record["positive_ctxs"][0]["id"] for record in lines(made.output)} == {"d0", "d1"}
    assert found["a"] != found["b"]
    assert found["a"] != found["c"]


def test_a_model_or_prompt_that_cannot_work_is_refused(config: Config, tiny_encoder_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"prompt(.|\n)*shows no passage: put \{text\}"):
        parse_config(GenerateConfig, {**config().model_dump(), "prompt": "ask: {passage}"}, source="generate.yaml")
    with pytest.raises(ModelError, match=r"the sequence-to-sequence model cannot be loaded(.|\n)*T5"):
        generate.run(config(model=str(tiny_encoder_dir)))
    made = config(max_passages=1)
    generate.run(made)  # nothing was made before, so another model may be named
    assert lines(made.output)
