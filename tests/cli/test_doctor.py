from pathlib import Path

QUICKSTART = str(Path(__file__).parents[2] / "examples" / "quickstart.toml")


def test_a_run_that_would_work(retrain):
    code, shown, _ = retrain("doctor", QUICKSTART, "--devices", "cpu", "--max-tokens", "8")
    assert code == 0
    assert "works  model      builtin:tiny-arithmetic is loaded, on the CPU\n" in shown


def test_a_run_that_would_not(retrain):
    flags = ("--engine", "vllm", "--url", "http://localhost:9")
    code, shown, errors = retrain("doctor", QUICKSTART, *flags)
    assert (code, errors) == (1, "")
    assert "FAILS  start it   VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 vllm serve " in shown
