"""The profiles: their keys are Snakemake's options, and the rules that they name are the workflow's."""

import re

import pytest
import yaml
from snakemake.cli import get_argument_parser

from tests.conftest import ROOT

PROFILES = sorted((ROOT / "profiles").glob("*/config.yaml"))
# A setting that a user may want, in a comment.
EXAMPLE = re.compile(r"^( *)# ([\w-]+: \S+)$", re.M)


@pytest.fixture(params=PROFILES, ids=lambda path: path.parent.name)
def profile(request, tmp_path):
    """A profile in which the settings in comments are in force."""
    path = tmp_path / "config.yaml"
    path.write_text(EXAMPLE.sub(r"\1\2", request.param.read_text()))
    return path


@pytest.fixture(scope="module")
def rules():
    """The rules of the workflow: their names, and the text of each."""
    sources = [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    return {
        match["name"]: match["body"]
        for source in sources
        for match in re.finditer(r"^rule (?P<name>\w+):\n(?P<body>(?:(?: .*)?\n)*)", source.read_text(), re.M)
    }


def test_the_profiles_are_found():
    assert [path.parent.name for path in PROFILES] == ["default", "slurm"]


def test_every_key_is_an_option_of_snakemake(profile):
    # Snakemake drops a mapping under a key that it does not know, and says nothing.
    parser = get_argument_parser([str(profile.parent)])
    options = {option for action in parser._actions for option in action.option_strings}
    assert {f"--{key}" for key in yaml.safe_load(profile.read_text())} <= options


def test_snakemake_reads_what_is_written(profile):
    written = yaml.safe_load(profile.read_text())
    read = get_argument_parser([str(profile.parent)]).parse_args([])
    assert read.executor == written.get("executor")
    assert read.latency_wait == written.get("latency-wait", 5)
    assert set(read.set_threads) == set(written.get("set-threads", {}))
    assert set(read.set_resources) == set(written.get("set-resources", {}))


def test_every_rule_that_a_profile_names_is_in_the_workflow(profile, rules):
    written = yaml.safe_load(profile.read_text())
    assert set(written.get("set-threads", {})) | set(written.get("set-resources", {})) <= set(rules)


def test_every_job_states_its_threads_memory_and_run_time(rules):
    # So that --default-resources on the command line, which replaces the profile's, takes none of them away.
    jobs = {name: body for name, body in rules.items() if "    shell:" in body}
    assert {"catalog", "media", "features_shard", "dataset", "stage1", "report_page"} <= set(jobs)
    for name, body in jobs.items():
        for stated in ("    threads: ", "        mem_mb=", "        runtime="):
            assert stated in body, f"{name} lacks {stated.strip()}"
