"""A Tinker-API server that others wrote, and a client without torch, each in an environment."""

import json
import shutil
import threading
import tomllib
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from safetensors.torch import load_file, save_file

from retrain_backends.tokenizer import resolve_model
from retrain_test_support.environments import (
    INSTALLING_S,
    cache_directory,
    environment,
    free_port,
    running,
)

ROOT = Path(__file__).parents[4]
DATE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
SDK = "tinker==0.24.1"  # the newest that the server understands
HEALTHY_S = 180
# The server compiles for every number and length of sequences that it meets; these hold them few.
# Its slots for adapters become free again when their client has not been heard of for a minute.
COMPUTING = {
    "max_lora_adapters": 16,
    "max_lora_rank": 8,
    "train_micro_batch_size": 8,
    "sample_max_num_sequences": 16,
}


@pytest.fixture(scope="session")
def server_python():
    torch = version("torch").partition("+")[0]
    requirements = ["skyrl[tinker,jax]==0.3.0", SDK, f"torch=={torch}"]
    return environment("skyrl", requirements, date=DATE)


@pytest.fixture(scope="session")
def client_python():
    """What a machine needs that trains on a service only, from this checkout."""
    parts = {"core": "", "backends": "[tinker]", "squeeze": "", "campaign": ""}
    paths = {name: ROOT / "packages" / f"retrain-{name}" for name in parts}
    settings = [(path / "pyproject.toml").read_text("utf-8") for path in paths.values()]
    editable = [text for name, path in paths.items() for text in ("-e", f"{path}{parts[name]}")]
    return environment("client", [*editable, SDK], *settings, date=DATE)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The model that comes with retrain, in float32, so that log-probs can be compared closely."""
    source = Path(resolve_model("builtin:tiny-arithmetic"))
    target = tmp_path_factory.mktemp("model")
    for file in source.glob("*"):
        shutil.copy(file, target)
    weights = load_file(source / "model.safetensors")
    floats = {name: tensor.float() for name, tensor in weights.items()}
    save_file(floats, target / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text("utf-8"))
    (target / "config.json").write_text(json.dumps({**config, "dtype": "float32"}))
    return target


@dataclass(frozen=True)
class TinkerServer:
    url: str
    database: Path  # of its requests, SQLite
    log: Path


@pytest.fixture(scope="module")
def tinker_server(server_python, model, tmp_path_factory):
    """The server, on a port of its own; its engine still compiles for a while when it answers."""
    directory = tmp_path_factory.mktemp("server")
    database = directory / "requests.db"
    settings = {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache_directory() / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = {
        "port": str(port),
        "base-model": str(model),
        "backend": "jax",
        "backend-config": json.dumps(COMPUTING),
        "session-timeout-sec": "60",
        "session-cleanup-interval-sec": "5",
        "checkpoints-base": str(directory / "checkpoints"),
        "database-url": f"sqlite:///{database}",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    command = [server_python, Path(__file__).with_name("launch_skyrl.py"), *arguments]
    health = f"{url}/api/v1/healthz"
    with running(command, health, directory, settings, HEALTHY_S) as log:
        yield TinkerServer(url, database, log)


class Relay(ThreadingHTTPServer):
    """Passes requests on to a server, and loses the answer of one `optim_step`.

    `loses` is the number of that request, from 1.
    """

    daemon_threads = True

    def __init__(self, url, loses):
        super().__init__(("127.0.0.1", 0), RelayHandler)
        self.server_url, self.loses, self.steps = url, loses, 0
        self.url = f"http://127.0.0.1:{self.server_port}"


class RelayHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = f"{self.server.server_url}{self.path}"
        answer = httpx.request(
            self.command, url, content=body, headers=dict(self.headers), timeout=INSTALLING_S
        )
        if self.path.endswith("/optim_step"):
            self.server.steps += 1
            if self.server.steps == self.server.loses:
                self.close_connection = True
                return
        self.send_response(answer.status_code)
        for name in ("Content-Type", "Location", "Expires"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def relay(tinker_server):
    """A relay to the server that loses the answer of the third optimiser step."""
    with Relay(tinker_server.url, loses=3) as relayed:
        thread = threading.Thread(target=relayed.serve_forever, args=(0.05,))
        thread.start()
        yield relayed
        relayed.shutdown()
        thread.join()
