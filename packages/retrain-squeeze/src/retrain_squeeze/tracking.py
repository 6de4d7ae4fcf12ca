"""The analysis as a Weights & Biases run. Imports wandb, so it is reached by name, if asked for."""

import wandb

from retrain_squeeze.analysis import SqueezeAnalysis
from retrain_squeeze.settings import SqueezeSettings

RUN_NAME = "squeeze-analysis"
_COLUMNS = ["rank", "mean", "min", "max", "recommended"]
_TIMEOUT_S = 60.0  # for the service to answer; the analysis has been shown by then


def track(analysis: SqueezeAnalysis, settings: SqueezeSettings) -> str:
    """Record an analysis as a run of its own.

    Args:
      analysis: what was found.
      settings: have the adapter's path as the user wrote it, and project, entity, group, tags and
        name of the run.

    Returns:
      Where the run can be seen: its address, or offline the directory to `wandb sync`.

    Raises:
      Exception: whatever wandb and the network raise; nothing here needs them.
    """
    own_tags = [tag.strip() for tag in settings.wandb_tags.split(",") if tag.strip()]
    run = wandb.init(
        project=settings.wandb_project,
        entity=settings.wandb_entity or None,
        group=settings.wandb_group or None,
        name=settings.wandb_run_name or RUN_NAME,
        tags=list(dict.fromkeys(["squeeze", f"rank-{analysis.recommended_rank}", *own_tags])),
        job_type="squeeze",
        config={
            "adapter_path": settings.adapter_path,
            "source_rank": analysis.source_rank,
            "min_variance_retention": analysis.min_variance_retention,
            "target_ranks": [row.rank for row in analysis.table],
        },
        settings=wandb.Settings(
            init_timeout=_TIMEOUT_S, login_timeout=_TIMEOUT_S, console="off", silent=True
        ),
    )
    _log_curves(run, analysis)
    run.summary.update(
        {
            "squeeze/recommended_rank": analysis.recommended_rank,
            "squeeze/source_rank": analysis.source_rank,
            "squeeze/min_variance_retention": analysis.min_variance_retention,
            "squeeze/num_layers": len(analysis.modules),
        }
    )
    where = f"offline; `wandb sync {run.settings.sync_dir}` uploads it" if run.offline else run.url
    run.finish()
    return where or ""


def _log_curves(run: wandb.Run, analysis: SqueezeAnalysis) -> None:
    run.define_metric("squeeze/rank")
    run.define_metric("squeeze/*", step_metric="squeeze/rank")
    table = wandb.Table(columns=[*_COLUMNS])
    for row in analysis.table:
        recommended = row.rank == analysis.recommended_rank
        table.add_data(row.rank, row.mean, row.minimum, row.maximum, recommended)
    for row in analysis.table:
        last = row is analysis.table[-1]
        run.log(
            {
                "squeeze/rank": row.rank,
                "squeeze/mean_variance": row.mean,
                "squeeze/min_variance": row.minimum,
                "squeeze/max_variance": row.maximum,
                **({"squeeze/variance_table": table} if last else {}),
            }
        )
