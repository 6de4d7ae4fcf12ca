"""Capabilities of backends, readable without importing their code."""

from dataclasses import dataclass
from typing import Any

from retrain_backends.config import PolicySettings
from retrain_backends.dotted_names import load_object, require
from retrain_backends.errors import PluginError
from retrain_backends.plugins import resolve
from retrain_backends.types import Capabilities


@dataclass(frozen=True)
class DeclaredBackend:
    """A backend whose capabilities are known without importing its class.

    A backend that is cheap to import declares `capabilities` on its class instead.

    Args:
      capabilities: what it can do.
      name: of its class, as `package.module:Class`.
      package: the package that it requires.
    """

    capabilities: Capabilities
    name: str
    package: str

    def from_config(self, settings: PolicySettings) -> Any:
        """Import the class and build the backend."""
        return load_object(self.name).from_config(settings)


def declared_capabilities(name: str) -> Capabilities:
    """The capabilities that a backend declares; loads no model.

    Raises:
      PluginError: the backend is unknown, not installed, or declares no capabilities.
    """
    backend = resolve("backend", name)
    if isinstance(backend, DeclaredBackend):
        require(backend.package, f"backend.backend: `{name}`")
    declared = getattr(backend, "capabilities", None)
    if not isinstance(declared, Capabilities):
        raise PluginError(
            f"backend.backend: `{name}` does not declare `capabilities = Capabilities(...)` on its "
            "class; it must, so that a run can be checked before a model is loaded"
        )
    return declared
