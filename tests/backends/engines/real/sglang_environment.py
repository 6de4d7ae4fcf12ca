"""SGLang on the CPU, in an environment of its own.

The package is built for CUDA. Here it runs with PyTorch's own kernels: what it imports from its
CUDA kernels is a stub, and pinned memory, which needs a GPU, is left out.
"""

import re
import shutil

from retrain_test_support.environments import environment, uv

SGLANG = "0.5.23"
TORCHVISION = "0.28.0"
# What it imports on the way to its server; the package itself requires CUDA builds.
REQUIREMENTS = (
    *("torch==2.13.0", "transformers==5.19.0", "xgrammar==0.2.7", "llguidance<2"),
    *("aiohttp", "anthropic", "apache-tvm-ffi==0.1.11", "blobfile==3.0.0", "compressed-tensors"),
    *("datasets", "distro", "easydict", "einops", "fastapi", "gguf", "interegular", "IPython"),
    *("kernels>=0.14.1,<0.15", "mistral_common>=1.11.5", "msgspec", "ninja", "numba==0.65.1"),
    *("nvidia-ml-py", "openai==2.8.0", "openai-harmony==0.0.4", "orjson", "outlines==0.1.11"),
    *("packaging", "partial_json_parser", "pillow", "prometheus-client", "psutil", "py-spy"),
    *("pybase64", "pydantic", "python-multipart", "pyzmq", "regex", "requests", "scipy"),
    *("sentencepiece==0.2.1", "setproctitle", "soundfile", "tiktoken", "torch_memory_saver"),
    *("uvicorn", "uvloop", "watchfiles", "xxhash", "zstandard"),
)
STUB = '''"""In the place of SGLang's CUDA kernels."""

__version__ = "0.4.10"


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)

    def kernel(*arguments, **options):
        raise NotImplementedError(f"no kernel {name} on the CPU")

    return kernel
'''


def sglang_python(date):
    """The Python of the environment."""
    return environment("sglang", REQUIREMENTS, SGLANG, TORCHVISION, STUB, date=date, finish=mend)


def mend(place):
    """Install SGLang beside what it requires, and take out what needs CUDA."""
    python = str(place / "bin" / "python")
    packages = [f"sglang=={SGLANG}", f"torchvision=={TORCHVISION}"]
    uv("pip", "install", "--no-deps", "--no-config", "--python", python, *packages)
    [site] = (place / "lib").glob("python*/site-packages")
    change(site / "torchvision" / "__init__.py", r"(?m)^ *_meta_registrations,$", "")
    for file in (site / "sglang" / "srt" / "lora").rglob("*.py"):
        change(file, r"pin_memory=True|\.pin_memory\(\)", lambda found: PINNED[found[0]])
    (site / "sgl_kernel").mkdir()
    (site / "sgl_kernel" / "__init__.py").write_text(STUB)


PINNED = {"pin_memory=True": "pin_memory=False", ".pin_memory()": ""}


def change(file, pattern, replacement):
    """Replace what matches, in a copy: the file may be a link into the cache of uv."""
    text = file.read_text("utf-8")
    changed = re.sub(pattern, replacement, text)
    if changed != text:
        copy = file.with_suffix(".copy")
        copy.write_text(changed, "utf-8")
        shutil.move(copy, file)
