"""Datasets: the features of a corpus pooled over time and joined by item_id."""


rule dataset:
    input:
        unpack(get_features_by_modality),
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
        media=lambda wildcards: get_media_files(wildcards.corpus),
    output:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        quality=f"{RESULTS}/{{corpus}}/quality.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/dataset.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/dataset.tsv"
    wildcard_constraints:
        corpus=RAW,
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=lambda wildcards: get_settings(**get_pooling(wildcards.corpus)),
        features=lambda wildcards, input: " ".join(
            f"--{modality} {' '.join(map(shlex.quote, input[modality]))}"
            for modality in get_modalities(wildcards.corpus)
        ),
        media=lambda wildcards, input: f"--media {' '.join(map(shlex.quote, input.media))}" if input.media else "",
        code=steps.code_of_dataset(),
    message:
        "{wildcards.corpus}: joining the features by item"
    shell:
        "python -m pipeline dataset {wildcards.corpus} --catalog {input.catalog} {params.media} {params.features}"
        " --settings {params.settings} --dataset {output.dataset} --quality {output.quality} 2>&1 | tee {log}"
