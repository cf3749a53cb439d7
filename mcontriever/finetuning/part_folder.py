"""A folder that is written part by part, each complete or absent, so a killed run resumes at the next part.

plan.json            what is being made; another plan is refused as soon as there is any output
NAME-00000.jsonl     records;  part-00000.json: their checksum and statistics, written when the part is complete
manifest.json        written when all parts are complete: the plan, checksums, totals
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcontriever.disk import read_json, sha256_of, write_json
from mcontriever.errors import StoreError
from mcontriever.output_folder import FolderKind
from mcontriever.records import read_record
from mcontriever.texts.json_lines import write_json_lines

PLAN, MANIFEST = "plan.json", "manifest.json"
PARTS = FolderKind("folder that this command began", marks=(PLAN,))


@dataclass(frozen=True)
class PartFolder:
    folder: Path
    name: str

    def begin(self, facts: Mapping[str, Any]) -> None:
        """The plan may change before the first output file (after a wrong model name, for example)."""
        made = any(path.name != PLAN and not path.name.startswith(".") for path in self.folder.iterdir())
        if made and (self.folder / PLAN).exists():
            before = read_record(self.folder / PLAN, dict[str, Any])
            changed = [
                f"{name}: {before.get(name)!r} there, {facts.get(name)!r} here"
                for name in sorted(before.keys() | facts.keys())
                if before.get(name) != facts.get(name)
            ]
            if changed:
                raise StoreError(
                    "the folder was made with another configuration:\n  " + "\n  ".join(changed),
                    where=self.folder,
                    fix="give another output folder, remove this one, or restore the values",
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
        return read_record(self._statistics_file(number), dict[str, Any])

    def complete(self, parts: int, totals: Mapping[str, Any]) -> None:
        files = {self.part(number).name: self.statistics(number)["sha256"] for number in range(parts)}
        write_json(self.folder / MANIFEST, {"made_by": read_json(self.folder / PLAN), "files": files, **totals})

    def part(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05}.jsonl"

    def _statistics_file(self, number: int) -> Path:
        return self.folder / f"part-{number:05}.json"


def mined_folder(folder: str | Path) -> PartFolder:
    """A folder that `mcontriever mine` writes."""
    return PartFolder(Path(folder), "mined")
