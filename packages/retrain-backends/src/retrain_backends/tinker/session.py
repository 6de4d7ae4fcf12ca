"""One policy that a service keeps: the clients for it, the turns at the throttle, what it costs."""

from retrain_backends.config import PolicySettings
from retrain_backends.tinker.options import TinkerOptions
from retrain_backends.tinker.service import SamplingClient, Service, TrainingClient
from retrain_backends.tinker.throttle import open_throttle
from retrain_backends.tinker.usage import UsageMeter
from retrain_backends.tokenizer import resolve_model
from retrain_backends.types import Facts, Usage


class Session:
    """What trainer and sampler share.

    The adapter is made, or restored, when it is first needed, so that a resumed run makes none in
    vain. The service executes its requests one after another, in order: a training step is one turn
    at the throttle.

    Args:
      service: the connection.
      settings: of the policy.
      options: of the backend.

    Attributes:
      throttle: bounds the calls of all processes that share it.
      usage_meter: counts tokens, cost and hours.
    """

    def __init__(self, service: Service, settings: PolicySettings, options: TinkerOptions) -> None:
        self.service = service
        self.options = options
        self.usage_meter = UsageMeter(options.prices, options.max_cost, options.max_hours)
        # A call in front may take as long as any call, and is then given up by who made it.
        self.throttle = open_throttle(
            settings.backend.throttle_dir, settings.backend.max_concurrent, 2 * options.timeout_s
        )
        self._model = settings.model
        self._seed = settings.seed
        self._training: TrainingClient | None = None
        self._sampling: SamplingClient | None = None

    @property
    def facts(self) -> Facts:
        """A service, which promises nothing about its arithmetic."""
        reason = f"{self.service.endpoint} samples and trains, with arithmetic of its own"
        lag = self.options.max_steps_off_policy
        return Facts("tinker", (), "not controlled", reason, lag, separate=True)

    def training(self) -> TrainingClient:
        """The client that trains the adapter; makes the adapter if there is none."""
        if self._training is None:
            with self.throttle.slot():
                self._training = self.service.new_trainer(
                    resolve_model(self._model.model), self._model.lora_rank, self._seed
                )
        return self._training

    def sampling(self) -> SamplingClient:
        """The client that samples with the newest weights."""
        if self._sampling is None:
            training = self.training()
            with self.throttle.slot():
                self._sampling = self.service.new_sampler(training)
        return self._sampling

    def publish(self) -> None:
        """Sample with the weights as they are now from here on."""
        self._sampling = None
        self.sampling()

    def restore(self, path: str) -> None:
        """Continue with a trainer that the service has kept."""
        with self.throttle.slot():
            self._training = self.service.saved_trainer(path, with_optimizer=True)
        self._sampling = None

    def usage(self) -> Usage:
        """Tokens, cost and waiting since the last call."""
        used = self.usage_meter.take()
        return Usage({**used.figures, "queue_s": self.throttle.take_waited_s()}, used.stop)

    def close(self) -> None:
        """End the session, and the waits for a turn."""
        self.throttle.close()
        self.service.close()
