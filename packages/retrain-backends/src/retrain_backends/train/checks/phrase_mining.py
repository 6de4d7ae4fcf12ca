"""Mines strategic grams from the correct completions of a run."""

import json
from pathlib import Path

from retrain_backends.atomic import write_atomically
from retrain_backends.config import PlanningConfig
from retrain_backends.errors import DataError
from retrain_backends.planning.embedding import load_sentence_model
from retrain_backends.planning.mining import Mined, mine_phrases
from retrain_backends.tracking.journal import GENERATIONS_FILE, read_rows
from retrain_core.bookkeeping import CORRECT_ABOVE

GRAMS_FILE = "strategic_grams.json"


def mine_run(directory: Path, planning: PlanningConfig, output: Path | None = None) -> Mined:
    """Mine phrases from a run, and write them as a list for `logging.strategic_grams`.

    Args:
      directory: of the run.
      planning: has the embedding model and its device.
      output: the file to write; default: `strategic_grams.json` in the directory.

    Raises:
      DataError: the directory has no completions, no correct ones, or no phrase recurs.
      RetrainError: the embedding model cannot be loaded.
    """
    answers = _correct_answers(directory / GENERATIONS_FILE)
    embed = load_sentence_model(planning.model, planning.device, "retrain planning mine")
    mined = mine_phrases(answers, embed)
    if not mined.phrases:
        raise DataError(
            f"`{directory}`: no phrase of three words is in two of its {mined.answers} different"
            " correct completions; train for longer, or with longer completions"
        )
    text = json.dumps(mined.phrases, indent=1, ensure_ascii=False) + "\n"
    write_atomically(output or directory / GRAMS_FILE, text)
    return mined


def _correct_answers(file: Path) -> list[str]:
    if not file.is_file():
        raise DataError(f"there is no `{file}`; name the directory of a run that has trained")
    # A border: the file of a run that may still be writing it.
    try:
        rows = [(row["completion"], row["reward"]) for row in read_rows(file)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{file}` has a line that is no completion of a run: {error}") from error
    answers = [text for text, reward in rows if reward is not None and reward > CORRECT_ABOVE]
    if not answers:
        raise DataError(
            f"none of the {len(rows)} completions in `{file}` has a reward above {CORRECT_ABOVE}:"
            " phrases are mined from correct ones"
        )
    return answers
