"""Text as it is tokenized: `none` does not change it (XLM-R's sentencepiece does NFKC itself), `basic` simplifies it.

`basic` resembles Contriever's normalisation: typographic quotes, dashes and spaces become ASCII; control characters,
soft hyphens and invisible marks are removed. Joiners (U+200C, U+200D) stay, because Persian and Hindi need them.
"""

import re
from collections.abc import Callable

_QUOTES = {**dict.fromkeys("‘’‚‛′‵ʼ＇`´", "'"), **dict.fromkeys("“”„‟″‶«»＂", '"')}
_DASHES = dict.fromkeys("‐‑‒–—―−﹘﹣－", "-")
_SPACES = dict.fromkeys(
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "
)
_LINES = dict.fromkeys("\u2028\u2029\u0085\u000b\u000c", "\n")
_INVISIBLE = dict.fromkeys(
    [
        *(chr(code) for code in (*range(0x09), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0))),
        *"\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\ufffd",
    ],
    "",
)
_BASIC = str.maketrans({**_QUOTES, **_DASHES, **_SPACES, **_LINES, **_INVISIBLE, "…": "..."})


def normaliser(kind: str) -> Callable[[str], str]:
    """The function for a recipe's `normalisation`."""
    functions: dict[str, Callable[[str], str]] = {"none": str, "basic": basic}
    return functions[kind]


def basic(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_BASIC)
    text = re.sub(r"[ \t]+", " ", text)
    return re.sub(r" ?\n[ \n]*", "\n", text).strip()
