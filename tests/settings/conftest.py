"""Fixtures of the settings' tests."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.settings.project import Project

settings.register_profile("patient", deadline=None)  # other work on the machine is no failure
settings.load_profile("patient")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A copy of the shipped config."""
    return Project(tmp_path)
