"""What the training rules share: which stages there are to train, and what each is told. Helpers: get_*, is_*."""

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


def get_tuning_settings(wildcards):
    resolved = resolve(TRAINING, wildcards.corpus, wildcards.settings)
    stages = of_stages(resolved, ("unimodal", "stage1", "stage2", "stage3", "stage4"), [wildcards.modality])
    return get_settings(seed=TRAINING["seed"], trials=TRAINING["trials"], stages=stages)


def get_choice(wildcards):
    """What tuning chose for the students that are trained, where the settings are the tuned ones."""
    if wildcards.settings != "tuned":
        return []
    modalities = [wildcards.modality] if "modality" in wildcards.keys() else get_modalities(wildcards.corpus)
    folder = TRAINED.format(**wildcards)
    return [f"{folder}/choice_{modality}.yaml" for modality in modalities if modality in variants.STUDENTS]


def get_choice_option(wildcards, input):
    return f"--choice {input.choice}" if input.choice else ""


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


def get_fallback(wildcards):
    """The networks of the runs that fall back, where stage 4 is told that runs may."""
    falls_back = resolve(TRAINING, wildcards.corpus, wildcards.settings)["stage4"]["fall_back"]
    return f"{TRAINED.format(**wildcards)}/baselines.safetensors" if falls_back else []


def get_fallback_option(wildcards, input):
    return f"--baselines {input.fallback}" if input.fallback else ""


def get_prediction_files(wildcards):
    """The predictions behind the tables. Raises WorkflowError where no table has a row: nothing is made in vain."""
    if not CELLS:
        wanted = ", ".join(sorted({experiments.student_of(table) for table in TABLES}))
        has = "; ".join(f"{corpus} has {', '.join(get_modalities(corpus))}" for corpus in CORPORA)
        raise WorkflowError(
            f"no table of experiments.tables has a row: their students are {wanted}; {has}. Add that modality to "
            "`features`, name other tables, or ask for the target `datasets` alone."
        )
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
