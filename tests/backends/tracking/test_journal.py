import json

from retrain_backends.tracking.journal import Journal, read_evaluations, read_metrics, to_json


def test_each_step_is_on_disk_at_once(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write(
            {"step": 0, "loss": 0.5}, {"step": 0}, [{"step": 0, "completion": "a\nb"}] * 2
        )
        assert read_metrics(tmp_path) == [{"step": 0, "loss": 0.5}]
        journal.write({"step": 1, "loss": None}, {"step": 1}, [])
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 1]
    assert (tmp_path / "emergence/steps.jsonl").read_text() == '{"step": 0}\n{"step": 1}\n'
    assert len((tmp_path / "emergence/generations.jsonl").read_text().splitlines()) == 2


def test_no_step_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_an_evaluation_is_a_line_and_a_file_of_its_questions(tmp_path):
    assert read_evaluations(tmp_path) == []
    with Journal(tmp_path) as journal:
        assert not (tmp_path / "eval.jsonl").exists()
        journal.write_evaluation(0, {"step": 0, "accuracy": 0.5}, [{"index": 3}, {"index": 4}])
        journal.write_evaluation(20, {"step": 20, "accuracy": None}, [{"index": 3}])
        journal.write_evaluation(20, {"step": 20, "accuracy": 1.0}, [{"index": 5}])
    assert [row["accuracy"] for row in read_evaluations(tmp_path)] == [0.5, None, 1.0]
    assert (tmp_path / "eval/step_000000.jsonl").read_text() == '{"index": 3}\n{"index": 4}\n'
    assert (tmp_path / "eval/step_000020.jsonl").read_text() == '{"index": 5}\n'


def test_keys_keep_their_order_and_non_finite_numbers_are_null():
    row = {"z": float("nan"), "a": float("inf"), "m": 0.1, "text": "é"}
    assert to_json(row) == '{"z": null, "a": null, "m": 0.1, "text": "é"}'


def test_any_text_can_be_written(tmp_path):
    text = 'half of a pair \udc80, a line\u2028separator, a quote " and \\boxed{1}'
    with Journal(tmp_path) as journal:
        journal.write({"step": 0}, {"step": 0}, [{"completion": text}])
    [line] = (tmp_path / "emergence/generations.jsonl").read_text("utf-8").split("\n")[:-1]
    assert json.loads(line) == {"completion": text}
