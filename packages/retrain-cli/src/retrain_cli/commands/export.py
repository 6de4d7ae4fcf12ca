"""`retrain export ADAPTER --merge DIR`: write a trained adapter as a model of its own."""

from pathlib import Path

import click

from retrain_cli.command import Command

_SECTIONS = {
    "Arguments": (("ADAPTER", "a PEFT directory, or the directory of a run that has finished"),),
    "Examples": (
        ("retrain export logs/quickstart --merge my-model", "the trained model, whole"),
        ("vllm serve my-model", "serve it"),
    ),
}


@click.command(cls=Command, sections=_SECTIONS)
@click.argument("adapter", type=click.Path(path_type=Path))
@click.option(
    "--merge",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="Write the base model with the adapter in its weights, and the tokenizer.",
)
@click.option(
    "--base",
    metavar="MODEL",
    default="",
    help="The base model: a path or a name. [the one that the adapter names]",
)
def export(adapter: Path, merge: Path, base: str) -> None:
    """Write a trained adapter as a model of its own."""
    from retrain_backends.train.export import export_merged

    target = export_merged(adapter, merge, base)
    click.echo(f"model: {target} (for `vllm serve`, AutoModelForCausalLM and the like)")
