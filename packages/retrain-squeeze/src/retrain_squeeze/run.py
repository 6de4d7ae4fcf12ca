"""One analysis from its job to its end: fetch, analyse, show, draw, compress, track."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from retrain_squeeze.adapter import Adapter, read_adapter
from retrain_squeeze.analysis import SqueezeAnalysis, analyze_adapter
from retrain_squeeze.command import REMOTE
from retrain_squeeze.compression import compress_adapter
from retrain_squeeze.config import SqueezeConfig, SqueezeJob
from retrain_squeeze.errors import SqueezeConfigError, SqueezeError, describe
from retrain_squeeze.extras import load_part
from retrain_squeeze.report import Followed, Found, SqueezeReport, print_followed, print_found

PICTURE_FILE = "squeeze.png"


def run_squeeze(
    job: SqueezeJob,
    *,
    as_json: bool = False,
    console: Console | None = None,
    place: Path | None = None,
) -> SqueezeReport:
    """Do an analysis, and show it on standard output; progress and warnings go to standard error.

    What was found is shown before anything is drawn, written or sent, and as JSON also where no
    adapter can be written, so nothing of that can lose it. A picture or a run of Weights & Biases
    that fails costs a warning.

    Args:
      job: what to do.
      as_json: print one JSON object and nothing else.
      console: for all of it instead.
      place: directory of the picture; unless it is given, that beside the adapter, if possible.

    Raises:
      SqueezeError: the adapter cannot be fetched, read or written.
    """
    progress, output = console or Console(stderr=True), console or Console(highlight=False)
    if job.logging.wandb_project:  # an extra that is missing is told before, not after the work
        load_part("retrain_squeeze.tracking:track", "logging.wandb_project")
    with _local(job, progress) as directory:
        adapter = read_adapter(directory)
        _check_rank(job.squeeze, adapter)
        with _bar(progress, "analysing") as on_module:
            analysis = _analyse(job, directory, on_module)
        found = Found(job.squeeze.adapter_path, analysis, _lora_bytes(adapter))
        if not as_json:
            print_found(output, found)
        ranks = _output_ranks(job, analysis)
        if ranks is not None:
            try:
                with _bar(progress, "compressing") as on_module:
                    _compress(job, directory, ranks, on_module)
            except (SqueezeError, KeyboardInterrupt):
                if as_json:
                    _print_json(SqueezeReport(found, Followed()))
                raise
    followed = Followed(
        output=Path(job.squeeze.output_path) if ranks else None,
        ranks=ranks,
        picture=_draw(analysis, job.squeeze, [place] if place else _folders(job), progress),
        wandb=_track(job, analysis, progress),
    )
    report = SqueezeReport(found, followed)
    if as_json:
        _print_json(report)
    else:
        print_followed(output, found, followed)
    return report


def _print_json(report: SqueezeReport) -> None:
    print(report.as_json())  # noqa: T201 - not through rich, which would wrap it


@contextmanager
def _local(job: SqueezeJob, progress: Console) -> Iterator[Path]:
    """The adapter's directory; one of a service is there only as long as the block lasts."""
    path = job.squeeze.adapter_path
    if not path.startswith(REMOTE):
        yield Path(path)
        return
    fetch = load_part("retrain_squeeze.remote:fetch_adapter", f"squeeze.adapter_path: {path}")
    with TemporaryDirectory(prefix="retrain_squeeze_") as directory:
        with progress.status(f"downloading {path}") if progress.is_terminal else nullcontext():
            found = fetch(path, job.model.base_url, Path(directory))
        yield found


@contextmanager
def _bar(console: Console, doing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over modules, on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("modules"),
        TimeElapsedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(doing, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _check_rank(told: SqueezeConfig, adapter: Adapter) -> None:
    """Tell before the analysis what its output cannot be."""
    if told.compress_to > adapter.rank:
        raise SqueezeConfigError(
            f"compress_to is `{told.compress_to}`, but the rank of {told.adapter_path} is "
            f"{adapter.rank}; name a rank up to that"
        )


def _analyse(
    job: SqueezeJob, directory: Path, on_module: Callable[[int, int], None]
) -> SqueezeAnalysis:
    told = job.squeeze
    return analyze_adapter(
        directory,
        told.min_variance_retention,
        told.target_ranks,
        told.source_rank,
        told.device,
        on_module=on_module,
    )


def _lora_bytes(adapter: Adapter) -> int:
    return sum(module.a.size + module.b.size for module in adapter.modules)


def _output_ranks(job: SqueezeJob, analysis: SqueezeAnalysis) -> dict[str, int] | None:
    """The rank of each module of the compressed adapter; None when none is asked for."""
    told = job.squeeze
    if not told.output_path:
        return None
    if told.per_module:
        return analysis.module_ranks()
    rank = told.compress_to or analysis.recommended_rank
    return {module.name: min(rank, module.rank) for module in analysis.modules}


def _compress(
    job: SqueezeJob,
    directory: Path,
    ranks: dict[str, int],
    on_module: Callable[[int, int], object],
) -> None:
    told = job.squeeze
    highest = max(ranks.values())
    compress_adapter(
        directory,
        told.output_path,
        highest,
        module_ranks=ranks if told.per_module else None,
        device=told.device,
        on_module=on_module,
    )


def _draw(
    analysis: SqueezeAnalysis, told: SqueezeConfig, folders: Iterable[Path], progress: Console
) -> Path | None:
    draw = load_part("retrain_squeeze.picture:save_picture", PICTURE_FILE)
    # A border: the file system, where other people's adapters may be read-only.
    problem = ""
    for folder in folders:
        path = folder / PICTURE_FILE
        try:
            draw(analysis, told.adapter_path, path)
        except OSError as error:
            problem = problem or f"{path}: the picture cannot be written ({error.strerror})"
        else:
            return path
    _warn(progress, problem)
    return None


def _folders(job: SqueezeJob) -> Iterator[Path]:
    """Where the picture may go: beside the adapter, beside what is written, here."""
    told = job.squeeze
    if not told.adapter_path.startswith(REMOTE):
        yield Path(told.adapter_path).parent
    if told.output_path:
        yield Path(told.output_path).parent
    yield Path()


def _track(job: SqueezeJob, analysis: SqueezeAnalysis, progress: Console) -> str:
    if not job.logging.wandb_project:
        return ""
    track = load_part("retrain_squeeze.tracking:track", "logging.wandb_project")
    # A border: somebody else's library and service; the analysis is worth more than its copy.
    # KeyboardInterrupt is also what comes of wandb's question for a key when nobody answers it.
    try:
        return track(analysis, job.squeeze.adapter_path, job.logging)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        _warn(progress, f"Weights & Biases has no copy of the analysis ({describe(error)})")
        return ""


def _warn(console: Console, line: str) -> None:
    console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
