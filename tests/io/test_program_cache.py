"""The files of compiled programs: what is read back, what is removed."""

import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cdjax.io.program_cache import ProgramCache, clear, made_files, remove_least_used

KEY, OTHER = (f"jit__stylize-{digit * 64}" for digit in "ab")
PROGRAM = bytes(range(256)) * 40


def cache_in(root: Path, *, built_for: str = "here", limit: int = 10**6) -> ProgramCache:
    return ProgramCache(root, built_for, limit=limit)


def only_file(folder: Path) -> Path:
    [file] = (path for path in folder.rglob("*") if path.is_file())
    return file


def test_a_program_is_there_for_every_process(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "xla"
    assert cache_in(root).get(KEY) is None
    cache_in(root).put(KEY, PROGRAM)
    assert cache_in(root).get(KEY) == PROGRAM
    assert cache_in(root).get(OTHER) is None
    cache_in(root).put(KEY, b"new")
    assert cache_in(root).get(KEY) == b"new"


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:20],
        lambda content: os.urandom(len(content)),
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[32:],
    ],
)
def test_a_damaged_file_is_not_read_and_is_replaced(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    cache = cache_in(tmp_path)
    cache.put(KEY, PROGRAM)
    file = only_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    assert cache.get(KEY) is None
    cache.put(KEY, PROGRAM)
    assert cache.get(KEY) == PROGRAM


def test_a_file_is_read_only_under_its_key_and_where_it_was_built(tmp_path: Path) -> None:
    cache, other = cache_in(tmp_path), cache_in(tmp_path, built_for="there")
    cache.put(KEY, PROGRAM)
    assert other.get(KEY) is None
    file = only_file(tmp_path)
    content = file.read_bytes()
    for name, place in ((OTHER, "here"), (KEY, "there")):
        moved = tmp_path / place / file.name.replace(KEY, name)
        moved.parent.mkdir(exist_ok=True)
        moved.write_bytes(content)
    assert cache.get(OTHER) is None
    assert other.get(KEY) is None
    assert cache.get(KEY) == PROGRAM


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    # One that JAX itself left, without a checksum, and one of another compiler: oldest.
    for day, path in enumerate((f"jit_f-{'0' * 64}-cache", f"old/jit_f-{'0' * 64}.program"), 1):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(bytes(1000))
        os.utime(tmp_path / path, (day, day))
    keys = [f"jit_g-{digit * 64}" for digit in "0123456789"]
    cache = cache_in(tmp_path, limit=8 * 1032)
    for second, key in enumerate(keys[:6], 10):
        cache.put(key, bytes(1000))
        os.utime(tmp_path / "here" / f"{key}.program", (second, second))
    assert len(list(made_files(tmp_path))) == 8
    cache.get(keys[0])  # Used now, and so kept.
    # A process of its own does not know how much there is before it looks.
    cache_in(tmp_path, limit=8 * 1032).put(keys[6], bytes(1000))
    assert not (tmp_path / "old").exists()
    left = [key for key in keys if cache.get(key)]
    assert left == keys[:7]
    for key in keys[7:]:
        cache.put(key, bytes(1000))
        assert sum(status.st_size for _, status in made_files(tmp_path)) <= 8 * 1032
        assert cache.get(key)


def test_what_is_too_much_is_removed_from_the_oldest_on(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    for second, digit in enumerate("0123456789abcdef"):
        cache.put(f"jit_f-{digit * 64}", bytes(968))
        os.utime(tmp_path / "here" / f"jit_f-{digit * 64}.program", (second, second))
    assert remove_least_used(tmp_path, 16_000) == 16_000
    assert len(list(made_files(tmp_path))) == 16
    # An eighth of the limit more than necessary.
    assert remove_least_used(tmp_path, 8_000) == 7_000
    left = sorted(path.name[6] for path, _ in made_files(tmp_path))
    assert "".join(left) == "9abcdef"


def test_only_what_was_made_is_cleared(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "xla", tmp_path / "elsewhere"
    cache_in(root).put(KEY, PROGRAM)
    made = [
        f"here/.cdjax-{'0' * 16}.part",
        f"{KEY}-cache",
        f"{KEY}-atime",
        "here/xla_gpu_per_fusion_autotune_cache_dir/0.textproto",
    ]
    kept = ["notes.txt", "here/thesis.program", "here/my-cache", "here/deeper/a-cache"]
    linked = elsewhere / f"{KEY}-cache"
    for path in (*(root / name for name in (*made, *kept)), linked):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1234")
    (root / "link").symlink_to(elsewhere)
    (root / "mine").mkdir()
    count, size = clear(root)
    assert (count, size) == (5, len(PROGRAM) + 32 + 4 * 4)
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert files == sorted(kept)
    assert linked.exists()
    assert sorted(path.name for path in root.iterdir()) == ["here", "link", "mine", "notes.txt"]
    assert clear(root) == clear(tmp_path / "none") == (0, 0)


def test_a_full_disk_leaves_nothing_and_is_not_an_error(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.put(OTHER, b"small")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        cache.put(KEY, PROGRAM)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert cache.get(KEY) is None
    assert cache.get(OTHER) == b"small"
    assert only_file(tmp_path).name == f"{OTHER}.program"


def test_without_a_folder_nothing_is_kept_and_nothing_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for cache in (cache_in(tmp_path / "file"), cache_in(tmp_path, built_for="file")):
        cache.put(KEY, PROGRAM)
        assert cache.get(KEY) is None
    (tmp_path / "here" / f"{KEY}.program").mkdir(parents=True)
    cache_in(tmp_path).put(KEY, PROGRAM)
    assert cache_in(tmp_path).get(KEY) is None


def test_many_writers_and_readers_meet_only_whole_programs(tmp_path: Path) -> None:
    programs = [bytes([number]) * (50_000 + number) for number in range(8)]

    def work(number: int) -> set[bytes | None]:
        cache, met = cache_in(tmp_path, limit=60_000), set[bytes | None]()
        for _ in range(20):
            cache.put(KEY, programs[number])
            cache.put(f"jit_f-{number}{'0' * 63}", programs[number])  # Has others removed.
            met.add(cache.get(KEY))
        return met

    with ThreadPoolExecutor(len(programs)) as pool:
        met = set.union(*pool.map(work, range(len(programs))))
    assert met <= {None, *programs}
    assert met - {None}
    assert sum(status.st_size for _, status in made_files(tmp_path)) <= 60_000
