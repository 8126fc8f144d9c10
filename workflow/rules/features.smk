"""Features: rows of an embedding for each frame, window or text chunk of an item."""


rule weights:
    output:
        weights=f"{RESULTS}/weights/{{modality}}.safetensors",
    log:
        f"{RESULTS}/logs/weights/{{modality}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/weights/{{modality}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=lambda wildcards: get_extractor(wildcards.modality),
        code=lambda wildcards: bundle.weights_fingerprint(wildcards.modality, CONFIG["features"][wildcards.modality]),
    message:
        "converting the weights of the {wildcards.modality} extractor"
    shell:
        "python -m pipeline weights {wildcards.modality} --settings {params.settings} --output {output.weights} 2>&1 | tee {log}"


rule features_shard:
    input:
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
        media=get_media,
        weights=get_weights,
    output:
        features=f"{RESULTS}/{{corpus}}/features/{{modality}}/{{shard}}.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/features/{{modality}}/{{shard}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/features/{{modality}}/{{shard}}.tsv"
    wildcard_constraints:
        corpus=RAW,
    conda:
        ENVIRONMENT
    threads: 4
    resources:
        mem_mb=3000,
        runtime=240,
    params:
        settings=lambda wildcards: get_extractor(wildcards.modality),
        shards=lambda wildcards: len(get_shards(wildcards.corpus)),
        media=lambda wildcards, input: f"--media {shlex.quote(str(input.media))}" if input.media else "",
        weights=lambda wildcards, input: f"--weights {shlex.quote(str(input.weights))}" if input.weights else "",
        raw=lambda wildcards: get_raw_state(wildcards.corpus) if wildcards.modality == "visual" else None,
        code=lambda wildcards: FEATURES_CODE[wildcards.modality],
    message:
        "{wildcards.corpus}: {wildcards.modality} features of shard {wildcards.shard}"
    shell:
        "python -m pipeline features {wildcards.modality} --catalog {input.catalog} {params.media} {params.weights}"
        " --shard {wildcards.shard}/{params.shards} --settings {params.settings} --output {output.features} 2>&1 | tee {log}"
