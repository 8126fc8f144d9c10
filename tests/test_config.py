"""The configuration: what is wrong is named by its place, with what to write instead."""

import pytest
import yaml

from pipeline.config import validated
from pipeline.errors import UserError
from tests.conftest import ROOT

SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
TED = {"metadata": "ted_main.csv", "transcripts": "transcripts.csv"}


@pytest.mark.parametrize("name", ["demo", "paper", "published"])
def test_the_configs_that_we_ship_are_valid(name):
    validated(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"corpora": {"ted": {**TED, "metdata": "x"}}}, r"corpora\.ted: unknown key 'metdata'; write 'metadata'"),
        ({"corpora": {"ted": {"metadata": "x"}}}, r"corpora\.ted: 'transcripts' is missing; add it"),
        ({"corpora": {"ted": {**TED, "shards": "8"}}}, r"corpora\.ted\.shards: '8' is no integer; write one"),
        ({"corpora": {"ted": {**TED, "shards": 0}}}, r"corpora\.ted\.shards: 0 is less than the minimum of 1"),
        ({"corpora": {"mine": {"table": "x.csv", "task": "ranking"}}}, "'ranking' is not possible; write one of"),
        ({"corpora": {"My Table": {"table": "x", "task": "regression"}}}, "the name 'My Table' does not fit"),
        ({"corpora": {"ted": TED}, "results": "my results"}, r"results: 'my results' does not fit \(.* no space\)"),
        ({"corpora": {"ted": TED}, "results": ""}, r"results: '' does not fit \(.*; write a path of letters, digits"),
        ({"corpora": {"ted": TED}, "results": "/data/run(1)"}, r"results: '/data/run\(1\)' does not fit"),
        ({"corpora": {}}, "corpora: .* non-empty"),
        ({"corpora": {"ted": TED}, "feature": {}}, "the top level: unknown key 'feature'; write 'features'"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_mending(config, message):
    with pytest.raises(UserError, match=message):
        validated(config, SCHEMA)


@pytest.mark.parametrize("results", ["results", "../Über/run-2.1", "/scratch/me@host/a_b,c=d+e:f%g"])
def test_results_may_be_any_path_that_a_shell_takes_as_it_is(results):
    assert validated({"corpora": {"ted": TED}, "results": results}, SCHEMA)["results"] == results


def test_all_mistakes_are_named_at_once():
    with pytest.raises(UserError) as caught:
        validated({"corpora": {"ted": {**TED, "shards": 0}, "mit": {"rot": "x"}}}, SCHEMA)
    assert "corpora.ted.shards" in str(caught.value)
    assert "corpora.mit" in str(caught.value)


def test_defaults_are_filled_in_and_the_given_config_is_left_alone():
    given = {"corpora": {"ted": TED}}
    filled = validated(given, SCHEMA)
    assert filled["results"] == "results"
    assert "results" not in given
