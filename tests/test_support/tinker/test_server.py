"""The service, seen through the official SDK."""

import io
import json
import tarfile
import urllib.request

import numpy as np
import pytest
import tinker
from safetensors.numpy import load as load_safetensors

from retrain_test_support.tinker.server import MODEL_NAME

PROMPT = [3, 14, 15]


def sampling(sdk, **changes):
    return sdk.types.SamplingParams(**{"max_tokens": 6, "seed": 7, "stop": []} | changes)


def adam(sdk, **changes):
    return sdk.types.AdamParams(**{"learning_rate": 1e-2, "eps": 1e-8} | changes)


def policy_data(sdk, sequences, advantages):
    """A training datum of every sample."""
    prefix = [0.0] * (len(PROMPT) - 1)
    return [
        sdk.datum(
            [*PROMPT, *row.tokens],
            logprobs=[*prefix, *row.logprobs],
            advantages=[*prefix, *[advantage] * len(row.tokens)],
        )
        for row, advantage in zip(sequences, advantages, strict=True)
    ]


def lesson(sdk, tokens=(1, 2, 3, 4)):
    """A datum of plain supervised learning."""
    return sdk.datum(list(tokens), weights=[1.0] * (len(tokens) - 1))


def train(sdk, trainer, data, loss_fn="cross_entropy", **changes):
    """One step; both requests are under way before either is waited for."""
    backward = trainer.forward_backward(data, loss_fn)
    step = trainer.optim_step(adam(sdk, **changes))
    return sdk.done(backward), sdk.done(step)


def test_capabilities_name_the_model(sdk, rest, service):
    client = rest if hasattr(rest, "get_server_capabilities") else service
    models = sdk.done(client.get_server_capabilities()).supported_models
    assert [model.model_name for model in models] == [MODEL_NAME]


SMALL = {"vocab_size": 19, "eos_token_id": 4, "max_position_embeddings": 32}


@pytest.mark.parametrize("server", [SMALL], indirect=True)
def test_a_model_directory_is_served_under_its_path(sdk, server, service, tmp_path):
    sampler = sdk.done(service.create_sampling_client(base_model=str(tmp_path)))
    params = sampling(sdk, max_tokens=29, stop=None)
    rows = sdk.done(sampler.sample(sdk.prompt(PROMPT), 8, params)).sequences
    assert max(max(row.tokens) for row in rows) < 19
    ended = [row for row in rows if row.stop_reason == "stop"]
    assert ended
    assert all(row.tokens[-1] == 4 for row in ended)
    with pytest.raises(tinker.RequestFailedError, match="max_tokens must be 1 to 29"):
        sdk.done(sampler.sample(sdk.prompt(PROMPT), 1, sampling(sdk, max_tokens=30)))


def test_a_new_model_depends_on_its_seed(sdk, server, service):
    models = [
        sdk.done(service.create_lora_training_client(base_model=MODEL_NAME, rank=3, seed=seed))
        for seed in (1, 1, 2)
    ]
    digests = [server.digest(model.model_id) for model in models]
    assert digests[0] == digests[1] != digests[2]
    info = models[0].get_info()
    assert (info.lora_rank, info.model_data.model_name) == (3, MODEL_NAME)


def test_samples_repeat_and_their_streams_are_apart(sdk, service):
    sampler = sdk.done(service.create_sampling_client(base_model=MODEL_NAME))
    four = sdk.done(sampler.sample(sdk.prompt(PROMPT), 4, sampling(sdk))).sequences
    two = sdk.done(sampler.sample(sdk.prompt(PROMPT), 2, sampling(sdk))).sequences
    other = sdk.done(sampler.sample(sdk.prompt(PROMPT), 2, sampling(sdk, seed=8))).sequences
    assert [row.tokens for row in two] == [row.tokens for row in four[:2]]
    assert four[0].tokens != four[1].tokens
    assert other[0].tokens != two[0].tokens
    assert {row.stop_reason for row in four} == {"length"}


def test_sampled_scored_and_trained_logprobs_agree(sdk, trainer):
    train(sdk, trainer, [lesson(sdk)], learning_rate=0.1)
    sampler = sdk.done(trainer.save_weights_and_get_sampling_client())
    [row] = sdk.done(sampler.sample(sdk.prompt(PROMPT), 1, sampling(sdk))).sequences
    scored = sdk.done(sampler.compute_logprobs(sdk.prompt([*PROMPT, *row.tokens])))
    data = policy_data(sdk, [row], [1.0])
    forward = sdk.done(trainer.forward(data, "importance_sampling"))
    assert scored[0] is None
    np.testing.assert_allclose(scored[3:], row.logprobs, atol=1e-6)
    np.testing.assert_allclose(sdk.logprobs(forward)[0][2:], row.logprobs, atol=1e-6)


@pytest.mark.parametrize("kind", ["tempered", "raw"])
def test_logprobs_at_another_temperature_are_of_the_kind_set(sdk, server, service, kind):
    server.behaviour.logprobs = kind
    sampler = sdk.done(service.create_sampling_client(base_model=MODEL_NAME))
    hot = sampling(sdk, temperature=2.0)
    [row] = sdk.done(sampler.sample(sdk.prompt(PROMPT), 1, hot)).sequences
    before = np.array([PROMPT[-1], *row.tokens[:-1]])
    logits = server.policy.logits(before, None) / (2.0 if kind == "tempered" else 1.0)
    wanted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(row.logprobs, wanted[range(6), row.tokens], atol=1e-6)


def test_training_raises_the_reward(sdk, trainer):
    """Twelve policy gradient steps towards even tokens."""
    shares = []
    for step in range(12):
        sampler = sdk.done(trainer.save_weights_and_get_sampling_client())
        params = sampling(sdk, seed=step)
        rows = sdk.done(sampler.sample(sdk.prompt(PROMPT), 16, params)).sequences
        rewards = np.array([np.mean(np.array(row.tokens) % 2 == 0) for row in rows])
        data = policy_data(sdk, rows, rewards - rewards.mean())
        train(sdk, trainer, data, "importance_sampling", learning_rate=0.05)
        shares.append(rewards.mean())
    assert np.mean(shares[:2]) < 0.6
    assert np.mean(shares[-2:]) > 0.9


@pytest.mark.parametrize("loss_fn", ["importance_sampling", "ppo", "cispo"])
def test_policy_losses_at_the_sampling_weights(sdk, trainer, loss_fn):
    """All ratios are 1 there: no bound binds, and the losses are -sum(A), or -sum(A log p)."""
    sampler = sdk.done(trainer.save_weights_and_get_sampling_client())
    rows = sdk.done(sampler.sample(sdk.prompt(PROMPT), 2, sampling(sdk))).sequences
    data = policy_data(sdk, rows, [1.0, -0.5])
    config = None if loss_fn == "importance_sampling" else {"clip_low_threshold": 0.9}
    output = sdk.done(trainer.forward_backward(data, loss_fn, config))
    weights = [1.0, -0.5]
    if loss_fn == "cispo":
        weights = [w * sum(row.logprobs) / 6 for w, row in zip(weights, rows, strict=True)]
    assert output.metrics["loss:sum"] == pytest.approx(-6 * sum(weights), abs=1e-4)


def test_gradients_add_up_until_the_step(sdk, server, service):
    """Two halves of a batch and the whole of it lead to the same weights."""
    data = [lesson(sdk), lesson(sdk, (9, 8, 7))]
    models = [
        sdk.done(service.create_lora_training_client(base_model=MODEL_NAME, rank=4, seed=1))
        for _ in range(2)
    ]
    for half in data:
        sdk.done(models[0].forward_backward([half], "cross_entropy"))
    _, step = train(sdk, models[1], data)
    halves = sdk.done(models[0].optim_step(adam(sdk)))
    assert halves.metrics == step.metrics
    assert server.digest(models[0].model_id) == server.digest(models[1].model_id)
    idle = sdk.done(models[0].optim_step(adam(sdk)))
    assert idle.metrics == {"grad_norm": 0.0}


def test_a_forward_alone_leaves_no_gradient(sdk, server, trainer):
    before = server.digest(trainer.model_id)
    sdk.done(trainer.forward([lesson(sdk)], "cross_entropy"))
    assert sdk.done(trainer.optim_step(adam(sdk))).metrics == {"grad_norm": 0.0}
    assert server.digest(trainer.model_id) == before


def test_an_older_sampler_keeps_its_weights(sdk, trainer):
    old = sdk.done(trainer.save_weights_and_get_sampling_client())
    before = sdk.done(old.compute_logprobs(sdk.prompt(PROMPT)))
    train(sdk, trainer, [lesson(sdk, PROMPT)], learning_rate=0.5)
    new = sdk.done(trainer.save_weights_and_get_sampling_client())
    assert sdk.done(old.compute_logprobs(sdk.prompt(PROMPT))) == before
    assert sdk.done(new.compute_logprobs(sdk.prompt(PROMPT)))[1] > before[1]


@pytest.mark.parametrize(
    ("with_optimizer", "restore"), [(True, "exact"), (True, "cold"), (False, "")]
)
def test_training_goes_on_from_a_saved_state(
    sdk, server, service, trainer, with_optimizer, restore
):
    server.behaviour.optimizer_restore = restore or "exact"
    data = [lesson(sdk)]
    train(sdk, trainer, data)
    path = sdk.done(trainer.save_state("state", ttl_seconds=7200)).path
    load = (
        service.create_training_client_from_state_with_optimizer
        if with_optimizer
        else service.create_training_client_from_state
    )
    copy = sdk.done(load(path))
    assert server.digest(copy.model_id) == server.digest(trainer.model_id)
    train(sdk, trainer, data)
    train(sdk, copy, data)
    same = server.digest(copy.model_id) == server.digest(trainer.model_id)
    assert same == (restore == "exact")
    assert server.ttl_seconds == [7200]


def test_a_saved_sampler_is_found_by_its_path(sdk, service, trainer):
    train(sdk, trainer, [lesson(sdk, PROMPT)], learning_rate=0.5)
    here = sdk.done(trainer.save_weights_and_get_sampling_client())
    path = sdk.done(trainer.save_weights_for_sampler("snapshot", ttl_seconds=3600)).path
    there = sdk.done(service.create_sampling_client(model_path=path))
    one = sdk.done(here.compute_logprobs(sdk.prompt(PROMPT)))
    assert sdk.done(there.compute_logprobs(sdk.prompt(PROMPT))) == one


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def adapter_of(sdk, rest, trainer):
    """A downloaded adapter's files."""
    if hasattr(rest, "get_external_weights_urls"):
        path = sdk.done(trainer.save_weights_external("adapter")).path
        urls = sdk.done(rest.get_external_weights_urls(path)).urls
        return {name: fetch(url) for name, url in urls.items()}
    path = sdk.done(trainer.save_weights_for_sampler("adapter")).path
    url = sdk.done(rest.get_checkpoint_archive_url_from_tinker_path(path)).url
    with tarfile.open(fileobj=io.BytesIO(fetch(url))) as tar:
        return {name: tar.extractfile(name).read() for name in tar.getnames()}


def test_an_adapter_can_be_downloaded(sdk, server, rest, trainer):
    train(sdk, trainer, [lesson(sdk)])
    files = adapter_of(sdk, rest, trainer)
    config = json.loads(files["adapter_config.json"])
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 32)
    tensors = load_safetensors(files["adapter_model.safetensors"])
    a, b = (tensors[f"base_model.model.lm_head.lora_{x}.weight"] for x in "AB")
    assert (a.shape, b.shape) == ((4, 64), (64, 4))
    forward = sdk.done(trainer.forward([lesson(sdk)], "cross_entropy"))
    logits = server.policy.logits(np.array([1, 2, 3]), None) + 8 * (b @ a).T[[1, 2, 3]]
    wanted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(sdk.logprobs(forward)[0], wanted[range(3), [2, 3, 4]], atol=1e-5)


def test_checkpoints_are_listed_and_deleted(sdk, rest, service, trainer):
    path = sdk.done(trainer.save_state("one")).path
    sdk.done(trainer.save_weights_for_sampler("two", ttl_seconds=3600))
    listed = sdk.done(rest.list_checkpoints(trainer.model_id)).checkpoints
    found = {each.checkpoint_id: each.checkpoint_type for each in listed}
    assert found == {"weights/one": "training", "sampler_weights/two": "sampler"}
    sdk.done(rest.delete_checkpoint_from_tinker_path(path))
    assert len(sdk.done(rest.list_checkpoints(trainer.model_id)).checkpoints) == 1


def test_a_large_batch_may_come_in_chunks(sdk, server, trainer):
    """The SDK sends more than 1024 data in parallel requests, the first one last."""
    data = [lesson(sdk, (1 + n % 50, 2, 3)) for n in range(1100)]
    output, _ = train(sdk, trainer, data)
    assert len(output.loss_fn_outputs) == 1100
    parts = server.executed("forward_backward", trainer.model_id)
    assert [part.details["seq_id"] for part in parts] == [1, 2][: len(parts)]
    assert len(server.executed("optim_step", trainer.model_id)) == 1


def test_samples_can_be_polled_for_together(sdk, server, connect):
    server.behaviour.batched_futures = True
    sampler = sdk.done(connect().create_sampling_client(base_model=MODEL_NAME))
    futures = [
        sampler.sample(sdk.prompt(PROMPT), 1, sampling(sdk, seed=seed)) for seed in range(20)
    ]
    rows = [sdk.done(future).sequences[0].tokens for future in futures]
    server.behaviour.batched_futures = False
    again = sdk.done(connect().create_sampling_client(base_model=MODEL_NAME))
    alone = sdk.done(again.sample(sdk.prompt(PROMPT), 1, sampling(sdk, seed=19)))
    assert rows[19] == alone.sequences[0].tokens


def test_the_server_remembers_what_it_did(sdk, server, trainer):
    train(sdk, trainer, [lesson(sdk)], learning_rate=0.25)
    sampler = sdk.done(trainer.save_weights_and_get_sampling_client())
    server.failures.samples_together = 2
    futures = [sampler.sample(sdk.prompt(PROMPT), 1, sampling(sdk, seed=n)) for n in range(5)]
    for future in futures:
        sdk.done(future)
    [step] = server.executed("optim_step", trainer.model_id)
    assert step.details["learning_rate"] == 0.25
    assert sorted(server.seeds) == [0, 1, 2, 3, 4]
    assert 2 <= server.most_samples_at_once <= 5
    assert [each.what for each in server.log][:3] == [
        "create_session",
        "create_model",
        "forward_backward",
    ]
