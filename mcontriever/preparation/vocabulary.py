"""Train a sentencepiece vocabulary in XLM-R's layout from texts in many languages (`mcontriever tokenizer`).

Ids 0-3 are <s> <pad> </s> <unk>, then the pieces, <mask> last. A language with n characters provides a share of the
training text in proportion to n^alpha, so a small language gets pieces of its own. In scripts without spaces between
words no piece has a space mark: a word is the same piece at the beginning of a line and inside it. The result loads
with `AutoTokenizer.from_pretrained(DIR)`; the same input gives the same bytes.
"""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcontriever.chance import uniform
from mcontriever.disk import atomic_folder, read_json, write_json
from mcontriever.encoder.saved_model import PLAIN_TOKENIZER, write_tokenizer
from mcontriever.errors import DataError
from mcontriever.output_folder import FolderKind
from mcontriever.progress import log
from mcontriever.word_starts import UNSPACED_SCRIPTS

TOKENIZER = FolderKind(
    "tokenizer",
    marks=("tokenizer.json",),
    files=("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "sentencepiece.bpe.model"),
)
SPECIAL_PIECES = ("<s>", "<pad>", "</s>", "<unk>")
SENTENCEPIECE_SPECIALS = 3  # <unk> <s> </s>: sentencepiece's own order, which XLM-R's layout replaces
MAX_SENTENCE_BYTES = 4096
CHARACTER_COVERAGE = 0.9995
ENGLISH, ENGLISH_SHARE = "en", 0.25  # of all expected words, because it is one side of every dictionary
_UNSPACED_RUN = re.compile(f"((?:{UNSPACED_SCRIPTS.pattern})+)")
TRAINING_THREADS = 4  # on any machine: the result depends on it, because sentencepiece sums its counts by thread


def train_tokenizer(
    texts_by_language: Mapping[str, Iterable[str]],
    output: str | Path,
    vocabulary: int,
    *,
    alpha: float = 0.3,
    max_characters: int = 100_000_000,
    seed: int = 0,
    lowercase: bool = False,
    words_by_language: Mapping[str, Mapping[str, float]] | None = None,
    overwrite: bool = False,
) -> Path:
    """Train on at most `max_characters` of text, balanced over the languages, and write the tokenizer's folder.

    `words_by_language` are words and their expected counts; each language's add as much text as an average language
    has. With `lowercase` a word and its capitalised form share their pieces: sentencepiece folds case itself.

    Each value of `texts_by_language` is iterated twice (to count, then to sample): lists, not one-shot iterators.
    """
    TOKENIZER.require_replaceable(output, overwrite=overwrite)
    assert all(iter(texts) is not texts for texts in texts_by_language.values()), "pass lists, not iterators"
    keep = _share_to_keep(texts_by_language, alpha, max_characters)
    sentences = [line for text in _sample(texts_by_language, keep, seed) for line in _sentences(text)]
    if words_by_language:
        sentences += _expected(words_by_language, sum(map(len, sentences)) / len(texts_by_language))
    model = _train_sentencepiece(sentences, vocabulary, lowercase)
    output = Path(output)
    with atomic_folder(output) as folder:
        _save_in_xlmr_layout(model, folder)
    log.info("tokenizer: %d pieces from %d sentences, in %s", vocabulary, len(sentences), output)
    return output


def _share_to_keep(
    texts_by_language: Mapping[str, Iterable[str]], alpha: float, max_characters: int
) -> dict[str, float]:
    """The share of each language's texts to keep, so that characters are proportional to n^alpha within the budget."""
    counts = {language: sum(map(len, texts)) for language, texts in texts_by_language.items()}
    for language, count in counts.items():
        if not count:
            log.warning("no text in language %r: the tokenizer will not know it", language)
    weights = {language: count**alpha for language, count in counts.items() if count}
    if not weights:
        raise DataError("no text to train a tokenizer on", fix="check the recipe's paths and filters")
    scale = min(max_characters, sum(counts.values())) / sum(weights.values())
    return {language: min(1.0, scale * weight / counts[language]) for language, weight in weights.items()}


def _sample(texts_by_language: Mapping[str, Iterable[str]], keep: dict[str, float], seed: int) -> Iterator[str]:
    for language, share in sorted(keep.items()):
        for index, text in enumerate(texts_by_language[language]):
            if share >= 1 or uniform(seed, f"tokenizer/{language}", index) < share:
                yield text


def _expected(words_by_language: Mapping[str, Mapping[str, float]], characters: float) -> Iterator[str]:
    """Each word in proportion to its expected count, about so many characters in each language."""
    for language, words in sorted(words_by_language.items()):
        budget = characters * (ENGLISH_SHARE * len(words_by_language) if language == ENGLISH else 1)
        scale = budget / sum(count * (len(word) + 1) for word, count in words.items())
        for word, count in sorted(words.items()):
            yield from [word] * round(count * scale)


def _sentences(text: str) -> Iterator[str]:
    """The lines of a text, cut so that sentencepiece skips none as too long."""
    for line in text.splitlines():
        encoded = line.strip().encode("utf-8", errors="ignore")
        for start in range(0, len(encoded), MAX_SENTENCE_BYTES):
            piece = encoded[start : start + MAX_SENTENCE_BYTES].decode("utf-8", errors="ignore")
            if piece:
                yield piece


def _train_sentencepiece(sentences: list[str], vocabulary: int, lowercase: bool) -> bytes:
    import sentencepiece

    sentences, coverage = _with_frequent_characters(sentences, vocabulary)
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(run for sentence in sentences for run in _runs(sentence)),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocabulary - len(("<pad>", "<mask>")),
            character_coverage=coverage,
            normalization_rule_name="nmt_nfkc_cf" if lowercase else "nmt_nfkc",
            seed_sentencepiece_size=max(10_000, min(1_000_000, 20 * vocabulary)),
            max_sentence_length=2 * MAX_SENTENCE_BYTES,
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            num_threads=TRAINING_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rsplit("] ", 1)[-1].strip()
        raise DataError(
            f"sentencepiece cannot make {vocabulary} pieces of {len(sentences)} sentences: {reason}",
            fix="give a smaller --vocabulary, or a recipe with more text",
        ) from error
    return written.getvalue()


def _runs(sentence: str) -> Iterator[str]:
    """The parts of a sentence in scripts with and without spaces; a space precedes what begins a word."""
    parts = _UNSPACED_RUN.split(" " + " ".join(sentence.split()))
    for place, part in enumerate(parts):
        if part.strip():
            yield part if place % 2 else part.rstrip()


def _with_frequent_characters(sentences: list[str], vocabulary: int) -> tuple[list[str], float]:
    """The sentences and sentencepiece's character coverage: 0.9995, as for XLM-R.

    If so many characters would fill more than half of a small vocabulary, the rarer ones become spaces, because
    sentencepiece itself accepts no coverage below 0.98.
    """
    counts = Counter[str]()
    for sentence in sentences:
        counts.update(unicodedata.normalize("NFKC", sentence))
    frequent = {character for character, _ in counts.most_common(vocabulary // 2)}
    if sum(counts[character] for character in frequent) >= CHARACTER_COVERAGE * counts.total():
        return sentences, CHARACTER_COVERAGE
    to_spaces = str.maketrans(dict.fromkeys(counts.keys() - frequent, " "))
    return [unicodedata.normalize("NFKC", sentence).translate(to_spaces) for sentence in sentences], 1.0


def _save_in_xlmr_layout(model: bytes, folder: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2
    from transformers import AddedToken, XLMRobertaTokenizer

    messages: Any = sentencepiece_model_pb2
    parsed = messages.ModelProto.FromString(model)
    parsed.normalizer_spec.add_dummy_prefix = True  # the training sentences begin with a space, new texts do not
    parsed.normalizer_spec.remove_extra_whitespaces = True
    for piece in parsed.pieces:
        piece.score = round(piece.score, 4)  # a third of the tokenizer's file is digits of scores
    pieces = [(piece.piece, round(piece.score, 4)) for piece in parsed.pieces[SENTENCEPIECE_SPECIALS:]]
    tokenizer = XLMRobertaTokenizer(
        vocab=[*((piece, 0.0) for piece in SPECIAL_PIECES), *pieces, ("<mask>", 0.0)],
        _spm_precompiled_charsmap=parsed.normalizer_spec.precompiled_charsmap,
        mask_token=AddedToken("<mask>", lstrip=True, special=True),
    )
    write_tokenizer(tokenizer, folder, max_length=512)
    settings = read_json(folder / "tokenizer_config.json")
    inputs = ["input_ids", "attention_mask"]
    settings |= {"tokenizer_class": PLAIN_TOKENIZER, "model_input_names": inputs}  # loads in half the time of XLM-R's
    write_json(folder / "tokenizer_config.json", settings)
    (folder / "sentencepiece.bpe.model").write_bytes(parsed.SerializeToString())
