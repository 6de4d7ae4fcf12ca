import subprocess
import sys
from contextlib import chdir

import pytest

from retrain_backends.config import RewardConfig, sections
from retrain_backends.dotted_names import load_object
from retrain_backends.errors import NotAvailableError, PluginError
from retrain_backends.planning.regex import RegexDetector
from retrain_backends.plugins import KINDS, build, check_available, names, resolve
from retrain_backends.rewards import build_reward
from retrain_backends.types import Example, Rollout, Verdict
from retrain_core import ADVANTAGE_MODES, grpo

MODULE = """
from retrain_backends.types import Verdict

class Half:
    def score(self, items):
        return [Verdict(0.5) for _ in items]

class Judge:
    def __init__(self, model):
        self.model = model

    @classmethod
    def from_config(cls, config):
        return cls(config.judge_model)

    def score(self, items):
        return [Verdict(float(len(self.model))) for _ in items]

def half():
    return Half()

def nothing():
    return None

class Needs:
    def __init__(self, something):
        self.something = something

    def score(self, items):
        return []

number = 3
"""


@pytest.fixture
def module(tmp_path_factory):
    """The name of a user's module; the working directory is where it lies."""
    directory = tmp_path_factory.mktemp("user")
    name = f"module_of_{directory.name}"
    (directory / f"{name}.py").write_text(MODULE)
    (directory / f"{name}_broken.py").write_text("1 / 0")
    (directory / f"{name}_needy.py").write_text("import no_such_package.part")
    path = sys.path.copy()
    with chdir(directory):
        yield name
    sys.path[:] = path


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, known in KINDS.items() for name in known.builtins]
)
def test_every_built_in_is_there(kind, name):
    found = resolve(kind, name)
    assert callable(getattr(found, "from_config", found))


def test_configuration_and_tables_know_the_same_names():
    described = {field.path: set(field.names) for table in sections() for field in table.fields}
    for known in KINDS.values():
        assert described[known.setting] == {*known.builtins, *known.later}, known.setting


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, known in KINDS.items() for name in sorted(known.later)],
)
def test_parts_of_a_later_version_are_refused(kind, name):
    with pytest.raises(NotAvailableError, match=f"`{name}` is not available in this version"):
        check_available(kind, name)
    with pytest.raises(NotAvailableError):
        resolve(kind, name)


@pytest.mark.parametrize("form", ["{}.Half", "{}:Half", "{}.half", "{}:Half.__call__.__self__"])
def test_a_dotted_name_leads_into_the_working_directory(module, form):
    reward = build("reward", form.format(module))
    assert reward.score([Rollout(Example("q", "1"), "")]) == [Verdict(0.5)]


def test_a_class_with_from_config_gets_its_section(module):
    config = RewardConfig(type=f"{module}.Judge", judge_model="four")
    assert build_reward(config).score([Rollout(Example("q", "1"), "")]) == [Verdict(4.0)]


def test_load_object():
    assert load_object("retrain_core.grpo") is grpo
    assert load_object("retrain_core:ADVANTAGE_MODES.grpo") is ADVANTAGE_MODES["grpo"]
    assert load_object("retrain_backends.planning.regex:RegexDetector.masks") is RegexDetector.masks


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("plain", r"there is no reward `plain`; known: .*`my_module.my_object`$"),
        ("mach", r"there is no reward `mach`; known: .*; did you mean `match`\?$"),
        ("no_module_x.y", r"there is no module `no_module_x`, neither in the working directory"),
        ("retrain_core.no.y", r"there is no module `retrain_core.no`"),
        ("{}.half_", r"`{}` has no `half_`; did you mean `half`\?$"),
        ("{}_broken.x", r"importing `{}_broken` failed: ZeroDivisionError: division by zero$"),
        ("{}_needy.x", r"needs the package `no_such_package`, which is not installed$"),
        ("{}.number", r"is a int; a class or a function that makes one is expected$"),
        ("{}.nothing", r"is no reward: it lacks `score`$"),
        ("pathlib.Path", r"is no reward: it lacks `score`$"),
        ("{}.Needs", r"building `.*Needs` failed: TypeError: "),
        (":x", r"is not a dotted name; write"),
    ],
)
def test_names_that_lead_nowhere_are_one_line(module, name, problem):
    with pytest.raises(PluginError, match=problem.format(module)) as caught:
        build("reward", name.format(module), RewardConfig())
    assert str(caught.value).startswith("reward.type: ")
    assert "\n" not in str(caught.value)


def test_a_function_is_expected_where_a_function_is_used(module):
    with pytest.raises(PluginError, match=r"is a int; a function is expected$"):
        resolve("advantage", f"{module}.number")
    assert resolve("advantage", f"{module}.half")() is not None


@pytest.fixture
def install(tmp_path):
    """Installs a package with one entry point, `name`, that leads to a class of its module."""
    path = sys.path.copy()
    sys.path.insert(0, str(tmp_path))

    def install(package, name, attribute):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        target = f"{package}_of_{tmp_path.name}"
        (info / "entry_points.txt").write_text(
            f"[retrain.plugins]\n{name} = {target}:{attribute}\n"
        )
        (tmp_path / f"{target}.py").write_text(MODULE)

    yield install
    sys.path[:] = path


@pytest.mark.parametrize("name", ["half", "reward.half"])
def test_an_entry_point_is_reached_by_its_name(install, name):
    install("acme", "reward.half", "Half")
    assert "half" in names("reward")
    assert "half" not in names("source")
    reward = build_reward(RewardConfig(type=name))
    assert reward.score([Rollout(Example("q", "1"), "")]) == [Verdict(0.5)]


def test_two_packages_with_the_same_plugin(install):
    install("one", "reward.twice", "Half")
    install("two", "reward.twice", "half")
    with pytest.raises(PluginError, match="two installed packages offer the reward `twice`"):
        resolve("reward", "twice")


def test_plugins_and_data_import_nothing_heavy():
    code = (
        "import sys, retrain_backends.plugins, retrain_backends.data, retrain_backends.rewards,"
        " retrain_backends.planning;"
        "print([m for m in ('torch', 'transformers', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
