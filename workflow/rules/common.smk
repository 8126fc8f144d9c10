"""The configuration, checked, and what the rules share. Helpers are named get_* and is_*."""

import functools
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

# `python` in a rule is the interpreter that runs Snakemake, so that no virtual environment needs to be active; it stands
# in no param, so that another environment recomputes nothing. With --sdm conda it is the one of environment.yml.
# A prefix takes the place of Snakemake's own, so it has to say again that a failing command fails its pipe and its job.
if DeploymentMethod.CONDA not in workflow.deployment_settings.deployment_method:
    shell.prefix(f"set -euo pipefail; export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")
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
    """The modalities that both the corpus and the configuration have.

    Raises WorkflowError where there are none: beside another corpus, this one would be missing from the tables unsaid.
    """
    try:
        has = steps.modalities(corpus, CORPORA[corpus])
    except UserError as error:
        raise WorkflowError(str(error)) from None
    found = [name for name in store.MODALITIES if name in has and (is_published(corpus) or name in CONFIG["features"])]
    if not found:
        keys = " or ".join(f"features.{name}" for name in store.MODALITIES if name in has)
        raise WorkflowError(f"`features` names no extractor for what the corpus {corpus} has; add {keys}")
    return found


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


def get_corpus_settings(corpus):
    """The settings of a corpus that its catalog depends on."""
    elsewhere = ("shards", "proxy", "launcher")
    settings = {key: value for key, value in CORPORA[corpus].items() if key not in elsewhere}
    return settings | ({"judgenet": CONFIG["judgenet"]} if is_published(corpus) else {})


def get_annotation_files(corpus):
    """The files that a catalog is read from."""
    try:
        return steps.annotation_files(corpus, get_corpus_settings(corpus))
    except UserError as error:
        raise WorkflowError(str(error)) from None


# Asked for at once, so that a missing corpus is told before anything runs, and in one line.
ANNOTATIONS = {corpus: get_annotation_files(corpus) for corpus in CORPORA}


@functools.cache
def get_raw_state(corpus):
    """Changes when a recording or a film does. All that read them ask for it: a catalog that is the same reruns nothing."""
    return steps.state_of_raw_files(corpus, get_corpus_settings(corpus))


def get_media_settings(corpus):
    return {key: CORPORA[corpus][key] for key in ("proxy",) if CORPORA[corpus].get(key)}


def get_launcher(wildcards):
    """What the download runs inside of, where the corpus names a program for that."""
    launcher = CORPORA[wildcards.corpus].get("launcher")
    return f"{shlex.quote(launcher)} -- python" if launcher else ""


def get_attempt(wildcards):
    """Grows after a run in which an item failed for a passing cause, so that the next call tries it again."""
    return steps.next_attempt(f"{RESULTS}/{wildcards.corpus}/media/{wildcards.shard}.parquet")


def get_extractor(modality):
    """The extractor's settings; how its rows are pooled later is no concern of theirs."""
    settings = CONFIG["features"][modality]
    return get_settings(**{key: value for key, value in settings.items() if key != "pooling"})


def get_features_code(modality):
    """What the rows of a modality depend on: code, settings and weights."""
    try:
        return bundle.fingerprint_of(modality, CONFIG["features"][modality])
    except UserError as error:
        raise WorkflowError(str(error)) from None


# As with the annotations: weights that are missing are told before anything runs, and in one line.
FEATURES_CODE = {
    modality: get_features_code(modality)
    for modality in CONFIG["features"]
    if any(modality in get_modalities(corpus) for corpus in CORPORA if not is_published(corpus))
}


def get_weights(wildcards):
    """The converted weights of an extractor that needs some."""
    if bundle.needs_weights_file(wildcards.modality, CONFIG["features"][wildcards.modality]):
        return f"{RESULTS}/weights/{wildcards.modality}.safetensors"
    return []


def get_media(wildcards):
    """The shard's sound, for the modality that listens."""
    if wildcards.modality != "acoustic":
        return []
    return f"{RESULTS}/{wildcards.corpus}/media/{wildcards.shard}.parquet"


def get_pooling(corpus):
    """How the rows of an item become one vector, for the modalities that offer a choice."""
    return {
        modality: {"pooling": CONFIG["features"][modality]["pooling"]}
        for modality in get_modalities(corpus)
        if "pooling" in CONFIG["features"][modality]
    }


def get_features_by_modality(wildcards):
    corpus = wildcards.corpus
    return {modality: get_feature_files(corpus, modality) for modality in get_modalities(corpus)}


def get_report_file():
    return f"{RESULTS}/report/index.html"
