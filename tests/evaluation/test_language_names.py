import mteb.languages
import pytest

from mcontriever.evaluation.language_names import _BY_CODE, direction, is_known, language_name, mteb_code, short_code


@pytest.mark.parametrize("code", [code for code in _BY_CODE if code != "und"])
def test_every_language_is_one_that_mteb_knows_under_the_same_name(code: str) -> None:
    mteb.languages.check_language_code(mteb_code(code))
    theirs = mteb.languages.ISO_TO_LANGUAGE[mteb_code(code).split("-")[0]]
    renamed = {"el": "Modern Greek", "ky": "Kirghiz", "or": "Oriya", "pa": "Panjabi", "ps": "Pushto", "ug": "Uighur"}
    expected = renamed.get(code, language_name(code).removeprefix("Western "))
    assert expected in theirs


@pytest.mark.parametrize("code", [code for code in _BY_CODE if code != "und"])
def test_codes_go_to_mteb_and_back(code: str) -> None:
    assert short_code(mteb_code(code)) == code


@pytest.mark.parametrize(
    ("given", "short", "name"),
    [
        ("arb-Arab", "ar", "Arabic"),
        ("arb_Latn", "ar-Latn", "Arabic (Latin script)"),
        ("swh-Latn", "sw", "Swahili"),
        ("zho-Hant", "zh-Hant", "Chinese (Traditional)"),
        ("zh_cn", "zh", "Chinese"),
        ("zh-hk", "zh-HK", "Chinese (Hong Kong)"),
        ("zh_tw", "zh-Hant", "Chinese (Traditional)"),
        ("nob-Latn", "no", "Norwegian"),
        ("qqq", "qqq", "qqq"),
        ("", "und", "unknown"),
    ],
)
def test_other_spellings(given: str, short: str, name: str) -> None:
    assert short_code(given) == short
    assert language_name(short) == name


def test_directions_put_the_question_first() -> None:
    assert direction("ar", {"ar"}) == "ar"
    assert direction("ar", {"en"}) == "ar->en"
    assert direction("ar", {"ar", "en"}) == "ar->mixed"
    assert language_name("ar->en") == "Arabic → English"
    assert language_name("all->mixed") == "all languages → mixed pool"


def test_unknown_codes_are_distinguished() -> None:
    assert is_known("zh-Hans")
    assert not is_known("xx")
    assert mteb_code("xx") == "und-Zyyy"
