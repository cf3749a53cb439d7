"""Where to find a model that the user names: `mini` or `nano`, a folder, or a hub name (cached or reachable).

`mini` and `nano` are the bundled models, in any working directory; a folder with such a name is called `./nano`.
"""

from pathlib import Path

from mcontriever.errors import HubError, ModelError
from mcontriever.hosts import require_host
from mcontriever.progress import log
from mcontriever.shipped import BUNDLED, bundled_folder

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_NEEDED = ("*.json", "*.txt", "*.model", "*.safetensors")
_PARTS = ("[0-9]_*/*", "query*/*", "document*/*")  # sentence-transformers' layers, and sides of a Router
_OFFLINE_WAY = "give the path of a folder that holds the model (download it elsewhere, or export one)"


def model_folder(name_or_folder: str | Path) -> Path:
    """The folder with the model's files; a hub name is downloaded if it is not in the cache."""
    if is_bundled(name_or_folder):
        return _bundled(str(name_or_folder))
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    name = str(name_or_folder)
    if not _may_be_hub_name(name):
        raise ModelError("no such folder", where=name, fix="check the path; a hub name looks like owner/model")
    return _cached(name) or _download(name)


def is_bundled(name_or_folder: str | Path) -> bool:
    return name_or_folder in BUNDLED  # which no Path is equal to: Path("./nano") is a folder


def is_at_hand(name: str) -> bool:
    """Whether the model is a folder or the bundled one, so that no hub is needed."""
    return is_bundled(name) or Path(name).is_dir()


def lasting_name(name: str) -> str:
    """A name that means the same model from any working directory."""
    return str(Path(name).resolve()) if not is_bundled(name) and Path(name).exists() else name


def _bundled(name: str) -> Path:
    beside, folder = Path(name), bundled_folder(name)
    if (beside / "config.json").is_file() and not beside.samefile(folder):
        log.warning(f"{name} is a model that comes with mcontriever; the folder here is ./{name}")
    return folder


def _may_be_hub_name(name: str) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not name.startswith((".", "~", "/"))


def _cached(name: str) -> Path | None:
    """The cached snapshot that has a configuration and weights; a half-finished download does not count."""
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    return folder if any((folder / weights).exists() for weights in _WEIGHTS) else None


def _download(name: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise HubError(
            f"{name} is neither a folder nor in the local cache, and HF_HUB_OFFLINE is set",
            where=constants.HF_HUB_CACHE,
            fix=_OFFLINE_WAY,
        )
    require_host(constants.ENDPOINT, _OFFLINE_WAY)
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*_NEEDED, *_PARTS]))
        if not any((folder / weights).exists() for weights in _WEIGHTS):
            folder = Path(snapshot_download(name, allow_patterns=[*_NEEDED, "*.bin", *_PARTS]))
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {name!r}, or it is private",
            where=constants.ENDPOINT,
            fix="check the name, or log in with `hf auth login`",
        ) from error
    except HfHubHTTPError as error:
        raise HubError(f"the hub refused {name}: {error}", where=constants.ENDPOINT, fix=_OFFLINE_WAY) from error
    return folder
