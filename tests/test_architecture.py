"""Modules import downwards only, without circles: read from the imports themselves."""

import ast
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "progress"}),
    frozenset({"ops"}),
    frozenset({"networks"}),
    frozenset({"io", "data", "transfer", "checkpoints"}),
    frozenset({"tiling", "video", "optimization", "distillation", "evaluation", "export"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
"""Parts of the package from the bottom up; each imports what is below it."""

SIDEWAYS = frozenset({("data", "io"), ("checkpoints", "io")})
"""Imports within a level, (from, of), that are meant: files are read and written by `io`."""

Imports = Mapping[str, set[str]]


def part(module: str) -> str:
    """`cdjax.ops.conv` -> `ops`; `cdjax.model` stands beside the networks."""
    name = module.removeprefix("cdjax.").partition(".")[0]
    return "networks" if name == "model" else name


def imports_in(text: str, module: str, modules: set[str]) -> set[str]:
    """Names of modules imported anywhere in a source file, functions and TYPE_CHECKING included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else str(node.module))
    return found


def circle_in(imports: Imports) -> list[str]:
    """The modules of one circle of imports, the first again at the end; none: an empty list."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for name in sorted(imports.get(module, ())):
            if circle := search(name, [*path, module]):
                return circle
        done.add(module)
        return []

    return next((circle for module in sorted(imports) if (circle := search(module, []))), [])


def wrong_arrows(imports: Imports) -> list[str]:
    """Imports between parts that do not go down, and none that are sideways on purpose."""
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    return sorted(
        f"{module} imports {name}"
        for module, names in imports.items()
        for name in names
        if part(module) != part(name)
        and level[part(name)] >= level[part(module)]
        and (part(module), part(name)) not in SIDEWAYS
    )


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    paths = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.glob("cdjax/**/*.py")
    }
    modules = set(paths)
    return {name: imports_in(path.read_text(), name, modules) for name, path in paths.items()}


def within(imports: Imports) -> dict[str, set[str]]:
    """The imports of the library's own modules; the package itself hands out names of all."""
    return {
        module: {name for name in names if name.partition(".")[0] == "cdjax"}
        for module, names in imports.items()
        if module != "cdjax"
    }


def test_every_module_has_a_level(imports: Imports) -> None:
    assert {part(module) for module in within(imports)} <= frozenset().union(*LEVELS)


def test_modules_do_not_import_each_other_in_circles(imports: Imports) -> None:
    assert not circle_in(within(imports))


def test_imports_go_down(imports: Imports) -> None:
    assert not wrong_arrows(within(imports))


def test_every_allowed_sideways_import_is_still_there(imports: Imports) -> None:
    there = {
        (part(module), part(name)) for module, names in within(imports).items() for name in names
    }
    assert there >= SIDEWAYS


def test_the_library_imports_neither_itself_as_a_whole_nor_the_programs(imports: Imports) -> None:
    for module, names in imports.items():
        assert "cdjax" not in names, module
        assert not {name.partition(".")[0] for name in names} & {"experiments", "tests"}, module


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("def f():\n    from cdjax.ops.conv import convolve", circle_in),
        ("if TYPE_CHECKING:\n    from cdjax.ops import conv", circle_in),
        ("import cdjax.transfer.stylize", wrong_arrows),
        ("from cdjax.cli import batch", wrong_arrows),
    ],
)
def test_a_wrong_import_is_found(text: str, fails: Callable[[Imports], list[str]]) -> None:
    modules = {"cdjax.ops.conv", "cdjax.ops.padding", "cdjax.cli.batch"}
    made_up = {
        "cdjax.ops.conv": {"cdjax.ops.padding"},
        "cdjax.ops.padding": imports_in(text, "cdjax.ops.padding", modules),
    }
    assert fails(made_up)
