"""What goes wrong on demand, and how the official SDK takes it."""

import http.client
from urllib.parse import urlsplit

import pytest
import tinker

from retrain_test_support.tinker.failures import Delivery, Failures, RequestKind
from retrain_test_support.tinker.server import MODEL_NAME, TinkerServer

PROMPT = [3, 14, 15]
STATUSES = (429, 500, 502, 504)


@pytest.fixture
def sampler(sdk, service):
    return sdk.done(service.create_sampling_client(base_model=MODEL_NAME))


def draw(sdk, sampler):
    params = sdk.types.SamplingParams(max_tokens=4, seed=1, stop=[])
    return sdk.done(sampler.sample(sdk.prompt(PROMPT), 2, params))


def step(sdk, trainer):
    return sdk.done(trainer.optim_step(sdk.types.AdamParams(learning_rate=1e-2)))


def backward(sdk, trainer):
    data = [sdk.datum([1, 2, 3], weights=[1.0, 1.0])]
    return sdk.done(trainer.forward_backward(data, "cross_entropy"))


def test_shares_are_kept():
    failures = Failures(error_share=0.2, drop_share=0.1, lost_answer_share=0.1)
    fates = [failures.delivery(RequestKind.TRAIN) for _ in range(4000)]
    assert fates.count(Delivery.DROPPED) == pytest.approx(400, abs=60)
    assert fates.count(Delivery.ANSWER_LOST) == pytest.approx(400, abs=60)
    for status in STATUSES:
        assert fates.count(status) == pytest.approx(200, abs=50)
    assert failures.counts["drop"] == fates.count(Delivery.DROPPED)


def test_shares_spare_other_kinds_and_repeat_with_their_seed():
    failures = [
        Failures(seed=5, error_share=0.5, kinds=frozenset({RequestKind.SAMPLE})) for _ in "ab"
    ]
    assert {failures[0].delivery(RequestKind.TRAIN) for _ in range(50)} == {Delivery.SERVED}
    one, two = ([each.delivery(RequestKind.SAMPLE) for _ in range(50)] for each in failures)
    assert one == two


def test_numbers_count_down():
    failures = Failures(storm=2, storm_status=500)
    assert [failures.delivery(RequestKind.REST) for _ in range(3)] == [500, 500, Delivery.SERVED]
    assert failures.counts["storm"] == 2


def test_a_third_of_failures_and_lost_answers_change_nothing(sdk, server, connect):
    """Each step is done exactly once, and the weights are those without a failure."""
    digests = []
    for share in (0.0, 0.1):
        service = connect()
        trainer = sdk.done(
            service.create_lora_training_client(base_model=MODEL_NAME, rank=4, seed=1)
        )
        server.failures.kinds = frozenset(
            {RequestKind.TRAIN, RequestKind.STEP, RequestKind.RETRIEVE}
        )
        server.failures.statuses = (500, 502, 504)
        server.failures.retry_after_s = 0.01
        server.failures.error_share = 2 * share
        server.failures.lost_answer_share = share
        steps = [
            trainer.optim_step(sdk.types.AdamParams(learning_rate=0.1))
            for _ in range(6)
            if trainer.forward_backward([sdk.datum([1, 2, 3], weights=[1.0, 1.0])], "cross_entropy")
        ]
        for each in steps:
            sdk.done(each)
        server.failures.error_share = server.failures.lost_answer_share = 0.0
        assert len(server.executed("optim_step", trainer.model_id)) == 6
        assert len(server.executed("forward_backward", trainer.model_id)) == 6
        digests.append(server.digest(trainer.model_id))
    assert digests[0] == digests[1]
    assert server.failures.counts["lost_answer"] > 0
    assert sum(server.failures.counts[f"status_{status}"] for status in STATUSES) > 0


@pytest.mark.parametrize("status", [429, 503, 0, -1])
def test_one_failed_request_is_sent_again(sdk, server, trainer, status):
    """-1 loses the answer of a step that was done: it must not be done twice."""
    server.failures.kinds = frozenset({RequestKind.TRAIN, RequestKind.STEP})
    server.failures.storm_status = status
    server.failures.storm = 1
    step(sdk, trainer)
    assert server.failures.counts["storm"] == 1
    assert len(server.executed("optim_step", trainer.model_id)) == 1


@pytest.mark.parametrize("status", [429, 0, -1])
def test_one_failed_sample_request_is_sent_again(sdk, server, sampler, status):
    server.failures.kinds = frozenset({RequestKind.SAMPLE})
    server.failures.storm_status = status
    server.failures.storm = 1
    rows = draw(sdk, sampler).sequences
    assert len(server.executed("sample")) == 1
    assert [row.tokens for row in draw(sdk, sampler).sequences] == [row.tokens for row in rows]


@pytest.mark.parametrize("category", ["server", "user", "unknown"])
def test_a_failed_future_reaches_the_caller(sdk, server, trainer, sampler, category):
    server.failures.category = category
    server.failures.failed_samples = 1
    server.failures.failed_forward_backwards = 1
    with pytest.raises(tinker.RequestFailedError) as failed:
        draw(sdk, sampler)
    assert failed.value.category == category
    with pytest.raises(tinker.RequestFailedError):
        backward(sdk, trainer)
    assert server.executed("forward_backward") == []
    assert len(draw(sdk, sampler).sequences) == 2
    backward(sdk, trainer)


def test_saves_and_steps_can_fail(sdk, server, trainer):
    server.failures.failed_saves = 1
    server.failures.failed_optim_steps = 1
    with pytest.raises(tinker.RequestFailedError):
        sdk.done(trainer.save_state("state"))
    with pytest.raises(tinker.RequestFailedError):
        step(sdk, trainer)
    assert server.executed("optim_step") == []
    sdk.done(trainer.save_state("state"))


def test_the_client_waits_while_there_is_no_capacity(sdk, server, sampler):
    server.failures.paused_polls = 5
    assert len(draw(sdk, sampler).sequences) == 2
    assert server.failures.counts["paused_polls"] == 5


def test_slow_samples_are_polled_for_again(sdk, server, sampler):
    server.behaviour.poll_s = 0.05
    server.failures.sample_delay_s = 0.3
    assert len(draw(sdk, sampler).sequences) == 2


def test_a_wrong_key_is_refused(sdk, server, connect):
    server.behaviour.key = "tml-right"
    sdk.done(connect("tml-right").create_sampling_client(base_model=MODEL_NAME))
    with pytest.raises(tinker.AuthenticationError):
        sdk.done(connect("tml-wrong").create_sampling_client(base_model=MODEL_NAME))


def test_what_is_not_there_is_named(sdk, server, service, trainer):
    with pytest.raises(tinker.BadRequestError, match="`nobody/nothing` is not served here"):
        sdk.done(service.create_sampling_client(base_model="nobody/nothing"))
    with pytest.raises(tinker.BadRequestError, match="is not served here"):
        sdk.done(service.create_lora_training_client(base_model="nobody/nothing", rank=4))
    with pytest.raises(tinker.NotFoundError, match="sampler_weights/y not found"):
        sdk.done(service.create_sampling_client(model_path="tinker://x/sampler_weights/y"))
    with pytest.raises((tinker.RequestFailedError, tinker.NotFoundError), match="weights/y not"):
        sdk.done(service.create_training_client_from_state("tinker://x/weights/y"))


def test_lost_sessions_are_lost_and_checkpoints_stay(sdk, server, connect, trainer, sampler):
    path = sdk.done(trainer.save_state("kept")).path
    server.forget_sessions()
    with pytest.raises(tinker.NotFoundError, match=r"sampling session .* not found"):
        draw(sdk, sampler)
    with pytest.raises(tinker.NotFoundError, match=r"model .* not found"):
        step(sdk, trainer)
    sdk.done(connect().create_training_client_from_state_with_optimizer(path))


@pytest.mark.parametrize(
    ("loss_fn", "fields", "says"),
    [
        ("dro", {"weights": [1.0, 1.0]}, "unknown loss_fn"),
        ("importance_sampling", {"weights": [1.0, 1.0]}, "takes"),
    ],
)
def test_batches_that_make_no_sense_are_the_users_fault(sdk, trainer, loss_fn, fields, says):
    with pytest.raises(tinker.RequestFailedError, match=says) as failed:
        sdk.done(trainer.forward_backward([sdk.datum([1, 2, 3], **fields)], loss_fn))
    assert failed.value.category == "user"
    backward(sdk, trainer)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"max_tokens": 40000}, "max_tokens"), ({"stop": ["x"]}, "token ids only")],
)
def test_samples_that_make_no_sense_are_the_users_fault(sdk, sampler, changes, says):
    params = sdk.types.SamplingParams(**{"max_tokens": 4} | changes)
    with pytest.raises(tinker.RequestFailedError, match=says):
        sdk.done(sampler.sample(sdk.prompt(PROMPT), 1, params))


def test_a_name_is_taken_once(sdk, trainer):
    sdk.done(trainer.save_state("name"))
    with pytest.raises(tinker.RequestFailedError, match="already exists"):
        sdk.done(trainer.save_state("name"))
    with pytest.raises(tinker.RequestFailedError, match="ttl_seconds"):
        sdk.done(trainer.save_state("other", ttl_seconds=60))


def test_closing_ends_open_connections():
    with TinkerServer() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        connection.request("GET", "/api/v1/healthz")
        assert connection.getresponse().read() == b'{"status": "ok"}'
    assert connection.sock.recv(1) == b""
    connection.close()


def break_a_server():
    with TinkerServer() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
        connection.request("POST", "/api/v1/asample", b"no JSON")
        with pytest.raises(http.client.RemoteDisconnected):
            connection.getresponse()
        connection.close()


def test_what_breaks_in_the_server_is_told_at_its_end(capsys):
    with pytest.raises(RuntimeError, match="the test server broke"):
        break_a_server()
    assert "JSONDecodeError" in capsys.readouterr().err
