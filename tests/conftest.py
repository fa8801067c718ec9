import os

import pytest
from hypothesis import settings

# Test processes side by side, each with OpenMP's threads of every core, would wait for one another. Read when
# torch is loaded, which some of these imports do.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from attnprof.cases.cards import parse_cards
from attnprof.emulation import emulation_environment
from attnprof.emulation.toolkit import EmulationError, find_toolkit
from attnprof.emulation.watch.journal import emulated_driver

settings.register_profile("attnprof", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("attnprof")


def pytest_collection_modifyitems(config, items):
    marked = [item for item in items if "cuda" in item.keywords]
    if not marked:
        return
    import torch

    here = torch.cuda.is_available()
    emulated = here and emulated_driver() is not None
    for item in marked:
        if not here:
            item.add_marker(pytest.mark.skip(reason="no CUDA device here; python -m attnprof.emulation brings one"))
        elif emulated and "computes" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs values or time, which an emulated card has not"))


@pytest.fixture(autouse=True)
def state_folder(tmp_path, monkeypatch):
    """Records without --out go to a folder of the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture(scope="session")
def on_card():
    """From a `--gpu` spelling to the environment in which a process finds that card."""

    def environ(spelling, *, values=False):
        [card] = parse_cards(spelling)
        return emulation_environment(card, values=values)

    try:
        find_toolkit()
    except EmulationError as error:
        pytest.skip(str(error))
    return environ
