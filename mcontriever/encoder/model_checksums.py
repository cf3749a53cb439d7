"""checksums.json in a model's folder: a byte of the weights that has flipped is noticed, though the file still parses.

`Encoder.load` checks it, `mcontriever verify MODEL` too, and waits for large files. Models of others have no such file.
"""

from collections.abc import Mapping
from pathlib import Path

from mcontriever.checksums import DAMAGED, first_damaged
from mcontriever.disk import is_plain_name, sha256_of, write_json
from mcontriever.errors import ModelError
from mcontriever.records import read_record

CHECKSUMS = "checksums.json"
MODEL_MARK = "config.json"  # in every model, and in no store
COVERED = ("*.safetensors", "1_Dense/*.safetensors", "tokenizer.json", "engine/*.pt")  # the last: of a checkpoint
AGAIN = f"export or download the model again; if you have changed the file on purpose, remove {CHECKSUMS}"


def write_checksums(folder: Path) -> None:
    """After all other files of a folder that nobody reads yet."""
    files = sorted(path for pattern in COVERED for path in folder.glob(pattern))
    write_json(folder / CHECKSUMS, {path.relative_to(folder).as_posix(): sha256_of(path) for path in files})


def check_weights(folder: Path) -> None:
    """Before the files are read."""
    _refuse(damaged_weights(folder, AGAIN))


def damaged_weights(folder: Path, advice: str) -> Path | None:
    """None without a checksums.json. `advice` is for what is found later, in a large file."""
    if not (folder / CHECKSUMS).exists():
        return None
    files = _known(folder)
    try:
        return first_damaged(files, advice)
    except OSError:  # missing or unreadable: whoever reads it says so
        return None


def verify_model(folder: Path) -> int:
    """Read every file that has a checksum; returns how many."""
    if not (folder / CHECKSUMS).exists():
        fix = f"mcontriever export {folder} --output FOLDER writes the model with its checksums"
        raise ModelError(f"the model has no {CHECKSUMS}, so nothing tells what its files were", where=folder, fix=fix)
    files = _known(folder)
    missing = next((path for path in files if not path.is_file()), None)
    if missing is not None:
        raise ModelError("the file is missing", where=missing, fix=AGAIN)
    _refuse(next((path for path, digest in files.items() if sha256_of(path) != digest), None))
    return len(files)


def _known(folder: Path) -> Mapping[Path, str]:
    values = read_record(folder / CHECKSUMS, dict[str, str], error=ModelError, fix=AGAIN)
    outside = [name for name in values if not all(is_plain_name(part) for part in name.split("/"))]
    if outside:
        raise ModelError(f"{outside[0]!r} is no file of this model", where=folder / CHECKSUMS, fix=AGAIN)
    return {folder / name: digest for name, digest in values.items()}


def _refuse(damaged: Path | None) -> None:
    if damaged is not None:
        raise ModelError(f"{damaged.name} {DAMAGED}", where=damaged, fix=AGAIN)
