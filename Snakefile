from snakemake.utils import min_version

min_version("9.0")


if "corpora" not in config:

    # Only where no other is named: Snakemake would merge it under the one on the command line.
    configfile: f"{workflow.basedir}/config/demo.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/catalog.smk"
include: "workflow/rules/media.smk"
include: "workflow/rules/features.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/training_common.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        get_quality_files(),
        get_table_files(),
        get_report_file(),


rule features:
    input:
        get_all_feature_files(),


rule datasets:
    input:
        get_dataset_files(),


rule tables:
    input:
        get_table_files(),


rule report:
    input:
        get_report_file(),
