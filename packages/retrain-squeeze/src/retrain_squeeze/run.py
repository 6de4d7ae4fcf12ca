"""One analysis from its settings to its end: fetch, analyse, show, draw, compress, track."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from retrain_squeeze.adapter import Adapter, read_adapter
from retrain_squeeze.analysis import SqueezeAnalysis, analyze_adapter
from retrain_squeeze.compression import compress_adapter
from retrain_squeeze.errors import SqueezeConfigError, SqueezeError, describe
from retrain_squeeze.extras import load_part
from retrain_squeeze.report import Followed, Found, SqueezeReport, print_followed, print_found
from retrain_squeeze.settings import REMOTE, SqueezeSettings

PICTURE_FILE = "squeeze.png"


def run_squeeze(
    settings: SqueezeSettings,
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
      settings: what to do.
      as_json: print one JSON object and nothing else.
      console: for all of it instead.
      place: directory of the picture; unless it is given, that beside the adapter, if possible.

    Raises:
      SqueezeConfigError: the settings do not fit each other or the adapter.
      SqueezeError: the adapter cannot be fetched, read or written.
    """
    settings.check()
    progress, output = console or Console(stderr=True), console or Console(highlight=False)
    if settings.wandb_project:  # an extra that is missing is told before, not after the work
        load_part("retrain_squeeze.tracking:track", "wandb_project")
    with _local(settings, progress) as directory:
        adapter = read_adapter(directory)
        _check_rank(settings, adapter)
        with _bar(progress, "analysing") as on_module:
            analysis = _analyse(settings, directory, on_module)
        found = Found(settings.adapter_path, analysis, _lora_bytes(adapter))
        if not as_json:
            print_found(output, found)
        ranks = _output_ranks(settings, analysis)
        if ranks is not None:
            try:
                with _bar(progress, "compressing") as on_module:
                    _compress(settings, directory, ranks, on_module)
            except (SqueezeError, KeyboardInterrupt):
                if as_json:
                    _print_json(SqueezeReport(found, Followed()))
                raise
    followed = Followed(
        output=Path(settings.output_path) if ranks else None,
        ranks=ranks,
        picture=_draw(analysis, settings, [place] if place else _folders(settings), progress),
        wandb=_track(settings, analysis, progress),
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
def _local(settings: SqueezeSettings, progress: Console) -> Iterator[Path]:
    """The adapter's directory; one of a service is there only as long as the block lasts."""
    path = settings.adapter_path
    if not path.startswith(REMOTE):
        yield Path(path)
        return
    fetch = load_part("retrain_squeeze.remote:fetch_adapter", f"adapter_path: {path}")
    with TemporaryDirectory(prefix="retrain_squeeze_") as directory:
        with progress.status(f"downloading {path}") if progress.is_terminal else nullcontext():
            found = fetch(path, settings.base_url, Path(directory))
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


def _check_rank(settings: SqueezeSettings, adapter: Adapter) -> None:
    """Refuse before the analysis what cannot be written after it."""
    if settings.compress_to > adapter.rank:
        raise SqueezeConfigError(
            f"compress_to is `{settings.compress_to}`, but the rank of {settings.adapter_path} is "
            f"{adapter.rank}; name a rank up to that"
        )


def _analyse(
    settings: SqueezeSettings, directory: Path, on_module: Callable[[int, int], None]
) -> SqueezeAnalysis:
    return analyze_adapter(
        directory,
        settings.min_variance_retention,
        settings.target_ranks,
        settings.source_rank,
        settings.device,
        on_module=on_module,
    )


def _lora_bytes(adapter: Adapter) -> int:
    return sum(module.a.size + module.b.size for module in adapter.modules)


def _output_ranks(settings: SqueezeSettings, analysis: SqueezeAnalysis) -> dict[str, int] | None:
    """The rank of each module of the compressed adapter; None when none is asked for."""
    if not settings.output_path:
        return None
    if settings.per_module:
        return analysis.module_ranks()
    rank = settings.compress_to or analysis.recommended_rank
    return {module.name: min(rank, module.rank) for module in analysis.modules}


def _compress(
    settings: SqueezeSettings,
    directory: Path,
    ranks: dict[str, int],
    on_module: Callable[[int, int], object],
) -> None:
    highest = max(ranks.values())
    compress_adapter(
        directory,
        settings.output_path,
        highest,
        module_ranks=ranks if settings.per_module else None,
        device=settings.device,
        on_module=on_module,
    )


def _draw(
    analysis: SqueezeAnalysis, settings: SqueezeSettings, folders: Iterable[Path], progress: Console
) -> Path | None:
    draw = load_part("retrain_squeeze.picture:save_picture", PICTURE_FILE)
    # A border: the file system, where other people's adapters may be read-only.
    problem = ""
    for folder in folders:
        path = folder / PICTURE_FILE
        try:
            draw(analysis, settings.adapter_path, path)
        except OSError as error:
            problem = problem or f"{path}: the picture cannot be written ({error.strerror})"
        else:
            return path
    _warn(progress, problem)
    return None


def _folders(settings: SqueezeSettings) -> Iterator[Path]:
    """Where the picture may go: beside the adapter, beside what is written, here."""
    if not settings.adapter_path.startswith(REMOTE):
        yield Path(settings.adapter_path).parent
    if settings.output_path:
        yield Path(settings.output_path).parent
    yield Path()


def _track(settings: SqueezeSettings, analysis: SqueezeAnalysis, progress: Console) -> str:
    if not settings.wandb_project:
        return ""
    track = load_part("retrain_squeeze.tracking:track", "wandb_project")
    # A border: somebody else's library and service; the analysis is worth more than its copy.
    # KeyboardInterrupt is also what comes of wandb's question for a key when nobody answers it.
    try:
        return track(analysis, settings)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        _warn(progress, f"Weights & Biases has no copy of the analysis ({describe(error)})")
        return ""


def _warn(console: Console, line: str) -> None:
    console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
