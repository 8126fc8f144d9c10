"""Fingerprints: what counts as a change of code, and whom it concerns."""

import pytest

from pipeline import fingerprint as module

FILES = {
    "pipeline/__init__.py": "",
    "pipeline/store.py": "X = 1\n",
    "pipeline/mel.py": 'BANDS = 64  # AudioSet\n\n\ndef bands():\n    """How many."""\n    return BANDS\n',
    "pipeline/vggish.py": "from pipeline import mel, store\n",
    "pipeline/bert.py": "import pipeline.store\n",
    "pipeline/lazy.py": "def f():\n    from . import mel\n    return mel\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(module, "ROOT", tmp_path)

    def fingerprint(*names):
        for cached in (module.fingerprint, module._imports, module._canonical):
            cached.cache_clear()
        return module.fingerprint(*names)

    yield tmp_path, fingerprint
    for cached in (module.fingerprint, module._imports, module._canonical):
        cached.cache_clear()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_comment_a_docstring_and_layout_change_nothing(project):
    root, fingerprint = project
    before = fingerprint("pipeline.vggish")
    edit(root / "pipeline/mel.py", "# AudioSet", "# as AudioSet has it")
    edit(root / "pipeline/mel.py", "How many.", "How many bands.")
    edit(root / "pipeline/mel.py", "\n\n\ndef", "\n\n\n\n\ndef")
    assert fingerprint("pipeline.vggish") == before


def test_a_changed_value_reaches_those_that_import_it_and_no_other(project):
    root, fingerprint = project
    before = {name: fingerprint(f"pipeline.{name}") for name in ("vggish", "bert", "lazy")}
    edit(root / "pipeline/mel.py", "64", "128")
    after = {name: fingerprint(f"pipeline.{name}") for name in ("vggish", "bert", "lazy")}
    assert {name for name in before if before[name] != after[name]} == {"vggish", "lazy"}


def test_the_store_only_carries_values(project):
    root, fingerprint = project
    before = fingerprint("pipeline.bert")
    edit(root / "pipeline/store.py", "1", "2")
    assert fingerprint("pipeline.bert") == before


def test_an_unknown_module_is_named(project):
    _, fingerprint = project
    with pytest.raises(ModuleNotFoundError, match=r"pipeline\.nothing"):
        fingerprint("pipeline.nothing")
