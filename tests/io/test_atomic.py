"""Files and folders appear whole or not at all, and nothing of others is touched."""

import os
from pathlib import Path

import pytest

from cdjax.io import atomic
from cdjax.io.atomic import (
    atomic_file,
    atomic_folder,
    check_space,
    finish_replacing,
    write_bytes,
    write_text,
)


def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "ä")
    assert (tmp_path / "a").read_bytes() == "ä".encode()
    assert os.listdir(tmp_path) == ["a"]


def test_the_temporary_name_is_hidden_and_another_every_time(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with atomic_file(tmp_path / "a") as temporary:
            assert temporary.parent == tmp_path
            names.add(temporary.name)
    assert len(names) == 3
    assert all(name.startswith(".cdjax-") and len(name) > 20 for name in names)


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_after_a_failure_the_old_file_is_there_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "a").write_text("old")

    def fail() -> None:
        with atomic_file(tmp_path / "a") as temporary:
            temporary.write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_links_and_modes_are_kept(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("folder/real")
    write_bytes(link, b"new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640
    (tmp_path / "dangling").symlink_to("folder/later")
    write_bytes(tmp_path / "dangling", b"new")
    assert (tmp_path / "folder" / "later").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["dangling", "folder", "link"]


def test_the_new_content_of_a_secret_file_is_secret_from_the_start(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("secret")
    (tmp_path / "a").chmod(0o600)
    with atomic_file(tmp_path / "a") as temporary:
        assert temporary.stat().st_mode & 0o077 == 0


def test_new_files_have_the_usual_mode(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"")
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(old)


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_in_the_meantime_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def none(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not hard_links:
        monkeypatch.setattr(os, "link", none)
    write_bytes(tmp_path / "new", b"new", overwrite=False)
    assert (tmp_path / "new").read_bytes() == b"new"
    with pytest.raises(FileExistsError):
        write_bytes(tmp_path / "new", b"other", overwrite=False)

    def overtaken() -> None:
        with atomic_file(tmp_path / "a", overwrite=False) as temporary:
            temporary.write_text("ours")
            (tmp_path / "a").write_text("theirs")

    with pytest.raises(FileExistsError):
        overtaken()
    assert (tmp_path / "a").read_text() == "theirs"
    assert (tmp_path / "new").read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["a", "new"]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "folder", "loop"):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            write_bytes(tmp_path / name, b"new")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "pipe"]


def test_a_folder_replaces_what_is_its_own_and_keeps_the_rest(tmp_path: Path) -> None:
    folder, link = tmp_path / "out", tmp_path / "link"
    for name in ("page", "tiles/1", "tiles/mine", "theirs/deep/a", "more/2", "more/9"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("old")
    (folder / "elsewhere").symlink_to("/nowhere")
    (folder / "empty").mkdir()
    folder.chmod(0o700)
    link.symlink_to("out")
    ours = {"page", "tiles/1", "tiles/2", "more/2"}
    with atomic_folder(link, ours=lambda path: path.as_posix() in ours) as temporary:
        (temporary / "page").write_text("new")
        (temporary / "tiles").mkdir()
        (temporary / "tiles" / "2").write_text("new")
    found = {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }
    kept = dict.fromkeys(("tiles/mine", "theirs/deep/a", "more/9"), "old")
    assert found == {"page": "new", "tiles/2": "new"} | kept
    assert (folder / "elsewhere").is_symlink()
    assert (folder / "empty").is_dir()
    assert link.is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(os.listdir(tmp_path)) == ["link", "out"]


def test_a_file_of_others_in_the_way_of_a_new_one_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "page").write_text("theirs")
    with atomic_folder(folder, ours=lambda _: False) as temporary:
        (temporary / "page").write_text("new")
    assert (folder / "page").read_text() == "new"
    (kept,) = tmp_path.glob(".cdjax-*.old/page")
    assert kept.read_text() == "theirs"


def test_a_folder_that_exists_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "out") as temporary:
        (temporary / "page").write_text("new")
    assert os.listdir(tmp_path / "out") == ["mine"]
    assert os.listdir(tmp_path) == ["out"]


def test_space_is_checked_and_given_back(tmp_path: Path) -> None:
    check_space(tmp_path, 1000)
    with pytest.raises(OSError, match=r"space|large"):
        check_space(tmp_path, 2**60)
    assert os.listdir(tmp_path) == []


def killed_in_replacing(folder: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Replaces a folder up to a step, as far as a process would get that is killed there."""

    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def replace() -> None:
        with atomic_folder(folder, ours=is_ours) as temporary:
            (temporary / "page").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(atomic, where, end)
        with pytest.raises(KeyboardInterrupt):
            replace()


def is_ours(path: Path) -> bool:
    return path.name == "page"


@pytest.mark.parametrize(
    ("step", "page"), [("_exchange", "old"), ("_empty", "new"), ("_move_others", "new")]
)
def test_a_folder_whose_replacement_was_cut_short_is_put_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, page: str
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "page").write_text("old")
    (folder / "mine").write_text("mine")
    killed_in_replacing(folder, monkeypatch, step)
    assert len(os.listdir(tmp_path)) == 2
    assert (folder / "page").read_text() == page
    finish_replacing(tmp_path / "another", lambda _: is_ours)
    assert len(os.listdir(tmp_path)) == 2
    finish_replacing(folder, lambda _: is_ours)
    assert os.listdir(tmp_path) == ["out"]
    assert (folder / "page").read_text() == page
    assert (folder / "mine").read_text() == "mine"


def test_a_folder_that_was_away_for_a_moment_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away = tmp_path / "out", []
    folder.mkdir()
    (folder / "page").write_text("old")
    rename = os.rename

    def note(source: Path, target: Path) -> None:
        rename(source, target)
        if not folder.exists():
            away.append(target)

    # Where two names cannot be exchanged, the folder has another one for a moment.
    monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", note)
    with atomic_folder(folder, ours=is_ours) as temporary:
        (temporary / "page").write_text("new")
    assert (folder / "page").read_text() == "new"
    assert os.listdir(tmp_path) == ["out"]
    (name,) = away
    rename(folder, name)  # As if the process had been killed then.
    finish_replacing(folder, lambda _: is_ours)
    assert os.listdir(tmp_path) == ["out"]
    assert (folder / "page").read_text() == "new"
