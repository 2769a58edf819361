"""The README and the pages of docs/: their code runs, their commands parse, their links resolve."""

import argparse
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import cdjax
from cdjax import Model
from cdjax.cli.distill_options import parse as parse_distillation
from cdjax.cli.main import main
from experiments.ablate_options import parse as parse_ablation
from tests.models import random_image

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = ("cdjax", "sh", "python", "pip", "pytest", "ruff", "mypy", "mkdocs", "mkdir", "cp")
"""Programs that the pages call; each is replaced by one that only writes down its arguments."""
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return [code for name, code in FENCE.findall(page.read_text()) if name == language]


def test_every_block_names_its_language() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sh", "text"}, page.name
        assert set(fences[1::2]) <= {""}, page.name


def deepest_stage(model: Model) -> Model:
    """A model whose cascade compiles sooner."""
    specs = model.config.specs[:1]
    name = f"stage{specs[0].stage}"
    return Model({name: model.params[name]}, replace(model.config, specs=specs))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.name
)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = cdjax.load_model
    monkeypatch.setattr(cdjax, "load_model", lambda name: deepest_stage(load(name)), raising=False)
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("photo.jpg", "painting.jpg", "other.jpg")):
        Image.fromarray(random_image(32, 32, seed=seed)).save(name)
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in blocks(page, "python"):
        exec(compile(code, str(page), "exec"), names)


def run_dry(codes: Iterable[str], folder: Path, *arguments: str) -> list[str]:
    """The commands of shell scripts as the shell expands them; none of them runs."""
    log = folder / "log"
    log.touch()
    for tool in TOOLS:
        stub = folder / tool
        stub.write_text(f"#!/bin/bash\nprintf '%s\\n' \"{tool} ${{*@Q}}\" >> {log}\n")
        stub.chmod(0o755)
    for code in codes:
        done = subprocess.run(
            ["/bin/bash", "-c", code, "bash", *arguments],
            env={"PATH": str(folder)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr, code
    return log.read_text().splitlines()


def commands(page: Path, folder: Path) -> list[list[str]]:
    """Every command of the page's shell blocks and sentences."""
    lines = run_dry(blocks(page, "sh"), folder)
    for span in re.findall(r"`([^`]+)`", FENCE.sub("", page.read_text())):
        whole = span.startswith("cdjax ") and re.search(" (-o|--teacher) ", " ".join(span.split()))
        if whole or span.startswith("python -m experiments."):
            lines.append(span)
    return [shlex.split(line) for line in lines]


class Parsed(BaseException):
    """Ends a program once its arguments are parsed."""


@pytest.fixture
def dry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs end as soon as their arguments are parsed."""
    for name in ("parse_args", "parse_intermixed_args"):
        parse = getattr(argparse.ArgumentParser, name)

        def parse_only(
            self: argparse.ArgumentParser, arguments: Any = None, *, parse: Any = parse
        ) -> Any:
            options = parse(self, arguments)
            if self.prog == "cdjax":  # Its subcommand is still to be parsed.
                return options
            raise Parsed

        monkeypatch.setattr(argparse.ArgumentParser, name, parse_only)
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # Programs do not start themselves again.


def parse(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parses a command with the parser of its program; raises unless it can be parsed."""
    match command:
        case ["cdjax", "distill", *arguments] | ["python", "-m", "experiments.distill", *arguments]:
            if "--help" not in arguments:
                parse_distillation(arguments)
        case ["python", "-m", "experiments.ablate", *arguments]:
            parse_ablation(arguments)
        case ["python", "-m", module, *arguments]:
            monkeypatch.setattr(sys, "argv", [module, *arguments])
            monkeypatch.delitem(sys.modules, module, raising=False)  # runpy warns of it otherwise.
            with pytest.raises(Parsed):
                runpy.run_module(module, run_name="__main__")
        case ["cdjax", *arguments]:
            with pytest.raises(Parsed):
                main(arguments)


@each_page
@pytest.mark.usefixtures("dry")
def test_commands_parse(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in commands(page, tmp_path):
        parse(command, monkeypatch)


@pytest.mark.parametrize("name", ["wct-16x", "adain-16x"])
def test_the_recipe_of_a_bundled_model_leads_to_its_configuration(
    name: str, tmp_path: Path
) -> None:
    script = (ROOT / f"experiments/recipes/{name}.sh").read_text()
    lines = map(shlex.split, run_dry([script], tmp_path, "photos", "paintings", "runs"))
    trainings = [line[2:] for line in lines if line[:2] == ["cdjax", "distill"]]
    made = {None, "runs/adain-begun"}
    for command in map(parse_distillation, trainings):
        assert command.recipe.data.source == "photos"
        assert command.recipe.start.model in made
        made.add(f"{command.output}/model")
    last, config = command.recipe, cdjax.load_model(name).config
    assert f'load_model(runs / "{command.output.name}/model")' in script
    assert last.method == config.method
    assert sorted(last.stages, reverse=True) == [spec.stage for spec in config.specs]
    if last.transforms:
        assert [config.transform_of(spec.stage) for spec in config.specs] == list(last.transforms)
    assert f'"{name}.npz"' in script


@pytest.mark.usefixtures("dry")
def test_a_wrong_command_does_not_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "cdjax stylize a.jpg b.jpg -o c.jpg --no-such-option",
        "cdjax no-such-command",
        "cdjax distill --no-such-option 5",
        "python -m experiments.benchmark --no-such-option",
    ):
        with pytest.raises((SystemExit, pytest.fail.Exception)):
            parse(line.split(), monkeypatch)


@each_page
def test_extras_exist(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"'\.\[(.*?)\]'", page.read_text()):
        assert set(extras.split(",")) <= set(project["optional-dependencies"])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings]
    return {re.sub(r"\s", "-", heading) for heading in words}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text())):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_source_files_exist(page: Path) -> None:
    for path in re.findall(r"`((?:cdjax|experiments|tests|docs)/[\w/.-]+\.\w+)`", page.read_text()):
        assert (ROOT / path).is_file(), path


def test_every_page_is_in_the_navigation() -> None:
    navigation = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(navigation) == sorted(path.name for path in ROOT.glob("docs/*.md"))


def test_pictures_are_small_and_shown() -> None:
    pictures = list((ROOT / "docs" / "pictures").iterdir())
    assert sum(path.stat().st_size for path in pictures) <= 2_000_000
    text = "".join(page.read_text() for page in PAGES)
    for path in pictures:
        assert f"pictures/{path.name})" in text, path.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
