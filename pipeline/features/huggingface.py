"""Models from the Hugging Face hub, a folder, or a Python package that ships one: found, identified and loaded."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline import store
from pipeline.errors import UserError

PACKAGE = "package:"
GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
Loaded = TypeVar("Loaded")


def folder_of(model: str) -> Path | None:
    """The folder that `model` names (a path, or ``package:NAME/FOLDER``); None where it is a name on the hub.

    Raises UserError for a package that is not installed, or a folder without a config.json.
    """
    if model.startswith(PACKAGE):
        package, _, inside = model.removeprefix(PACKAGE).partition("/")
        found = importlib.util.find_spec(package)
        if found is None or found.origin is None:
            raise UserError(f"model {model}: the Python package {package} is not installed; pip install it")
        folder = Path(found.origin).parent / inside
    else:
        folder = Path(model)
        if not folder.is_dir():
            if model.startswith((".", "/", "~")) or model.count("/") > 1:
                raise UserError(f"model {model}: there is no such folder; put config.json and model.safetensors there")
            return None
    if not (folder / "config.json").is_file():
        raise UserError(f"model {model}: {folder} holds no config.json; it must be a folder that transformers can load")
    return folder


def identity(model: str, revision: str | None) -> str:
    """What tells these weights from others: the hub's name and revision, or a folder's name and content."""
    folder = folder_of(model)
    if folder is None:
        return f"{model}@{revision or 'main'}"
    return f"{model}@{content_hash(folder)}"


def content_hash(path: Path) -> str:
    """Hash of the files below a folder, names and bytes (or of one file): it changes when weights are trained again.

    Hidden files are left out: git and the hub's client keep notes there that change while the weights do not.
    """
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    names = [file.relative_to(path) for file in files]
    content = [
        (str(name), _sha256_of(file, file.stat().st_size, file.stat().st_mtime_ns))
        for name, file in zip(names, files, strict=True)
        if not any(part.startswith((".", "__pycache__")) for part in name.parts)
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@functools.cache
def _sha256_of(path: Path, size: int, mtime_ns: int) -> str:
    """A file's hash. Every job of a workflow asks for its weights': the file is read again only once it has changed."""
    return store.sha256_of(path)


def load(loader: Callable[..., Loaded], model: str, revision: str | None, **options: Any) -> Loaded:
    """``loader(model or its folder, revision=…)``, e.g. with ``AutoModel.from_pretrained``.

    Raises UserError where the model is neither here nor to be had, with which files to put where, and where a file of
    it is damaged, with which one.
    """
    import transformers
    from safetensors import SafetensorError

    transformers.logging.disable_progress_bar()  # of reading a file that is here: it fills logs with nothing
    damaged = (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError)
    folder = folder_of(model)
    if folder is not None:
        try:
            return loader(str(folder), local_files_only=True, **options)
        except (OSError, ValueError, KeyError, *damaged) as error:
            why = _damage(folder, "copy or download it again") or _first_line(error)
            raise UserError(f"model {model}: transformers cannot load {folder}: {why}") from error
    try:
        return loader(model, revision=revision, **options)
    except damaged as error:
        snapshot = Path(transformers.utils.cached_file(model, "config.json", revision=revision)).parent
        again = f"run `hf download {model} --force-download`"
        raise UserError(
            f"model {model} (revision {revision or 'main'}): transformers cannot load {snapshot}: "
            + (_damage(snapshot, again) or f"{_first_line(error)}; {again}")
        ) from error
    except (OSError, ValueError) as error:
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        raise UserError(
            f"model {model} (revision {revision or 'main'}) is not in the cache {cache} and could not be downloaded "
            f"({_first_line(error)}). Where there is a network, run `hf download {model}`, then copy that cache here; "
            "or put config.json, model.safetensors and the files of its tokenizer or preprocessor in a folder and "
            "write model: FOLDER in the config"
        ) from error


def _damage(folder: Path, again: str) -> str | None:
    """Which weights in a folder are not whole, and what to do; None where that is not what is wrong."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")):
        with path.open("rb") as file:
            if file.read(len(GIT_LFS_POINTER)) == GIT_LFS_POINTER:
                return f"{path} is a pointer of git-lfs, not the weights: run `git lfs pull` in that folder, or {again}"
        if path.suffix == ".safetensors":
            try:
                with safe_open(str(path), framework="numpy"):
                    pass
            except SafetensorError as error:
                return f"{path} is not whole ({error}): {again}"
    return None


def revision_of(network: Any, model: str, revision: str | None) -> str | None:
    """The commit that was loaded; for a folder, the hash of its content."""
    folder = folder_of(model)
    if folder is not None:
        return content_hash(folder)
    return getattr(network.config, "_commit_hash", None) or revision


def licence_of(model: str) -> str:
    """The licence that a folder's README names in its head; else where to look."""
    folder = folder_of(model)
    if folder is None:
        return f"see https://huggingface.co/{model}"
    readme = folder / "README.md"
    if readme.is_file():
        for line in readme.read_text(errors="replace").splitlines()[:40]:
            if line.startswith("license:"):
                return line.removeprefix("license:").strip()
    return "not stated by the folder"


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
