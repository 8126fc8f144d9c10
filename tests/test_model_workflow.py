"""What a changed setting runs again, as Snakemake itself says; and the collapse that the published code shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONFIG = {
    "corpora": {"ted": {"published": True}, "mit": {"published": True}},
    "training": {"settings": ["paper"], "protocols": ["paper", "grouped"]},
    "experiments": {"tables": [1, 2, 3, 4]},
}


def snakemake(config, folder, *options):
    """Run Snakemake on the project with a config of the test's own, results in `folder`."""
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump({**config, "results": str(folder / "results"), "judgenet": str(folder / "judgenet")})
    )
    command = [sys.executable, "-m", "snakemake", "tables", "--cores", "1", "--directory", str(folder)]
    done = subprocess.run(
        [*command, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(path), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(text):
    """How often each rule would run, from a dry run's statistics."""
    return {
        rule: int(count)
        for rule, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)
        if rule not in ("total", "tables")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared):
    """A folder that looks to Snakemake as if everything had been made: its records are real, the files are empty."""
    folder = tmp_path_factory.mktemp("workflow")
    (folder / "judgenet").symlink_to(shared / "judgenet")
    for line in snakemake(CONFIG, folder, "--summary").splitlines():
        if line.startswith(str(folder)):
            path = Path(line.split("\t")[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    snakemake(CONFIG, folder, "--touch", "--forceall")
    assert planned(snakemake(CONFIG, folder, "--dry-run")) == {}
    return folder


def changed(**training):
    return {**CONFIG, "training": {**CONFIG["training"], **training}}


@pytest.mark.parametrize(
    "training, rules",
    [
        # Two corpora, two protocols, two students: eight trainings of stage 4, four evaluations.
        ({"paper": {"stage4": {"alpha": 0.5}}}, {"stage4": 8, "evaluate": 4, "result_tables": 1}),
        (
            {"corpora": {"mit": {"paper": {"stage4": {"alpha": 0.5}}}}},
            {"stage4": 4, "evaluate": 2, "result_tables": 1},
        ),
        ({"paper": {"stage3": {"alpha": 0.5}}}, {"stage3": 8, "stage4": 8, "evaluate": 4, "result_tables": 1}),
        ({"paper": {"distilled": {"temperature": 3}}}, {"distilled": 4, "evaluate": 4, "result_tables": 1}),
        # MIT's students may fall back on the unimodal network: its stage 4 follows, TED's does not.
        (
            {"paper": {"unimodal": {"epochs": 3}}},
            {"baselines": 4, "distilled": 4, "stage4": 4, "evaluate": 4, "result_tables": 1},
        ),
    ],
)
def test_a_changed_setting_runs_the_stages_that_see_it_and_what_follows(finished, training, rules):
    assert planned(snakemake(changed(**training), finished, "--dry-run")) == rules


def test_the_tuned_settings_are_chosen_for_each_student_and_by_its_own_job(finished):
    both = changed(settings=["paper", "tuned"])
    rules = planned(snakemake(both, finished, "--dry-run"))
    # Two corpora and two protocols, each with two students; the linear models are the paper settings' own.
    assert rules["tune"] == 8 and rules["stage4"] == 8 and rules["baselines"] == 4 and rules["result_tables"] == 1
    assert "linear" not in rules
