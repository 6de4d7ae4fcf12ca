"""Each case in a process of its own, because the client of the hub reads the environment once."""

import os
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

SCRIPT = """
import os
from retrain_backends.hub_access import prefer_cache_if_unreachable
prefer_cache_if_unreachable()
print(os.environ.get("HF_HUB_OFFLINE"))
"""


class Refuses(BaseHTTPRequestHandler):
    """Answers every request with 404."""

    def do_HEAD(self):  # the name that `http.server` requires
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture
def answering():
    """The address of a hub that answers."""
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent():
    """The address of a port at which nothing listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


def run(arguments, endpoint, **environment):
    ours = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**ours, "HF_ENDPOINT": endpoint, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_cache_is_preferred_if_the_hub_does_not_answer(silent):
    assert run(["-c", SCRIPT], silent).stdout == "1\n"


def test_the_hub_is_used_if_it_answers(answering):
    assert run(["-c", SCRIPT], answering).stdout == "None\n"


def test_a_choice_of_the_user_stays(silent):
    assert run(["-c", SCRIPT], silent, HF_HUB_OFFLINE="0").stdout == "0\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--data-source", "hf", "--data-path", "some/data:main"], "data.path `some/data:main`"),
        (["--data-source", "math"], "data.source `math`"),
        (["--data-source", "arithmetic", "--model", "some/model"], "model.model: `some/model`"),
    ],
)
def test_a_run_without_a_network_ends_in_one_line(arguments, problem, silent, tmp_path):
    command = ["-m", "retrain_backends", "--model", "builtin:tiny-arithmetic", *arguments]
    ended = run([*command, "--log-dir", str(tmp_path / "run")], silent, HF_HOME=str(tmp_path))
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"error: {problem}")
    assert f"is not in the local cache, and {silent} cannot be reached" in line
