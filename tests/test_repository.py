"""Rules of the repository as a whole, checked on the files themselves."""

import ast
import inspect
import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from retrain_backends.config import RunConfig, load_config

ROOT = Path(__file__).parents[1]
PACKAGES = [
    "retrain_core",
    "retrain_backends",
    "retrain_squeeze",
    "retrain_campaign",
    "retrain_cli",
]
SOURCES = sorted(ROOT.glob("packages/*/src/**/*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = {
    "quickstart": "pip install uv && uv run retrain examples/quickstart.toml",
    "tests": "pip install uv && uv run pytest",
}

# Directory of tests -> directories with what they test.
TESTED = {
    "core": ["packages/retrain-core/src/retrain_core"],
    "backends": ["packages/retrain-backends/src/retrain_backends"],
    "squeeze": ["packages/retrain-squeeze/src/retrain_squeeze"],
    "campaign": ["packages/retrain-campaign/src/retrain_campaign"],
    "cli": [
        "packages/retrain-cli/src/retrain_cli",
        "packages/retrain-cli/src/retrain_cli/commands",
    ],
    "test_support": ["test-support/src/retrain_test_support"],
    "scripts": ["scripts"],
}
# Test modules about several modules at once, such as whole runs, or about something else.
NOT_MIRRORS = {
    "backends/config/test_models.py",
    "backends/config/test_round_trip.py",
    "backends/engines/mlx/test_runs.py",
    "backends/engines/real/test_mlx.py",
    "backends/engines/real/test_sglang.py",
    "backends/engines/real/test_vllm.py",
    "backends/engines/real/test_vllm_in_process.py",
    "backends/local/test_evaluate.py",
    "backends/local/test_run.py",
    "backends/rewards/test_custom.py",
    "backends/rewards/test_math.py",
    "backends/test_builtin_model.py",
    "backends/tinker/real/test_run.py",
    "backends/tinker/test_equality.py",
    "backends/tinker/test_runs.py",
    "backends/train/test_main.py",
    "campaign/executors/test_clusters.py",
    "campaign/test_access.py",
    "campaign/test_campaigns.py",
    "campaign/test_public_names.py",
    "core/test_public_names.py",
    "squeeze/test_peft.py",
    "squeeze/test_public_names.py",
}
BINARY = {".png", ".safetensors"}
KNOWN_SERVERS = {
    "127.0.0.1",
    "arxiv.org",
    "docs.astral.sh",
    "git-lfs.github.com",
    "huggingface.co",
    "json-schema.org",
    "keepachangelog.com",
    "localhost",
    "semver.org",
    "www.conventionalcommits.org",
}


def relative(path):
    return str(path.relative_to(ROOT))


def has_doc(value):
    return inspect.isclass(value) or inspect.isroutine(value)


def git(*arguments):
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def tracked():
    """Every file that git tracks."""
    code, output = git("ls-files", "-z")
    assert code == 0, "these checks need the git repository"
    return [ROOT / name for name in output.split("\0") if (ROOT / name).is_file()]


def fenced(page, language):
    """The blocks of a language in a page of Markdown."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_files_and_functions_are_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    lengths = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def has_mirror(test):
    """Whether the module or package of that name is at the same place in the sources."""
    place, name = test.relative_to(ROOT / "tests"), test.stem.removeprefix("test_")
    for source in TESTED[place.parts[0]]:
        directory = ROOT.joinpath(source, *place.parts[1:-1])
        if (directory / f"{name}.py").is_file() or (directory / name / "__init__.py").is_file():
            return True
    return False


def test_test_modules_mirror_modules():
    tests = {path for name in TESTED for path in ROOT.glob(f"tests/{name}/**/test_*.py")}
    others = {path.relative_to(ROOT / "tests").as_posix() for path in tests if not has_mirror(path)}
    assert others == NOT_MIRRORS


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_exist_and_are_documented(name):
    package = import_module(name)
    assert package.__doc__
    public = {key: getattr(package, key) for key in package.__all__ if key != "__version__"}
    documented = {key: inspect.getdoc(value) for key, value in public.items() if has_doc(value)}
    assert [key for key, doc in documented.items() if not doc] == []


def test_packages_carry_one_version():
    declared = {
        tomllib.loads(path.read_text("utf-8"))["project"]["version"]
        for path in [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
    }
    assert declared == {import_module(name).__version__ for name in PACKAGES}
    assert len(declared) == 1
    assert f"## [{declared.pop()}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.toml")), ids=relative)
def test_examples_load(path):
    assert isinstance(load_config(path), RunConfig)


def test_api_page_has_every_public_function_of_core():
    page = (ROOT / "docs/api/core.md").read_text("utf-8")
    core = import_module("retrain_core")
    modules = {getattr(core, name).__module__ for name in core.__all__ if name[0].islower()}
    assert [module for module in sorted(modules) if f"::: {module}\n" not in page] == []


def test_readme_is_short_and_gives_the_two_commands():
    assert len(README.splitlines()) <= 150
    assert all(f"$ {command}\n" in README for command in COMMANDS.values())


def test_ci_and_docs_use_the_commands_of_the_readme():
    assert COMMANDS["tests"] in (ROOT / ".ci/run").read_text("utf-8")
    for page in ("docs/index.md", "docs/getting-started.md"):
        assert COMMANDS["quickstart"] in (ROOT / page).read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_toml_in_pages_is_valid(page):
    for block in fenced(page, "toml"):
        tables = tomllib.loads(block)
        assert tables
        if tables.keys() <= RunConfig.model_fields.keys():
            RunConfig.model_validate(tables)


def test_uv_lock_is_ignored_and_not_tracked(tracked):
    assert ROOT / "uv.lock" not in tracked
    assert git("check-ignore", "uv.lock")[0] == 0


def test_tracked_files_name_no_machine_and_no_unexpected_server(tracked):
    """Paths of a machine, and addresses of package indexes, belong to one machine only."""
    path_of_machine = re.compile(rb"(?<![\w.~])/(?:home|root|tmp|Users|work)/[\w.-]+")
    server = re.compile(rb"https?://([A-Za-z0-9.-]*[A-Za-z0-9])")
    found = {}
    for path in tracked:
        content = b"" if path.suffix in BINARY else path.read_bytes()
        servers = {name.decode() for name in server.findall(content)} - KNOWN_SERVERS
        if servers or path_of_machine.search(content):
            found[relative(path)] = servers or "a path"
    assert found == {}


@pytest.mark.parametrize("path", sorted(ROOT.glob("packages/*")), ids=relative)
def test_packages_are_typed_and_read(path):
    (package,) = (path / "src").iterdir()
    assert (package / "py.typed").is_file()
    readme = (path / "README.md").read_text("utf-8")
    assert readme.startswith(f"# {path.name}\n")
    assert "pip install" in readme
