"""A folder that is written part by part: each whole or absent, so that a run that was killed goes on where it was.

plan.json            what is being made; another plan is refused once anything is made
NAME-00000.jsonl     records;  part-00000.json: their checksum and statistics, there when the part is whole
manifest.json        when all parts are there: the plan, checksums, totals
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.disk import read_json, sha256_of, write_json
from mcontriever.errors import StoreError
from mcontriever.texts.json_lines import write_json_lines

PLAN, MANIFEST = "plan.json", "manifest.json"


@dataclass(frozen=True)
class PartFolder:
    folder: Path
    name: str

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Before the first file is made (a model's name was wrong, say) the plan may still change."""
        made = any(path.name != PLAN and not path.name.startswith(".") for path in self.folder.iterdir())
        if made and (self.folder / PLAN).exists():
            before = read_json(self.folder / PLAN)
            changed = [
                f"{name}: {before.get(name)!r} there, {facts.get(name)!r} here"
                for name in sorted(before.keys() | facts.keys())
                if before.get(name) != facts.get(name)
            ]
            if changed:
                raise StoreError(
                    "the folder holds the work of another configuration:\n  " + "\n  ".join(changed),
                    where=self.folder,
                    fix="give another output folder, remove this one, or put the values back",
                )
        write_json(self.folder / PLAN, dict(facts))

    @property
    def is_complete(self) -> bool:
        return (self.folder / MANIFEST).exists()

    def has_part(self, number: int) -> bool:
        return self._statistics_file(number).exists()

    def write_part(self, number: int, records: Iterable[dict[str, Any]], statistics: Mapping[str, Any]) -> None:
        write_json_lines(self.part(number), records)
        write_json(self._statistics_file(number), {"sha256": sha256_of(self.part(number)), **statistics})

    def statistics(self, number: int) -> dict[str, Any]:
        return dict(read_json(self._statistics_file(number)))

    def complete(self, parts: int, totals: Mapping[str, Any]) -> None:
        files = {self.part(number).name: self.statistics(number)["sha256"] for number in range(parts)}
        write_json(self.folder / MANIFEST, {"made_by": read_json(self.folder / PLAN), "files": files, **totals})

    def part(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05}.jsonl"

    def _statistics_file(self, number: int) -> Path:
        return self.folder / f"part-{number:05}.json"
