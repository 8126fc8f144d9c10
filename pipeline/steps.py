"""What each step's output depends on, told in one place.

The Snakefile asks here for the params of its rules, the commands for the provenance of their files. Cheap to import:
nothing here loads torch, tensorflow or pandas.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import corpora, kept, store
from pipeline.corpora import published
from pipeline.errors import UserError
from pipeline.fingerprint import fingerprint


def is_published(settings: Mapping[str, Any]) -> bool:
    """Whether a corpus comes as the authors' own feature files instead of recordings."""
    return bool(settings.get("published"))


def annotation_files(corpus: str, settings: Mapping[str, Any]) -> list[str]:
    """The files that a corpus's catalog is read from. Raises UserError where one is missing."""
    return _ask(corpus, settings, "inputs")


def modalities(corpus: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The modalities that a corpus can have."""
    return _ask(corpus, settings, "modalities")


def _ask(corpus: str, settings: Mapping[str, Any], question: str) -> Any:
    if is_published(settings):
        return getattr(published, question)(corpus, settings)
    return getattr(corpora.adapter(corpus), question)(settings)


def code_of_catalog(corpus: str, settings: Mapping[str, Any]) -> str:
    """Fingerprint of the code that makes a catalog (or, for published features, the whole dataset)."""
    if is_published(settings):
        return fingerprint("pipeline.corpora.published", "pipeline.dataset")
    return fingerprint(corpora.adapter(corpus).__name__)


def code_of_media() -> str:
    """Fingerprint of the code that fetches and converts sound."""
    return fingerprint("pipeline.media.shard")


def code_of_dataset() -> str:
    """Fingerprint of the code that pools and joins."""
    return fingerprint("pipeline.dataset")


def state_of_raw_files(corpus: str, settings: Mapping[str, Any]) -> str:
    """A digest of the names, sizes and times of a corpus's media files: it changes when one of them does."""
    digest = hashlib.sha256()
    for path in sorted(_ask(corpus, settings, "raw_files")):
        entry = os.stat(path)
        digest.update(f"{path}\t{entry.st_size}\t{entry.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def next_attempt(media_path: str | Path) -> int:
    """The number of the next attempt at a media file: one more than the last where that says so, else the same.

    As a param of the rule it makes Snakemake run the rule again after a failure, and only then.
    """
    path = kept.beside(media_path)
    if not path.exists():
        return 1
    try:
        made_by = store.read_provenance(path)
    except UserError:
        return 1
    return made_by["attempt"] + (1 if made_by["again"] else 0)
