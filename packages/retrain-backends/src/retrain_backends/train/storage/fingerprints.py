"""Fingerprints of the questions and the model of a run."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from retrain_backends.data import fingerprint
from retrain_backends.dotted_names import load_object
from retrain_backends.tokenizer import BUILTIN, resolve_model
from retrain_backends.train.storage.durable_writes import digest_of, digests_of
from retrain_backends.types import Example

_IGNORED = (".md", ".gitattributes", ".gitignore")  # files of a model without effect


class Fingerprints(BaseModel):
    """Fingerprints of training questions, held-out questions, and the model's files by name.

    Empty for what the run does not use, and for what is not on this machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: str
    held_out: str = ""
    model: dict[str, str] = {}

    def differences(self, now: "Fingerprints") -> Iterator[str]:
        """A line for everything that has changed; what only one of the two has is not compared."""
        if self.examples != now.examples:
            yield "data.source: the examples have changed since the run started"
        if self.held_out and now.held_out and self.held_out != now.held_out:
            yield "eval: the held-out questions have changed since the run was evaluated"
        changed = [name for name, digest in self.model.items() if now.model.get(name) != digest]
        if now.model and changed:
            yield f"model.model: {changed[0]} has changed since the run started"

    def renewed(self, now: "Fingerprints") -> "Fingerprints":
        """The current fingerprints; those that are empty now keep their old value."""
        held_out, model = now.held_out or self.held_out, now.model or self.model
        return Fingerprints(examples=now.examples, held_out=held_out, model=model)


def fingerprints_of(model: str, examples: str, held_out: Sequence[Example]) -> Fingerprints:
    """The fingerprints of a model and its questions; `examples` is already a fingerprint."""
    return Fingerprints(
        examples=examples,
        held_out=fingerprint(held_out) if held_out else "",
        model=model_digests(model),
    )


def model_digests(model: str) -> dict[str, str]:
    """A digest of each of the model's files by name, without README and git files.

    SHA-256 of local files. For files in the hub's cache it is the hub's own digest (SHA-256 of
    weights, git's SHA-1 of small files), so that gigabytes need not be read. Empty for a model
    whose files are not on this machine.
    """
    local = Path(resolve_model(model)).expanduser()
    if model.startswith(BUILTIN) or local.is_dir():
        digests = digests_of(local)
    else:
        digests = _cached_digests(model)
    return {name: digest for name, digest in digests.items() if not name.endswith(_IGNORED)}


def _cached_digests(model: str) -> dict[str, str]:
    # By name: the hub's client is slow to import and not needed for local files.
    cached = load_object("huggingface_hub:try_to_load_from_cache")(model, "config.json")
    if not isinstance(cached, str):
        return {}
    root = Path(cached).parent
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): _hub_digest(path) for path in files}


def _hub_digest(path: Path) -> str:
    """The name of the blob that the cache links to; a file without a link is read."""
    return path.resolve().name if path.is_symlink() else digest_of(path)
