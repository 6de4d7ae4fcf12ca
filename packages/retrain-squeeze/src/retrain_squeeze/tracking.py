"""Send an analysis to Weights & Biases. Imports wandb, so this module is imported by name."""

import wandb

from retrain_squeeze.analysis import SqueezeAnalysis
from retrain_squeeze.settings import SqueezeSettings

RUN_NAME = "squeeze-analysis"
_COLUMNS = ["rank", "mean", "min", "max", "recommended"]
_TIMEOUT_S = 60.0  # the analysis has been printed by then


def track(analysis: SqueezeAnalysis, settings: SqueezeSettings) -> str:
    """Record an analysis as a Weights & Biases run.

    Args:
      analysis: the analysis to record.
      settings: adapter path, and project, entity, group, tags and name of the run.

    Returns:
      The address of the run; offline, the directory for `wandb sync`.

    Raises:
      Exception: any error of wandb or the network.
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
