"""The local backend: PyTorch on this machine's GPU or CPU. torch is imported below here only."""

import logging
import os

# Idle OpenMP threads spin at barriers by default; with two of them on a busy two-core machine a
# step takes ten times as long. torch reads this once, when it is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# transformers imports torchao if it is installed, and PyTorch 2.15 then warns of the way in which
# torchao 0.18 registers its enums.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
