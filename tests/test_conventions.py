"""Rules of the code base that a reader relies on."""

import ast
import inspect
from pathlib import Path

import pytest

import cdjax

ROOT = Path(__file__).parents[1]
LIBRARY = sorted(ROOT.glob("cdjax/**/*.py"))
SOURCES = [*LIBRARY, *sorted(ROOT.glob("experiments/**/*.py")), ROOT / "convert_weights.py"]
FORBIDDEN = {"torch", "tensorflow", "torchvision"}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_short_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < 60, node.name
        names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        positional = len(names) - (names[:1] in (["self"], ["cls"]))
        if node.name in cdjax.__all__:  # Their options are keyword-only, and may be many.
            assert positional <= 6, node.name
        else:
            assert positional + len(node.args.kwonlyargs) <= 8, node.name


def test_the_library_needs_neither_the_experiments_nor_torch_nor_tensorflow() -> None:
    for path in LIBRARY:
        roots = {name.partition(".")[0] for name in imported(path)}
        assert not roots & (FORBIDDEN | {"experiments", "tests"}), path.name


def test_public_names_are_all_there_and_documented() -> None:
    for name in cdjax.__all__:
        value = getattr(cdjax, name)
        assert value.__doc__, name
        if inspect.isfunction(value):
            positional = [
                p
                for p in inspect.signature(value).parameters.values()
                if p.default is not p.empty and p.kind is not p.KEYWORD_ONLY
            ]
            # Networks are named by their stage; every other option is keyword-only.
            assert not positional, f"{name}: {positional}"
