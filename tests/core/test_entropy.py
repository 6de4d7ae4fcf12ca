import numpy as np
import pytest

from retrain_core import entropy_stats, shannon_entropy, surprisal, uncertainty


@pytest.mark.golden("token_transforms", "uncertainty")
def test_golden_uncertainty(case, check, numbers):
    inputs, kind = case["inputs"], case["params"]["kind"]
    entropy = inputs["entropies"]
    if entropy is None and inputs["distributions"] is not None:
        entropy = shannon_entropy(inputs["distributions"])
    check(case, uncertainty(kind, numbers(inputs["logprobs"]), entropy))


@pytest.mark.golden("token_transforms", "entropy_stats")
def test_golden_entropy_stats(case, check, numbers):
    execution, planning = numbers(case["inputs"]["exec"]), numbers(case["inputs"]["plan"])
    mask = np.repeat([False, True], [execution.size, planning.size])
    check(case, entropy_stats(np.concatenate([execution, planning]), mask)._asdict())


def test_shannon_entropy_needs_entropies_and_names_the_engine_that_reports_them():
    with pytest.raises(ValueError, match="inference engine `pytorch`, which reports it"):
        uncertainty("shannon_entropy", [-0.5])


def test_unknown_kind_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean `surprisal`"):
        uncertainty("suprisal", [-0.5])


def test_surprisal_leaves_its_input_alone():
    logprobs = np.array([-0.5, -90.0])
    np.testing.assert_array_equal(surprisal(logprobs), [0.5, 50.0])
    np.testing.assert_array_equal(logprobs, [-0.5, -90.0])


def test_a_mask_of_numbers_is_refused():
    with pytest.raises(ValueError, match="planning must be boolean"):
        entropy_stats([1.0, 2.0], [0, 1])


def test_statistics_of_equal_values_have_no_variance():
    stats = entropy_stats(np.full(1000, 0.1), np.arange(1000) < 300)
    assert stats.exec_var < 1e-30
    assert stats.plan_var < 1e-30
    assert (stats.exec_count, stats.plan_count) == (700, 300)
