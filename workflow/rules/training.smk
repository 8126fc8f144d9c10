"""Training: splits, baselines, the four stages, evaluation, tables. A stage is a job that trains all runs at once.

Priorities put the longest chain (tuning, then the stages) first, so that no core waits for it at the end.
"""


rule splits:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        catalog=f"{RESULTS}/{{corpus}}/catalog.parquet",
    output:
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/splits.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/splits.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings=get_split_settings(),
        code=fingerprint("model.splits", "model.items"),
    message:
        "{wildcards.corpus}: dealing the items to training, validation and test"
    shell:
        "python -m model splits {wildcards.corpus} --dataset {input.dataset} --catalog {input.catalog}"
        " --settings {params.settings} --output {output.splits} 2>&1 | tee {log}"


rule linear:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
    output:
        predictions=f"{RESULTS}/{{corpus}}/training/{{protocol}}/linear.parquet",
    log:
        f"{RESULTS}/logs/{{corpus}}/training/{{protocol}}/linear.log",
    benchmark:
        f"{RESULTS}/benchmarks/{{corpus}}/training/{{protocol}}/linear.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        settings=lambda wildcards: get_settings(balance=resolve(TRAINING, wildcards.corpus, "paper")["balance"]),
        code=fingerprint("model.linear", "model.data"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}: linear models and the majority"
    shell:
        "python -m model linear {wildcards.corpus} --protocol {wildcards.protocol} --dataset {input.dataset}"
        " --splits {input.splits} --settings {params.settings} --output {output.predictions} 2>&1 | tee {log}"


rule tune:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
    output:
        choice=f"{TRAINED}/choice_{{modality}}.yaml",
    log:
        f"{TRAINING_LOG}/choice_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/choice_{{modality}}.tsv"
    priority: 3
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=240,
    params:
        settings=get_tuning_settings,
        device=TRAINING["device"],
        code=fingerprint("model.tune"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}: tuning the {wildcards.modality} student, for each run on its own training and validation items"
    shell:
        "python -m model tune {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --modality {wildcards.modality}"
        " --device {params.device} --threads {threads} --output {output.choice} 2>&1 | tee {log}"


rule baselines:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        choice=get_choice,
    output:
        checkpoint=f"{TRAINED}/baselines.safetensors",
        curves=f"{TRAINED}/baselines.curves.parquet",
    log:
        f"{TRAINING_LOG}/baselines.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/baselines.tsv"
    priority: 1
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "unimodal", "multimodal"),
        choice=get_choice_option,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: unimodal and multimodal networks"
    shell:
        "python -m model baselines {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings} {params.choice}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule distilled:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        baselines=f"{TRAINED}/baselines.safetensors",
        choice=get_choice,
    output:
        checkpoint=f"{TRAINED}/distilled.safetensors",
        curves=f"{TRAINED}/distilled.curves.parquet",
    log:
        f"{TRAINING_LOG}/distilled.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/distilled.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "distilled"),
        choice=get_choice_option,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: distilled students"
    shell:
        "python -m model distilled {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings} {params.choice}"
        " --baselines {input.baselines}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage1:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage1.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage1.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage1.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage1.tsv"
    priority: 2
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage1"),
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 1, the {wildcards.teacher} teacher reconstructs"
    shell:
        "python -m model stage1 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --teacher {wildcards.teacher}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage2:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        stage1=f"{TRAINED}/{{teacher}}/stage1.safetensors",
        choice=get_choice,
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage2_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage2_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage2_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage2_{{modality}}.tsv"
    priority: 2
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage2"),
        choice=get_choice_option,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 2, the {wildcards.modality} student lands on the latent"
    shell:
        "python -m model stage2 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings} {params.choice}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} --stage1 {input.stage1}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage3:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        own=lambda wildcards: get_pretraining(wildcards, wildcards.corpus),
        other=get_other_pretraining,
        choice=get_choice,
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage3_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage3_{{modality}}.tsv"
    priority: 2
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage3"),
        starts=get_starts,
        choice=get_choice_option,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 3, teacher, head and {wildcards.modality} student together"
    shell:
        "python -m model stage3 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings} {params.choice}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} {params.starts}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage4:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        stage3=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.safetensors",
        fallback=get_fallback,
        choice=get_choice,
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage4_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage4_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage4_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage4_{{modality}}.tsv"
    priority: 2
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage4"),
        variants=get_finetuned,
        choice=get_choice_option,
        fallback=get_fallback_option,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 4, the {wildcards.modality} student alone"
    shell:
        "python -m model stage4 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings} {params.choice}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} --stage3 {input.stage3} {params.fallback}"
        " --variants {params.variants}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule evaluate:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        baselines=f"{TRAINED}/baselines.safetensors",
        distilled=get_distilled,
        students=get_student_checkpoints,
    output:
        predictions=f"{TRAINED}/predictions.parquet",
    log:
        f"{TRAINING_LOG}/predictions.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/predictions.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "evaluate"),
        students=get_student_options,
        distilled=lambda wildcards, input: f"--distilled {input.distilled}" if input.distilled else "",
        device=TRAINING["device"],
        code=fingerprint("model.evaluate"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: predicting the test items"
    shell:
        "python -m model evaluate {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --baselines {input.baselines} {params.distilled} {params.students}"
        " --device {params.device} --threads {threads} --output {output.predictions} 2>&1 | tee {log}"


rule result_tables:
    input:
        predictions=get_prediction_files,
    output:
        tables=expand(f"{RESULTS}/tables/table{{table}}.csv", table=sorted(TABLES)),
        runs=f"{RESULTS}/tables/runs.parquet",
    log:
        f"{RESULTS}/logs/tables.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        settings=get_settings(corpora={corpus: get_modalities(corpus) for corpus in CORPORA}, tables=TABLES),
        code=fingerprint("model.tables", "model.experiments"),
    message:
        "making the tables"
    shell:
        "python -m model tables --predictions {input.predictions} --settings {params.settings}"
        " --tables {output.tables} --runs {output.runs} 2>&1 | tee {log}"
