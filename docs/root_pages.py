"""A hook of mkdocs: the documents at the top of the repository become pages of the site, without a second copy."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"ARCHITECTURE.md": "architecture.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        text = linked_within_site((ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def linked_within_site(text: str) -> str:
    """Links between these documents lead to their pages; other links into the repository become plain code."""

    def target(match: re.Match[str]) -> str:
        label, path = match[1], match[2]
        if path in PAGES:
            return f"[{label}]({PAGES[path]})"
        return match[0] if "://" in path or path.startswith("#") else f"{label}"

    return re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", target, text)
