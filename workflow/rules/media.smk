"""Media: the sound of each item as 16 kHz mono FLAC, and why where there is none."""


rule media:
    input:
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
    output:
        media=f"{RESULTS}/{{corpus}}/media/{{shard}}.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/media/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/media/{{shard}}.tsv"
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
        raw=lambda wildcards: get_raw_state(wildcards.corpus),
        code=steps.code_of_media(),
        launcher=get_launcher,
    message:
        "{wildcards.corpus}: fetching and converting the sound of shard {wildcards.shard}"
    shell:
        "python {params.launcher} -m pipeline media {wildcards.corpus} --catalog {input.catalog}"
        " --shard {wildcards.shard}/{params.shards} --settings {params.settings} --attempt {params.attempt}"
        " --output {output.media} 2>&1 | tee {log}"
