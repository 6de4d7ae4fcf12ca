from pathlib import Path

import numpy as np
import pytest

from retrain_squeeze.analysis import ModuleCurve, RankVariance, SqueezeAnalysis
from retrain_squeeze.picture import retained_by_rank, save_picture

FULL = ModuleCurve("q", (8, 8), 4, 1.0, np.array([0.5, 0.8, 0.9, 1.0]))
LOW = ModuleCurve("v", (8, 8), 2, 1.0, np.array([0.6, 1.0]))


def analysis(*modules, ranks=(1, 2, 4), recommended=2):
    table = tuple(RankVariance(rank, 0.9, 0.8, 1.0) for rank in ranks)
    return SqueezeAnalysis(Path("a"), 4, 0.85, table, recommended, modules)


def test_a_module_keeps_all_from_its_own_rank_on():
    kept = retained_by_rank((FULL, LOW), 4)
    assert kept.tolist() == [[0.5, 0.8, 0.9, 1.0], [0.6, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    "found",
    [
        analysis(FULL, LOW),
        analysis(FULL),
        analysis(FULL, ranks=(3,), recommended=4),  # the recommendation stands in no row
        SqueezeAnalysis(Path("a"), 1, 1.0, (RankVariance(1, 1, 1, 1),), 1, (LOW,)),
    ],
)
def test_it_is_a_png(found, tmp_path):
    save_picture(found, "a title with a $ in it", tmp_path / "squeeze.png")
    assert (tmp_path / "squeeze.png").read_bytes().startswith(b"\x89PNG\r\n")
