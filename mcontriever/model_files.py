"""Reading a model's files, which may be damaged or untrusted: any exception of a library becomes one ModelError."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError

from mcontriever.errors import ModelError, UserError

AGAIN = "export or download the model again"
SHOWN_CHARACTERS = 200


@contextmanager
def reading_model(what: str, folder: str | Path) -> Iterator[None]:
    """Transformers, tokenizers and safetensors check little of what they read, so damage shows as any exception."""
    try:
        yield
    except UserError:
        raise
    except UnpicklingError as error:
        fix = "get the model as safetensors; a pickle can run code, so only tensors are read from one"
        raise ModelError(f"{what}: the weights are not plain tensors", where=folder, fix=fix) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:SHOWN_CHARACTERS]
        named = reason if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {reason}"
        raise ModelError(f"{what}: {named}", where=folder, fix=AGAIN) from error
