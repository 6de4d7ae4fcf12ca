import json

from retrain_backends.tracking.trackers import Tracking


class Recorder:
    """Keeps what it is told."""

    def __init__(self):
        self.logged = []
        self.closed = False

    def log(self, step, figures):
        self.logged.append((step, sorted(figures)))

    def close(self):
        self.closed = True


def row(step: int) -> dict[str, object]:
    return {"step": step, "condition": "a+b", "loss": 0.5, "correct_rate": None}


def evaluation(step: int) -> dict[str, object]:
    return {"step": step, "condition": "a+b", "accuracy": 0.5}


TRAINED, EVALUATED, BOTH = ["train/loss"], ["eval/accuracy"], ["eval/accuracy", "train/loss"]


def test_each_step_is_told_once_with_its_evaluation():
    one, two = Recorder(), Recorder()
    with Tracking([one, two], {0, 2}) as tracking:
        tracking.evaluation(evaluation(0))
        tracking.step(row(0))
        tracking.step(row(1))
        assert len(one.logged) == 2  # the second step waits for its evaluation
        tracking.evaluation(evaluation(2))
        tracking.step(row(2))
    assert one.logged == [(0, EVALUATED), (1, TRAINED), (2, BOTH), (3, TRAINED)]
    assert (two.logged, one.closed, two.closed) == (one.logged, True, True)


def test_what_waits_at_the_end_comes_when_the_run_is_resumed(tmp_path):
    rows = [row(0), row(1)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "eval.jsonl").write_text(json.dumps(evaluation(0)) + "\n")
    before, after = Recorder(), Recorder()
    with Tracking([before], {0, 2}) as tracking:
        tracking.evaluation(evaluation(0))
        tracking.step(row(0))
        tracking.step(row(1))
    assert before.logged == [(0, EVALUATED), (1, TRAINED)]
    with Tracking([after], {0, 2}) as tracking:
        tracking.replay(tmp_path)
        tracking.evaluation(evaluation(2))
    assert after.logged == [(0, EVALUATED), (1, TRAINED), (2, BOTH)]


def test_evaluations_that_were_made_under_other_settings_are_replayed_too(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row(s)) + "\n" for s in range(3)))
    (tmp_path / "eval.jsonl").write_text(json.dumps(evaluation(2)) + "\n")
    recorder = Recorder()
    Tracking([recorder], set()).replay(tmp_path)
    assert recorder.logged == [(1, TRAINED), (2, BOTH), (3, TRAINED)]


def test_without_trackers_nothing_is_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("not json\n")
    Tracking([], set()).replay(tmp_path)
