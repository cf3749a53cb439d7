"""XQuAD with questions in one language and documents in another, from the data of MTEB's XQuADRetrieval.

MTEB asks each language of its own documents only. Its questions keep XQuAD's ids, which are the same in all languages,
so the judgements of one language fit the questions of another.
"""

from typing import Any

import mteb
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from mcontriever.errors import ConfigError, DataError
from mcontriever.evaluation.language_names import direction, mteb_code

SHARED_MIN = 0.9
_SOURCE = "XQuADRetrieval"
_SPLIT = "validation"


class CrossLingualXQuAD(AbsTaskRetrieval):
    """Subsets are named query-document: "ar-en" is Arabic questions to English passages."""

    data_loaded: bool = False

    def __init__(self, pairs: list[str]) -> None:
        source = mteb.get_task(_SOURCE)
        known = source.metadata.hf_subsets
        self.pairs = {pair: _languages(pair, known) for pair in pairs}
        self.metadata = TaskMetadata(
            name="XQuADCrossLingualRetrieval",
            description="XQuAD's questions in one language, its passages in another.",
            dataset=dict(source.metadata.dataset),
            type="Retrieval",
            category="t2t",
            eval_splits=[_SPLIT],
            eval_langs={pair: [mteb_code(asked), mteb_code(found)] for pair, (asked, found) in self.pairs.items()},
            main_score="ndcg_at_10",
            reference=source.metadata.reference,
            license=source.metadata.license,
        )
        self.directions = {pair: direction(asked, {found}) for pair, (asked, found) in self.pairs.items()}
        super().__init__()

    def load_data(self, num_proc: int | None = None, **_: Any) -> None:
        if self.data_loaded:
            return
        needed = sorted({language for pair in self.hf_subsets for language in self.pairs[pair]})
        source = mteb.get_task(_SOURCE, hf_subsets=needed)
        source.metadata = source.metadata.model_copy(update={"dataset": self.metadata.dataset})
        source.load_data(num_proc=num_proc)
        self.dataset = {pair: {_SPLIT: self._pair(source.dataset, pair)} for pair in self.hf_subsets}
        self.data_loaded = True

    def unload_data(self) -> None:
        """MTEB's method also drops the metadata, which belong to the instance here."""
        self.dataset, self.data_loaded = {}, False

    def _pair(self, data: Any, pair: str) -> dict[str, Any]:
        asked, found = (data[language][_SPLIT] for language in self.pairs[pair])
        judged = found["relevant_docs"]
        ids = asked["queries"]["id"][:]
        shared = [position for position, query in enumerate(ids) if query in judged]
        if len(shared) < SHARED_MIN * len(ids):
            raise DataError(
                f"only {len(shared)} of {len(ids)} questions of {pair} have judgements in the other language",
                where=self.metadata.dataset["path"],
                fix="this copy of XQuADRetrieval does not share its ids between languages; omit the pair",
            )
        return {
            "corpus": found["corpus"],
            "queries": asked["queries"].select(shared),
            "relevant_docs": {ids[position]: judged[ids[position]] for position in shared},
            "top_ranked": None,
        }


def _languages(pair: str, known: list[str]) -> tuple[str, str]:
    asked, _, found = pair.partition("-")
    if asked not in known or found not in known:
        what = f"cross_xquad: {pair!r} must be QUERY-DOCUMENT, two of {', '.join(known)}"
        raise ConfigError(what, fix="for example ar-en")
    return asked, found
