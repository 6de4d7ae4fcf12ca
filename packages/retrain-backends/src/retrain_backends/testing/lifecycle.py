"""What every backend must do besides sampling and training: describe itself, be saved, go on."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import get_args

import numpy as np

from retrain_backends.testing.case import BackendCase, flat_logprobs, flat_tokens
from retrain_backends.types import Completion, Fidelity

_PATIENCE_S = 60.0  # for what another thread does


def check_backend_describes_itself(case: BackendCase) -> None:
    """Its facts name the engine and say, with a reason, what the same seed promises."""
    with case.backend() as backend:
        both = backend.sampler.facts, backend.trainer.facts
    for facts in both:
        assert facts.engine, "an engine has a name"
        assert facts.reason, "a promise has a reason"


def check_usage_is_told(case: BackendCase) -> None:
    """`usage` has finite figures by name, and no reason to stop before anything is spent."""
    with case.backend() as backend:
        before = backend.usage()
        case.run(backend, 0, 1)
        after = backend.usage()
    assert not before.stop, "a new run is told to stop"
    for name, value in {**before.figures, **after.figures}.items():
        assert name.isidentifier(), "a figure is a column of metrics.jsonl"
        assert isinstance(value, int | float), "a figure is a number"
        assert np.isfinite(value), "a figure that nobody measured is left out"


def check_sampling_beside_training(case: BackendCase) -> None:
    """With a step off policy, a step is sampled while another is trained, and neither changes."""
    with case.backend() as backend:
        if not backend.sampler.facts.steps_off_policy:
            return
        batch = case.batch(case.sample(backend))
        alone = case.sample(backend, step=1)
        half, trained = Event(), Event()
        groups = backend.sampler.sample(case.requests(step=1), case.sampling.params)

        def take() -> dict[int, list[Completion]]:
            first = next(groups)
            half.set()
            trained.wait(_PATIENCE_S)
            return dict([first, *groups])

        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(take)
            try:
                assert half.wait(_PATIENCE_S), "no group was finished"
                result = backend.trainer.train(batch)
            finally:
                trained.set()
            taken = asked.result(_PATIENCE_S)
        together = [taken[index] for index in range(len(case.prompts))]
        later = case.sample(backend, step=1)
    assert result.mean_abs_logprob_diff <= case.tolerance, "sampling beside it changed training"
    assert flat_tokens(together) == flat_tokens(alone), "the update is in what was sampled before"
    assert np.array_equal(flat_logprobs(together), flat_logprobs(alone)), "so are its log-probs"
    assert not np.array_equal(flat_logprobs(later), flat_logprobs(alone)), "no update was made"


def check_load_continues_what_save_wrote(case: BackendCase) -> None:
    """After `load` in a new process the run goes on as if it had never stopped.

    As far as the backend says: `load` tells how exactly, and why.
    """
    case.directory.joinpath("state").mkdir()
    with case.backend() as backend:
        case.run(backend, 0, 2)
        reference = backend.trainer.save(case.directory / "state")
        expected = case.run(backend, 2, 4)
        exact = backend.capabilities.trainer.resume == "exact"
    with case.backend() as backend:
        restored = backend.trainer.load(reference)
        continued = case.run(backend, 2, 4)
    assert restored.fidelity in get_args(Fidelity), "`load` says how exactly the run goes on"
    assert restored.reason, "a claim has a reason"
    assert not exact or restored.fidelity == "exact", "`exact` resume is declared, not measured"
    assert continued[0][0] == expected[0][0], "the loaded policy samples other tokens"
    assert not exact or continued == expected, "`exact` resume is declared, but the runs differ"
    if restored.fidelity == "exact":
        for (tokens, loss), (known_tokens, known_loss) in zip(continued, expected, strict=True):
            assert tokens == known_tokens, "the resume was not as exact as `load` says"
            assert abs(loss - known_loss) <= 10 * case.tolerance, "the resume was not exact"


def check_adapter_is_exported(case: BackendCase) -> None:
    """`export_adapter` says where the adapter is: the directory it was given, or a URI."""
    case.directory.joinpath("adapter").mkdir()
    with case.backend() as backend:
        case.run(backend, 0, 1)
        where = backend.trainer.export_adapter(case.directory / "adapter")
    files = [path for path in (case.directory / "adapter").rglob("*") if path.is_file()]
    assert "://" in where or (where == str(case.directory / "adapter") and files)
