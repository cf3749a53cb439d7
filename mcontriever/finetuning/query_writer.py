"""A sequence-to-sequence model that writes queries for passages.

The random draw for a passage depends on the seed, the shard and the place in it, so a shard that is repeated after a
kill is the same.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mcontriever.chance import random_bits
from mcontriever.errors import ModelError
from mcontriever.hub import model_folder
from mcontriever.texts.documents import Document


class QueryWriter:
    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        per_passage: int,
        prompt: str,
        max_passage_tokens: int,
        max_query_tokens: int,
        temperature: float,
        top_k: int,
        top_p: float,
        seed: int,
        batch_passages: int,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.prompt, self.max_passage_tokens = prompt, max_passage_tokens
        self.seed, self.batch_passages, self.per_passage = seed, batch_passages, per_passage
        self.drawing = {
            "do_sample": True,
            "num_return_sequences": per_passage,
            "max_new_tokens": max_query_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
        }

    @classmethod
    def load(cls, name: str, *, device: str | torch.device, **settings: Any) -> "QueryWriter":
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        folder = model_folder(name)
        dtype = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        try:
            model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the sequence-to-sequence model cannot be loaded: {error}",
                where=name,
                fix="give a model such as a T5 or mT5 that was trained to write queries",
            ) from error
        return cls(model.to(device).eval(), tokenizer, **settings)

    def write(self, documents: Sequence[Document], shard: int) -> tuple[list[list[str]], Counter[str]]:
        """Distinct queries for each passage, and how many texts were dropped as empty or repeated."""
        queries: list[list[str]] = []
        dropped: Counter[str] = Counter()
        for start in range(0, len(documents), self.batch_passages):
            part = documents[start : start + self.batch_passages]
            for texts in self._draw(part, shard, start):
                full = [text for text in (" ".join(text.split()) for text in texts) if text]
                different = list(dict.fromkeys(full))
                dropped["empty_texts"] += len(texts) - len(full)
                dropped["repeated_texts"] += len(full) - len(different)
                queries.append(different)
        return queries, dropped

    @torch.inference_mode()
    def _draw(self, documents: Sequence[Document], shard: int, start: int) -> list[list[str]]:
        prompts = [
            self.prompt.replace("{title}", document.title).replace("{text}", document.text) for document in documents
        ]
        inputs = self.tokenizer(
            prompts, padding=True, truncation=True, max_length=self.max_passage_tokens, return_tensors="pt"
        ).to(self.model.device)
        with torch.random.fork_rng(devices=[self.model.device] if self.model.device.type == "cuda" else []):
            torch.manual_seed(int(random_bits(self.seed, "written queries", np.array(shard), np.array(start))) >> 1)
            drawn = self.model.generate(**inputs, **self.drawing)
        texts = self.tokenizer.batch_decode(drawn, skip_special_tokens=True)
        return [texts[first : first + self.per_passage] for first in range(0, len(texts), self.per_passage)]
