import pytest

import keras_video_focalnet as kvf


@pytest.mark.parametrize("name", kvf.__all__)
def test_a_public_name_is_there_with_its_description(name):
    assert getattr(kvf, name).__doc__.strip()
