"""Checks of a backend besides sampling and training: facts, usage, saving and resuming."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import get_args

import numpy as np

from retrain_backends.testing.case import BackendCase, flat_logprobs, flat_tokens, reported
from retrain_backends.types import Completion, Fidelity

_TIMEOUT_S = 60.0  # for the other thread


def check_backend_describes_itself(case: BackendCase) -> None:
    """Facts have an engine, and a reason for their determinism."""
    with case.backend() as backend:
        both = backend.sampler.facts, backend.trainer.facts
    for facts in both:
        assert facts.engine, "the engine has no name"
        assert facts.reason, "the determinism has no reason"


def check_usage_is_reported(case: BackendCase) -> None:
    """`usage` has finite figures by name, and no reason to stop a new run."""
    with case.backend() as backend:
        before = backend.usage()
        case.run(backend, 0, 1)
        after = backend.usage()
    assert not before.stop, "a new backend stops the run"
    for name, value in {**before.figures, **after.figures}.items():
        assert name.isidentifier(), "the name of a figure is a column of metrics.jsonl"
        assert isinstance(value, int | float), "a figure is a number"
        assert np.isfinite(value), "a figure that was not measured must be left out"


def check_sampling_beside_training(case: BackendCase) -> None:
    """With a step off policy, sampling and training at the same time do not affect each other."""
    with case.backend() as backend:
        if not backend.sampler.facts.steps_off_policy:
            return
        batch = case.batch(case.sample(backend))
        alone = case.sample(backend, step=1)
        half, trained = Event(), Event()
        groups = backend.sampler.sample(case.requests(step=1), case.sampling.params)

        def collect() -> dict[int, list[Completion]]:
            first = next(groups)
            half.set()
            trained.wait(_TIMEOUT_S)
            return dict([first, *groups])

        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(collect)
            try:
                assert half.wait(_TIMEOUT_S), "no group was finished"
                result = backend.trainer.train(batch)
            finally:
                trained.set()
            sampled = future.result(_TIMEOUT_S)
        together = [sampled[index] for index in range(len(case.prompts))]
        later = case.sample(backend, step=1)
    difference = reported(result.mean_abs_logprob_diff)
    assert difference <= case.tolerance, "concurrent sampling changed training"
    assert flat_tokens(together) == flat_tokens(alone), "the update changed tokens of earlier calls"
    assert np.array_equal(flat_logprobs(together), flat_logprobs(alone)), "and their log-probs"
    assert not np.array_equal(flat_logprobs(later), flat_logprobs(alone)), "no update was made"


def check_load_continues_what_save_wrote(case: BackendCase) -> None:
    """After `load`, a new backend continues like the saved one, as exactly as `load` reports."""
    case.directory.joinpath("state").mkdir()
    with case.backend() as backend:
        case.run(backend, 0, 2)
        reference = backend.trainer.save(case.directory / "state")
        expected = case.run(backend, 2, 4)
        exact = backend.capabilities.trainer.resume == "exact"
    with case.backend() as backend:
        restored = backend.trainer.load(reference)
        continued = case.run(backend, 2, 4)
    assert restored.fidelity in get_args(Fidelity), "`load` reports an unknown fidelity"
    assert restored.reason, "the fidelity has no reason"
    assert not exact or restored.fidelity == "exact", "`exact` resume is declared, not reported"
    assert continued[0][0] == expected[0][0], "the loaded policy samples other tokens"
    assert not exact or continued == expected, "`exact` resume is declared, but the runs differ"
    if restored.fidelity == "exact":
        for (tokens, loss), (known_tokens, known_loss) in zip(continued, expected, strict=True):
            assert tokens == known_tokens, "the resume was less exact than `load` reports"
            assert abs(loss - known_loss) <= 10 * case.tolerance, "the resume was not exact"


def check_adapter_is_exported(case: BackendCase) -> None:
    """`export_adapter` returns where the adapter is: its argument, or a URI."""
    case.directory.joinpath("adapter").mkdir()
    with case.backend() as backend:
        case.run(backend, 0, 1)
        path = backend.trainer.export_adapter(case.directory / "adapter")
    files = [file for file in (case.directory / "adapter").rglob("*") if file.is_file()]
    assert "://" in path or (path == str(case.directory / "adapter") and files)
