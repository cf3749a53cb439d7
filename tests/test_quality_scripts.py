"""What the scripts of benchmarks/quality make of very small inputs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, BertConfig, BertModel

from tests.conftest import REPOSITORY

PIECES, LENGTH = 300, 40
SIZES = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture
def question_writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks" / "quality")
    before = set(sys.modules)
    import question_writer

    yield question_writer
    for name in set(sys.modules) - before:
        if name.startswith(("gains_", "question_writer")):
            del sys.modules[name]


def test_the_question_writer_copies_before_it_has_learned(question_writer: ModuleType, tmp_path: Path) -> None:
    """Of a passage's other pieces, the one behind the piece written last has the highest score (by chance: 1 of 39)."""
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=PIECES, **SIZES)).save_pretrained(tmp_path)
    model = question_writer.writer_of(tmp_path).eval()
    passages = torch.stack([torch.randperm(PIECES - 5)[:LENGTH] + 5 for _ in range(20)])
    written, wanted = passages[:, :-1].reshape(-1, 1), passages[:, 1:].reshape(-1)
    of_each = passages.repeat_interleave(LENGTH - 1, dim=0)
    with torch.no_grad():
        scores = model(input_ids=of_each, decoder_input_ids=written).logits[:, 0].gather(1, of_each)
    scores[of_each == written] = -torch.inf
    best = of_each.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    assert (best == wanted).float().mean() > 0.5


def test_a_question_goes_with_the_part_that_it_is_about(question_writer: ModuleType) -> None:
    filler = "The mill stood by the water and the wheel went round all day long. " * 12
    told = "The giant Brandur hid the golden comb under a grey stone."
    pair = {
        "text": f"{filler}{told} {filler}",
        "query": "Where did Brandur hide the comb?",
        "answers": ["under a stone"],
    }
    part = question_writer.best_part(pair)
    assert told in part
    assert len(part.split()) == question_writer.PART
    assert question_writer.best_part(pair | {"text": told}) == told


def test_the_question_writer_generates_with_an_encoder_of_fewer_layers(
    question_writer: ModuleType, tmp_path: Path
) -> None:
    BertModel(BertConfig(vocab_size=PIECES, **SIZES)).save_pretrained(tmp_path)
    model = question_writer.writer_of(tmp_path).eval()
    assert model.config.num_layers < model.config.num_decoder_layers
    question_writer.with_equal_layers(model).save_pretrained(tmp_path / "writer")
    saved = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "writer").eval()
    passage, written = torch.arange(5, 25)[None], torch.arange(30, 38)[None]
    with torch.no_grad():
        logits = [one(input_ids=passage, decoder_input_ids=written).logits for one in (model, saved)]
    torch.testing.assert_close(*logits)
    assert saved.generate(input_ids=passage, max_new_tokens=4, do_sample=False).shape[1] > 1


def test_the_last_layernorm_takes_mean_and_deviation_of_pooled_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks" / "quality")
    import standardised_start

    torch.manual_seed(0)
    norm = torch.nn.LayerNorm(8)
    torch.nn.init.uniform_(norm.weight, 0.1, 3.0)
    torch.nn.init.uniform_(norm.bias, -2.0, 2.0)
    tokens = torch.randn(6, 50, 4, 8) * torch.linspace(0.2, 2.0, 8) + torch.randn(6, 1, 1, 8)  # six batches of 50 texts

    def pooled() -> torch.Tensor:
        with torch.no_grad():
            return norm(tokens).mean(2)

    before = pooled()
    standardised_start.standardise(norm, before.double().numpy())
    after = pooled()
    within = (after - after.mean(1, keepdim=True)).pow(2).mean((0, 1)).sqrt()
    torch.testing.assert_close(after.mean((0, 1)), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(within, within.mean().expand(8))
    torch.testing.assert_close(after.norm(dim=-1).mean(), before.norm(dim=-1).mean())
    sys.modules.pop("standardised_start")
