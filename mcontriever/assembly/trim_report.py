"""What trimming pieces costs each language: pieces and tokens kept, unknown ones, lengths, and how far vectors move.

Lengths and cosines are of sampled texts. A text that is still made of the same pieces has the same vector, so only the
others are embedded. Shapes: V pieces, N texts.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mcontriever.assembly.counted_text import CountedText
from mcontriever.tokens import tokenize_texts

_LONGEST = 512
_COLUMNS = {
    "pieces": "pieces kept",
    "tokens_kept": "tokens whose piece stays",
    "unknown_before": "unknown before",
    "unknown": "unknown",
    "length_before": "tokens a text before",
    "length": "tokens a text",
    "cosine": "cosine",
    "cosine_worst_percent": "worst percent",
}


def measure_language(
    text: CountedText, kept: npt.NDArray[np.int64], before: Any, after: Any, embed: Callable[[Any, list[str]], Any]
) -> dict[str, float]:
    """`before` and `after` are encoders of the same layers; `embed` gives a text's vectors of length one."""
    total = int(text.counts_V.sum())
    texts = text.sample()
    rows_before, rows_after = (_token_rows(encoder, texts) for encoder in (before, after))
    same = [[int(kept[one]) for one in new] == old for old, new in zip(rows_before, rows_after, strict=True)]
    changed = [text for text, is_same in zip(texts, same, strict=True) if not is_same]
    cosine_N = np.ones(len(texts))
    if changed:
        cosine_N[~np.array(same)] = (embed(before, changed) * embed(after, changed)).sum(1)
    return {
        "pieces": int((text.counts_V[kept] > 0).sum()),
        "tokens_kept": round(int(text.counts_V[kept].sum()) / max(1, total), 5),
        "unknown_before": _count_unknown(before, rows_before),
        "unknown": _count_unknown(after, rows_after),
        "length_before": round(float(np.mean([len(row) for row in rows_before])), 2),
        "length": round(float(np.mean([len(row) for row in rows_after])), 2),
        "cosine": round(float(cosine_N.mean()), 5),
        "cosine_worst_percent": round(float(np.percentile(cosine_N, 1)), 5),
    }


def _token_rows(encoder: Any, texts: list[str]) -> list[list[int]]:
    flat, lengths = tokenize_texts(encoder.tokenizer, texts, _LONGEST)
    return [row.tolist() for row in np.split(flat, np.cumsum(lengths)[:-1])]


def _count_unknown(encoder: Any, rows: list[list[int]]) -> int:
    return sum(row.count(encoder.special.unknown_id) for row in rows)


def report_text(facts: Mapping[str, Any]) -> str:
    """report.md, and most of the model's card."""
    lines = [f"# {facts['name']}", "", f"Made of `{facts['model']}` by `mcontriever trim`.", ""]
    lines += [f"- {name}: {facts[name]:,}" for name in ("pieces", "layers", "parameters")]
    lines += [f"- text that the pieces were counted in: {facts['text']}"] if facts["text"] else []
    if facts["centered"]:
        what = f"up to {facts['samples']} texts of each language"
        lines.append(f"- vectors are centred: the mean vector of {what} is subtracted; cosines below are from before")
    if facts["languages"]:
        lines += [
            "",
            f"Lengths, unknown tokens and cosines (to the same layers with all pieces) are of up to {facts['samples']} "
            "texts for each language, cut to their beginnings; the text was counted for these pieces too.",
            "",
            "| language | " + " | ".join(_COLUMNS.values()) + " |",
            "| --- |" + " ---: |" * len(_COLUMNS),
        ]
        for language, values in facts["languages"].items():
            lines.append(f"| {language} | " + " | ".join(_shown(name, values[name]) for name in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"


def _shown(name: str, value: float) -> str:
    if name == "tokens_kept":
        return f"{100 * value:.2f} %"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}" if name.startswith("cos") else f"{value:.1f}"
