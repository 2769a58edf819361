"""`python -m experiments.benchmark --gatys`, small: its tables, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cdjax import Model, Optimization, Spec, optimize_image, save_model
from experiments import benchmark, gatys_benchmark
from experiments.gatys_benchmark import run_courses
from experiments.gatys_report import Course, GatysComparison, gatys_report
from tests.experiments.test_benchmark import tables
from tests.models import encode, random_model
from tests.pictures import numbers, picture

pytestmark = pytest.mark.usefixtures("quick_compiler")

DEPTHS = (1, 1, 1, 2, 1)


def encoder(widths: tuple[int, ...], *, seed: int) -> Model:
    spec = Spec(5, widths, DEPTHS)
    whole = random_model((spec,), seed=seed)
    params = {"stage5": {"encoder": whole.params["stage5"]["encoder"]}}
    return Model(params, dataclasses.replace(whole.config, method="encoder"))


TEACHER = encoder((3, 4, 5, 6, 4), seed=3)


STUDENT = encoder((2, 3, 3, 4, 3), seed=4)

Seen = list[tuple[dict[str, Any], dict[str, np.ndarray]]]


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seen:
    """What the courses answer and the pictures in their folder, while a small pair is measured."""
    monkeypatch.setattr(gatys_benchmark, "_PAUSE", 0)
    monkeypatch.chdir(tmp_path)
    save_model("small", STUDENT)
    save_model("big", TEACHER)
    courses: Seen = []

    def watched(folder: Path, **options: str) -> object:
        found = run_courses(folder, **options)
        courses.append((found, {path.stem: np.load(path) for path in folder.glob("*.npy")}))
        return found

    monkeypatch.setattr(gatys_benchmark, "run_courses", watched)
    return courses


SMALL = ["--gatys", "--weights", "small", "--teacher", "big", "--sizes", "32", "--scales", "1"]


def test_report_of_a_small_run(seen: Seen, capsys: pytest.CaptureFixture[str]) -> None:
    output = Path("report.md")
    assert benchmark.main([*SMALL, "--steps", "25", "--output", str(output)]) == 0
    text = output.read_text()
    assert capsys.readouterr().out == text
    ((answers, arrays),) = seen
    found = tables(text)
    assert [len(rows) for rows in found.values()] == [2, 2, 7, 2]
    # The chunks of 10, 10 and 5 steps but the first.
    for column, name in ((1, "student"), (2, "teacher")):
        steps = [answer["step"] for answer in answers[name][0]]
        assert steps == [0, 10, 20, 25]
        seconds = [answer["seconds"] for answer in answers[name][0]]
        median = np.median([seconds[2] / 10, seconds[3] / 5])
        cell = found["Speed"][1][column].split()[0]
        assert float(cell) == pytest.approx(median, rel=0.01)
        assert float(found["Speed"][1][column + 3]) == pytest.approx(sum(seconds), rel=0.01)
        peak = float(found["Peak memory, MiB"][1][column])
        assert peak == pytest.approx(answers[name][0][-1]["peak"] / 2**20, abs=1)
    # The last of its losses is that of the picture, which the teacher judges.
    wanted = numpy_distance(arrays["student"], arrays["style"] / 255, "relu2_1")
    row = next(r for r in found[DISTANCE] if r[0] == "32, landscape in painting, relu2_1")
    assert float(row[2]) == pytest.approx(wanted, rel=0.02)


def test_a_course_from_what_the_student_stylizes_which_the_teacher_finishes(
    seen: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = random_model((STUDENT.config.specs[0],), seed=4)
    save_model("whole", whole)
    # 16 pixels a side, the second scale, are too few for the encoders.
    arguments = [*SMALL[:2], "whole", *SMALL[3:-2], "--start", "stylized"]
    assert benchmark.main([*arguments, "--steps", "26", "--finish-steps", "14"]) == 0
    text = capsys.readouterr().out
    assert "the teacher in its last 14 steps of a scale" in text
    assert "from the content stylized with its decoders" in text
    ((courses, arrays),) = seen
    steps = {name: [answer["step"] for answer in courses[name][0]] for name in courses}
    assert steps == {"student": [0, 10, 12, 12, 22, 26], "teacher": [0, 10, 20, 26]}
    pair, own = (arrays["content"], arrays["style"]), Optimization(steps=26, scales=1)
    settings = dataclasses.replace(own, finish_steps=14, start="stylized")
    wanted = optimize_image(whole, *pair, settings=settings, finish=TEACHER)
    np.testing.assert_allclose(arrays["student"], wanted, atol=1e-3)
    # The teacher's own course begins with the content.
    np.testing.assert_allclose(
        arrays["teacher"], optimize_image(TEACHER, *pair, settings=own), atol=1e-3
    )
    seconds = [answer["seconds"] for answer in courses["student"][0]]
    mean = (12 * seconds[2] / 2 + 14 * seconds[5] / 4) / 26
    cell = tables(text)["Speed"][1][1].split()[0]
    assert float(cell) == pytest.approx(mean, rel=0.01)


DISTANCE = "Style distance to the style, in the teacher's features"


def numpy_distance(picture: np.ndarray, style: np.ndarray, layer: str) -> float:
    spec, params = TEACHER.config.specs[0], TEACHER.params["stage5"]["encoder"]
    flat = [encode(spec, params, image)[layer].reshape(-1, 4) for image in (picture, style)]
    own, other = (features.T @ features / len(features) for features in flat)
    return float(np.square(own - other).mean())


def test_distances_add_up_and_ratios_are_of_the_teachers() -> None:
    courses = {
        "student": Course((0.2, 0.1, 0.3), 4.0, 100, 400, {"relu1_1": 2.0, "relu2_1": 4.0}, 0.5),
        "teacher": Course((0.8,), 10.0, 100, 1300, {"relu1_1": 1.0, "relu2_1": 5.0}, 0.6),
    }
    result = GatysComparison(64, "a in b", courses, {"relu1_1": 9.0, "relu2_1": 11.0})
    assert result.faster == pytest.approx(4)
    found = tables(gatys_report("command", Optimization(), {n: n for n in courses}, [result]))
    assert found["Speed"][1][1:] == [
        "0.2 (0.1 to 0.3)",
        "0.8 (0.8 to 0.8)",
        "4.00",
        "4",
        "10",
        "2.50",
    ]
    assert found["Peak memory, MiB"][1][3::3] == ["3.25", "4.00"]
    assert found[DISTANCE][1:] == [
        ["64, a in b, relu1_1", "9", "2", "1", "2.000"],
        ["64, a in b, relu2_1", "11", "4", "5", "0.800"],
        ["64, a in b, sum", "20", "6", "6", "1.000"],
    ]


def test_several_pairs_are_told_one_by_one_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("small", STUDENT)
    save_model("big", TEACHER)
    for number in (1, 2, 3):
        picture(number, width=40 + number).save(f"{number}.png")
    met = []

    def half_way(folder: Path, **_: str) -> object:
        """What courses would be that leave the content as it is, and go half way to the style."""
        content, style = (np.load(folder / f"{name}.npy") / 255 for name in ("content", "style"))
        np.save(folder / "student.npy", content)
        np.save(folder / "teacher.npy", (content + style) / 2)
        met.append((content, style))
        answer = {"size": [32, 32], "finishing": False, "losses": {}, "peak": 2**20}
        seconds = {"student": len(met), "teacher": 3 * len(met)}
        return {
            name: ([answer | {"step": k, "seconds": each * k} for k in (0, 2)], 0)
            for name, each in seconds.items()
        }

    monkeypatch.setattr(gatys_benchmark, "fill_cache", lambda *_, **__: None)
    monkeypatch.setattr(gatys_benchmark, "run_courses", half_way)
    arguments = ["--contents", "1.png", "2.png", "--styles", "3.png", "--pairs", "4"]
    assert benchmark.main([*SMALL, "--steps", "2", *arguments]) == 0
    found = tables(capsys.readouterr().out)
    assert [numbers(255 * np.stack(pair)) for pair in met] == [[1, 3], [2, 3]]
    medians = ["1.5", "4.5", "3.00", "3", "9", "3.00"]
    assert found["Speed"][-1] == ["32, 2 pairs, medians", *medians]
    pairs = ["32, 1 in 3", "32, 2 in 3"]
    assert [row[0] for row in found["Speed"][1:-1]] == pairs
    *rows, mean, ratio = found[DISTANCE][1:]
    by_name = {row[0]: [float(cell) for cell in row[1:]] for row in rows}
    for pair, (content, style) in zip(pairs, met, strict=True):
        wanted = [numpy_distance(p, style, "relu2_1") for p in (content, (content + style) / 2)]
        before, student, teacher, _ = by_name[f"{pair}, relu2_1"]
        assert [student, teacher] == pytest.approx(wanted, rel=0.02)
        assert before == student
    first, second = (by_name[f"{pair}, sum"] for pair in pairs)
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert [float(cell) for cell in mean[1:4]] == pytest.approx(means[:3], rel=2e-3)
    assert float(mean[4]) == pytest.approx(means[1] / means[2], rel=2e-3)
    assert float(ratio[4]) == pytest.approx(np.sqrt(first[3] * second[3]), rel=2e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training"], "choose one"),
        (["--dtype", "bfloat16"], "float32 alone"),
        (["--teacher", "none"], "none: no such file"),
        (["--steps", "0"], "a step and a scale"),
        (["--finish-steps", "51", "--teacher", "big"], "51 of 50 steps"),
        (["--contents", "none.png", "--teacher", "big"], "none.png: no such file"),
        (["--sizes", "20", "--teacher", "big"], "needs 32 a side"),
        (["--start", "stylized", "--weights", "big", "--teacher", "big"], "with decoders"),
        (["--teacher", "shallow"], "no layer relu4_2"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("big", TEACHER)
    save_model("shallow", random_model((Spec(1, (3,)),)))
    assert benchmark.main(["--gatys", "--weights", "big", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err
