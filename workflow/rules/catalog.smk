"""Catalogs: one row an item, whatever the corpus. What is particular to a corpus is in pipeline/corpora/."""


rule catalog:
    input:
        lambda wildcards: ANNOTATIONS[wildcards.corpus],
    output:
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/catalog.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/catalog.tsv"
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
        raw=lambda wildcards: get_raw_state(wildcards.corpus),
        code=lambda wildcards: steps.code_of_catalog(wildcards.corpus, CORPORA[wildcards.corpus]),
    message:
        "{wildcards.corpus}: reading the corpus into a catalog"
    shell:
        "python -m pipeline catalog {wildcards.corpus} --settings {params.settings} --output {output.catalog} 2>&1 | tee {log}"


rule published:
    input:
        lambda wildcards: ANNOTATIONS[wildcards.corpus],
    output:
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        quality=f"{RESULTS}/{{corpus}}/quality.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/published.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/published.tsv"
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
        raw=lambda wildcards: get_raw_state(wildcards.corpus),
        code=lambda wildcards: steps.code_of_catalog(wildcards.corpus, CORPORA[wildcards.corpus]),
    message:
        "{wildcards.corpus}: reading the authors' published features"
    shell:
        "python -m pipeline published {wildcards.corpus} --settings {params.settings} --catalog {output.catalog}"
        " --dataset {output.dataset} --quality {output.quality} 2>&1 | tee {log}"
