import pytest

from napari_wsss.errors import SettingsError
from napari_wsss.settings import ClassifierSettings, SegmenterSettings


@pytest.mark.parametrize("settings", [ClassifierSettings(), SegmenterSettings()])
@pytest.mark.parametrize(
    ("patches", "steps"), [(1, 13), (40, 13), (832, 13), (1000, 16), (1600, 25), (10**6, 25)]
)
def test_steps_follow_the_number_of_patches_within_bounds(settings, patches, steps):
    assert settings.steps(patches) == steps


def test_steps_can_be_given_or_be_all_patches():
    settings = ClassifierSettings(steps_per_epoch=7)
    assert settings.steps(1000) == 7
    assert settings.changed(steps_per_epoch=0).steps(1000) == 63
    assert settings.changed(steps_per_epoch="auto", batch_size=8).steps(640) == 20


@pytest.mark.parametrize("steps", [-1, "many", 1.5])
def test_other_steps_are_refused(steps):
    with pytest.raises(SettingsError, match="steps_per_epoch"):
        ClassifierSettings.from_dict({"steps_per_epoch": steps}, "The settings are")
