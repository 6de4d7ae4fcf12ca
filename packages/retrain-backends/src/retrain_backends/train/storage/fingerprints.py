"""Fingerprints of what a run works on: its questions, and the files of its model."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from retrain_backends.data import fingerprint
from retrain_backends.dotted_names import load_object
from retrain_backends.tokenizer import BUILTIN, resolve_model
from retrain_backends.train.storage.durable_writes import digest_of, digests_of
from retrain_backends.types import Example

_OF_NO_WEIGHT = (".md", ".gitattributes", ".gitignore")  # files of a model that change nothing


class Fingerprints(BaseModel):
    """What a run works on; empty for what it has not, or what is not on this machine.

    `examples` and `held_out` are fingerprints of the questions that it trains on and is evaluated
    with, `model` has a digest of each of the model's files, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: str
    held_out: str = ""
    model: dict[str, str] = {}

    def differences(self, now: "Fingerprints") -> Iterator[str]:
        """A line for all that has become another thing; nothing for what one of the two lacks."""
        if self.examples != now.examples:
            yield "data.source: the examples are not those that it has trained on"
        if self.held_out and now.held_out and self.held_out != now.held_out:
            yield "eval: the held-out questions are not those that it was evaluated with"
        other = [name for name, digest in self.model.items() if now.model.get(name) != digest]
        if now.model and other:
            yield f"model.model: {other[0]} is not the file that it has trained with"

    def renewed(self, now: "Fingerprints") -> "Fingerprints":
        """The same as it is known now; what is not known now stays."""
        held_out, model = now.held_out or self.held_out, now.model or self.model
        return Fingerprints(examples=now.examples, held_out=held_out, model=model)


def fingerprints_of(model: str, examples: str, held_out: Sequence[Example]) -> Fingerprints:
    """The fingerprints for a model and its questions; `examples` is one already."""
    return Fingerprints(
        examples=examples,
        held_out=fingerprint(held_out) if held_out else "",
        model=model_digests(model),
    )


def model_digests(model: str) -> dict[str, str]:
    """A digest of each of the model's files, by its name; what describes it in words has none.

    SHA-256 of local files. A file in the hub's cache is stored under the hub's own digest of it
    (SHA-256 of weights, git's SHA-1 of small files), which saves reading gigabytes again. Empty for
    a model whose files are not on this machine.
    """
    local = Path(resolve_model(model)).expanduser()
    if model.startswith(BUILTIN) or local.is_dir():
        found = digests_of(local)
    else:
        found = _cached_digests(model)
    return {name: digest for name, digest in found.items() if not name.endswith(_OF_NO_WEIGHT)}


def _cached_digests(model: str) -> dict[str, str]:
    # By name, because the hub's client is slow to import and not needed for local files.
    cached = load_object("huggingface_hub:try_to_load_from_cache")(model, "config.json")
    if not isinstance(cached, str):
        return {}
    root = Path(cached).parent
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): _hub_digest(path) for path in files}


def _hub_digest(path: Path) -> str:
    """The name of the blob that the cache's link leads to; without links, the file is read."""
    return path.resolve().name if path.is_symlink() else digest_of(path)
