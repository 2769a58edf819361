"""`cdjax stylize`: options, what to make of which files, and a summary."""

import argparse
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.inputs import add_inputs, contents_and_styles, name_skipped
from cdjax.cli.outputs import already_exists
from cdjax.cli.parser import (
    BAD_INPUT,
    Once,
    Parser,
    add_memory_options,
    add_model_options,
    add_picture_options,
    add_style_options,
    picture_path,
    require,
    within,
)
from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.cli.jobs import Job

_USAGE = """\
cdjax stylize CONTENT STYLE -o OUT [OPTIONS]
       cdjax stylize CONTENT... -s STYLE... -o FOLDER [OPTIONS]
       cdjax stylize CONTENT... -s STYLE... --mix [W...] -o OUT [OPTIONS]
       cdjax stylize CONTENT... -s STYLE... --masks MASK... -o OUT [OPTIONS]"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    if options.quiet:
        warnings.simplefilter("ignore")
    from cdjax.cli.jobs import STANDARD, STDIN, plan
    from cdjax.cli.masks import check_masks, with_masks
    from cdjax.cli.progress import ProgressBar
    from cdjax.cli.standard import read_standard_input, standard_output

    contents, styles = contents_and_styles(options, "cdjax stylize", "FOLDER")
    of_regions, of_styles = options.masks or [], options.style_masks or []
    masks = of_regions or [path for path in (options.mask,) if path]
    piped = STDIN in (*contents, *styles, *masks, *of_styles)
    _check_places(options, piped or options.output == str(STANDARD))
    if piped:
        read_standard_input()
    check_masks(styles, of_regions, of_styles)
    mix, deepzoom = options.mix is not None or len(of_regions) > 1, options.deepzoom
    said = ProgressBar(quiet=options.quiet)
    jobs = plan(contents, styles, options.output, mix=mix, deepzoom=deepzoom, on_progress=said)
    jobs = with_masks(jobs, masks, dict(zip(styles, of_styles, strict=False)))
    _check(options, len(jobs[0].styles))
    single = len(jobs) == 1 and all(path.is_file() for path in (*contents, *styles))
    with standard_output(jobs, json=options.json) as files:
        return _make(options, files, single, () if single else (*contents, *styles))


def _make(
    options: argparse.Namespace,
    jobs: "Sequence[Job]",
    single: bool,
    inputs: Sequence[Path],
) -> int:
    """Makes what does not exist yet, and names what is not read of the folders among the inputs.

    Returns the exit status.
    """
    from cdjax.cli.chosen_model import model_name
    from cdjax.cli.progress import print_line
    from cdjax.cli.standard import already_there, print_outcome
    from cdjax.io.leftovers import remove_leftovers
    from cdjax.io.remote import existing

    remove_leftovers(job.output for job in jobs)
    there = set() if options.overwrite else existing(job.output for job in jobs)
    todo = [job for job in jobs if job.output not in there]
    model_name(options)  # Raises if there is none, before anything is read or computed.
    if options.json:
        for job in jobs:
            if job not in todo:
                print_outcome(already_there(job))
    if single and not todo:
        raise already_exists(jobs[0].output)
    if len(jobs) > 1 and not options.quiet:
        print_line(f"cdjax: {_what(jobs)} -> {options.output}")
    pictures = name_skipped(inputs, quiet=options.quiet)
    found = _stylize(todo, options, single) if todo else Counter()
    if not single and not options.quiet:
        skipped = len(jobs) - len(todo) + found["already there"]
        counts = {"skipped (already exist)": skipped, "failed": found["failed"]}
        more = (f", {count} {what}" for what, count in counts.items() if count)
        print_line(f"cdjax: {found['made']} written{''.join(more)}")
    return BAD_INPUT if found["failed"] or pictures else 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax stylize",
        usage=_USAGE,
        description="Repaint photographs in the style of paintings. A CONTENT or STYLE is an image "
        "or a folder of images, or - for standard input; every content is painted in every style. "
        "OUT may be - for standard output, as PNG. A name that begins with a dash comes after --.",
    )
    add = parser.add_argument
    add_inputs(parser)
    add_picture_options(parser)
    weight = within(float, 0, 1_000_000)
    mix = "mix all styles into one, with these weights in their order (default: equal ones)"
    add("--mix", type=weight, nargs="*", metavar="W", help=mix)
    where = "where the style is used: an image, white there and black where CONTENT stays"
    add("--mask", type=picture_path, action=Once, metavar="MASK", help=where)
    masks: Any = {"type": picture_path, "nargs": "+", "action": "extend", "metavar": "MASK"}
    add("--masks", **masks, help="one mask a style, in their order: one picture in all styles")
    add("--style-masks", **masks, help="one a style: which parts of the paintings count")
    add_style_options(parser)
    deepzoom = "write OUT as a folder with a page that zooms into the result"
    add("--deepzoom", action="store_true", help=deepzoom)
    group = add_model_options(parser)
    add_memory_options(group)
    ray = "make the pictures on a Ray cluster: HOST:PORT or auto; without it, this machine alone"
    group.add_argument("--ray", nargs="?", const="local", action=Once, metavar="ADDRESS", help=ray)
    return parser.parse_intermixed_args(arguments)


def _what(jobs: "Sequence[Job]") -> str:
    """How many pictures, and of what: "12 pictures: 4 contents x 3 styles"."""
    contents, styles = len({job.content for job in jobs}), len({job.styles for job in jobs})
    mixed = len(jobs[0].styles)
    kind = f"mixture of {mixed} styles" if mixed > 1 else f"style{'s' * (styles > 1)}"
    if len(jobs[0].masks) > 1:
        kind = f"picture in {mixed} styles"
    return f"{len(jobs)} pictures: {contents} content{'s' * (contents > 1)} x {styles} {kind}"


def _check_places(options: argparse.Namespace, pipes: bool) -> None:
    """Raises if files are not where they can be made; `pipes`: whether there are some."""
    from cdjax.io.remote import Address, path_of

    if options.ray is not None:
        require("--ray", "ray")
        if pipes:
            raise UsageError("--ray: the workers see no standard input or output; give files")
    if options.deepzoom and (options.ray or isinstance(path_of(options.output), Address)):
        raise UsageError("--deepzoom makes a folder, not at an address and not with --ray")


def _check(options: argparse.Namespace, styles: int) -> None:
    """Raises, before hours of work, if options do not fit the number of styles or what is there."""
    if options.deepzoom:
        from cdjax.io import vips
        from cdjax.io.deepzoom import check_replaceable, viewer_files

        if not vips.available():
            raise UsageError("--deepzoom needs libvips: pip install 'pyvips[binary]'")
        viewer_files()
        if options.overwrite:
            check_replaceable(Path(options.output), overwrite=True)
    if options.mask and options.masks:
        raise UsageError("--mask is for one style and --masks for several; give only one of them")
    if options.masks and options.mix is not None:
        raise UsageError("--masks and --mix: styles are used in regions or mixed, not both")
    if options.mix and len(options.mix) != styles:
        raise UsageError(f"--mix: {len(options.mix)} weights for {styles} styles")
    if options.mix and not any(options.mix):
        raise UsageError("--mix: at least one weight must be above 0")


def _stylize(jobs: "Sequence[Job]", options: argparse.Namespace, single: bool) -> Counter[str]:
    """Makes the pictures; returns how many had which status."""
    from cdjax.cli.batch import Make, here, run
    from cdjax.cli.chosen_model import load_chosen
    from cdjax.cli.interrupts import run_interruptibly
    from cdjax.cli.jobs import Outcome, Settings
    from cdjax.cli.standard import print_outcome

    chosen = vars(options) | {"style_weights": tuple(options.mix or ()) or None}
    names = [field.name for field in fields(Settings) if field.name in chosen]
    settings = Settings(**{name: chosen[name] for name in names})
    found: Counter[str] = Counter()

    def count(outcome: Outcome) -> None:
        found[outcome.status] += 1
        if options.json:
            print_outcome(outcome)

    load = partial(load_chosen, options)
    where: AbstractContextManager[Make] = nullcontext(here)
    if options.ray is not None:
        from cdjax.cli.ray_batch import cluster

        where = cluster(options.ray)
    with where as make:
        work = partial(run, jobs, load, settings, make=make, strict=single, on_outcome=count)
        run_interruptibly(work)
    return found
