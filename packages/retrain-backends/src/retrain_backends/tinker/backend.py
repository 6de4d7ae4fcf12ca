"""The Tinker backend: another machine samples and trains, through the official SDK."""

from typing import Self

from retrain_backends.config import PolicySettings
from retrain_backends.tinker.declaration import BACKEND
from retrain_backends.tinker.options import TinkerOptions, parse_options
from retrain_backends.tinker.sampler import TinkerSampler
from retrain_backends.tinker.service import Service
from retrain_backends.tinker.session import Session
from retrain_backends.tinker.trainer import TinkerTrainer
from retrain_backends.tinker.updating import Updater
from retrain_backends.types import Usage


class TinkerBackend:
    """Samples from and trains an adapter that a service keeps."""

    capabilities = BACKEND.capabilities

    def __init__(self, service: Service, settings: PolicySettings, options: TinkerOptions) -> None:
        self._session = Session(service, settings, options)
        updater = Updater(service, settings, options)
        self.trainer = TinkerTrainer(self._session, updater, settings.loss)
        self.sampler = TinkerSampler(self._session, settings.backend.max_concurrent)

    @classmethod
    def from_config(cls, settings: PolicySettings) -> Self:
        """Connect, and make a new adapter unless an earlier run is resumed.

        Raises:
          ConfigError: a wrong option, no key, or one that the service does not take.
          ModelError: the service has no such model.
          RunError: the service cannot be reached.
        """
        options = parse_options(settings.backend.options)
        backend = cls(Service.connect(settings.model.base_url, options), settings, options)
        if not settings.resumed:
            backend._session.training()
        return backend

    def usage(self) -> Usage:
        """Tokens, cost and waiting since the last call."""
        return self._session.usage()

    def close(self) -> None:
        """End the session, and the waits for a turn."""
        self._session.close()
