"""One retrain run: configuration, data, rewards, trainers, loop and logs.

from retrain_backends.config import load_config
from retrain_backends.train import train

summary = train(load_config(Path("run.toml")))
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
