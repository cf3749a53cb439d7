"""`mcontriever trim MODEL --output F`: a model of the pieces that some languages need, or of some of its layers.

    mcontriever trim intfloat/multilingual-e5-small --text atlas --languages ar,sw,en --pieces 30000 --output runs/small
    mcontriever trim FacebookAI/xlm-roberta-base --layers 0-5 --output runs/lower-half

Pieces are counted in the text, and every language keeps its own most frequent ones (chosen_pieces.py). A text that is
made of kept pieces has the same vector as before, bit for bit, if all layers stay and vectors are not centred
(centred_vectors.py). report.md says what it costs.
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever.assembly.counted_text import CountedText, count_text
from mcontriever.assembly.trim_report import measure_language, report_text
from mcontriever.encoder.card_usage import usage
from mcontriever.encoder.centred_vectors import center as center_vectors
from mcontriever.encoder.centred_vectors import last_norm
from mcontriever.encoder.chosen_pieces import choose_pieces, with_parts
from mcontriever.encoder.encoder import Encoder
from mcontriever.encoder.saved_model import MODEL_FOLDER
from mcontriever.encoder.trimmed_tokenizer import Vocabulary, characters_and_scripts
from mcontriever.encoder.trimmed_weights import keep_layers, keep_pieces
from mcontriever.encoder.two_encoders import parts_of
from mcontriever.errors import ConfigError, ModelError
from mcontriever.progress import log


def run(
    model: str,
    output: Path,
    *,
    text: str | None = None,
    languages: list[str] | None = None,
    pieces: int | None = None,
    layers: str | None = None,
    weights: dict[str, float] | None = None,
    max_characters: int = 2_000_000,
    samples: int = 50,
    center: bool = False,
    overwrite: bool = False,
) -> None:
    """Without `pieces`, all that the languages use stay. `samples` texts of each language are compared, and their mean
    vector is subtracted with `center`."""
    _check(text, languages, pieces, layers, center)
    MODEL_FOLDER.require_replaceable(output, overwrite=overwrite)
    encoder = Encoder.load(model, light=False)
    if len(parts_of(encoder)) > 1:
        fix = f"trim each of its folders, then join them: mcontriever export dpr:QUERIES,PASSAGES --output {output}"
        raise ModelError("the model has a separate query encoder", where=model, fix=fix)
    if layers is not None:
        keep_layers(encoder.backbone, layer_numbers(layers), where=model)
        encoder.int8_ranges, encoder.evidence_rule = None, None
    if center:
        last_norm(encoder.backbone, where=model)
    facts: dict[str, Any] = {"name": output.resolve().name, "model": model, "text": text, "samples": samples}
    facts["languages"] = {}
    if text is not None:
        vocabulary = Vocabulary.of(encoder.tokenizer)
        _check_count(pieces, vocabulary)
        counted = count_text(text, encoder.tokenizer, languages, max_characters=max_characters, samples=samples)
        kept = _chosen(vocabulary, counted, pieces, weights or {})
        whole, encoder = encoder, _with_pieces(encoder, vocabulary, kept)
        facts["languages"] = {
            language: measure_language(one, kept, whole, encoder, _unit_vectors) for language, one in counted.items()
        }
        if center:
            center_vectors(encoder, {language: one.sample() for language, one in counted.items()})
            encoder.evidence_rule = None  # its scores are others now
    facts["centered"] = center
    facts |= {"pieces": len(encoder.tokenizer), "layers": encoder.backbone.config.num_hidden_layers}
    facts["parameters"] = sum(one.numel() for one in encoder.backbone.parameters())
    _save(encoder, facts, output, overwrite)


def layer_numbers(text: str) -> list[int]:
    """ "0-3,8,11" as numbers, in the order given."""
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError(f"--layers {text!r} is not a list of layers", fix="for example --layers 0-5, or 0,2,4")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def language_weights(text: str) -> dict[str, float]:
    """ "en=3,sw=0.5" as numbers."""
    weights: dict[str, float] = {}
    for part in text.split(","):
        language, _, number = (word.strip() for word in part.partition("="))
        try:
            weights[language] = float(number)
        except ValueError:
            weights[language] = 0.0
        if not language or not 0 < weights[language] < float("inf"):
            raise ConfigError(
                f"--weights {text!r} is not a list of weights above 0", fix="for example --weights en=3,sw=2"
            )
    return weights


def _check(text: str | None, languages: list[str] | None, pieces: int | None, layers: str | None, center: bool) -> None:
    """Errors that do not depend on the text are raised before it is read."""
    if text is None and (languages or pieces or center):
        named = "--languages" if languages else "--pieces" if pieces else "--center"
        raise ConfigError(
            f"{named} without --text", fix="give the text that pieces are counted in: a recipe or a folder"
        )
    if text is None and layers is None:
        raise ConfigError(
            "nothing to trim", fix="give --text (a recipe, or a folder of text or tokens), --layers, or both"
        )


def _check_count(pieces: int | None, vocabulary: Vocabulary) -> None:
    if pieces is not None and pieces > len(vocabulary):
        raise ConfigError(
            f"--pieces is {pieces:,}, the model has {len(vocabulary):,}",
            where=vocabulary.tokenizer.name_or_path,
            fix="give a smaller number, or omit --pieces to keep all that the languages use",
        )


def _chosen(
    vocabulary: Vocabulary, counted: dict[str, CountedText], pieces: int | None, weights: dict[str, float]
) -> npt.NDArray[np.int64]:
    unknown = sorted(weights.keys() - counted.keys())
    if unknown:
        raise ConfigError(
            f"--weights names {', '.join(unknown)}; the languages are {', '.join(counted)}",
            fix="weigh these languages alone",
        )
    counts_LV = np.stack([one.counts_V for one in counted.values()])
    always = vocabulary.always_kept(*characters_and_scripts(vocabulary, counts_LV))
    if pieces is None:
        return with_parts(always | set(np.flatnonzero(counts_LV.any(0)).tolist()), vocabulary.parts_of)
    weights_L = np.array([weights.get(language, 1.0) for language in counted])
    return choose_pieces(
        counts_LV,
        pieces,
        always=always,
        parts_of=vocabulary.parts_of,
        weights_L=weights_L,
        probable_V=vocabulary.probabilities(),
    )


def _with_pieces(encoder: Encoder, vocabulary: Vocabulary, kept: npt.NDArray[np.int64]) -> Encoder:
    """Another encoder, which shares all weights but the table of pieces."""
    shared = {id(weight): weight for weight in encoder.backbone.parameters()}
    backbone = copy.deepcopy(encoder.backbone, shared)
    keep_pieces(backbone, kept.tolist())
    tokenizer = vocabulary.keep(kept.tolist())
    settings = {**encoder.spec(), "int8_ranges": encoder.int8_ranges, "evidence_rule": encoder.evidence_rule}
    return Encoder(backbone, tokenizer, **settings).eval()


def _unit_vectors(encoder: Encoder, texts: list[str]) -> npt.NDArray[np.float32]:
    vectors_NH = encoder.embed_documents(texts)
    return vectors_NH / np.linalg.norm(vectors_NH, axis=1, keepdims=True).clip(1e-12)


def _save(encoder: Encoder, facts: dict[str, Any], output: Path, overwrite: bool) -> None:
    report = report_text(facts)
    values = json.dumps(facts, ensure_ascii=False, indent=2) + "\n"
    attachments = {"report.md": report.encode(), "report.json": values.encode()}
    encoder.save(output, card=f"{report}\n{usage(encoder.spec())}\n", attachments=attachments, overwrite=overwrite)
    log.info(f"{facts['pieces']:,} pieces, {facts['layers']} layers: {output}; what it costs: {output / 'report.md'}")
