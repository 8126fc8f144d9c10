"""What several tests share: where the real data lie that are not part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import pipeline.features  # noqa: E402, F401  before torch: see there


@pytest.fixture
def one_thread():
    """A product over several threads rounds in another order, and an absolute error's sign may turn on that."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout (other licences than ours): published features, media, references."""
    folder = Path(os.environ.get("SHARED_DATA", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: put the folder `shared` beside the checkout, or name it in SHARED_DATA")
    return folder
