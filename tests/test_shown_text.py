"""shown_text.py: no foreign character reaches a terminal that could control it, and no password any message."""

import json
import logging
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcontriever.errors import DataError
from mcontriever.progress import log, setup_logging
from mcontriever.shown_text import safe_json, shown_message, shown_text, without_credentials

ANY_TEXT = st.text(st.characters())
BIDI = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(ANY_TEXT)
def test_what_is_shown_has_no_control_by_unicodes_own_tables(text: str) -> None:
    for character in shown_text(text):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in BIDI


@given(ANY_TEXT)
def test_letters_marks_and_joiners_stay(text: str) -> None:
    kept = [
        character
        for character in text
        if unicodedata.category(character)[0] in "LMNPSZ" and character not in "\u2028\u2029"
    ]
    assert shown_text("".join(kept)) == "".join(kept)


def test_controls_are_seen() -> None:
    assert shown_text("a\x1b[31mred\x9b0m\u202eb\tc\n\x7f") == "a\\x1b[31mred\\x9b0m\\u202eb\\tc\\n\\x7f"
    assert shown_text("می\u200cخواهم 👩\u200d🔬") == "می\u200cخواهم 👩\u200d🔬"
    assert shown_message("two\nlines\x1b") == "two\nlines\\x1b"


@given(ANY_TEXT)
def test_json_stays_the_same_value(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    line = safe_json(orjson.dumps({"title": text}).decode())
    assert json.loads(line) == {"title": text}
    assert not {"\x7f", "\x85", "\x9b", "\u202e", "\u2066", "\u2028"} & set(line)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at http://user:secret@host:19530/db", "at http://***@host:19530/db"),
        ("s3://key:se/cret@bucket/x", "s3://***@bucket/x"),
        ("https://token@host", "https://***@host"),
        ("https://h/x?X-Amz-Signature=abc&y=1&sig=z", "https://h/x?X-Amz-Signature=***&y=1&sig=***"),
        ("http://host:19530 and a@b, s3://bucket/x@y", "http://host:19530 and a@b, s3://bucket/x@y"),
    ],
)
def test_passwords_are_in_no_message(text: str, expected: str) -> None:
    assert without_credentials(text) == expected
    assert str(DataError(text, where=text, fix=text)) == f"{expected}\n  where: {expected}\n  fix: {expected}"


def test_the_log_shows_no_control_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    before = log.handlers[:], log.propagate, log.level
    setup_logging()
    log.warning("the file %s", "x\x1b]0;title\x07 of http://u:p@h")
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])
    assert capsys.readouterr().err == "the file x\\x1b]0;title\\x07 of http://***@h\n"
    assert logging.getLogger("mcontriever") is log
