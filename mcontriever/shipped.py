"""Files of the project that verbs read: next to the package in a checkout, inside it in an installed wheel.

`mini` and `nano`, the models that come with the package, are always inside it.
"""

from pathlib import Path

from mcontriever.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
ATLAS = _PACKAGE / "atlas"
BUNDLED = ("mini", "nano")  # what a user types; hub.py makes the folder of it
DEFAULT_MODEL = "mini"  # a transformer; nano takes a hundredth of its time and finds less


def bundled_folder(name: str) -> Path:
    """Of one of BUNDLED."""
    return _PACKAGE / name


def shipped(path: str) -> Path:
    """Where `path`, relative to the project's top (`data_recipes/atlas.yaml`), really is."""
    for home in (_PACKAGE.parent, _PACKAGE / "shipped_files"):
        if (home / path).exists():
            return home / path
    raise ConfigError(f"no {path} comes with this installation", fix="install the package again, or give a full path")
