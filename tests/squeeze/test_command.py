import pytest

from retrain_squeeze.command import read_command_line
from retrain_squeeze.errors import SqueezeConfigError


@pytest.fixture
def adapter(tmp_path):
    """A directory that may be an adapter's."""
    path = tmp_path / "adapter"
    path.mkdir()
    return str(path)


def problems(*arguments):
    with pytest.raises(SqueezeConfigError) as told:
        read_command_line(arguments, "retrain squeeze")
    assert told.value.exit_code == 2
    return list(told.value.problems)


def test_a_directory_is_the_adapter(adapter):
    request = read_command_line([adapter, "--json"], "retrain squeeze")
    assert request.as_json
    assert request.job.squeeze.adapter_path == adapter
    assert request.job.squeeze.min_variance_retention == 0.95


def test_a_remote_path_is_the_adapter():
    request = read_command_line(["tinker://run/weights/last"], "retrain squeeze")
    assert request.job.squeeze.adapter_path == "tinker://run/weights/last"


def test_every_flag_sets_its_key(adapter, tmp_path):
    request = read_command_line(
        [
            *("--min-variance-retention", "1", "--source-rank", "16", "--target-ranks", "2,4"),
            *("--output-path", str(tmp_path / "out"), "--per-module", "--device=cuda:1"),
            *("--base-url", "http://localhost:1", "--wandb-project", "p", "--wandb-tags", "a,b"),
            adapter,
        ],
        "retrain squeeze",
    )
    told = request.job.squeeze
    assert (told.min_variance_retention, told.source_rank, told.target_ranks) == (1.0, 16, (2, 4))
    assert (told.output_path, told.per_module) == (str(tmp_path / "out"), True)
    assert told.device == "cuda:1"
    assert request.job.model.base_url == "http://localhost:1"
    assert (request.job.logging.wandb_project, request.job.logging.wandb_tags) == ("p", "a,b")


def test_a_flag_beats_the_file(tmp_path):
    file = tmp_path / "squeeze.toml"
    file.write_text("[squeeze]\nadapter_path = 'x'\ntarget_ranks = [1, 2]\nsource_rank = 4\n")
    told = read_command_line([str(file), "--target-ranks", "[3]"], "p").job.squeeze
    assert (told.target_ranks, told.source_rank) == ((3,), 4)


def test_all_mistakes_at_once(adapter):
    assert problems(adapter, "--devic", "cpu", "--target-ranks", "4,4", "--source-rank", "x") == [
        "--devic: unknown flag; did you mean --device?",
        "--source-rank is `x`; it must be an integer >= 0",
        "--target-ranks is `[4, 4]`; it must be a list of integers >= 1, without repetition",
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "name an adapter's directory or a TOML file; `retrain squeeze --help` has more"),
        (["nowhere"], "nowhere: no such directory or file"),
        (["no.toml"], "no.toml: no such file"),
        (["tinker://a/weights/b", "c"], "c: one adapter or file at a time"),
        (["tinker://a/weights/b", "--device"], "--device: expected one argument; `retrain"),
        (["tinker://a/weights/b", "--zzz=1"], "--zzz: unknown flag; --help lists them all"),
        (
            ["tinker://a/weights/b", "--compress-to", "4"],
            "--compress-to is `4`, but nothing is written; set output_path to a directory",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, line):
    (problem,) = problems(*arguments)
    assert problem.startswith(line)


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as ended:
        read_command_line(["--help"], "retrain squeeze")
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert "retrain squeeze logs/quickstart/final --output-path small" in page
    assert '[squeeze]\n  adapter_path = "logs/quickstart/final"' in page
    assert "Share of the update's variance that the rank must keep. [0.95]" in " ".join(
        page.split()
    )
