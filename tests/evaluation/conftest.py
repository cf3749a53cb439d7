"""A pool of five languages in BEIR layout, and tiny copies of official data sets as the hub's cache lays them out."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conftest import SENTENCES

# One question in each language about each of the four topics, in the order of SENTENCES.
QUESTIONS = {
    "en": [
        "Where does the river rise?",
        "What do bakers mix?",
        "What does the telescope show?",
        "When does rain fall?",
    ],
    "ar": ["من أين ينبع النهر؟", "ماذا يخلط الخباز؟", "ماذا يظهر المنظار؟", "متى يسقط المطر؟"],
    "sw": ["Mto unaanzia wapi?", "Mwokaji huchanganya nini?", "Darubini huonyesha nini?", "Mvua hunyesha lini?"],
    "hi": ["नदी कहाँ से निकलती है?", "रोटी में क्या मिलाते हैं?", "दूरबीन क्या दिखाती है?", "वर्षा कब होती है?"],
    "zh": ["这条河发源于哪里?", "面包师混合什么?", "望远镜能看到什么?", "什么时候下雨?"],
}


@pytest.fixture(scope="session")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty documents and twenty questions in five languages; all five versions of a passage are relevant."""
    documents = [
        {"_id": f"{language}-d{topic}", "title": "", "text": text, "language": language}
        for language, texts in SENTENCES.items()
        for topic, text in enumerate(texts)
    ]
    queries = [
        {"_id": f"{language}-q{topic}", "text": text, "language": language}
        for language, texts in QUESTIONS.items()
        for topic, text in enumerate(texts)
    ]
    relevance = {query["_id"]: {f"{language}-d{query['_id'][-1]}": 1 for language in SENTENCES} for query in queries}
    return write_beir(tmp_path_factory.mktemp("beir") / "mixed", documents, queries, relevance)


def write_beir(
    folder: Path,
    documents: list[dict[str, str]],
    queries: list[dict[str, str]],
    relevance: Mapping[str, Mapping[str, int]],
) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_bytes(json_lines(documents))
    (folder / "queries.jsonl").write_bytes(json_lines(queries))
    lines = [
        f"{query}\t{document}\t{grade}\n" for query, found in relevance.items() for document, grade in found.items()
    ]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


def json_lines(records: list[dict[str, object]] | list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


@pytest.fixture(scope="session")
def hub_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `--prefetch` leaves for three official tasks, cut down to four questions: snapshots that link to blobs."""
    import mteb

    home = tmp_path_factory.mktemp("hub-copy")
    for name, files in official_files().items():
        dataset = mteb.get_task(name).metadata.dataset
        write_snapshot(home, dataset["path"], dataset["revision"], files)
    return home


def official_files() -> dict[str, dict[str, bytes]]:
    """Task -> the files of its repository: Belebele's rows, the others' corpus, queries and qrels."""
    belebele = {"eng_Latn": "en", "arb_Arab": "ar"}
    belebele_rows = {
        f"data/{name}.jsonl": json_lines(
            [
                {"link": f"page-{topic}", "flores_passage": SENTENCES[code][topic], "question": QUESTIONS[code][topic]}
                for topic in range(4)
            ]
        )
        for name, code in belebele.items()
    }
    readme = _readme({name: ("test", f"data/{name}.jsonl") for name in belebele})
    return {
        "BelebeleRetrieval": {"README.md": readme, **belebele_rows},
        "XQuADRetrieval": retrieval_files({"en-": "en", "ar-": "ar"}, "validation"),
        "NanoNFCorpusRetrieval": retrieval_files({"": "en"}, "train"),
        **{name: retrieval_files({"": "en"}, "test") for name in cqadupstack_parts()},
    }


def cqadupstack_parts() -> list[str]:
    """CQADupstack is twelve forums, each with a data set of its own."""
    import mteb

    return [part.metadata.name for part in mteb.get_task("CQADupstackRetrieval").metadata.tasks]


def retrieval_files(prefixes: dict[str, str], split: str) -> dict[str, bytes]:
    parts = {}
    for prefix, code in prefixes.items():
        parts[prefix] = {
            "corpus": [{"_id": f"{code}-d{i}", "title": "", "text": text} for i, text in enumerate(SENTENCES[code])],
            "queries": [{"_id": f"q{i}", "text": text} for i, text in enumerate(QUESTIONS[code])],
            "qrels": [{"query-id": f"q{i}", "corpus-id": f"{code}-d{i}", "score": 1} for i in range(4)],
        }
    return repository_files(parts, split)


def repository_files(parts: Mapping[str, Mapping[str, list[dict[str, object]]]], split: str) -> dict[str, bytes]:
    """A repository with the rows of corpus, queries and qrels under each prefix."""
    files, configurations = {}, {}
    for prefix, tables in parts.items():
        for part, rows in tables.items():
            files[f"{prefix}{part}/rows.jsonl"] = json_lines(rows)
            configurations[f"{prefix}{part}"] = (split, f"{prefix}{part}/rows.jsonl")
    return {"README.md": _readme(configurations), **files}


def _readme(configurations: dict[str, tuple[str, str]]) -> bytes:
    """The head of a data set's card, which tells the `datasets` library where each configuration lies."""
    lines = ["---", "configs:"]
    for name, (split, path) in configurations.items():
        lines += [f"- config_name: {name}", "  data_files:", f"  - split: {split}", f"    path: {path}"]
    return ("\n".join([*lines, "---"]) + "\n").encode()


def write_snapshot(home: Path, repository: str, revision: str, files: Mapping[str, bytes]) -> None:
    base = home / "hub" / f"datasets--{repository.replace('/', '--')}"
    (base / "blobs").mkdir(parents=True)
    for name, content in files.items():
        blob = base / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = base / "snapshots" / revision / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
