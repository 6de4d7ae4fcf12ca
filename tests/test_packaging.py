"""Each package as its users get it: built, and installed alone into a fresh environment."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from uv import find_uv_bin

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
PACKAGES = sorted(path.name for path in (ROOT / "packages").iterdir())
# Parts of packages that only installations with an extra can import.
WITH_EXTRA = (
    "local/",
    "data/hendrycks.py",
    "data/hub.py",
    "download.py",
    "torch_linear_algebra.py",
    "tinker_download.py",
    "rewards/equivalence.py",
    "engines/mlx/",
    "executors/ray_cluster.py",
    "executors/slurm.py",
    "rewards/judge.py",
    "tinker/",
    "tracking.py",
    "tracking/wandb.py",
)
# Their tests, and one that imports them all.
TESTS_WITH_EXTRA = [
    "--ignore=tests/backends/local",
    "--ignore=tests/backends/tinker",
    "--ignore=tests/backends/data/test_hendrycks.py",
    "--ignore=tests/backends/data/test_hub.py",
    "--ignore=tests/backends/tracking/test_wandb.py",
    "--deselect=tests/backends/test_plugins.py::test_every_built_in_is_there",
]
TESTS_WITH_EXTRA_TINKER = [
    "tests/backends/tinker",
    "tests/backends/testing",
    "tests/test_support",
    "--ignore=tests/backends/tinker/real",  # makes environments of its own
    "--ignore=tests/backends/tinker/test_equality.py",  # with the local backend
]


def uv(*arguments):
    """Run uv as if nothing were known of this workspace but the date that fixes the versions."""
    dated = ["--exclude-newer", SETTINGS["exclude-newer"]]
    command = [find_uv_bin(), *arguments[:2], *dated, *arguments[2:]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Package -> its wheel, built from its source distribution."""
    built = tmp_path_factory.mktemp("wheels")
    for name in PACKAGES:
        uv("build", f"packages/{name}", "--no-sources", "--quiet", "--out-dir", str(built))
    return {name: next(built.glob(f"{name.replace('-', '_')}-*.whl")) for name in PACKAGES}


@pytest.fixture(scope="session")
def constraints(wheels, tmp_path_factory):
    """Says where our packages are, so that an installation takes those it declares, from here."""
    file = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    file.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in wheels.items()))
    return str(file)


@pytest.fixture
def install(constraints, tmp_path):
    """Install one package alone into a fresh environment, and run Python there."""

    def make(package, *others):
        environment = tmp_path / "environment"
        python = str(environment / "bin" / "python")
        base = getattr(sys, "_base_executable", sys.executable)
        uv("venv", str(environment), "--python", base, "--quiet")
        uv("pip", "install", "--python", python, "--no-config", "-c", constraints, package)
        if others:
            uv("pip", "install", "--python", python, "--no-config", *others)

        def run(*arguments):
            return subprocess.run(
                [python, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
            )

        return run

    return make


def module_of(package):
    return package.partition("[")[0].replace("-", "_")


def canonical(distribution):
    return re.sub(r"[-_.]+", "-", distribution).lower()


def requirements(package):
    """Distributions that a package declares: of itself, and with all its extras."""
    text = (ROOT / "packages" / package / "pyproject.toml").read_text("utf-8")
    project = tomllib.loads(text)["project"]
    extras = project.get("optional-dependencies", {})
    own = {canonical(re.split(r"[^\w.-]", line)[0]) for line in project["dependencies"]}
    optional = (line for lines in extras.values() for line in lines)
    return own, own | {canonical(re.split(r"[^\w.-]", line)[0]) for line in optional}


def imports(path):
    """Top-level names that a file imports, those for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_of_a_declared_dependency(package):
    own, with_extras = requirements(package)
    distributions = packages_distributions()
    source = ROOT / "packages" / package / "src" / module_of(package)
    undeclared = {}
    for path in source.rglob("*.py"):
        file = path.relative_to(source).as_posix()
        declared = with_extras if file.startswith(WITH_EXTRA) else own
        others = set(imports(path)) - sys.stdlib_module_names - {module_of(package)}
        brought_by = {name: set(map(canonical, distributions.get(name, [name]))) for name in others}
        undeclared[file] = {name for name in others if not brought_by[name] & declared}
    assert {file: names for file, names in undeclared.items() if names} == {}


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_wheel_is_typed_and_holds_the_code_only(package, wheels):
    with zipfile.ZipFile(wheels[package]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert f"{module_of(package)}/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {module_of(package)}
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_wheel_of_backends_holds_the_model(wheels):
    model = "retrain_backends/models/tiny-arithmetic/"
    with zipfile.ZipFile(wheels["retrain-backends"]) as wheel:
        sizes = {i.filename.removeprefix(model): i.file_size for i in wheel.infolist()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= sizes.keys()
    assert sizes["model.safetensors"] <= 2 * 2**20
    assert wheels["retrain-backends"].stat().st_size <= 2 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "tests"),
    [
        ("retrain-core", ["tests/core"]),
        ("retrain-squeeze", ["tests/squeeze"]),
        ("retrain-backends", ["tests/backends", *TESTS_WITH_EXTRA]),
        ("retrain-backends[tinker]", TESTS_WITH_EXTRA_TINKER),
        ("retrain-campaign", []),
    ],
)
def test_alone_it_works_without_torch(package, tests, install):
    needed = ["pytest", "pytest-xdist", "hypothesis", "./test-support"]
    run = install(package, *(needed if tests else []))
    imported = run("-W", "error", "-c", f"import {module_of(package)}")
    assert (imported.returncode, imported.stderr) == (0, "")
    for heavy in ("torch", "peft", "datasets"):
        assert "ModuleNotFoundError" in run("-c", f"import {heavy}").stderr
    if tests:
        tested = run("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *tests)
        assert tested.returncode == 0, tested.stdout[-5000:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "brings", "lacks"),
    [
        ("retrain-core", {"numpy"}, {"pydantic", "torch", "transformers"}),
        (
            "retrain-squeeze",
            {"safetensors", "matplotlib"},
            {"retrain-core", "retrain-backends", "torch", "tinker", "wandb"},
        ),
        ("retrain-squeeze[tinker,wandb]", {"tinker", "httpx", "wandb"}, {"torch"}),
        ("retrain-backends[local]", {"torch", "peft", "datasets"}, {"typer-slim", "math-verify"}),
        ("retrain-campaign", {"retrain-squeeze"}, {"torch", "peft", "retrain-cli"}),
        ("retrain-cli", {"torch", "peft", "click", "math-verify", *PACKAGES}, {"trl"}),
    ],
)
def test_what_an_installation_brings(package, brings, lacks, constraints, tmp_path):
    uv("venv", str(tmp_path / "environment"), "--quiet")
    python = str(tmp_path / "environment" / "bin" / "python")
    dry = ["--python", python, "--no-config", "--dry-run"]
    plan = uv("pip", "install", *dry, "-c", constraints, package)
    brought = set(re.findall(r"^ \+ ([\w.-]+)(?:==| @ )", plan, re.M))
    assert brings <= brought
    assert lacks & brought == set()


@pytest.mark.slow
def test_the_extra_vllm_resolves_to_its_floor_or_newer(constraints, tmp_path):
    """Without a floor, the newest PyTorch beside it would leave a release of years ago."""
    text = (ROOT / "packages" / "retrain-backends" / "pyproject.toml").read_text("utf-8")
    [line] = tomllib.loads(text)["project"]["optional-dependencies"]["vllm"]
    floor = line.removeprefix("vllm>=")
    uv("venv", str(tmp_path / "environment"), "--quiet")
    python = str(tmp_path / "environment" / "bin" / "python")
    dry = ["--python", python, "--no-config", "--dry-run"]
    plan = uv("pip", "install", *dry, "-c", constraints, "retrain-backends[local,vllm]")
    [found] = re.findall(r"^ \+ vllm==([\d.]+)$", plan, re.M)
    assert release(found) >= release(floor) >= (0, 32)


def release(version):
    return tuple(map(int, version.split(".")))


def test_the_extra_vllm_does_not_hold_the_workspace_back():
    extra = {"package": "retrain-backends", "extra": "vllm"}
    assert [extra, {"group": "dev"}] in SETTINGS["conflicts"]
    assert [extra, {"group": "bench"}] in SETTINGS["conflicts"]


@pytest.mark.slow
def test_the_wheels_together_train(wheels, tmp_path):
    """With the dependencies of this environment, but our packages from their wheels alone."""
    site = tmp_path / "site"
    files = map(str, wheels.values())
    uv("pip", "install", "--no-config", "--no-deps", "--target", str(site), *files)
    program = (
        "import retrain_backends, retrain_cli.app, retrain_core;"
        "print(retrain_backends.__file__, retrain_cli.__file__, retrain_core.__file__);"
        "retrain_cli.app.main()"
    )
    steps = [str(ROOT / "examples" / "quickstart.toml"), "--max-steps", "2", "--group-size", "4"]
    done = subprocess.run(
        [sys.executable, "-c", program, *steps],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].count(str(site)) == 3
    assert (tmp_path / "logs/quickstart/final/adapter_model.safetensors").is_file()
