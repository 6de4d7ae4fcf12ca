import pytest

from retrain_backends.tracking.cut import problem_with_logs

ROWS = '{"step": 0}\n{"step": 1}\n'


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        (ROWS, ""),
        (ROWS + '{"st', ""),  # torn off after the length that counts
        (ROWS[:-1], "metrics.jsonl has no row that ends at byte"),
        (
            '{"stop": 0}\n{"step": 1}\n',
            "metrics.jsonl has a line that is not a row of a log (it",
        ),
        (
            'x"step": 0}\n{"step": 1}\n',
            "metrics.jsonl has a line that is not a row of a log (Exp",
        ),
        ("[]" + " " * 9 + '\n{"step": 1}\n', "metrics.jsonl has a line that is not a row of a log"),
    ],
)
def test_a_log_must_hold_rows_up_to_its_length(tmp_path, text, begins):
    (tmp_path / "metrics.jsonl").write_text(text)
    found = problem_with_logs(tmp_path, {"metrics.jsonl": len(ROWS)})
    assert found.startswith(begins)
    assert bool(found) == bool(begins)


def test_a_log_that_is_missing(tmp_path):
    assert problem_with_logs(tmp_path, {"eval.jsonl": 5}) == (
        "eval.jsonl cannot be read (No such file or directory)"
    )
