"""The dialect of MAX against what `scripts/record_max.py` has recorded of a real server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from retrain_backends.engines.dialect import Asked
from retrain_backends.engines.max import MaxDialect
from retrain_backends.errors import RunError
from retrain_backends.types import SamplingParams

RECORDED = json.loads((Path(__file__).parent / "recorded" / "max.json").read_text("utf-8"))
EXCHANGES = RECORDED["exchanges"]


def no_texts(texts):
    raise AssertionError(f"{texts} instead of ids")


class Replay(BaseHTTPRequestHandler):
    """Answers as MAX has answered to a request for the same path."""

    def do_GET(self):
        self.send({"data": [{"id": "tiny-llama", "max_model_len": 256}]}, 200)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        for known in EXCHANGES.values():
            if known["path"] == self.path:
                return self.send(known["answer"], known["status"])
        return self.send({"detail": "Not Found"}, 404)

    def send(self, answer, status):
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def replay_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Replay) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (
            "ids",
            Asked([1, 4, 22, 40, 33, 41, 54], 1, 16, SamplingParams(0.7, ()), "tiny-llama", 11),
        ),
        ("text", Asked("What is 1+2?", 1, 8, SamplingParams(0.7, ()), "tiny-llama", 11)),
    ],
)
def test_the_recorded_requests_are_those_of_the_dialect(name, asked):
    call = MaxDialect().completion(asked)
    assert (call.path, call.body) == (EXCHANGES[name]["path"], EXCHANGES[name]["body"])


@pytest.mark.parametrize("name", ["ids", "text", "stop"])
def test_answers_have_ids_and_raw_log_probs(name):
    known = EXCHANGES[name]
    [row] = MaxDialect().completions(known["answer"], no_texts)
    assert row.tokens_T.tolist() == known["answer"]["choices"][0]["token_ids"]
    assert row.logprobs_T == pytest.approx(known["teacher_forced"][0], abs=1e-4)
    assert MaxDialect().prompt_length(known["answer"]) == 7


def test_completions_end_with_a_stop_token():
    known = EXCHANGES["stop"]
    [row] = MaxDialect().completions(known["answer"], no_texts)
    assert row.stop_reason == "stop"
    assert [t in known["body"]["stop_token_ids"] for t in row.tokens_T].index(True) + 1 == len(
        row.tokens_T
    )
    [full] = MaxDialect().completions(EXCHANGES["ids"]["answer"], no_texts)
    assert (full.stop_reason, len(full.tokens_T)) == ("length", 16)


def test_adapters_need_a_gpu(backend, case, replay_url):
    policy = backend(**{"inference.engine": "max", "inference.url": replay_url})
    line = (
        rf"^{replay_url}/v1/load_lora_adapter answers 501: LoRA functionality is not enabled .*:"
        " the server must be started on a GPU, with --enable-lora"
    )
    with pytest.raises(RunError, match=line):
        case.sample(policy)
