"""Media: the sound of each item as 16 kHz mono FLAC, and why where there is none."""


def get_media_settings(corpus):
    return {key: CORPORA[corpus][key] for key in ("proxy",) if CORPORA[corpus].get(key)}


def get_launcher(wildcards):
    """What the download runs inside of, where the corpus names a program for that."""
    launcher = CORPORA[wildcards.corpus].get("launcher")
    return f"{shlex.quote(launcher)} -- $PYTHON" if launcher else ""


def get_attempt(wildcards):
    """Grows after a run in which an item failed for a passing cause, so that the next call tries it again."""
    return steps.next_attempt(f"{RESULTS}/{wildcards.corpus}/media/{wildcards.shard}.parquet")


rule media:
    input:
        catalog=RESULTS + "/{corpus}/catalog.parquet",
    output:
        media=update(RESULTS + "/{corpus}/media/{shard}.parquet"),
    log:
        RESULTS + "/logs/{corpus}/media/{shard}.log",
    benchmark:
        RESULTS + "/benchmarks/{corpus}/media/{shard}.tsv"
    wildcard_constraints:
        corpus=RAW,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        settings=lambda wildcards: get_settings(**get_media_settings(wildcards.corpus)),
        shards=lambda wildcards: len(get_shards(wildcards.corpus)),
        attempt=get_attempt,
        code=steps.code_of_media(),
        launcher=get_launcher,
    message:
        "{wildcards.corpus}: fetching and converting the sound of shard {wildcards.shard}"
    shell:
        "PYTHON={PYTHON}; $PYTHON {params.launcher} -m pipeline media {wildcards.corpus} --catalog {input.catalog}"
        " --shard {wildcards.shard}/{params.shards} --settings {params.settings} --attempt {params.attempt}"
        " --output {output.media} 2>&1 | tee {log}"
