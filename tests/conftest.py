import pytest
import torch
from hypothesis import settings

settings.register_profile("attnprof", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("attnprof")


def pytest_collection_modifyitems(config, items):
    if torch.cuda.is_available():
        return
    for item in items:
        if "cuda" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    """Records without --out go to a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
