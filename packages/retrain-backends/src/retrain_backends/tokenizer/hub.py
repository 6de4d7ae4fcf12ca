"""Download the files of a tokenizer from the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from retrain_backends.errors import ModelError, describe

# Files of tokenizers and the small configuration files beside them; no weights.
_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]


def download_tokenizer(model: str) -> Path:
    """Download a tokenizer into the cache of the hub, and return the directory.

    Raises:
      ModelError: no such model, no access, or no network and no cached copy.
    """
    setting = f"model.model: `{model}`"
    # A border: the network. Every failure becomes an error of one line.
    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except GatedRepoError as error:
        raise ModelError(
            f"{setting} is gated on the Hugging Face hub: accept its terms on its page, then run"
            " `hf auth login` or set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"{setting} is neither a directory nor a visible model of the Hugging Face hub"
            " (a private one needs `hf auth login` or HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{setting} is not in the local cache, and {constants.ENDPOINT} cannot be reached: name"
            " a directory or `builtin:tiny-arithmetic`, or fill the cache (HF_HOME) on a machine"
            " with a network"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{setting} has no tokenizer that can be loaded: {describe(error)}"
        ) from error
