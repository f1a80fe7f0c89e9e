import errno

import pytest

from napari_wsss.errors import OutputError
from napari_wsss.files import atomic_write


def test_failure_inside_keeps_the_previous_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("previous")
    with pytest.raises(ZeroDivisionError), atomic_write(path, overwrite=True) as file:
        file.write(b"half" * (1 // 0 if file.write(b"a half") else 1))
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "previous"


def test_full_disk_is_said_in_words(tmp_path):
    with (
        pytest.raises(OutputError, match="is full"),
        atomic_write(tmp_path / "a", overwrite=False),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_folders_files_in_the_way_and_existing_files_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for target, says in [
        (tmp_path, "is a folder"),
        (tmp_path / "file", "exists"),
        (tmp_path / "file" / "below", "a file is where its folder should be"),
        (tmp_path / "file" / "far" / "below", "Choose another folder"),
    ]:
        with pytest.raises(OutputError, match=says), atomic_write(target, overwrite=False):
            pass


def test_new_file_is_as_readable_as_any_other(tmp_path):
    (tmp_path / "usual").write_text("")
    with atomic_write(tmp_path / "deep" / "ours", overwrite=False) as file:
        file.write(b"x")
    usual, ours = (tmp_path / "usual").stat(), (tmp_path / "deep" / "ours").stat()
    assert ours.st_mode == usual.st_mode
