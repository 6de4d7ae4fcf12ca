from pathlib import Path

import pytest

pytest.importorskip("torch")

from retrain_backends.config import load_config
from retrain_backends.tokenizer import resolve_model
from retrain_backends.train.checks.doctor import examine
from retrain_test_support.inference.server import InferenceServer

QUICKSTART = Path(__file__).parents[4] / "examples" / "quickstart.toml"
MODEL = str(resolve_model("builtin:tiny-arithmetic"))


@pytest.fixture
def server():
    with InferenceServer(MODEL) as running:
        yield running


def found(**settings):
    """The findings by label, and whether all of them work."""
    config = load_config(QUICKSTART, {"eval.every": 0, "training.max_tokens": 12} | settings)
    findings = list(examine(config))
    return {finding.label: finding.text for finding in findings}, all(f.works for f in findings)


def test_what_works_without_a_server():
    texts, works = found()
    assert works
    assert texts["log-probs"].startswith("pytorch: tempered, ")
    assert "tokens/s" in texts["sampling"]
    assert "hand-over" not in texts
    assert texts["adapter"] == "the engine samples from the adapter that is trained"


def test_what_works_with_a_server(server):
    texts, works = found(**{"inference.engine": "vllm", "inference.url": server.url})
    assert works
    assert texts["server"] == f"{server.url} serves `model`, 4,096 tokens"
    assert "to load the adapter" in texts["hand-over"]
    assert server.log.loaded


@pytest.mark.parametrize(
    ("settings", "label", "text"),
    [
        ({"inference.url": "http://localhost:9"}, "start it", "vllm serve"),
        ({"data.source": "jsonl", "data.path": "absent.jsonl"}, "failed", "absent.jsonl"),
        ({"algorithm.uncertainty_kind": "shannon_entropy"}, "settings", "use `surprisal`"),
    ],
)
def test_the_last_finding_is_what_prevents_a_run(settings, label, text):
    texts, works = found(**{"inference.engine": "vllm", "inference.url": ""} | settings)
    assert not works
    assert text in texts[label]
    assert "sampling" not in texts


def test_an_engine_that_does_not_use_the_adapter(server):
    server.behaviour.bound = False
    texts, works = found(**{"inference.engine": "vllm", "inference.url": server.url})
    assert not works
    assert "samples from the model without an adapter" in texts["failed"]


def test_one_server_of_two_is_enough(server):
    urls = [server.url, "http://localhost:9"]
    _, works = found(**{"inference.engine": "vllm", "inference.url": urls})
    assert works
