import pytest
from datasets import Dataset, DatasetDict, concatenate_datasets

from retrain_backends.config import DataConfig
from retrain_backends.data import load_examples
from retrain_backends.data.hendrycks import SUBJECTS, final_answer
from retrain_backends.errors import DataError
from retrain_backends.types import Example


def load(path, **settings):
    return load_examples(DataConfig(source="math", path=str(path), **settings), seed=0)


def expected(split):
    """The five subjects in their order, each with both rows."""
    answers = (r"\frac{1}{2}", str(len(split)))
    return [
        Example(f"{subject} {split} {i}", answers[i], {"subject": subject, "level": level})
        for subject in SUBJECTS
        for i, level in enumerate(["Level 5", "Level ?"])
    ]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_copy_of_the_hubs_repository(mirror, split):
    assert load(mirror, split=split) == expected(split)


def test_json_lines_in_the_same_layout(tmp_path, math_rows):
    for subject in SUBJECTS:
        for split, subjects in math_rows.items():
            (tmp_path / subject).mkdir(exist_ok=True)
            Dataset.from_dict(subjects[subject]).to_json(tmp_path / subject / f"{split}.jsonl")
    assert load(tmp_path) == expected("train")


def test_each_subject_saved_to_disk(tmp_path, math_rows):
    for subject in SUBJECTS:
        splits = {split: Dataset.from_dict(rows[subject]) for split, rows in math_rows.items()}
        DatasetDict(splits).save_to_disk(tmp_path / subject)
    assert load(tmp_path, split="test") == expected("test")
    with pytest.raises(DataError, match=r"has no split `tset`, it has .*; did you mean `test`\?$"):
        load(tmp_path, split="tset")


def test_all_subjects_saved_to_disk_together(tmp_path, math_rows):
    subjects = [Dataset.from_dict(columns) for columns in math_rows["train"].values()]
    concatenate_datasets(subjects).save_to_disk(tmp_path / "all")
    assert load(tmp_path / "all") == expected("train")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"$\boxed{1}$ and $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"our answer is $\boxed 2$.", "2"),
        (r"$\boxed {3}$", "3"),
        (r"$\boxed{1}$, then $\boxed \frac{1}{2}$", r"\frac{1}{2}"),
        (r"$\boxed 2$, then $\boxed{1}$", "1"),
        (r"no box", ""),
        (r"$\boxed{}$", ""),
    ],
)
def test_the_final_answer_of_a_solution(solution, answer):
    assert final_answer(solution) == answer


def test_a_solution_without_an_answer_names_its_row(mirror, math_rows):
    rows = Dataset.from_dict(math_rows["train"]["geometry"] | {"solution": [r"$\boxed{1}$", "?"]})
    rows.to_parquet(mirror / "geometry" / "train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"geometry \(split `train`\) row 1: the last box of") as e:
        load(mirror)
    assert "\n" not in str(e.value)


def test_data_that_are_not_there(mirror, tmp_path):
    with pytest.raises(DataError, match=r"^data.path: there is no directory `.*nothing`$"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match=r"has no directory `intermediate_algebra`; a copy of"):
        load(mirror / "geometry")
    with pytest.raises(DataError, match=r"cannot be read: .*trian") as caught:
        load(mirror, split="trian")
    assert "\n" not in str(caught.value)


def test_files_that_git_left_as_pointers(mirror):
    file = mirror / "intermediate_algebra" / "train-00000-of-00001.parquet"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"intermediate_algebra \(split `train`\) cannot be read"):
        load(mirror)
