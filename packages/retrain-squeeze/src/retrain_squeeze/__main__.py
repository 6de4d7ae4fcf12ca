"""`python -m retrain_squeeze ADAPTER [options]`: the command of this package alone.

The options are the fields of `SqueezeSettings`, parsed with argparse, because the package depends
on no command-line library. `retrain squeeze` also reads TOML files.

Exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted.
"""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import fields
from functools import partial

from retrain_squeeze.errors import SqueezeConfigError, SqueezeError
from retrain_squeeze.extras import load_part
from retrain_squeeze.settings import SqueezeSettings

_EPILOG = """\
examples:
  %(prog)s DIR                      which rank is sufficient?
  %(prog)s DIR --output-path small  write the adapter at that rank
  %(prog)s DIR --json               the figures for a program

exit codes: 0 done, 1 failed, 2 wrong input, 130 interrupted
"""


def main(arguments: Sequence[str]) -> int:
    """Run the analysis that the arguments describe, and return the exit code."""
    given = vars(_parser().parse_args(arguments))
    as_json = given.pop("json")
    settings = SqueezeSettings(**given)
    try:
        if lines := [f"{_written(name)} {text}" for name, text in settings.problems()]:
            raise SqueezeConfigError(*lines)
        # Imported by name, so that mistakes are reported before the slow imports.
        load_part("retrain_squeeze.run:run_squeeze", "this command")(settings, as_json=as_json)
    except SqueezeError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - a command line
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m retrain_squeeze",
        usage="%(prog)s ADAPTER [options]",
        description="LoRA-Squeeze: find the rank that a trained adapter needs, and compress it.",
        epilog=_EPILOG,
        formatter_class=partial(RawDescriptionHelpFormatter, max_help_position=32),
        allow_abbrev=False,
    )
    parser.add_argument(
        "adapter_path", metavar="ADAPTER", help="a PEFT directory or a tinker:// path"
    )
    for setting in fields(SqueezeSettings)[1:]:
        text, default = setting.metadata["help"], setting.default
        if isinstance(default, bool):
            parser.add_argument(_written(setting.name), action="store_true", help=text)
            continue
        kind = _ranks if isinstance(default, tuple) else type(default)
        metavar = {_ranks: "N,N", int: "N", float: "SHARE"}.get(kind, "TEXT")
        shown = f"{text} [{default}]" if default else text
        parser.add_argument(
            _written(setting.name), type=kind, default=default, metavar=metavar, help=shown
        )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    return parser


def _ranks(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.strip("[]").split(",")))


def _written(setting: str) -> str:
    return "ADAPTER" if setting == "adapter_path" else f"--{setting.replace('_', '-')}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
