"""The plan in an output folder says what its tokens are made from; another plan needs --restart."""

import shutil
from pathlib import Path
from typing import Any

from mcontriever.disk import read_json, remove_temporaries, write_json
from mcontriever.errors import StoreError
from mcontriever.output_folder import FolderKind
from mcontriever.preparation.shard_folder import FOLDERS
from mcontriever.token_manifest import MANIFEST

PLAN, REPORT = "plan.json", "report.json"
TOKENS = FolderKind("folder of token shards", marks=(PLAN,))


def claim(output: Path, new_plan: dict[str, Any], *, restart: bool) -> None:
    """The folder must be empty, started with the same plan, or cleared by --restart."""
    old_plan = read_json(output / PLAN) if (output / PLAN).is_file() else None
    if old_plan is not None and (not isinstance(old_plan, dict) or old_plan.get("format") != new_plan["format"]):
        raise StoreError(
            "the plan in this folder is not of token shards in this version's format",
            where=output / PLAN,
            fix="give a new or an empty --output",
        )
    if restart and old_plan is not None:
        _clear(output)
    elif old_plan is not None:
        changes = _differences(old_plan, new_plan)
        if changes:
            raise StoreError(
                "the folder was started with another plan:\n  " + "\n  ".join(changes),
                where=output,
                fix="give another --output, restore the former values, or start again with --restart",
            )
    if restart or old_plan is None:
        write_json(output / PLAN, new_plan)
    for folder in (output, *(output / name for name in FOLDERS)):
        remove_temporaries(folder)


def _clear(output: Path) -> None:
    """The plan is removed last, because it marks the folder as ours."""
    for name in (MANIFEST, REPORT, *FOLDERS, PLAN):
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _differences(old: Any, new: Any, key: str = "") -> list[str]:
    """The first few changes, as "recipe.duplicates.exact: true before, false now"."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(name for name in new if name not in old)]
        pairs = [(old.get(name), new.get(name), f"{key}.{name}".strip(".")) for name in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(before, after, f"{key}.{index}") for index, (before, after) in enumerate(zip(old, new, strict=True))]
    elif isinstance(old, list) and isinstance(new, list):
        return [f"{key}: {len(old)} before, {len(new)} now"]
    else:
        return [] if old == new else [f"{key}: {old} before, {new} now"]
    return [change for before, after, name in pairs for change in _differences(before, after, name)][:5]
