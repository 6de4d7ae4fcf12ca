import json
import threading
from contextlib import ExitStack, chdir, closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from retrain_backends.config import RewardConfig
from retrain_backends.rewards import build_reward
from retrain_backends.types import Example, Rollout

USER_MODULE = """
import asyncio, os, signal, subprocess, sys, threading, time

kept = []

def misbehave(response, reference):
    match response:
        case "raises": raise ZeroDivisionError("no such thing")
        case "none": return None
        case "nan": return float("nan")
        case "infinite": return float("inf")
        case "text": return "1.0"
        case "list": return [1.0]
        case "sleeps": time.sleep(10**6)
        case "spins":
            while True: pass
        case "computes": return 9**9**9**9
        case "exits": os._exit(3)
        case "leaves": sys.exit(0)
        case "closes": os.closerange(0, 100)
        case "allocates":
            while True: kept.append([0] * 10**6)
        case "forks": os.fork()
        case "stops": os.kill(os.getppid(), signal.SIGSTOP)
        case "hoards": kept.append([0] * (70 * 2**20 // 8))
        case "writes":
            for descriptor in range(3, 30):
                try: os.write(descriptor, b'{"id": 1, "value": 7}\\n' * 3)
                except OSError: pass
        case "prints":
            print("printed", flush=True)
            print("printed", file=sys.stderr, flush=True)
            os.write(1, b'{"id": 1}\\n')
            os.write(2, b"printed")
            subprocess.run([sys.executable, "-c", "print('printed')"], check=True)
        case "torch": return float("torch" in sys.modules)
        case "pid": return float(os.getpid())
    return float(len(response))

async def later(response, reference):
    await asyncio.sleep(0)
    return response == reference

async def never(response, reference):
    await asyncio.Event().wait()

def by_name(response, *, question, level="", metadata):
    return float((response, question, level, metadata) == ("r", "q", "5", {"level": "5"}))

def everything(**fields):
    named = ["level", "messages", "metadata", "question", "reference", "response"]
    return float(sorted(fields) == named)

def swapped(reference, response):
    return float((response, reference) == ("r", "7"))

def other_names(completion, truth, strict=True):
    return float((completion, truth, strict) == ("r", "7", True))

def by_place(x, y, /):
    return float((x, y) == ("r", "7"))

def asks_for_more(response, subject):
    return 1.0

def asks_for_much(response, subject, topic):
    return 1.0

number = 3
"""

# A function with a time limit of its own.
LIMITED_MODULE = """
import signal, time

def stop(number, frame):
    raise TimeoutError

signal.signal(signal.SIGALRM, stop)

def score(response, reference):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        time.sleep(10**6)
    except TimeoutError:
        return 0.5
"""


@pytest.fixture(scope="session")
def user_module(tmp_path_factory):
    """The directory of `mine.py`, a module of the user's functions."""
    directory = tmp_path_factory.mktemp("user")
    (directory / "mine.py").write_text(USER_MODULE)
    (directory / "limited.py").write_text(LIMITED_MODULE)
    (directory / "broken.py").write_text("1 / 0")
    (directory / "leaving.py").write_text("import os; os._exit(5)")
    return directory


@pytest.fixture
def reward(user_module):
    """Makes rewards in the directory of the user's module, and closes them."""
    with chdir(user_module), ExitStack() as stack:

        def make(**settings):
            settings = {"max_failure_rate": 1.0, **settings}
            return stack.enter_context(closing(build_reward(RewardConfig(**settings))))

        yield make


@pytest.fixture(scope="session")
def to_items():
    """Responses as items with one reference."""

    def to_items(*responses, reference="7", question="q", **metadata):
        return [Rollout(Example(question, reference, metadata), text) for text in responses]

    return to_items


def said(content):
    """A chat completion, as an endpoint sends it."""
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content},
            }
        ],
    }


# Question -> status, body and headers of the answer.
FAILURES = {
    "is busy": (429, {"error": {"message": "slow down"}}, {"retry-after-ms": "1"}),
    "is busy once": (429, {"error": {"message": "slow down"}}, {"retry-after-ms": "1"}),
    "fails": (500, {"error": {"message": "oh no"}}, {"retry-after-ms": "1"}),
    "takes no options": (400, {"error": {"message": "unknown: response_format"}}, {}),
    "repeats": (400, {"error": {"message": "see http://_:secret@localhost/v1?api_key=secret"}}, {}),
    "garbage": (200, said("I like turtles."), {}),
    "garbage once": (200, said("I like turtles."), {}),
    "another format": (200, {"choices": 3}, {}),
}


class Endpoint(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint that does what the question says."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        shown = json.loads(request["messages"][-1]["content"])
        key, question = self.headers["Authorization"], shown["question"]
        self.server.seen.append({"key": key, **request, "shown": shown})
        again = question.endswith(" once") and self.server.count(question) > 1
        right = shown["student_answer"] == shown["reference_answer"]
        verdict = json.dumps({"reason": "so it is", "verdict": "yes" if right else "no"})
        if question == "hangs":
            self.server.ended.wait()
        elif question == "trickles":
            self.trickle()
        elif question == "refuses":
            self.answer(401, {"error": {"message": f"wrong key {key}"}})
        elif question == "a web page":
            self.send(200, b"<html>hello</html>", {"Content-Type": "text/html"})
        elif question == "broken json":
            self.send(200, b"{", {"Content-Type": "application/json"})
        elif question == "thinks aloud":
            self.answer(200, said(f"<think>{{well}}</think>\n```json\n{verdict}\n```"))
        elif question in FAILURES and not again and self.minds(question, request):
            self.answer(*FAILURES[question])
        else:
            self.answer(200, said(verdict))

    def minds(self, question, request):
        return question != "takes no options" or "response_format" in request

    def answer(self, status, body, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        self.send(status, json.dumps(body).encode(), headers)

    def send(self, status, body, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def trickle(self):
        """One byte now and then, so that no single read takes long."""
        self.send_response(200)
        self.end_headers()
        while not self.server.ended.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                return

    def log_message(self, *arguments):
        pass


class EndpointServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.seen = []
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def count(self, question):
        return sum(request["shown"]["question"] == question for request in self.seen)

    def handle_error(self, request, client_address):
        """Clients that have gone away are expected."""


@pytest.fixture
def endpoint():
    """A running endpoint; `seen` has the requests."""
    with EndpointServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()
