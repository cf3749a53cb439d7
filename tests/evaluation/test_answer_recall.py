import unicodedata
from pathlib import Path

import numpy as np
import pytest

from mcontriever.errors import DataError
from mcontriever.evaluation.answer_recall import dpr_key, first_ranks, has_answer, recall_at
from mcontriever.evaluation.question_sets import Question, read_questions


def naive_words(text: str) -> list[str]:
    """DPR's tokenizer character by character: runs of letters, numbers and marks; other visible characters alone."""
    words: list[str] = []
    inside = False
    for character in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(character)[0]
        if kind in "LNM":
            if inside:
                words[-1] += character
            else:
                words.append(character)
        elif kind not in "ZC":
            words.append(character)
        inside = kind in "LNM"
    return [word.lower() for word in words]


def naive_has_answer(text: str, answers: list[str]) -> bool:
    words = naive_words(text)
    for answer in answers:
        wanted = naive_words(answer)
        if wanted and any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1)):
            return True
    return False


def ours(text: str, answers: list[str]) -> bool:
    return has_answer(dpr_key(text), [dpr_key(answer) for answer in answers])


HARD_CASES = [
    ("Beyoncé was born in Houston.", ["beyoncé"], True),
    ("Beyonce\u0301 was born in Houston.", ["Beyoncé"], True),  # composed and decomposed are one
    ("Beyoncé was born in Houston.", ["Beyonce"], False),  # a mark belongs to its word
    ("The Houstonian lives in Houstonville.", ["Houston"], False),  # whole words only
    ("It cost $2,102.50 in 1999.", ["2,102.50"], True),
    ("It cost $2,102.50 in 1999.", ["102"], True),  # punctuation parts digits, as DPR has it
    ("It cost 2102 in 1999.", ["102"], False),
    ("The U.S. won.", ["U.S."], True),
    ("The U.S. won.", ["US"], False),
    ("يسقط المطر على السفوح كل عام.", ["المطر"], True),
    ("يسقط المطر على السفوح كل عام.", ["مطر"], False),  # the article is written to its word
    ("السَّلَامُ عليكم", ["السَّلَامُ"], True),
    ("السَّلَامُ عليكم", ["السلام"], False),  # vowel points are marks
    ("这条河发源于山丘", ["山丘"], False),  # a run of Chinese is one word for DPR
    ("这条河发源于 山丘 。", ["山丘"], True),
    ("नदी पहाड़ियों से निकलती है", ["पहाड़ियों"], True),
    ("ΟΔΟΣ ΣΟΦΙΑΣ", ["οδος σοφιας"], True),
    ("İstanbul'da", ["istanbul"], False),  # a Turkish capital I keeps its dot as a mark
    ("Anything at all.", [""], False),
    ("Anything at all.", ["   "], False),
    ("Anything at all.", ["", "at all"], True),
    ("", ["word"], False),
    ("", [""], False),
    ('He said "Eureka!" twice.', ['"Eureka!"'], True),
    ("line one\nline two", ["one line"], True),
    ("zero\u200bwidth", ["zero width"], True),  # an invisible character parts words
]


@pytest.mark.parametrize(("text", "answers", "expected"), HARD_CASES)
def test_hard_cases(text: str, answers: list[str], expected: bool) -> None:
    assert ours(text, answers) is expected
    assert naive_has_answer(text, answers) is expected


def test_random_texts_in_many_scripts_equal_the_naive_reference() -> None:
    random = np.random.default_rng(0)
    alphabet = list("aAéÉe\u0301ßİiΣσς1２३.,-'\"$ \t\n\u00a0\u200b山河مَطْرनदीกา😀")
    found = 0
    for _ in range(3000):
        text = "".join(random.choice(alphabet, size=random.integers(0, 25)))
        start = int(random.integers(0, max(len(text), 1)))
        answers = [text[start : start + int(random.integers(0, 5))], "".join(random.choice(alphabet, size=2))]
        assert ours(text, answers) == naive_has_answer(text, answers), (text, answers)
        found += ours(text, answers)
    assert 500 < found < 2500


def test_first_ranks_equal_a_plain_search_through_every_hit() -> None:
    random = np.random.default_rng(1)
    words = ["nile", "hills", "moons", "rain", "salt", "flour"]
    passages = [" ".join(random.choice(words, size=3)) for _ in range(50)]
    answers = [[str(word)] for word in random.choice(words, size=30)]
    hits_QK = np.stack([random.permutation(50)[:8] for _ in answers])
    hits_QK[3, 5:] = -1
    hits_QK[4] = -1
    keys = [[dpr_key(answer) for answer in found] for found in answers]
    ranks_Q = first_ranks(hits_QK, keys, enumerate(passages))
    for question, row in enumerate(hits_QK.tolist()):
        good = [rank for rank, hit in enumerate(row) if hit >= 0 and naive_has_answer(passages[hit], answers[question])]
        assert ranks_Q[question] == (good[0] if good else 8)
    for depth in (1, 5, 8):
        assert recall_at(ranks_Q, depth).mean() == np.mean(ranks_Q < depth)
    assert ranks_Q[4] == 8


def test_only_the_passages_that_were_hit_need_to_be_given() -> None:
    hits_QK = np.array([[7, 2], [2, 9]])
    needed = [(2, "rain"), (7, "salt"), (9, "flour")]
    assert first_ranks(hits_QK, [[dpr_key("rain")], [dpr_key("flour")]], needed).tolist() == [1, 1]


def test_dpr_questions_are_read_as_python_lists(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_text('who sang it\t[\'Björk\', "O\'Connor"]\n"a ""quoted"" one"\t"[\'x\', \'y ""z""\']"\n', "utf-8")
    assert read_questions(path, "dpr", "en") == [
        Question("1", "who sang it", ("Björk", "O'Connor")),
        Question("2", 'a "quoted" one', ("x", 'y "z"')),
    ]
    path.write_text("who sang it\tBjörk\n", "utf-8")
    with pytest.raises(DataError, match=r"not a question and a list of answers.*\n.*questions\.csv:1"):
        read_questions(path, "dpr", "en")


def test_mkqa_keeps_questions_with_a_short_english_answer(tmp_path: Path) -> None:
    from tests.evaluation.conftest import json_lines

    def example(number: int, kind: str, text: str | None) -> dict[str, object]:
        answer = {"type": kind, "text": text, "aliases": ["another name"] if kind == "entity" else []}
        return {
            "example_id": number,
            "queries": {"en": f"en {number}", "sw": f"sw {number}"},
            "answers": {"en": [answer]},
        }

    path = tmp_path / "mkqa.jsonl"
    path.write_bytes(
        json_lines(
            [
                example(1, "entity", "Dave Edmunds"),
                example(2, "unanswerable", None),
                example(3, "long_answer", None),
                example(4, "binary", "yes"),
                example(5, "date", "1981"),
            ]
        )
    )
    assert read_questions(path, "mkqa", "sw") == [
        Question("1", "sw 1", ("another name", "Dave Edmunds")),
        Question("5", "sw 5", ("1981",)),
    ]
    with pytest.raises(DataError, match="not an example with 'xx'"):
        read_questions(path, "mkqa", "xx")


def test_a_missing_question_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\n.*nq\.csv\n.*--prefetch FOLDER"):
        read_questions(tmp_path / "nq.csv", "dpr", "en")
