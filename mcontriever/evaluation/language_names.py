"""Language codes: ours ("ar", "zh-Hant"), MTEB's ("ara-Arab"), and the English names in tables and charts.

Names are English so that charts need no right-to-left text and no fonts for other scripts.
"""

UNKNOWN = "und"
MIXED = "mixed"
ALL = "all"

# code, ISO 639-3, the usual script, English name
_TABLE = """
af afr Latn Afrikaans | am amh Ethi Amharic | ar ara Arab Arabic | as asm Beng Assamese | az aze Latn Azerbaijani
be bel Cyrl Belarusian | bg bul Cyrl Bulgarian | bn ben Beng Bengali | bo bod Tibt Tibetan | br bre Latn Breton
bs bos Latn Bosnian | ca cat Latn Catalan | cs ces Latn Czech | cy cym Latn Welsh | da dan Latn Danish
de deu Latn German | el ell Grek Greek | en eng Latn English | eo epo Latn Esperanto | es spa Latn Spanish
et est Latn Estonian | eu eus Latn Basque | fa fas Arab Persian | fi fin Latn Finnish | fr fra Latn French
fy fry Latn Frisian | ga gle Latn Irish | gd gla Latn Scottish Gaelic | gl glg Latn Galician | gu guj Gujr Gujarati
ha hau Latn Hausa | he heb Hebr Hebrew | hi hin Deva Hindi | hr hrv Latn Croatian | ht hat Latn Haitian
hu hun Latn Hungarian | hy hye Armn Armenian | id ind Latn Indonesian | ig ibo Latn Igbo | is isl Latn Icelandic
it ita Latn Italian | ja jpn Jpan Japanese | jv jav Latn Javanese | ka kat Geor Georgian | kk kaz Cyrl Kazakh
km khm Khmr Khmer | kn kan Knda Kannada | ko kor Kore Korean | ku kur Latn Kurdish | ky kir Cyrl Kyrgyz
la lat Latn Latin | lb ltz Latn Luxembourgish | lg lug Latn Ganda | ln lin Latn Lingala | lo lao Laoo Lao
lt lit Latn Lithuanian | lv lav Latn Latvian | mg mlg Latn Malagasy | mk mkd Cyrl Macedonian | ml mal Mlym Malayalam
mn mon Cyrl Mongolian | mr mar Deva Marathi | ms msa Latn Malay | mt mlt Latn Maltese | my mya Mymr Burmese
ne nep Deva Nepali | nl nld Latn Dutch | no nor Latn Norwegian | ny nya Latn Nyanja | om orm Latn Oromo
or ori Orya Odia | pa pan Guru Punjabi | pl pol Latn Polish | ps pus Arab Pashto | pt por Latn Portuguese
ro ron Latn Romanian | ru rus Cyrl Russian | rw kin Latn Kinyarwanda | sa san Deva Sanskrit | sd snd Arab Sindhi
si sin Sinh Sinhala | sk slk Latn Slovak | sl slv Latn Slovenian | sn sna Latn Shona | so som Latn Somali
sq sqi Latn Albanian | sr srp Cyrl Serbian | su sun Latn Sundanese | sv swe Latn Swedish | sw swa Latn Swahili
ta tam Taml Tamil | te tel Telu Telugu | tg tgk Cyrl Tajik | th tha Thai Thai | ti tir Ethi Tigrinya
tk tuk Latn Turkmen | tl tgl Latn Tagalog | tr tur Latn Turkish | ug uig Arab Uyghur | uk ukr Cyrl Ukrainian
ur urd Arab Urdu | uz uzb Latn Uzbek | vi vie Latn Vietnamese | wo wol Latn Wolof | xh xho Latn Xhosa
yi yid Hebr Yiddish | yo yor Latn Yoruba | zh zho Hans Chinese | zu zul Latn Zulu
und und Zyyy unknown
"""
_ENTRIES = [entry.split(maxsplit=3) for line in _TABLE.strip().splitlines() for entry in line.split(" | ")]
_BY_CODE = {code: (iso3, script, name) for code, iso3, script, name in _ENTRIES}
_BY_ISO3 = {iso3: code for code, iso3, _, _ in _ENTRIES}
# Members of a macrolanguage that some data sets name instead.
_BY_ISO3 |= {
    "arb": "ar", "azj": "az", "cmn": "zh", "ekk": "et", "fil": "tl", "gaz": "om", "khk": "mn", "lvs": "lv", "nno": "no",
    "nob": "no", "npi": "ne", "ory": "or", "pbt": "ps", "pes": "fa", "plt": "mg", "swh": "sw", "uzn": "uz", "zsm": "ms",
}  # fmt: skip
_OTHER_SPELLINGS = {"zh-cn": "zh", "zh-hans": "zh", "zh-hk": "zh-HK", "zh-tw": "zh-Hant", "iw": "he", "in": "id"}
_REGIONS = {"Hans": "Simplified", "Hant": "Traditional", "HK": "Hong Kong", "Latn": "Latin script"}


def short_code(code: str) -> str:
    """ "arb-Arab" -> "ar", "zho-Hant" -> "zh-Hant", "zh_cn" -> "zh"; an unknown code does not change."""
    code = code.replace("_", "-")
    code = _OTHER_SPELLINGS.get(code.lower(), code)
    language, _, rest = code.partition("-")
    known = language if language in _BY_CODE else _BY_ISO3.get(language)
    if known is None:
        return code or UNKNOWN
    usual_script = _BY_CODE[known][1]
    return f"{known}-{rest}" if rest and rest != usual_script and len(language) <= 3 else known


def mteb_code(code: str) -> str:
    """ "ar" -> "ara-Arab", as MTEB names languages; an unknown one is "und-Zyyy"."""
    language, _, rest = short_code(code).partition("-")
    if language not in _BY_CODE:
        return f"{language}-{rest}" if len(language) == 3 and len(rest) == 4 else "und-Zyyy"
    iso3, script, _ = _BY_CODE[language]
    if rest == "HK":
        return f"{iso3}-Hant"
    return f"{iso3}-{rest if len(rest) == 4 else script}"


def is_known(code: str) -> bool:
    return short_code(code).partition("-")[0] in _BY_CODE


def language_name(code: str) -> str:
    """The English name of a code or of a direction: "ar->en" -> "Arabic → English"."""
    if "->" in code:
        return " → ".join(language_name(part) for part in code.split("->"))
    if code in (ALL, MIXED):
        return {ALL: "all languages", MIXED: "mixed pool"}[code]
    language, _, rest = short_code(code).partition("-")
    if language not in _BY_CODE:
        return code
    name = _BY_CODE[language][2]
    return f"{name} ({_REGIONS.get(rest, rest)})" if rest else name


def direction(query_language: str, document_languages: set[str]) -> str:
    """The name of a row of scores: "ar" for Arabic documents, "ar->en" for English ones, "ar->mixed" for several."""
    if document_languages == {query_language}:
        return query_language
    target = next(iter(document_languages)) if len(document_languages) == 1 else MIXED
    return f"{query_language}->{target}"
