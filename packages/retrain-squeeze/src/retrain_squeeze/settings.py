"""The settings of an analysis, as plain values."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.file_names import CONFIG_FILE
from retrain_squeeze.output_directory import obstacle

REMOTE = "tinker://"


class Problem(NamedTuple):
    """A problem with a setting; in messages, `text` follows the name of the setting."""

    setting: str
    text: str


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class SqueezeSettings:
    """The settings of `run_squeeze`; the fields are named as the keys in `[squeeze]`.

    Attributes:
      adapter_path: the adapter, a PEFT directory or a `tinker://` path.
    """

    adapter_path: str
    min_variance_retention: float = _setting(
        0.95, "share of the update's variance that the rank must keep"
    )
    source_rank: int = _setting(0, "expected rank of the adapter; 0: any")
    target_ranks: tuple[int, ...] = _setting(
        (), "ranks to consider; default: the powers of two below the source rank, and that rank"
    )
    output_path: str = _setting("", "directory for the compressed adapter")
    compress_to: int = _setting(0, "rank to compress to; 0: the recommended one")
    per_module: bool = _setting(False, "choose a separate rank for each module")
    device: str = _setting("cpu", "device to compute on, such as cuda:0")
    base_url: str = _setting("", "address of a Tinker-compatible service")
    wandb_project: str = _setting("", "Weights & Biases project to record the analysis in")
    wandb_run_name: str = _setting("", "name of the run there")
    wandb_entity: str = _setting("", "team or user there")
    wandb_group: str = _setting("", "group of the run there")
    wandb_tags: str = _setting("", "tags of the run there, comma-separated")

    def problems(self, *, new_output: bool = False) -> Iterator[Problem]:
        """All problems that can be found without reading the adapter.

        Values out of range come first, then settings that contradict each other or the file
        system.

        Args:
          new_output: whether an adapter in `output_path` is a problem. Otherwise the compressed
            adapter is compared with it: an earlier attempt may have written it.
        """
        yield from self._out_of_range()
        if self.adapter_path and (nearby := _adapter_inside(Path(self.adapter_path))):
            yield Problem(
                "adapter_path",
                f"is `{self.adapter_path}`, which is not an adapter; did you mean {nearby}?",
            )
        if not self.output_path:
            for name in ("compress_to", "per_module"):
                if value := getattr(self, name):
                    shown = str(value).lower()
                    yield Problem(
                        name,
                        f"is `{shown}`, but output_path is not set; set it to a directory, or "
                        f"omit {name}",
                    )
        elif occupied := self._obstacle(new_output):
            yield Problem("output_path", f"is `{self.output_path}`, which is {occupied}")
        if self.per_module and self.compress_to:
            yield Problem(
                "compress_to",
                f"is `{self.compress_to}`, but per_module chooses the ranks; omit one of the two",
            )

    def check(self) -> None:
        """Raise an error if there are problems.

        Raises:
          SqueezeConfigError: has one line for each problem.
        """
        if lines := [f"{setting} {text}" for setting, text in self.problems()]:
            raise SqueezeConfigError(*lines)

    def _obstacle(self, new_output: bool) -> str:
        adapter, output = Path(self.adapter_path), Path(self.output_path)
        is_adapter = adapter.is_dir() and output.is_dir() and adapter.samefile(output)
        return obstacle(output, new=new_output or is_adapter)

    def _out_of_range(self) -> Iterator[Problem]:
        if not self.adapter_path:
            yield Problem(
                "adapter_path", "is missing; name a PEFT adapter's directory or a tinker:// path"
            )
        if not 0 < self.min_variance_retention <= 1:
            yield Problem(
                "min_variance_retention",
                f"is `{self.min_variance_retention:g}`; it must be a number > 0 and <= 1",
            )
        for name in ("source_rank", "compress_to"):
            if getattr(self, name) < 0:
                yield Problem(name, f"is `{getattr(self, name)}`; it must be an integer >= 0")
        ranks = self.target_ranks
        if min(ranks, default=1) < 1 or len(set(ranks)) < len(ranks):
            yield Problem(
                "target_ranks",
                f"is `{list(ranks)}`; it must be a list of integers >= 1, without repetition",
            )


def _adapter_inside(path: Path) -> Path | None:
    """An adapter in a subdirectory of a directory that is not one, such as `final` of a run."""
    if (path / CONFIG_FILE).exists():
        return None
    found = (file.parent for file in path.glob(f"*/{CONFIG_FILE}"))
    return min(found, key=lambda folder: (folder.name != "final", folder.name), default=None)
