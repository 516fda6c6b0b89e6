"""A short recorded drive through a synthetic town, made once."""

import pytest
from octobev.replay.recorder import record_drive
from octobev.replay.synthetic import SyntheticDrive

SETS = 4


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("drive") / "town.mcap"
    record_drive(SyntheticDrive(20_002, SETS / 8, rate_hz=8.0, size=(320, 240)), path)
    return path
