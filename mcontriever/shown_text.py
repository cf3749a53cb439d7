"""Foreign text made safe to show: titles, texts, ids and file names are written by strangers.

An ESC, a C1 control such as 0x9b or a bidi override would let them recolour, rewrite or reorder what a terminal shows.
Such characters are shown as escapes: \\x1b, \\u202e. Joiners stay, because Persian, Hindi and emoji need them.
"""

import re
from typing import Any

_BIDI_AND_SEPARATORS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb"
_NEVER_SHOWN = re.compile(f"[\0-\x1f\x7f-\x9f{_BIDI_AND_SEPARATORS}\ud800-\udfff\U000e0000-\U000e007f]")
_UNSAFE_IN_JSON = re.compile(f"[\x7f-\x9f{_BIDI_AND_SEPARATORS}]")  # JSON itself escapes what is below 0x20
_USER_AND_PASSWORD = re.compile(r"(\b[a-zA-Z][\w+.-]*://)(?:[^/\s@]*:[^\s@]*|[^/\s@]+)@")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&](?:[\w-]*(?:token|secret|password|signature|credential)|sig|api_?key)=)[^&\s]+"
)


def shown_text(text: str) -> str:
    """One line of text for a terminal."""
    return _NEVER_SHOWN.sub(_escape, text)


def shown_message(text: str) -> str:
    """Our message with parts from outside: its lines stay, controls are escaped, and passwords are removed."""
    lines = without_credentials(text).split("\n")
    return "\n".join(_NEVER_SHOWN.sub(_escape, line) for line in lines)


def without_credentials(text: str) -> str:
    """`http://user:secret@host?token=x` -> `http://***@host?token=***`."""
    return _SECRET_PARAMETER.sub(r"\1***", _USER_AND_PASSWORD.sub(r"\1***@", text))


def stored_without_credentials(value: Any) -> Any:
    """The same JSON value with no password in any address: for what is written into a folder that others may read."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, dict):
        return {stored_without_credentials(key): stored_without_credentials(inner) for key, inner in value.items()}
    return [stored_without_credentials(inner) for inner in value] if isinstance(value, list | tuple) else value


def has_controls(text: str) -> bool:
    return _NEVER_SHOWN.search(text) is not None


def safe_json(line: str) -> str:
    """JSON whose strings have C1 and bidi controls escaped, which is the same value to every reader."""
    return _UNSAFE_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in "\t\n\r":
        return {"\t": "\\t", "\n": "\\n", "\r": "\\r"}[match[0]]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
