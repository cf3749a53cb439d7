"""Where in a text the words of a query stand, as BM25 counts words: what a page marks in a hit."""

from mcontriever.retrieval.terms import document_terms, index_terms, word_spans


def shared_word_spans(query: str, text: str) -> list[tuple[int, int]]:
    """(start, end) in characters, in order, neighbours joined."""
    wanted = set(index_terms(query))
    words = list(word_spans(text))
    found: list[tuple[int, int]] = []
    for number, (start, end, weight) in enumerate(words):
        if weight < 1 and number + 1 < len(words) and words[number + 1][0] == end and words[number + 1][2] < 1:
            end = words[number + 1][1]  # scripts without spaces are counted in pairs
        if wanted.isdisjoint(document_terms(text[start:end])):
            continue
        if found and found[-1][1] >= start:
            start = found.pop()[0]
        found.append((start, end))
    return found
