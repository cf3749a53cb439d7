// The page of `mcontriever serve`. Text of documents only ever becomes text nodes, so nothing in it can act.
"use strict";

const HITS = 10, TYPING_MS = 150;
const MODES = { dense: "Vectors", hybrid: "Hybrid", bm25: "Words" };
const PARTS = {
  dense: ["Raw", "the encoder's own score"],
  calibrated: ["Calibrated", "deviations above unrelated documents of its language"],
  vectors: ["Vectors", "what that adds to the score"],
  bm25: ["Words", "how many of the query's words it shares"],
  lexical: ["Lexical", "what the shared words add to the score"],
  language: ["Language", "what being in the query's language adds"],
  fused: ["Joined", "vectors and words together"],
  reranker: ["Re-ranked", "the cross-encoder's score"],
};
const UNNAMED = "not named";
const byId = (id) => document.getElementById(id);
const state = { stores: [], store: null, mode: "dense", languages: new Set(), shown: 0, asking: null };

function make(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function number(value) {
  return value.toLocaleString("en", { maximumFractionDigits: 3 });
}

// Asking ------------------------------------------------------------------------------------------------------------

async function call(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  const request = body ? { method: "POST", body: JSON.stringify(body), headers, signal } : { headers, signal };
  const response = await fetch(path, request);
  const answer = await response.json();
  if (response.ok) return answer;
  byId("token-form").hidden = response.status !== 401;
  throw new Error(`${answer.error.message} - ${answer.error.fix}`);
}

async function search(offset = 0) {
  state.asking?.abort();
  const query = byId("query").value.trim();
  remember(query);
  if (!query || !state.store) {
    state.asking = null;
    clear();
    return say(state.store ? "" : "No store is served.");
  }
  const asking = (state.asking = new AbortController());
  const request = {
    query, store: state.store.name, mode: state.mode, language: [...state.languages], k: HITS, offset, explain: true,
    marks: true,
  };
  try {
    const answer = await call("search", request, asking.signal);
    if (asking === state.asking) show(answer, offset);
  } catch (error) {
    if (error.name !== "AbortError" && asking === state.asking) {
      clear();
      say(error.message, true);
    }
  }
}

function remember(query) {
  const kept = new URLSearchParams();
  if (query) kept.set("q", query);
  if (state.store && state.store !== state.stores[0]) kept.set("store", state.store.name);
  if (state.store && state.mode !== state.store.modes[0]) kept.set("mode", state.mode);
  if (state.languages.size) kept.set("language", [...state.languages].join(","));
  history.replaceState(null, "", kept.size ? `?${kept}` : location.pathname);
}

function say(text, isWrong = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", isWrong);
}

// Hits --------------------------------------------------------------------------------------------------------------

function clear() {
  byId("hits").replaceChildren();
  byId("more").hidden = byId("shares").hidden = true;
}

function show(answer, offset) {
  if (!offset) clear();
  const list = byId("hits");
  const first = list.children.length;
  answer.hits.forEach((hit) => list.append(shownHit(hit)));
  state.shown = offset + answer.hits.length;
  byId("more").hidden = answer.hits.length < HITS || state.shown + HITS > 1000;
  const counts = {};
  for (const item of list.children) counts[item.dataset.language] = (counts[item.dataset.language] ?? 0) + 1;
  byId("shares").hidden = !state.shown;
  draw(byId("hits-bar"), counts, "hits");
  say(state.shown ? `${state.shown} hits, ${Math.round(answer.took_ms)} ms` : "Nothing found.");
  if (offset) list.children[first]?.focus();
}

function shownHit(hit) {
  const item = make("li", undefined, { class: "hit", tabindex: "-1", "data-id": hit.id, "data-language": hit.language });
  if (hit.language) item.lang = hit.language;
  const about = make("div", undefined, { class: "about", lang: "en", dir: "ltr" });
  const language = make("span", nameOf(hit.language));
  language.prepend(dot(hit.language));
  about.append(make("span", `${hit.rank}.`), language);
  if (hit.confidence !== undefined) about.append(make("span", `${Math.round(100 * hit.confidence)} % sure`));
  const id = make("span");
  id.append(make("bdi", hit.id));
  about.append(id);
  item.append(about);
  if (hit.title) item.append(marked(make("h2", undefined, { dir: "auto" }), hit.title, hit.title_marks));
  item.append(marked(make("p", undefined, { class: "passage", dir: "auto" }), hit.text, hit.text_marks), why(hit));
  return item;
}

function marked(element, text, spans) {
  const letters = Array.from(text); // spans count characters, JavaScript counts UTF-16 units
  let end = 0;
  for (const [from, to] of spans) {
    element.append(letters.slice(end, from).join(""), make("mark", letters.slice(from, to).join("")));
    end = to;
  }
  element.append(letters.slice(end).join(""));
  return element;
}

function why(hit) {
  const details = make("details", undefined, { lang: "en", dir: "ltr" });
  const list = make("dl");
  const rows = [["Score", hit.score, "by which hits are ordered"]];
  for (const [name, value] of Object.entries(hit.parts)) {
    if (name.endsWith("_rank")) continue;
    const rank = hit.parts[`${name}_rank`];
    const [label, meaning] = PARTS[name] ?? [name, ""];
    rows.push([label, value, rank ? `${meaning}, rank ${rank}` : meaning]);
  }
  for (const [label, value, meaning] of rows) {
    list.append(make("dt", label), make("dd", number(value)), make("dd", meaning));
  }
  details.append(make("summary", "Why"), list);
  return details;
}

// Languages ---------------------------------------------------------------------------------------------------------

const languageNames = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });

function nameOf(code) {
  if (!code) return UNNAMED;
  try {
    return languageNames.of(code.replaceAll("_", "-"));
  } catch {
    return code;
  }
}

function hueOf(language) {
  const place = Object.keys(state.store.languages).indexOf(language);
  return `hsl(${(205 + 137.5 * Math.max(place, 0)) % 360} 62% var(--light))`; // the golden angle keeps neighbours apart
}

function dot(language) {
  const element = make("span", undefined, { class: "dot", "aria-hidden": "true" });
  element.style.setProperty("--hue", hueOf(language));
  return element;
}

function draw(bar, counts, what) {
  const all = Object.values(counts).reduce((sum, count) => sum + count, 0);
  const shares = Object.keys(state.store.languages).filter((code) => counts[code]).map((code) => [code, counts[code] / all]);
  const told = shares.map(([code, share]) => `${nameOf(code)} ${Math.round(100 * share)} %`).join(", ");
  bar.setAttribute("aria-label", `Languages of the ${what}: ${told}`);
  bar.title = told;
  bar.replaceChildren(...shares.map(([code, share]) => {
    const part = make("i");
    part.style.setProperty("--hue", hueOf(code));
    part.style.setProperty("--part", `${100 * share}%`);
    return part;
  }));
}

function showLanguages() {
  const chips = Object.entries(state.store.languages).filter(([code]) => code).map(([code, count]) => {
    const chip = make("button", `${nameOf(code)} ${number(count)}`, {
      type: "button", "aria-pressed": String(state.languages.has(code)), "data-language": code,
    });
    chip.prepend(dot(code));
    chip.addEventListener("click", () => {
      if (!state.languages.delete(code)) state.languages.add(code);
      chip.setAttribute("aria-pressed", String(state.languages.has(code)));
      search();
    });
    return chip;
  });
  byId("languages").replaceChildren(...(chips.length > 1 ? chips : []));
  draw(byId("store-bar"), state.store.languages, "store");
}

function showModes() {
  const fields = state.store.modes.map((mode) => {
    const label = make("label", MODES[mode]);
    const input = make("input", undefined, { type: "radio", name: "mode", value: mode });
    input.checked = mode === state.mode;
    input.addEventListener("change", () => {
      state.mode = mode;
      search();
    });
    label.prepend(input);
    return label;
  });
  byId("modes").replaceChildren(byId("modes").firstElementChild, ...fields);
}

// Facts of the store ------------------------------------------------------------------------------------------------

async function showFacts() {
  const body = byId("facts-body");
  body.replaceChildren(make("p", "Counting, once...", { class: "small" }));
  try {
    const facts = await call(`stats?store=${encodeURIComponent(state.store.name)}`);
    body.replaceChildren(...shownFacts(facts));
  } catch (error) {
    body.replaceChildren(make("p", error.message, { class: "small" }));
  }
}

function shownFacts(facts) {
  const vectors = facts.vectors ? `, vectors of ${facts.vectors.dimension} dimensions (${facts.vectors.type})` : "";
  const shown = [make("p", `${number(facts.documents)} documents in ${number(facts.passages)} passages${vectors}, ` +
    `${number(facts.bytes / 2 ** 20)} MB`)];
  shown.push(make("h3", "Documents by language"), chart(facts.languages, nameOf, hueOf));
  if (facts.lengths) {
    const { bounds, counts, unit, median_by_language: medians } = facts.lengths;
    const ranges = counts.map((count, place) => [
      place < bounds.length ? `${bounds[place - 1] ?? 0} to ${bounds[place] - 1}` : `${bounds.at(-1)} and more`, count,
    ]);
    shown.push(make("h3", `Lengths, in ${unit}`), chart(Object.fromEntries(ranges), (range) => range));
    shown.push(make("h3", "Median length by language"), chart(medians, nameOf, hueOf));
    shown.push(make("p", `Passages that repeat an earlier one word for word: ${number(facts.duplicates)}.`));
  }
  if (facts.language_distances) {
    shown.push(make("h3", "Distances between the languages' mean vectors (1 - cosine)"), heat(facts.language_distances));
  }
  const indexes = facts.indexes.map((index) => make("li", `${index.kind}${index.is_current ? "" : " (outdated)"}` +
    (index.recall_at_10 === undefined ? "" : `: recall@10 ${number(index.recall_at_10)}`)));
  if (indexes.length) {
    const list = make("ul");
    list.append(...indexes);
    shown.push(make("h3", "Indexes"), list);
  }
  return shown;
}

function chart(counts, nameRow, hueRow) {
  const most = Math.max(...Object.values(counts), 1);
  const table = make("table", undefined, { class: "chart" });
  for (const [key, count] of Object.entries(counts)) {
    const row = make("tr");
    const bar = make("i");
    bar.style.setProperty("--part", `${(100 * count) / most}%`);
    if (hueRow) bar.style.setProperty("--hue", hueRow(key));
    const cell = make("td");
    cell.append(bar);
    row.append(make("th", nameRow(key), { scope: "row" }), make("td", number(count), { class: "number" }), cell);
    table.append(row);
  }
  return table;
}

function heat({ languages, distances }) {
  const table = make("table", undefined, { class: "heat" });
  const head = make("tr");
  head.append(make("th"), ...languages.map((code) => make("th", code || UNNAMED, { scope: "col" })));
  table.append(head);
  const most = Math.max(...distances.flat(), 1e-9);
  distances.forEach((row, place) => {
    const line = make("tr");
    line.append(make("th", nameOf(languages[place]), { scope: "row" }));
    for (const distance of row) {
      const cell = make("td", distance.toFixed(2));
      cell.style.setProperty("--part", `${(40 * distance) / most}%`); // no darker, or its number could not be read
      line.append(cell);
    }
    table.append(line);
  });
  const wide = make("div", undefined, { class: "wide", tabindex: "0", role: "region", "aria-label": "Distances" });
  wide.append(table);
  return wide;
}

// Start and keys ----------------------------------------------------------------------------------------------------

function choose(name, mode, languages) {
  state.store = state.stores.find((store) => store.name === name) ?? state.stores[0];
  state.mode = state.store.modes.includes(mode) ? mode : state.store.modes[0];
  state.languages = new Set(languages.filter((code) => code in state.store.languages));
  byId("facts-body").replaceChildren();
  byId("facts").open = false;
  showModes();
  showLanguages();
}

async function start() {
  try {
    state.stores = (await call("stores")).stores;
  } catch (error) {
    return say(error.message, true);
  }
  byId("token-form").hidden = true;
  byId("store").replaceChildren(...state.stores.map((store) => make("option", store.name)));
  byId("store-choice").hidden = state.stores.length < 2;
  const asked = new URLSearchParams(location.search);
  choose(asked.get("store"), asked.get("mode"), (asked.get("language") ?? "").split(","));
  byId("store").value = state.store.name;
  byId("query").value = asked.get("q") ?? "";
  search();
}

function move(step) {
  const hits = [...byId("hits").children];
  const next = hits.indexOf(document.activeElement?.closest(".hit")) + step;
  (next < 0 ? byId("query") : hits[next])?.focus();
}

function onKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  const target = event.target;
  const isTyping = target.matches("input:not([type=radio]), select");
  const inHit = target.matches(".hit");
  if (event.key === "/" && !isTyping) byId("query").focus();
  else if (event.key === "Escape") byId("query").focus();
  else if (event.key === "ArrowDown" && (target === byId("query") || inHit)) move(1);
  else if (event.key === "ArrowUp" && inHit) move(-1);
  else if (event.key === "Enter" && inHit) target.querySelector("details").toggleAttribute("open");
  else return;
  event.preventDefault();
}

let typing;
byId("query").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, TYPING_MS);
});
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typing);
  search();
});
byId("more").addEventListener("click", () => search(state.shown));
byId("store").addEventListener("change", (event) => {
  choose(event.target.value, state.mode, []);
  search();
});
byId("facts").addEventListener("toggle", () => {
  if (byId("facts").open && !byId("facts-body").firstChild) showFacts();
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  start();
});
document.addEventListener("keydown", onKey);
start();
