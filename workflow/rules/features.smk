"""Features: rows of an embedding for each frame, window or text chunk of an item."""


def get_extractor(modality):
    """The extractor's settings; how its rows are pooled later is no concern of theirs."""
    settings = CONFIG["features"][modality]
    return get_settings(**{key: value for key, value in settings.items() if key != "pooling"})


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


def get_raw_video_state(wildcards):
    """Changes when a film does: the visual features read the films where they lie."""
    if wildcards.modality != "visual":
        return None
    return steps.state_of_raw_files(wildcards.corpus, CORPORA[wildcards.corpus])


rule weights:
    output:
        weights=RESULTS + "/weights/{modality}.safetensors",
    log:
        RESULTS + "/logs/weights/{modality}.log",
    benchmark:
        RESULTS + "/benchmarks/weights/{modality}.tsv"
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
        "{PYTHON} -m pipeline weights {wildcards.modality} --settings {params.settings} --output {output.weights} 2>&1 | tee {log}"


rule features_shard:
    input:
        catalog=RESULTS + "/{corpus}/catalog.parquet",
        media=get_media,
        weights=get_weights,
    output:
        features=update(RESULTS + "/{corpus}/features/{modality}/{shard}.parquet"),
    log:
        RESULTS + "/logs/{corpus}/features/{modality}/{shard}.log",
    benchmark:
        RESULTS + "/benchmarks/{corpus}/features/{modality}/{shard}.tsv"
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
        raw=get_raw_video_state,
        code=lambda wildcards: bundle.fingerprint_of(wildcards.modality, CONFIG["features"][wildcards.modality]),
    message:
        "{wildcards.corpus}: {wildcards.modality} features of shard {wildcards.shard}"
    shell:
        "{PYTHON} -m pipeline features {wildcards.modality} --catalog {input.catalog} {params.media} {params.weights}"
        " --shard {wildcards.shard}/{params.shards} --settings {params.settings} --output {output.features} 2>&1 | tee {log}"
