"""A short recorded drive through a synthetic town, made once."""

import pytest
from octobev.models.variant_files import without_variant
from octobev.replay.recorder import record_drive
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle

SETS = 4


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    path = tmp_path_factory.mktemp("drive") / "town.mcap"
    record_drive(SyntheticDrive(20_002, SETS / 8, rate_hz=8.0, size=(320, 240)), path)
    return path


@pytest.fixture(scope="session")
def fp32_bundle(tmp_path_factory):
    """The bundle that is shipped, its float32 networks only."""
    path = tmp_path_factory.mktemp("bundles") / "fp32"
    path.mkdir()
    text = (REFERENCE_BUNDLE / "bundle.toml").read_text(encoding="utf-8")
    (path / "bundle.toml").write_text(without_variant(text, "int8"), encoding="utf-8")
    for spec in open_bundle(REFERENCE_BUNDLE).manifest.networks.values():
        (path / spec.file).write_bytes((REFERENCE_BUNDLE / spec.file).read_bytes())
    return path
