"""A tokenizer for inference without transformers, which takes a second to import.

It reads tokenizer.json with the `tokenizers` library alone and has what embedding needs; whoever asks it for more gets
the full tokenizer's answer, and waits for that second.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

from mcontriever.disk import read_json
from mcontriever.encoder.saved_model import PLAIN_TOKENIZER

_SETTINGS, _RULES = "tokenizer_config.json", "tokenizer.json"


class LightTokenizer:
    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.name_or_path = str(folder)
        self.backend_tokenizer = Tokenizer.from_file(str(folder / _RULES))
        settings = read_json(folder / _SETTINGS)
        for kind in ("pad", "mask", "unk"):
            token = settings.get(f"{kind}_token")
            setattr(self, f"{kind}_token_id", None if token is None else self.backend_tokenizer.token_to_id(token))

    def __call__(self, text: Any, **settings: Any) -> Any:
        if isinstance(text, str) and settings == {"add_special_tokens": True}:
            return {"input_ids": self.backend_tokenizer.encode(text).ids}
        return self._full(text, **settings)

    def __len__(self) -> int:
        return int(self.backend_tokenizer.get_vocab_size(with_added_tokens=True))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._full, name)

    @cached_property
    def _full(self) -> Any:
        from mcontriever.tokens import load_tokenizer

        return load_tokenizer(self.name_or_path)


def load_light_tokenizer(folder: Path) -> LightTokenizer | None:
    """None for a tokenizer of which transformers knows more than its file says."""
    if not (folder / _RULES).is_file() or not (folder / _SETTINGS).is_file():
        return None
    if read_json(folder / _SETTINGS).get("tokenizer_class") != PLAIN_TOKENIZER:
        return None
    return LightTokenizer(folder)
