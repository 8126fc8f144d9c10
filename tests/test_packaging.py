"""Packaging: the pins of pip and conda are the same, and complete."""

import re
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT


def pins(lines):
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return pins(line for line in lines if line and not line.startswith("#"))


def test_conda_users_get_the_versions_that_pip_users_get(requirements):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert "python=3.11" in conda
    assert "ffmpeg" in conda
    assert pins(pip["pip"]) == requirements


def test_the_pins_hold_every_version_that_the_project_names(requirements):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"] + project["optional-dependencies"]["dev"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(requirements[canonicalize_name(requirement.name)]), text


def test_the_pins_hold_whatever_they_need_themselves(requirements):
    missing = set()
    for name in requirements:
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            applies = needed.marker is None or needed.marker.evaluate({"extra": ""})
            of_cuda = re.match(r"nvidia|cuda|triton", needed.name)
            if applies and not of_cuda and canonicalize_name(needed.name) not in requirements:
                missing.add((name, needed.name))
    assert missing <= {(name, "pip") for name in requirements}
