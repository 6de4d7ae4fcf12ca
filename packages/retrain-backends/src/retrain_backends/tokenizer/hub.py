"""Fetch the files of a tokenizer from the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from retrain_backends.errors import ModelError, describe

# All that a tokenizer may consist of, and the small configuration files beside it; no weights.
_FILES = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken"]


def download_tokenizer(model: str) -> Path:
    """The directory in the hub's cache that holds the tokenizer's files.

    Raises:
      ModelError: no such model, no access, or no network and no cached copy.
    """
    place = f"model.model: `{model}`"
    # A border to the network: whatever fails is one line.
    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except GatedRepoError as error:
        raise ModelError(
            f"{place} is gated on the Hugging Face hub: accept its terms on its page, then run"
            " `hf auth login` or set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(
            f"{place} is neither a directory nor a model of the Hugging Face hub that can be seen"
            " (a private one needs `hf auth login` or HF_TOKEN)"
        ) from error
    except LocalEntryNotFoundError as error:
        raise ModelError(
            f"{place} is not in the local cache, and {constants.ENDPOINT} cannot be reached: give a"
            " directory, or `builtin:tiny-arithmetic`, or fill the cache (HF_HOME) on a machine"
            " with a network"
        ) from error
    except Exception as error:
        raise ModelError(
            f"{place} has no tokenizer that can be loaded: {describe(error)}"
        ) from error
