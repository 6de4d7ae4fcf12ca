import subprocess
import sys
from importlib.metadata import version

import retrain_squeeze


def test_version_is_that_of_the_distribution():
    assert retrain_squeeze.__version__ == version("retrain-squeeze")


def test_public_names():
    assert retrain_squeeze.__all__ == [
        "AdapterError",
        "DownloadError",
        "MissingExtraError",
        "ModuleCurve",
        "RankVariance",
        "SqueezeAnalysis",
        "SqueezeConfigError",
        "SqueezeError",
        "SqueezeSettings",
        "__version__",
        "analyze_adapter",
        "compress_adapter",
        "run_squeeze",
    ]
    assert all(getattr(retrain_squeeze, name) for name in retrain_squeeze.__all__)


def test_importing_it_loads_no_torch():
    code = "import sys, retrain_squeeze; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
