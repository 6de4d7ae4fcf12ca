import json

import pytest

from retrain_backends.errors import RunError


@pytest.fixture
def saved(backend, prompts, sampling, to_batch, tmp_path):
    """`saved(updates)`: what a backend with so many optimiser steps behind it saved."""

    def make(updates: int = 2):
        policy = backend()
        for step in range(updates):
            policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts), step))
        tmp_path.joinpath("trainer").mkdir()
        return policy, policy.trainer.save(tmp_path / "trainer")

    return make


def resumed(backend):
    return backend({"resume.from": "somewhere"})


def test_a_restored_trainer_goes_on_as_the_saved_one(
    server, backend, saved, prompts, sampling, to_batch
):
    before, reference = saved()
    after = resumed(backend)
    restored = after.trainer.load(reference)
    assert restored.fidelity == "exact"
    assert "the optimiser was restored" in restored.reason
    assert sampling.sample(after.sampler, prompts)[0][0].tokens_T.size
    results = [
        policy.trainer.train(to_batch(sampling.sample(policy.sampler, prompts), 2))
        for policy in (before, after)
    ]
    assert results[0].loss == results[1].loss
    models = [each.model_id for each in server.executed("optim_step")]
    assert server.digest(models[0]) == server.digest(models[-1])


def test_an_optimiser_that_begins_anew_is_found_out(server, backend, saved):
    _, reference = saved()
    server.behaviour.optimizer_restore = "cold"
    assert resumed(backend).trainer.load(reference).fidelity == "cold"


def test_another_policy_is_refused(backend, saved):
    _, reference = saved()
    file = reference.directory / "tinker.json"
    kept = json.loads(file.read_text())
    kept["reference"]["logprobs"] = [[p - 1 for p in row] for row in kept["reference"]["logprobs"]]
    file.write_text(json.dumps(kept))
    with pytest.raises(RunError, match="is not the policy that was saved"):
        resumed(backend).trainer.load(reference)


def test_rounding_is_approximate(backend, saved):
    _, reference = saved()
    file = reference.directory / "tinker.json"
    kept = json.loads(file.read_text())
    rows = kept["reference"]["logprobs"]
    kept["reference"]["logprobs"] = [[p - 1e-3 for p in row] for row in rows]
    file.write_text(json.dumps(kept))
    assert resumed(backend).trainer.load(reference).fidelity == "approximate"


def test_before_the_first_step_there_is_nothing_to_lose(backend, saved):
    _, reference = saved(updates=0)
    assert resumed(backend).trainer.load(reference).fidelity == "exact"


def test_a_checkpoint_that_the_service_has_not_kept_is_told(backend, saved):
    _, reference = saved()
    file = reference.directory / "tinker.json"
    file.write_text(file.read_text().replace("weights/", "weights/gone_"))
    with pytest.raises(RunError, match=r"restoring tinker://.*gone_"):
        resumed(backend).trainer.load(reference)


def test_the_ledger_goes_on(backend, saved):
    before, reference = saved()
    after = resumed(backend)
    after.trainer.load(reference)
    spent, since = before.usage().figures, after.usage().figures
    assert since["sampled_tokens_charged_total"] == spent["sampled_tokens_charged_total"]
    # The reference was scored to recognise the policy, then a copy was trained on it and scored.
    kept = json.loads((reference.directory / "tinker.json").read_text())["reference"]
    tokens = sum(map(len, [*kept["prompts"], *kept["completions"]]))
    more = since["trained_tokens_charged_total"] - spent["trained_tokens_charged_total"]
    assert more == 3 * tokens


def test_time_to_live_is_passed_on(server, backend, tmp_path):
    policy = backend({"backend.options": {"checkpoint_ttl_s": 7200}})
    policy.trainer.save(tmp_path)
    policy.trainer.export_adapter(tmp_path)
    assert server.ttl_seconds == [7200, 7200]
