"""Run an analysis from its settings: download, analyse, compress, draw, track."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from retrain_squeeze.adapter import AdapterFiles, read_adapter
from retrain_squeeze.analysis import SqueezeAnalysis, analyze_adapter
from retrain_squeeze.compression import compress_adapter
from retrain_squeeze.errors import SqueezeConfigError, SqueezeError, describe
from retrain_squeeze.extras import load_part
from retrain_squeeze.report import (
    AnalyzedAdapter,
    Outputs,
    SqueezeReport,
    print_analysis,
    print_outputs,
)
from retrain_squeeze.settings import REMOTE, SqueezeSettings

PICTURE_FILE = "squeeze.png"


def run_squeeze(
    settings: SqueezeSettings,
    *,
    as_json: bool = False,
    console: Console | None = None,
    picture_directory: Path | None = None,
) -> SqueezeReport:
    """Run an analysis and print it to standard output; progress and warnings go to standard error.

    The analysis is printed before anything is drawn, written or sent; as JSON it is printed even if
    the adapter cannot be written. If the picture or the run of Weights & Biases fails, a warning is
    printed.

    Args:
      settings: of the analysis.
      as_json: print one JSON object and nothing else.
      console: used instead of both standard streams.
      picture_directory: where the picture is written; None: beside the adapter, if possible.

    Raises:
      SqueezeConfigError: the settings do not fit each other or the adapter.
      SqueezeError: the adapter cannot be downloaded, read or written.
    """
    settings.check()
    progress, output = console or Console(stderr=True), console or Console(highlight=False)
    if settings.wandb_project:  # a missing extra is reported before the work begins
        load_part("retrain_squeeze.tracking:track", "wandb_project")
    with _adapter_directory(settings, progress) as directory:
        adapter = read_adapter(directory)
        _check_rank(settings, adapter)
        with _progress_bar(progress, "analysing") as on_module:
            analysis = _analyse(settings, directory, on_module)
        analyzed = AnalyzedAdapter(settings.adapter_path, analysis, _lora_bytes(adapter))
        if not as_json:
            print_analysis(output, analyzed)
        ranks = _output_ranks(settings, analysis)
        if ranks is not None:
            try:
                with _progress_bar(progress, "compressing") as on_module:
                    _compress(settings, directory, ranks, on_module)
            except (SqueezeError, KeyboardInterrupt):
                if as_json:
                    _print_json(SqueezeReport(analyzed, Outputs()))
                raise
    folders = [picture_directory] if picture_directory else _picture_folders(settings)
    outputs = Outputs(
        output=Path(settings.output_path) if ranks else None,
        ranks=ranks,
        picture=_draw(analysis, settings, folders, progress),
        wandb=_track(settings, analysis, progress),
    )
    report = SqueezeReport(analyzed, outputs)
    if as_json:
        _print_json(report)
    else:
        print_outputs(output, analyzed, outputs)
    return report


def _print_json(report: SqueezeReport) -> None:
    print(report.as_json())  # noqa: T201 - rich would wrap it


@contextmanager
def _adapter_directory(settings: SqueezeSettings, progress: Console) -> Iterator[Path]:
    """The adapter's directory; a downloaded adapter is removed when the block ends."""
    path = settings.adapter_path
    if not path.startswith(REMOTE):
        yield Path(path)
        return
    fetch = load_part("retrain_squeeze.tinker_download:fetch_adapter", f"adapter_path: {path}")
    with TemporaryDirectory(prefix="retrain_squeeze_") as directory:
        with progress.status(f"downloading {path}") if progress.is_terminal else nullcontext():
            downloaded = fetch(path, settings.base_url, Path(directory))
        yield downloaded


@contextmanager
def _progress_bar(console: Console, doing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar over modules; only a terminal shows it."""
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


def _check_rank(settings: SqueezeSettings, adapter: AdapterFiles) -> None:
    """Refuse a rank that the adapter cannot be compressed to, before the analysis."""
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


def _lora_bytes(adapter: AdapterFiles) -> int:
    return sum(module.a.size + module.b.size for module in adapter.modules)


def _output_ranks(settings: SqueezeSettings, analysis: SqueezeAnalysis) -> dict[str, int] | None:
    """The rank of each module of the compressed adapter; None if none is to be written."""
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
    # A border: the file system, which may be read-only beside the adapter.
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


def _picture_folders(settings: SqueezeSettings) -> Iterator[Path]:
    """Candidates for the picture: beside the adapter, beside the output, the working directory."""
    if not settings.adapter_path.startswith(REMOTE):
        yield Path(settings.adapter_path).parent
    if settings.output_path:
        yield Path(settings.output_path).parent
    yield Path()


def _track(settings: SqueezeSettings, analysis: SqueezeAnalysis, progress: Console) -> str:
    if not settings.wandb_project:
        return ""
    track = load_part("retrain_squeeze.tracking:track", "wandb_project")
    # A border: the library and service of Weights & Biases. Their failure must not lose the
    # analysis.
    # wandb raises KeyboardInterrupt if its prompt for a key is not answered.
    try:
        return track(analysis, settings)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001
        _warn(progress, f"the analysis was not sent to Weights & Biases ({describe(error)})")
        return ""


def _warn(console: Console, line: str) -> None:
    console.print(f"warning: {line}", markup=False, highlight=False, soft_wrap=True)
