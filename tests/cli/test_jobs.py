"""Which pictures a command line asks for; names only, the files hold nothing."""

import json
from pathlib import Path

import pytest

from cdjax.cli.jobs import Job, Outcome, plan
from cdjax.errors import ImageError, UsageError
from cdjax.progress import Progress


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: c.png, s.png, and the folders in, styles, empty and there."""
    monkeypatch.chdir(tmp_path)
    for folder in ("in/deeper", "in/folder.png", "styles", "empty", "there"):
        Path(folder).mkdir(parents=True)
    for name in ("a.PNG", "b.jpg", "notes.txt", ".hidden.png", "deeper/d.png"):
        Path("in", name).touch()
    for name in ("styles/x.webp", "styles/y.tif", "c.png", "s.png"):
        Path(name).touch()
    return tmp_path


def outputs(content: str, style: str, output: str) -> list[str]:
    return [str(job.output) for job in plan([Path(content)], [Path(style)], output)]


def test_two_files_make_a_file() -> None:
    jobs = plan([Path("c.png")], [Path("s.png")], "there/o.JPG")
    assert jobs == [Job(Path("c.png"), (Path("s.png"),), Path("there/o.JPG"))]


@pytest.mark.parametrize("output", ["there", "there/", "new/", "new/er/"])
def test_two_files_make_a_file_in_a_folder(output: str) -> None:
    assert outputs("c.png", "s.png", output) == [str(Path(output, "c__s.png"))]
    assert not Path("new").exists()


def test_folders_make_every_pair_style_by_style() -> None:
    assert outputs("in", "styles", "out") == [
        "out/a__x.PNG",
        "out/b__x.jpg",
        "out/a__y.PNG",
        "out/b__y.jpg",
    ]
    assert outputs("c.png", "styles", "there") == ["there/c__x.png", "there/c__y.png"]


def test_what_can_only_be_read_becomes_png() -> None:
    Path("in/c.gif").touch()
    assert outputs("in", "s.png", "out")[-1] == "out/c__s.png"


def test_names_that_would_collide_do_not() -> None:
    Path("in/a.gif").touch()
    Path("styles/x.jpg").touch()
    names = outputs("in", "styles", "out")
    assert len(set(names)) == 9
    assert names[:3] == ["out/a_PNG__x_jpg.PNG", "out/a_gif__x_jpg.png", "out/b__x_jpg.jpg"]


def test_names_that_collide_nevertheless_are_refused() -> None:
    for name in ("a.gif", "a_gif.png"):
        Path("in", name).touch()
    with pytest.raises(UsageError, match=r"a_gif__s\.png: is the result of two pairs"):
        plan([Path("in")], [Path("s.png")], "out")


@pytest.mark.parametrize(
    ("content", "style", "output", "message"),
    [
        ("none.png", "s.png", "o.png", r"content none\.png: no such file or folder"),
        ("c.png", "none", "o.png", "style none: no such file or folder"),
        ("empty", "s.png", "out", r"content empty: no images \(\.jpg, "),
        ("c.png", "empty", "out", "style empty: no images"),
        ("c.png", "s.png", "out", "out: without suffix.* end it with / for a folder"),
        ("c.png", "s.png", "away/x/", "output away/x: away is a link to nothing"),
        ("c.png", "s.png", "none/o.png", "the folder none does not exist"),
        ("c.png", "s.png", "s.png/", "must be a folder, but s.png is a file"),
        ("c.png", "s.png", "s.png/x/", "must be a folder, but s.png is a file"),
        ("in", "s.png", "c.png", "must be a folder, but c.png is a file"),
        ("c.png", "s.png", "there/../c.png", "is one of the inputs"),
        ("c.png", "s.png", "s.png", "is one of the inputs"),
        ("c.png", "s.png", "link.png", "is one of the inputs"),
    ],
)
def test_what_cannot_be_followed_is_refused(
    content: str, style: str, output: str, message: str
) -> None:
    Path("link.png").symlink_to("c.png")
    Path("away").symlink_to("nowhere")
    with pytest.raises(UsageError, match=message) as caught:
        plan([Path(content)], [Path(style)], output)
    assert "\n" not in str(caught.value)


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(ImageError, match=r"unknown suffix '\.gif'"):
        plan([Path("c.png")], [Path("s.png")], "o.gif")


def test_an_input_that_is_a_result_is_not_painted_again() -> None:
    Path("c__s.png").touch()
    jobs = plan([Path()], [Path("s.png")], ".")
    assert [str(job.content) for job in jobs] == ["c.png", "s.png"]
    assert [str(job.output) for job in jobs] == ["c__s.png", "s__s.png"]


@pytest.mark.parametrize("given", ["folder", "files"])
def test_results_in_the_folder_of_the_contents_are_not_contents_of_the_next_run(given: str) -> None:
    def jobs(*styles: str) -> list[Job]:
        files = sorted(
            path for path in Path("in").iterdir() if path.suffix in (".PNG", ".jpg", ".png")
        )
        folder = [Path("in")] if given == "folder" else files
        return plan(folder, [Path(style) for style in styles], "in/", on_progress=said.append)

    Path("in/.hidden.png").unlink()
    Path("in/folder.png").rmdir()
    said: list[Progress] = []
    Path("in/b.png").touch()  # Beside b.jpg; results keep the suffix in their names.
    first = jobs("s.png")
    assert [job.output.name for job in first] == ["a__s.PNG", "b_jpg__s.jpg", "b_png__s.png"]
    for job in first:
        job.output.touch()
    assert not said
    assert jobs("s.png") == first
    assert [progress.message for progress in said] == [
        "cdjax: 3 results of an earlier run in in not taken as contents"
    ]
    # Nor those with another style.
    assert [job.content for job in jobs("c.png")] == [job.content for job in first]
    # Elsewhere they are pictures as others.
    assert len(plan([Path("in")], [Path("s.png")], "out")) == 6


def test_results_in_the_folder_of_the_styles_are_not_styles_of_the_next_run() -> None:
    content, styles = [Path("c.png")], [Path("styles")]
    first = plan(content, styles, "styles")
    mixed = plan(content, styles, "styles", mix=True)
    for job in (*first, *mixed):
        job.output.with_suffix(".png").touch()
    assert plan(content, styles, "styles") == first
    assert plan(content, styles, "styles", mix=True) == mixed


def test_a_result_alone_can_be_a_content() -> None:
    Path("there/c__s.png").touch()
    assert outputs("there/c__s.png", "s.png", "there") == ["there/c__s__s.png"]


def test_standard_output_takes_one_picture() -> None:
    assert plan([Path("c.png")], [Path("s.png")], "-")[0].output == Path("-")
    assert outputs("c.png", "s.png", "./-.png") == ["-.png"]
    with pytest.raises(UsageError, match="standard output takes one picture"):
        plan([Path("in")], [Path("s.png")], "-")


def test_an_outcome_is_one_line_of_json() -> None:
    job = Job(Path("/dev/stdin"), (Path("a\n\udcff.png"), Path("b.png")), Path("o.png"))
    line = Outcome(job, "failed", "broken", 1.23456).to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "input": "-",
        "style": ["a\n\udcff.png", "b.png"],
        "output": "o.png",
        "status": "failed",
        "error": "broken",
        "seconds": 1.235,
        "size": None,
    }


def test_many_files_and_folders_make_every_pair() -> None:
    contents, styles = [Path("c.png"), Path("in")], [Path("s.png"), Path("styles")]
    jobs = plan(contents, styles, "out")
    assert [str(job.output) for job in jobs[:4]] == [
        "out/c__s.png",
        "out/a__s.PNG",
        "out/b__s.jpg",
        "out/c__x.png",
    ]
    assert len(jobs) == 3 * 3


def test_a_mixture_counts_as_one_style() -> None:
    styles = (Path("s.png"), Path("styles/x.webp"), Path("styles/y.tif"))
    assert plan([Path("in")], [Path("s.png"), Path("styles")], "out", mix=True) == [
        Job(Path("in/a.PNG"), styles, Path("out/a__s+x+y.PNG")),
        Job(Path("in/b.jpg"), styles, Path("out/b__s+x+y.jpg")),
    ]
    # One picture, whose file can be named.
    mixed = [Job(Path("c.png"), styles[1:], Path("o.png"))]
    assert plan([Path("c.png")], [Path("styles")], "o.png", mix=True) == mixed


@pytest.mark.parametrize(
    ("contents", "styles", "mix", "message"),
    [
        (["c.png", "./c.png"], ["s.png"], False, r"content c\.png: given twice$"),
        (["in", "in/b.jpg"], ["s.png"], False, r"content in/b\.jpg: given twice$"),
        (["c.png"], ["s.png", "s.png"], True, r"s\.png: given twice; a weight after --mix gives"),
        (["c.png"], ["s.png"], True, r"--mix needs at least two styles, not only s\.png"),
        (["c.png", "in"], ["s.png"], False, r"output o\.png: 3 pictures need a folder"),
    ],
)
def test_sets_that_make_no_sense_are_refused(
    contents: list[str], styles: list[str], mix: bool, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        plan([Path(path) for path in contents], [Path(path) for path in styles], "o.png", mix=mix)


def test_a_deep_zoom_folder_holds_one_picture() -> None:
    content, styles = [Path("c.png")], [Path("s.png"), Path("styles/x.webp")]
    mixed = [Job(content[0], tuple(styles), Path("zoom"))]
    assert plan(content, styles, "zoom", mix=True, deepzoom=True) == mixed
    for contents in (content, [*content, Path("in/b.jpg")]):
        with pytest.raises(UsageError, match="--deepzoom takes one content and one style"):
            plan(contents, styles, "zoom", deepzoom=True)
