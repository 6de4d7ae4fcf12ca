import pytest

from retrain_squeeze.errors import SqueezeConfigError
from retrain_squeeze.load import load_job


@pytest.fixture
def load(tmp_path):
    """The job of a file called squeeze.toml."""

    def read(text):
        file = tmp_path / "squeeze.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_job(file, {}, {})

    return read


@pytest.fixture
def problems(load, tmp_path):
    """The lines about such a file, without its directory."""

    def told(text):
        with pytest.raises(SqueezeConfigError) as error:
            load(text)
        return [line.replace(f"{tmp_path}/", "") for line in error.value.problems]

    return told


def test_defaults(load):
    job = load("[squeeze]\nadapter_path = 'a'\n")
    assert job.squeeze.model_dump() == {
        "min_variance_retention": 0.95,
        "adapter_path": "a",
        "source_rank": 0,
        "target_ranks": (),
        "output_path": "",
        "compress_to": 0,
        "per_module": False,
        "device": "cpu",
    }


def test_what_it_reads_of_other_tables(load):
    job = load(
        "[squeeze]\nadapter_path = 'a'\n"
        "[model]\nmodel = 'm'\nlora_rank = 8\nbase_url = 'http://localhost:1'\n"
        "[logging]\nlog_dir = 'l'\nwandb_project = 'p'\n"
    )
    assert job.model.base_url == "http://localhost:1"
    assert job.logging.wandb_project == "p"


def test_every_mistake_is_a_line(problems):
    wrong = (
        "lr = 1\n"
        "[squeeze]\nmin_variance_retention = 1.5\ntarget_rank = [4]\ndevice = ''\n"
        "[logging]\nwandb_projekt = 'p'\n"
        "[loging]\n[training]\n"
    )
    assert problems(wrong) == [
        "squeeze.toml: [squeeze] min_variance_retention is `1.5`; it must be a number > 0 and <= 1",
        'squeeze.toml: [squeeze] device is `""`; it must be text, not empty',
        "squeeze.toml: [squeeze] target_rank is an unknown key; did you mean target_ranks?",
        "squeeze.toml: [logging] wandb_projekt is an unknown key; did you mean wandb_project?",
        "squeeze.toml: lr stands outside of any table; did you mean [squeeze]?",
        "squeeze.toml: [loging] is no table of an analysis, which reads [squeeze], [model], "
        "[logging]; did you mean [logging]?",
        "squeeze.toml: [training] is no table of an analysis, which reads [squeeze], [model], "
        "[logging]",
    ]


@pytest.mark.parametrize("value", ["0", "0.0", "-1", "nan", "inf", "1.01", "'x'", "true", "[1]"])
def test_a_threshold_is_above_0_and_at_most_1(problems, value):
    (line,) = problems(f"[squeeze]\nadapter_path = 'a'\nmin_variance_retention = {value}\n")
    assert line.endswith("it must be a number > 0 and <= 1")


@pytest.mark.parametrize("value", ["[0]", "[2, 2]", "[1.0]", "4", "['4']"])
def test_target_ranks_are_different_integers(problems, value):
    (line,) = problems(f"[squeeze]\nadapter_path = 'a'\ntarget_ranks = {value}\n")
    assert line.endswith("it must be a list of integers >= 1, without repetition")


def test_a_password_in_an_address_is_refused_and_not_shown(problems):
    text = "[squeeze]\nadapter_path = 'a'\n[model]\nbase_url = 'http://_:hush@localhost'\n"
    (line,) = problems(text)
    assert line.startswith('squeeze.toml: [model] base_url is `"http://...@localhost"`; it must be')


def test_no_adapter(problems):
    assert problems("[squeeze]\n") == [
        "squeeze.toml: [squeeze] adapter_path is missing; "
        "name a PEFT adapter's directory or a tinker:// path"
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "squeeze.toml: there is no table [squeeze], which says what to analyse; write"),
        ("[sqeeze]\n", "squeeze.toml: there is no table [squeeze], which says what to analyse; "),
        ("squeeze = 1\n", "squeeze.toml: squeeze must be a table: [squeeze]"),
        ("[squeeze\n", "squeeze.toml: is not TOML: "),
        (b"\xff", "squeeze.toml: is not UTF-8 text; save it as UTF-8"),
        (f"x = {'[' * 5000}", "squeeze.toml: is nested too deeply"),
    ],
)
def test_no_squeeze_file(problems, text, line):
    (problem,) = problems(text)
    assert problem.startswith(line)


def test_a_similar_file_is_suggested(tmp_path):
    (tmp_path / "squeeze.toml").touch()
    with pytest.raises(SqueezeConfigError, match=r"no such file; did you mean .*squeeze\.toml\?"):
        load_job(tmp_path / "sqeeze.toml", {}, {})


def test_settings_that_clash(problems, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "file").touch()
    start = "[squeeze]\nadapter_path = 'a'\n"
    assert problems(start + "per_module = true\ncompress_to = 4\n") == [
        "squeeze.toml: [squeeze] compress_to is `4`, but nothing is written; "
        "set output_path to a directory, or leave it out",
        "squeeze.toml: [squeeze] per_module is `true`, but nothing is written; "
        "set output_path to a directory, or leave it out",
        "squeeze.toml: [squeeze] compress_to is `4`, but per_module chooses the ranks; "
        "leave out one of the two",
    ]
    (line,) = problems(start + f"output_path = '{tmp_path / 'full'}'\n")
    assert line.endswith("which is a directory with files in it; name a new or an empty one")
    (line,) = problems(start + f"output_path = '{tmp_path / 'file'}'\n")
    assert line.endswith("which is a file; name a directory")
