"""Settings: one place for defaults, stages that see no more than they use, mistakes that are named."""

from pathlib import Path

import pytest
import yaml

from model import settings
from model.settings import merge, of_stages, resolve
from model.variants import STUDENTS
from pipeline.errors import UserError

SCHEMA = yaml.safe_load((Path(__file__).parents[1] / "workflow/schemas/training.schema.yaml").read_text())["$defs"]


def test_the_schema_repeats_the_defaults_of_the_code():
    for name, defaults in (("training", settings.TRAINING), ("experiments", settings.EXPERIMENTS)):
        documented = {key: part["default"] for key, part in SCHEMA[name]["properties"].items()}
        assert documented == defaults


def test_the_schema_knows_every_setting_and_no_other():
    common = {key for key in settings.PAPER if key not in settings.SECTIONS}
    assert set(SCHEMA["numbers"]["properties"]) == common | set(settings.SECTIONS)
    own = {key for stage in settings.STAGES for key in settings.PAPER.get(stage, {})}
    assert set(SCHEMA["section"]["properties"]) == (common - set(settings._COMMON_ONLY)) | own


def test_mit_has_the_papers_own_numbers():
    mit, ted = (resolve({}, corpus, "paper") for corpus in ("mit", "ted"))
    assert (mit["dropout"], mit["learning_rate"], mit["epochs"], mit["stage4"]["alpha"]) == (0.75, 2e-3, 1000, 0.1)
    assert (ted["dropout"], ted["learning_rate"], ted["epochs"], ted["stage4"]["alpha"]) == (0.1, 1e-3, 10, 0.3)


def test_the_config_has_the_last_word_and_the_corpus_before_the_rest():
    training = {"paper": {"epochs": 3}, "corpora": {"ted": {"paper": {"epochs": 4, "stage4": {"alpha": 0.5}}}}}
    assert resolve(training, "iemocap", "paper")["epochs"] == 3
    ted = resolve(training, "ted", "paper")
    assert ted["epochs"] == 4
    assert ted["stage4"] == {
        "alpha": 0.5,
        "weighting": "equations",
        "relative_latent": False,
        "imitation": 0.3,
        "temperature": 7.0,
        "fall_back": False,
    }


def test_a_stage_sees_the_common_settings_the_students_and_its_own():
    resolved = merge(resolve({}, "ted", "paper"), {"lexical": {"dropout": 0.4, "epochs": 7}, "stage4": {"epochs": 9}})
    told = of_stages(resolved, ("stage1", "stage3", "stage4"), STUDENTS)
    assert told["stage1"]["dropout"] == 0.1 and "alpha" not in told["stage1"]
    assert told["stage3.lexical"]["dropout"] == 0.4 and told["stage3.lexical"]["epochs"] == 7
    assert told["stage4.lexical"]["epochs"] == 9 and told["stage4.acoustic"]["dropout"] == 0.1


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"epoch": 3}, "there is no setting 'epoch'"),
        ({"stage4": {"alhpa": 3}}, "stage4 has no setting 'alhpa'"),
        ({"stage4": {"latent": 3}}, "stage4 has no setting 'latent'"),
        ({"lexical": {"whiten": {}}}, "lexical has no setting 'whiten'"),
    ],
)
def test_a_wrong_key_is_named(wrong, message):
    with pytest.raises(UserError, match=message):
        resolve({"paper": wrong}, "ted", "paper")
