"""Settings of the whole suite, which must not depend on how busy the machine is."""

import os
import signal

from hypothesis import HealthCheck, settings

# Before a test imports torch: threads that spin while they wait slow a busy machine down tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Before one imports numpy: tests run side by side, and small matrices gain nothing from threads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The Tinker SDK would report what the tests do to its makers.
os.environ.setdefault("TINKER_TELEMETRY", "0")

# A shell that starts the suite in the background has Ctrl-C ignored, by what it starts too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples every time, however long one takes.
settings.register_profile(
    "retrain",
    database=None,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("retrain")
