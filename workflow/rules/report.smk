"""The report: one page with the tables, the corpora they rest on, and how the networks learned."""


rule report_page:
    input:
        tables=[path for path in get_table_files() if path.endswith(".csv")],
        curves=get_curve_files(),
        datasets=get_dataset_files(),
        quality=get_quality_files(),
        template=f"{workflow.basedir}/model/templates/report.html.j2",
    output:
        page=f"{RESULTS}/report/index.html",
    log:
        f"{RESULTS}/logs/report.log",
    benchmark:
        f"{RESULTS}/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=2000,
        runtime=15,
    params:
        code=fingerprint("model.report"),
    message:
        "the report: {output.page}"
    shell:
        "python -m model report --tables {input.tables} --curves {input.curves} --datasets {input.datasets}"
        " --quality {input.quality} --output {output.page} 2>&1 | tee {log}"
