import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from safetensors.numpy import save_file


class Served(ThreadingHTTPServer):
    """A web server on this machine: `answers` holds a body, or a status, for every path."""

    daemon_threads = True

    def __init__(self):
        self.answers = {}
        self.asked = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.path)
        answer = self.server.answers.get(self.path.partition("?")[0], 404)
        status = answer if isinstance(answer, int) else 200
        body = b"{}" if isinstance(answer, int) else answer
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A running `Served`."""
    with Served() as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.02,))
        thread.start()
        yield served
        served.shutdown()
        thread.join()


@pytest.fixture
def save_adapter(tmp_path):
    """`save_adapter(tensors, **config)` writes a new PEFT directory and returns its path."""

    def save(tensors, **config):
        path = tmp_path / f"adapter{len(list(tmp_path.iterdir()))}"
        path.mkdir()
        save_file(tensors, path / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **config}
        (path / "adapter_config.json").write_text(json.dumps(config))
        return path

    return save


@pytest.fixture
def factors():
    """`factors({module: (out, in)}, rank)`: random A and B under PEFT's names; B decays."""

    def draw(shapes, rank=4, seed=0, dtype=np.float32, decay=0.6):
        rng = np.random.default_rng(seed)
        tensors = {}
        for name, (rows, columns) in shapes.items():
            a = rng.standard_normal((rank, columns))
            b = rng.standard_normal((rows, rank)) * decay ** np.arange(rank)
            tensors[f"base_model.model.{name}.lora_A.weight"] = a.astype(dtype)
            tensors[f"base_model.model.{name}.lora_B.weight"] = b.astype(dtype)
        return tensors

    return draw


@pytest.fixture
def golden_adapter(save_adapter):
    """`golden_adapter(case)` writes the adapter of a golden case's recipe."""

    def save(case):
        recipe = case["inputs"]["recipe"]
        rng = np.random.default_rng(recipe["seed"])
        tensors = {}
        for layer in recipe["layers"]:
            rank, name = layer["rank"], f"base_model.model.{layer['name']}"
            a = rng.standard_normal((rank, layer["in_features"]))
            b = rng.standard_normal((layer["out_features"], rank))
            b *= layer["decay"] ** np.arange(rank) * layer["scale"]
            tensors[f"{name}.lora_A.weight"] = a.astype(np.float32)
            tensors[f"{name}.lora_B.weight"] = b.astype(np.float32)
        return save_adapter(tensors, r=rank, lora_alpha=recipe["lora_alpha"])

    return save
