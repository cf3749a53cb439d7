"""Real tokenizers whose few pieces are known: one of the sentencepiece kind, one WordPiece."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def sentencepiece_tokenizer(pieces: list[str]) -> Any:
    """Ids 0-3 are <s> <pad> </s> <unk>, then the pieces, then <mask>."""
    scored = [*((piece, 0.0) for piece in SPECIALS), *((piece, -1.0) for piece in pieces)]
    backend = Tokenizer(models.Unigram(scored, unk_id=3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    backend.add_special_tokens([AddedToken("<mask>", special=True)])
    return _fast(backend)


def wordpiece_tokenizer(pieces: list[str]) -> Any:
    backend = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(SPECIALS + pieces)}, unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return _fast(backend)


def _fast(backend: Tokenizer) -> Any:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>" if backend.token_to_id("<mask>") is not None else None,
    )
