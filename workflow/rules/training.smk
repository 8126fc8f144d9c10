"""Training: splits, baselines, the four stages, evaluation, tables. A stage is a job that trains all runs at once."""

from model import experiments, variants
from model.settings import of_stages, resolve
from pipeline.fingerprint import fingerprint

TRAINING = CONFIG["training"]
TABLES = CONFIG["experiments"]["tables"]
CELLS = experiments.cells({corpus: get_modalities(corpus) for corpus in CORPORA}, TABLES)
TRAINED = f"{RESULTS}/{{corpus}}/training/{{protocol}}/{{settings}}"
TRAINING_LOG = f"{RESULTS}/logs/{{corpus}}/training/{{protocol}}/{{settings}}"
TRAINING_BENCHMARK = f"{RESULTS}/benchmarks/{{corpus}}/training/{{protocol}}/{{settings}}"


wildcard_constraints:
    protocol="paper|grouped",
    settings="paper|tuned",
    teacher="[a-z]+(-[a-z]+)*",
    table=r"\d",


def get_stage_settings(wildcards, *stages):
    """The settings that the stages see, and no others: a change elsewhere does not run them again."""
    resolved = resolve(TRAINING, wildcards.corpus, wildcards.settings)
    students = [wildcards.modality] if "modality" in wildcards.keys() else variants.STUDENTS
    return get_settings(seed=TRAINING["seed"], stages=of_stages(resolved, stages, students))


def get_split_settings():
    return get_settings(**{key: TRAINING[key] for key in ("seed", "protocols", "runs", "folds", "repeats")})


def get_students(corpus):
    """Teacher and modality of every student that some table asks for."""
    return sorted(
        {
            ("-".join(cell.teacher), cell.modality)
            for cell in CELLS
            if cell.corpus == corpus and cell.variant in variants.STARTS
        }
    )


def get_cells(corpus, teacher, modality):
    """The rows of the tables that hold a variant of this student."""
    return [
        cell
        for cell in CELLS
        if (cell.corpus, "-".join(cell.teacher), cell.modality) == (corpus, teacher, modality)
        and cell.variant in variants.STARTS
    ]


def get_wanted(corpus, teacher, modality):
    """The variants of a student that some table asks for."""
    return sorted({cell.variant for cell in get_cells(corpus, teacher, modality)})


def get_finetuned(wildcards):
    wanted = get_wanted(wildcards.corpus, wildcards.teacher, wildcards.modality)
    return [variant for variant in wanted if variant in variants.FINETUNED]


def get_sources(wildcards):
    """The corpora that lend a student their pre-training."""
    cells = get_cells(wildcards.corpus, wildcards.teacher, wildcards.modality)
    return sorted({cell.source for cell in cells if cell.variant == variants.OTHER_PRETRAIN})


def is_multimodal(corpus):
    return len(get_modalities(corpus)) > 1


def get_pretraining(wildcards, corpus):
    """Checkpoints of stages 1 and 2 of a corpus."""
    folder = f"{RESULTS}/{corpus}/training/{wildcards.protocol}/{wildcards.settings}/{wildcards.teacher}"
    return [f"{folder}/stage1.safetensors", f"{folder}/stage2_{wildcards.modality}.safetensors"]


def get_other_pretraining(wildcards):
    return [path for source in get_sources(wildcards) for path in get_pretraining(wildcards, source)]


def get_starts(wildcards):
    """The options that name what stage 3 begins with."""
    wanted = get_wanted(wildcards.corpus, wildcards.teacher, wildcards.modality)
    starts = {variants.STARTS[variant] for variant in wanted}
    options = ["--scratch"] if "scratch" in starts else []
    if "pretrained" in starts:
        options += ["--own", *get_pretraining(wildcards, wildcards.corpus)]
    for source in get_sources(wildcards):
        options += ["--other", source, *get_pretraining(wildcards, source)]
    return " ".join(map(shlex.quote, options))


def get_checkpoints(wildcards, teacher, modality):
    """Checkpoints of stages 3 and 4 of a student."""
    folder = TRAINED.format(**wildcards)
    return [f"{folder}/{teacher}/stage{stage}_{modality}.safetensors" for stage in (3, 4)]


def get_student_checkpoints(wildcards):
    students = get_students(wildcards.corpus)
    return [path for student in students for path in get_checkpoints(wildcards, *student)]


def get_student_options(wildcards):
    """The options that name the students to evaluate."""
    options = []
    for teacher, modality in get_students(wildcards.corpus):
        wanted = ",".join(get_wanted(wildcards.corpus, teacher, modality))
        options += ["--student", teacher, modality, wanted, *get_checkpoints(wildcards, teacher, modality)]
    return " ".join(map(shlex.quote, options))


def get_distilled(wildcards):
    return f"{TRAINED.format(**wildcards)}/distilled.safetensors" if is_multimodal(wildcards.corpus) else []


def get_prediction_files():
    trained = f"{RESULTS}/{{corpus}}/training/{{protocol}}/{{settings}}/predictions.parquet"
    simple = f"{RESULTS}/{{corpus}}/training/{{protocol}}/linear.parquet"
    corpora = sorted({cell.corpus for cell in CELLS})
    return expand(simple, corpus=corpora, protocol=TRAINING["protocols"]) + expand(
        trained, corpus=corpora, protocol=TRAINING["protocols"], settings=TRAINING["settings"]
    )


def get_table_files():
    return [*(f"{RESULTS}/tables/table{table}.csv" for table in sorted(TABLES)), f"{RESULTS}/tables/runs.parquet"]


def get_curve_files():
    """The learning curves of every stage, for the report."""
    files = []
    for corpus in sorted({cell.corpus for cell in CELLS}):
        names = ["baselines"] + (["distilled"] if is_multimodal(corpus) else [])
        for teacher, modality in get_students(corpus):
            names += [f"{teacher}/stage1", *(f"{teacher}/stage{stage}_{modality}" for stage in (2, 3, 4))]
        files += expand(
            f"{RESULTS}/{corpus}/training/{{protocol}}/{{settings}}/{{name}}.curves.parquet",
            protocol=TRAINING["protocols"],
            settings=TRAINING["settings"],
            name=sorted(set(names)),
        )
    return files


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
        code=fingerprint("model.splits"),
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
        code=fingerprint("model.linear"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}: linear models and the majority"
    shell:
        "python -m model linear {wildcards.corpus} --protocol {wildcards.protocol} --dataset {input.dataset}"
        " --splits {input.splits} --settings {params.settings} --output {output.predictions} 2>&1 | tee {log}"


rule baselines:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
    output:
        checkpoint=f"{TRAINED}/baselines.safetensors",
        curves=f"{TRAINED}/baselines.curves.parquet",
    log:
        f"{TRAINING_LOG}/baselines.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/baselines.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "unimodal", "multimodal"),
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: unimodal and multimodal networks"
    shell:
        "python -m model baselines {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule distilled:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        baselines=f"{TRAINED}/baselines.safetensors",
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
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: distilled students"
    shell:
        "python -m model distilled {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
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
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage2_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage2_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage2_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage2_{{modality}}.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage2"),
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 2, the {wildcards.modality} student lands on the latent"
    shell:
        "python -m model stage2 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} --stage1 {input.stage1}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage3:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        own=lambda wildcards: get_pretraining(wildcards, wildcards.corpus),
        other=get_other_pretraining,
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage3_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage3_{{modality}}.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage3"),
        starts=get_starts,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 3, teacher, head and {wildcards.modality} student together"
    shell:
        "python -m model stage3 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} {params.starts}"
        " --device {params.device} --threads {threads} --output {output.checkpoint} --curves {output.curves} 2>&1 | tee {log}"


rule stage4:
    input:
        dataset=f"{RESULTS}/{{corpus}}/dataset.parquet",
        splits=f"{RESULTS}/{{corpus}}/splits.parquet",
        stage3=f"{TRAINED}/{{teacher}}/stage3_{{modality}}.safetensors",
    output:
        checkpoint=f"{TRAINED}/{{teacher}}/stage4_{{modality}}.safetensors",
        curves=f"{TRAINED}/{{teacher}}/stage4_{{modality}}.curves.parquet",
    log:
        f"{TRAINING_LOG}/{{teacher}}/stage4_{{modality}}.log",
    benchmark:
        f"{TRAINING_BENCHMARK}/{{teacher}}/stage4_{{modality}}.tsv"
    conda:
        ENVIRONMENT
    threads: TRAINING["threads"]
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        settings=lambda wildcards: get_stage_settings(wildcards, "stage4"),
        variants=get_finetuned,
        device=TRAINING["device"],
        code=fingerprint("model.train"),
    message:
        "{wildcards.corpus}, {wildcards.protocol}, {wildcards.settings}: stage 4, the {wildcards.modality} student alone"
    shell:
        "python -m model stage4 {wildcards.corpus} --protocol {wildcards.protocol} --name {wildcards.settings}"
        " --dataset {input.dataset} --splits {input.splits} --settings {params.settings}"
        " --teacher {wildcards.teacher} --modality {wildcards.modality} --stage3 {input.stage3} --variants {params.variants}"
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
        predictions=get_prediction_files(),
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
