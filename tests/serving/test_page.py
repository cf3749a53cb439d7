"""The page in a real Chromium, over the atlas with nano. Skipped where no Chromium is installed (Debian: chromium)."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mcontriever.assembly.served_stores import ServedStores
from mcontriever.encoder import Encoder
from mcontriever.retrieval.embedding.embedding_run import embed
from mcontriever.retrieval.embedding.request import EmbeddingRequest
from mcontriever.serving.web_app import make_app
from mcontriever.shipped import ATLAS
from mcontriever.texts.documents import Document
from tests.retrieval.small_corpora import write_lines

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.long(14),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]

WORLD_CUP = "أي بلد استضاف أول بطولة لكأس العالم لكرة القدم؟"
EVIL = '<img src=x onerror="window.acted=1"><script>window.acted=1</script>'
QUESTION = "Ask in any language"
FIRST = ".hit:first-child"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The atlas and a document that would like to act, served to a token."""
    import uvicorn

    folder = tmp_path_factory.mktemp("page")
    nano = Encoder.load("nano")
    embed(EmbeddingRequest(str(ATLAS / "evaluation"), folder / "atlas", model="nano"), encoder=nano)
    strange = Document(f"id{EVIL}", f"Zanzibar quokka {EVIL} ينبع", f"Quokka {EVIL}", "x-evil")
    arabic = Document("ar", "يعيش حيوان الكوكا في أستراليا", "الكوكا", "ar")
    corpus = write_lines(folder / "strange.jsonl", [strange, arabic])
    embed(EmbeddingRequest(str(corpus), folder / "strange", model="nano"), encoder=nano)
    served = ServedStores({"atlas": folder / "atlas", "strange": folder / "strange"}, memory_mb=50)
    server = uvicorn.Server(uvicorn.Config(make_app(served, token="let-me-in"), log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(1100, "light"), (360, "dark")], ids=["wide and light", "phone and dark"])
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Behind the token; any mistake of the script fails the test."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("console", lambda said: mistakes.append(said.text) if "Content Security" in said.text else None)
    page.goto(address)
    page.get_by_label("This server asks for its token").fill("let-me-in")
    page.keyboard.press("Enter")
    page.locator("#languages button").first.wait_for()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert mistakes == []
    context.close()


def ask(page: Any, text: str) -> None:
    with page.expect_response(
        lambda answer: answer.url.endswith("/search") and answer.request.post_data_json["query"] == text
    ):
        page.get_by_label(QUESTION).fill(text)
    until(page, "document.querySelector('#status').textContent.includes('ms')")


def choose_mode(page: Any, name: str) -> None:
    """A click on what is seen, once it has stopped moving: the page scrolls smoothly to the first of the new hits."""
    page.locator("#modes label").filter(has_text=name).click()


def until(page: Any, is_so: str) -> None:
    """Playwright's own waiting evaluates strings in the page, which its rules forbid."""
    end = time.monotonic() + 30
    while not page.evaluate(is_so):
        assert time.monotonic() < end, is_so
        page.wait_for_timeout(20)


def languages(page: Any) -> list[str]:
    return [hit.get_attribute("data-language") for hit in page.locator(".hit").all()]


def test_a_question_in_arabic_finds_english_and_can_be_narrowed(page: Any) -> None:
    page.get_by_label(QUESTION).press_sequentially(WORLD_CUP)  # as one types
    page.locator(f'{FIRST}[data-id="football-world-cup/en"]').wait_for()
    assert page.locator(f"{FIRST} h2").inner_text() == "FIFA World Cup"
    assert page.get_by_label(QUESTION).evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert "English 32" in page.locator("#languages").inner_text()
    assert "English" in page.locator("#hits-bar").get_attribute("aria-label")
    arabic = page.get_by_role("button", name="Arabic")
    arabic.click()
    until(page, "[...document.querySelectorAll('.hit')].every(hit => hit.dataset.language === 'ar')")
    assert arabic.get_attribute("aria-pressed") == "true"
    passage = page.locator(f"{FIRST} .passage")
    assert passage.evaluate("e => getComputedStyle(e).direction + ' ' + getComputedStyle(e).textAlign") == "rtl start"
    assert page.locator("mark").first.inner_text().replace("آ", "أ") in WORLD_CUP  # letter forms match each other
    assert "language=ar" in page.url
    page.reload()
    until(page, "document.querySelectorAll('.hit').length > 0")
    assert set(languages(page)) == {"ar"}


def test_why_modes_more_and_keys(page: Any) -> None:
    ask(page, "telescope patent")
    assert page.locator(".hit").count() == 10
    page.get_by_role("button", name="More hits").click()
    until(page, "document.querySelectorAll('.hit').length === 20")
    choose_mode(page, "Hybrid")
    until(page, "document.querySelector('.hit dl').textContent.includes('Lexical')")
    assert page.locator(f"{FIRST} mark").first.inner_text() == "Telescope"
    page.get_by_label(QUESTION).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("[...document.querySelectorAll('.hit')].indexOf(document.activeElement)") == 1
    page.keyboard.press("Enter")
    reasons = page.locator(".hit:nth-child(2) dl")
    assert reasons.is_visible()
    for label in ("Score", "Raw", "Calibrated", "Vectors", "Lexical", "Language"):
        assert label in reasons.inner_text()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    choose_mode(page, "Words")
    until(page, "new URLSearchParams(location.search).get('mode') === 'bm25'")
    ask(page, "telescope")
    assert page.locator(f"{FIRST} .about").inner_text().startswith("1.")


def test_the_stores_facts(page: Any) -> None:
    page.get_by_text("What is in this store").click()
    page.locator("#facts table").first.wait_for()
    shown = page.locator("#facts").inner_text()
    for part in ("132 documents", "Swahili", "Median length", "word for word: 0.", "Distances", "bm25-words"):
        assert part in shown


def test_text_of_documents_is_text(page: Any) -> None:
    page.locator("#store").select_option("strange")
    ask(page, "quokka")
    assert page.locator(".hit").count() == 2
    assert EVIL in page.locator(f"{FIRST} .passage").inner_text()
    assert EVIL in page.locator(f"{FIRST} h2").inner_text()
    assert page.locator("#hits img, #hits script").count() == 0
    assert page.evaluate("window.acted") is None


def test_a_refusal_is_shown(page: Any) -> None:
    page.evaluate("sessionStorage.setItem('token', 'wrong')")
    page.get_by_label(QUESTION).fill("telescope")
    page.locator("#status.wrong").wait_for()
    assert "the token is wrong" in page.locator("#status").inner_text()
    assert page.get_by_label("This server asks for its token").is_visible()


CONTRAST = """() => {
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (colour, under) => {
    canvas.fillStyle = `rgb(${under.join(",")})`;
    canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const ground = (element) => {
    const under = element.parentElement ? ground(element.parentElement) : [255, 255, 255];
    return rgb(getComputedStyle(element).backgroundColor, under);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const says = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!says || !element.checkVisibility()) continue;
    const behind = ground(element);
    const [a, b] = [luminance(rgb(getComputedStyle(element).color, behind)), luminance(behind)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) found.push(`${element.tagName} ${element.className} ${element.textContent} ${contrast}`);
  }
  return found;
}"""


def test_everything_can_be_read(page: Any) -> None:
    """WCAG AA: a contrast of 4.5 for all text, with hits, marks, an open why and the charts."""
    ask(page, "telescope patent")
    page.get_by_role("button", name="English").click()
    page.locator(f"{FIRST} summary").click()
    page.get_by_text("What is in this store").click()
    page.locator("#facts table").first.wait_for()
    time.sleep(0.1)
    assert page.locator("mark").count() > 0
    assert page.evaluate(CONTRAST) == []
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, button')].filter(e => e.checkVisibility() && "
        "!(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map(e => e.outerHTML)"
    )
    assert unnamed == []
