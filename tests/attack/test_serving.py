"""Requests of any kind, and a store that is damaged while it is served: a JSON error each, and the server goes on."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from mcontriever.assembly import served_stores
from mcontriever.assembly.served_stores import ServedStores
from mcontriever.serving.web_app import make_app
from tests.attack.damage import ANY_FILE, ODD_JSON, odd_json
from tests.attack.test_damaged_files import FILES

GONE = 503  # a store whose manifest is missing, until it is back
ATTACKS = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)
KEYS = {
    "/search": {"query", "store", "k", "offset", "mode", "language", "prefer", "index", "fusion", "depth", "explain"},
    "/embed": {"texts", "kind", "model"},
    "/v1/embeddings": {"input", "model", "encoding_format", "dimensions"},
}
NEEDED = {"/search": {"query": "rain"}, "/embed": {"texts": ["rain"]}, "/v1/embeddings": {"input": "rain"}}


@pytest.fixture(scope="session")
def client(whole: Path) -> Iterator[TestClient]:
    served = ServedStores({"store": whole / "store", "words": whole / "words"}, memory_mb=50)
    with TestClient(make_app(served), base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


def require_answer(answer: Any, folder: Path) -> None:
    """A result, or one error that says what to do, and no place on this machine."""
    assert answer.status_code < 500 or answer.status_code == GONE, answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"status", "message", "fix"}
        assert error["message"]
        assert error["fix"]
    for secret in ("Traceback", str(folder), 'File "'):
        assert secret not in answer.text


@pytest.mark.parametrize("path", KEYS)
@ATTACKS
@given(data=st.data())
def test_bodies(client: TestClient, whole: Path, path: str, data: st.DataObject) -> None:
    """Right fields with any value, and any fields."""
    keys = st.one_of(st.sampled_from(sorted(KEYS[path])), st.text(max_size=8))
    body = {**data.draw(st.sampled_from([{}, NEEDED[path]])), **data.draw(st.dictionaries(keys, VALUES, max_size=3))}
    require_answer(client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"}), whole)


@pytest.mark.parametrize("path", KEYS)
@ATTACKS
@given(body=st.binary(max_size=60), kind=st.sampled_from(["application/json", "text/plain", "zz", ""]))
def test_bytes(client: TestClient, whole: Path, path: str, body: bytes, kind: str) -> None:
    require_answer(client.post(path, content=body, headers={"Content-Type": kind}), whole)


@pytest.mark.parametrize("body", ODD_JSON.values(), ids=ODD_JSON)
def test_odd_json(client: TestClient, whole: Path, body: str) -> None:
    for path in KEYS:
        headers = {"Content-Type": "application/json"}
        require_answer(client.post(path, content=body.encode("utf-8", "replace"), headers=headers), whole)


@ATTACKS
@given(name=st.text(max_size=20), value=st.text(max_size=20))
def test_addresses(client: TestClient, whole: Path, name: str, value: str) -> None:
    require_answer(client.get("/search", params={"query": "rain", name: value}), whole)
    require_answer(client.get("/stats", params={"store": value}), whole)


def cases() -> list[tuple[str, str]]:
    return [
        (file, damage)
        for file in FILES["words"]
        for damage in (*ANY_FILE, *(f"JSON: {name}" for name in ODD_JSON if file.endswith("json")))
    ]


def test_a_store_damaged_while_it_is_served(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each damage to each file, noticed as the server notices changes; made whole again, the store is served again."""
    monkeypatch.setattr(served_stores, "WATCH_SECONDS", 3600)  # here the test looks after the store
    store = Path(shutil.copytree(whole / "words", tmp_path / "store"))
    served = ServedStores({"s": store}, memory_mb=50)
    (one,) = served._stores.values()
    with TestClient(make_app(served), base_url="http://localhost", raise_server_exceptions=False) as client:
        for file, damage in cases():
            place, broken = store / file, tmp_path / "broken"
            shutil.copy(whole / "words" / file, broken)
            (ANY_FILE[damage] if damage in ANY_FILE else odd_json(damage.removeprefix("JSON: ")))(broken)
            _replace(place, broken)
            _touch(store)
            one.refresh()
            require_answer(client.get("/search", params={"query": "rain"}), tmp_path)
            require_answer(client.get("/stats"), tmp_path)
            shutil.copy(whole / "words" / file, broken)
            _replace(place, broken)
            _touch(store)
            one.refresh()
            answer = client.get("/search", params={"query": "rain"})
            assert answer.status_code == 200, f"{file}, {damage}: {answer.text}"
            assert answer.json()["hits"]
    assert not list(tmp_path.rglob("RAN")), "a file ran code"


def _replace(place: Path, new: Path) -> None:
    """Not written in place: cutting a file that is mapped ends any process that reads it."""
    if place.is_dir():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)
    if os.path.lexists(new):
        os.rename(new, place)


def _touch(store: Path) -> None:
    if (store / "manifest.json").is_file():
        os.utime(store / "manifest.json")
