"""The configuration, checked, and what the rules share. Helpers are named get_* and is_*."""

import json
import os
import re
import shlex
import sys

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, workflow.basedir)

from pipeline import steps, store
from pipeline.config import validated
from pipeline.errors import UserError
from pipeline.features import bundle
from pipeline.fingerprint import fingerprint


def get_config():
    """The configuration with its defaults, or an error that names the wrong key."""
    if "corpora" not in config:
        raise WorkflowError("no corpora are configured: name a file with --configfile, for example config/demo.yaml")
    try:
        checked = validated(config, f"{workflow.basedir}/workflow/schemas/config.schema.yaml")
        for modality, settings in checked["features"].items():
            bundle.check(modality, settings)
        return checked
    except UserError as error:
        raise WorkflowError(str(error)) from None


CONFIG = get_config()
RESULTS = CONFIG["results"]
CORPORA = CONFIG["corpora"]

# The interpreter that runs Snakemake, so that no virtual environment needs to be active; with --sdm conda, conda's.
PYTHON = (
    "python"
    if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    else shlex.quote(sys.executable)
)
ENVIRONMENT = f"{workflow.basedir}/environment.yml"


wildcard_constraints:
    corpus="[a-z][a-z0-9_]*",
    modality="lexical|acoustic|visual",
    shard=r"\d{3}",


def is_published(corpus):
    return steps.is_published(CORPORA[corpus])


def get_any_of(names):
    """A wildcard pattern for any of `names`, and for nothing where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


RAW = get_any_of(name for name in CORPORA if not is_published(name))
PUBLISHED = get_any_of(name for name in CORPORA if is_published(name))


def get_settings(**settings):
    """Settings as the one JSON argument that a command takes, the same text for the same settings."""
    return shlex.quote(json.dumps(settings, sort_keys=True))


def get_modalities(corpus):
    """The modalities that both the corpus and the configuration have."""
    try:
        has = steps.modalities(corpus, CORPORA[corpus])
    except UserError as error:
        raise WorkflowError(str(error)) from None
    return [name for name in store.MODALITIES if name in has and (is_published(corpus) or name in CONFIG["features"])]


def get_shards(corpus):
    return [f"{number:03d}" for number in range(CORPORA[corpus].get("shards", 1))]


def get_media_files(corpus):
    """The media files of a corpus whose features need its sound; none for one of text alone."""
    needed = not is_published(corpus) and "acoustic" in get_modalities(corpus)
    return expand(f"{RESULTS}/{corpus}/media/{{shard}}.parquet", shard=get_shards(corpus)) if needed else []


def get_feature_files(corpus, modality):
    return expand(f"{RESULTS}/{corpus}/features/{modality}/{{shard}}.parquet", shard=get_shards(corpus))


def get_all_feature_files():
    return [
        path
        for corpus in CORPORA
        if not is_published(corpus)
        for modality in get_modalities(corpus)
        for path in get_feature_files(corpus, modality)
    ]


def get_dataset_files():
    return expand(f"{RESULTS}/{{corpus}}/dataset.parquet", corpus=CORPORA)


def get_quality_files():
    return expand(f"{RESULTS}/{{corpus}}/quality.parquet", corpus=CORPORA)
