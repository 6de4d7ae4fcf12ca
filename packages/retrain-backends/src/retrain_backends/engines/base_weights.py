"""Compares the base weights of servers by their checksums, where servers compute them."""

from collections.abc import Mapping
from dataclasses import dataclass

from retrain_backends.errors import RunError


@dataclass(frozen=True)
class BaseWeights:
    """The checksum of each tensor of the model that a server has, without adapters."""

    url: str
    checksums: Mapping[str, str]

    def refuse_other(self, other: "BaseWeights") -> None:
        """Compare with what another server, or the same one later, has.

        Servers whose tensors have other names, because they split the model over other numbers of
        devices, cannot be compared.

        Raises:
          RunError: they differ.
        """
        if self.checksums.keys() != other.checksums.keys():
            return
        differing = [
            name for name, value in self.checksums.items() if other.checksums[name] != value
        ]
        if not differing:
            return
        known = f"{self.url} has" if other.url != self.url else "it had before"
        raise RunError(
            f"{other.url} has other base weights than {known}: {len(differing)} of"
            f" {len(self.checksums)} tensors differ, such as `{differing[0]}`; serve the same"
            " model in the same precision"
        )
