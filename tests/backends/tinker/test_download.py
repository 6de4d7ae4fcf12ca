import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from retrain_backends.errors import RunError
from retrain_backends.tinker.download import download_adapter
from retrain_backends.tinker.saved import SavedTrainer
from retrain_backends.tokenizer import resolve_model
from retrain_test_support.tinker.failures import RequestKind

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

FILES = ("adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def policy(server, backend):
    """A backend that downloads, from a service that fails in nothing but downloads."""
    server.failures.kinds = frozenset({RequestKind.FILE})
    return backend({"backend.options": {"download_adapter": True}})


@pytest.mark.parametrize("status", [429, 502, 0])
def test_what_may_pass_is_tried_again(server, policy, tmp_path, status):
    server.failures.storm_status, server.failures.storm = status, 1
    assert policy.trainer.export_adapter(tmp_path) == str(tmp_path)
    assert server.failures.counts["storm"] == 1
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors"}


def test_what_cannot_pass_is_told_with_its_path(server, policy, tmp_path):
    server.failures.storm_status, server.failures.storm = 403, 9
    line = rf"^{server.url}: tinker://.* cannot be downloaded \(403\); `retrain --resume` continues"
    with pytest.raises(RunError, match=line):
        policy.trainer.export_adapter(tmp_path)
    assert server.failures.counts["storm"] == 1
    assert not list(tmp_path.iterdir())


def test_it_is_not_tried_for_ever(server, tmp_path):
    server.failures.storm_status, server.failures.storm = 503, 9
    url = f"{server.url}/api/v1/files/a/b/c/d/e?signature=hush"
    with pytest.raises(
        RunError, match=r"adapter_config\.json cannot be downloaded \(503\)"
    ) as told:
        download_adapter({"adapter_config.json": url}, tmp_path, pauses_s=(0.0, 0.0))
    assert "hush" not in str(told.value)
    assert server.failures.counts["storm"] == 3


class Bigram(torch.nn.Module):
    """The base model of the service, in PyTorch."""

    def __init__(self, policy):
        super().__init__()
        size = policy.vocabulary
        self.lm_head = torch.nn.Linear(size, size, bias=False)
        self.lm_head.weight.data = torch.tensor(policy.logits(np.arange(size), None).T).float()

    def forward(self, tokens):
        return self.lm_head(torch.nn.functional.one_hot(tokens, len(self.lm_head.weight)).float())

    def prepare_inputs_for_generation(self):
        """PEFT asks for the method of a language model."""


def logprobs(model, prompt, completion):
    """The log-probs that a model gives the tokens of a completion after its prompt."""
    tokens = torch.tensor([*prompt, *completion])
    with torch.no_grad():
        table = model(tokens[:-1]).log_softmax(-1)
    return table[range(len(prompt) - 1, len(tokens) - 1), completion].tolist()


@pytest.mark.parametrize("named", [("lm_head",), None, "all-linear"])
def test_peft_loads_the_policy_that_was_saved(
    server, policy, prompts, sampling, to_batch, tmp_path, named
):
    server.behaviour.target_modules = named
    for step in range(3):
        policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts), step))
    policy.trainer.save(tmp_path)
    saved = SavedTrainer.read(tmp_path).reference
    policy.trainer.export_adapter(tmp_path)
    adapted = peft.PeftModel.from_pretrained(Bigram(server.policy), tmp_path)
    for prompt, completion, expected in zip(
        saved.prompts, saved.completions, saved.logprobs, strict=True
    ):
        assert logprobs(adapted.base_model, prompt, completion) == pytest.approx(expected, abs=1e-5)
    assert saved.distance([np.zeros(len(row)) for row in saved.logprobs]) > 0


@pytest.fixture
def files(tmp_path):
    """A web server for the files in a new directory: the directory and its address."""
    directory = tmp_path / "served"
    directory.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield directory, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("archived", [False, True])
def test_peft_loads_every_module_of_an_adapter_whose_configuration_names_none(
    files, tmp_path, archived
):
    directory, url = files
    source, tokens = resolve_model("builtin:tiny-arithmetic"), torch.tensor([[1, 4, 22, 7]])
    base = transformers.AutoModelForCausalLM.from_pretrained(source)
    config = peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapted = peft.get_peft_model(base, config)
    adapted.save_pretrained(directory)
    expected = adapted(tokens).logits
    settings = json.loads((directory / FILES[0]).read_text("utf-8"))
    (directory / FILES[0]).write_text(json.dumps({**settings, "target_modules": None}))
    (tmp_path / "adapter").mkdir()
    if archived:
        with tarfile.open(directory / "all.tar", "w") as archive:
            for name in FILES:
                archive.add(directory / name, name)
    urls = {"": f"{url}/all.tar"} if archived else {name: f"{url}/{name}" for name in FILES}
    download_adapter(urls, tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(source)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    assert torch.equal(loaded(tokens).logits, expected)


@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_no_member_of_an_archive_lands_outside(files, tmp_path, name):
    directory, url = files
    with tarfile.open(directory / "all.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    (tmp_path / "adapter").mkdir()
    with pytest.raises(RunError, match=r"names a file of the adapter `.*evil`, outside of it"):
        download_adapter({"": f"{url}/all.tar"}, tmp_path / "adapter")
    assert not list(tmp_path.rglob("evil"))
