"""Catalogs: one row an item, whatever the corpus. What is particular to a corpus is in pipeline/corpora/."""


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


rule catalog:
    input:
        lambda wildcards: ANNOTATIONS[wildcards.corpus],
    output:
        catalog=RESULTS + "/{corpus}/catalog.parquet",
    log:
        RESULTS + "/logs/{corpus}/catalog.log",
    benchmark:
        RESULTS + "/benchmarks/{corpus}/catalog.tsv"
    wildcard_constraints:
        corpus=RAW,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda wildcards: get_settings(**get_corpus_settings(wildcards.corpus)),
        raw=lambda wildcards: steps.state_of_raw_files(wildcards.corpus, get_corpus_settings(wildcards.corpus)),
        code=lambda wildcards: steps.code_of_catalog(wildcards.corpus, CORPORA[wildcards.corpus]),
    message:
        "{wildcards.corpus}: reading the corpus into a catalog"
    shell:
        "{PYTHON} -m pipeline catalog {wildcards.corpus} --settings {params.settings} --output {output.catalog} 2>&1 | tee {log}"


rule published:
    input:
        lambda wildcards: ANNOTATIONS[wildcards.corpus],
    output:
        catalog=RESULTS + "/{corpus}/catalog.parquet",
        dataset=RESULTS + "/{corpus}/dataset.parquet",
        quality=RESULTS + "/{corpus}/quality.parquet",
    log:
        RESULTS + "/logs/{corpus}/published.log",
    benchmark:
        RESULTS + "/benchmarks/{corpus}/published.tsv"
    wildcard_constraints:
        corpus=PUBLISHED,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda wildcards: get_settings(**get_corpus_settings(wildcards.corpus)),
        raw=lambda wildcards: steps.state_of_raw_files(wildcards.corpus, get_corpus_settings(wildcards.corpus)),
        code=lambda wildcards: steps.code_of_catalog(wildcards.corpus, CORPORA[wildcards.corpus]),
    message:
        "{wildcards.corpus}: reading the authors' published features"
    shell:
        "{PYTHON} -m pipeline published {wildcards.corpus} --settings {params.settings} --catalog {output.catalog}"
        " --dataset {output.dataset} --quality {output.quality} 2>&1 | tee {log}"
