"""The bundle of colours and its two cameras."""

import pytest
from colours import colours_model, make_bundle, memory_model, two_cameras


@pytest.fixture(scope="package")
def models():
    return {"colours": colours_model(), "memory": memory_model()}


@pytest.fixture
def bundle(tmp_path, models):
    return make_bundle(tmp_path, models)


@pytest.fixture
def rig():
    return two_cameras()
