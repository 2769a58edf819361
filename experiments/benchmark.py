"""Speed and memory: cdjax against plain PyTorch, stylising or in a training step; windows.

    python -m experiments.benchmark [--method adain] [--sizes 512 1024 2048] [--output FILE]
    python -m experiments.benchmark --training [--stages 3 5] [--output FILE]
    python -m experiments.benchmark --ultra [--megapixels 1 4 16 40 100] [--output FILE]
    python -m experiments.benchmark --gatys [--sizes 512 1024] [--output FILE]

For every size each implementation has a fresh process of its own and the two run in turns, so
that whatever else the machine does meets both; `experiments/measure.py` is those processes,
`experiments/plain_torch.py` the PyTorch version. A last part compares the cold start, from the
start of a process to the image file written. `experiments/training_benchmark.py` is the training
step, `experiments/ultra_benchmark.py` large images by windows, `experiments/gatys_benchmark.py`
pictures optimised by student and teacher. Needs the extra `bench`; `--ultra` and `--gatys` do
without, but `--output` of the former, which has JSON and a plot beside it, needs `train`.
"""

import argparse
import importlib.util
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import Model, ModelConfig, Spec, load_model, save_model, student
from cdjax.cli.allocator import STYLISATION
from cdjax.model import Method, Params
from cdjax.networks.spec import Conv, teacher
from experiments.benchmark_report import Comparison, Measurement, report, write_whole
from experiments.gatys_benchmark import add_gatys_options, measure_gatys
from experiments.measure import (
    BenchmarkError,
    Worker,
    WorkerError,
    photograph,
    time_process,
    worker,
)
from experiments.ultra_options import add_ultra_options, check_ultra_options

_STUDENTS: dict[Method, tuple[Spec, ...]] = {
    "wct": tuple(student(stage) for stage in (5, 4, 3, 2, 1)),
    "adain": (student(4),),
}

_PAUSE = 0.5
"""Seconds before a run in which the other worker's threads, which spin a while, go to sleep."""


def random_model(specs: tuple[Spec, ...], *, method: Method = "wct", seed: int = 0) -> Model:
    """A model with random weights whose features neither die nor overflow."""
    generator = np.random.default_rng(seed)

    def layer(conv: Conv, *, gain: float = 1.0, bias: float = 0.1) -> Params:
        kernel = generator.normal(size=(3, 3, conv.features_in, conv.features_out))
        # Without a mean no layer sees a constant image, else all features come to vary as one
        # and what the transforms make of the rest is rounding.
        kernel -= kernel.mean((0, 1, 2))
        kernel *= gain * np.sqrt(2 / (9 * conv.features_in))
        bias_of_all = np.full(conv.features_out, bias, np.float32)
        return {"kernel": kernel.astype(np.float32), "bias": bias_of_all}

    params: dict[str, dict[str, Params]] = {}
    for spec in specs:
        networks = {
            network: {conv.name: layer(conv) for conv in convs}
            for network, convs in (("encoder", spec.encoder), ("decoder", spec.decoder))
        }
        # A grey ground, from which neither the last ReLU nor the clipping takes much.
        networks["decoder"]["conv1_1"] = layer(spec.decoder[-1], gain=0.6, bias=0.5)
        networks["encoder"]["conv0"] = {
            "kernel": np.eye(3, dtype=np.float32)[None, None],
            "bias": np.zeros(3, np.float32),
        }
        params[f"stage{spec.stage}"] = networks
    return Model(params, ModelConfig(method, specs, "random"))


def cascade_flops(specs: Sequence[Spec], size: int) -> float:
    """Floating-point operations of a stylisation's 3x3 convolutions, two a multiply-accumulate.

    Every stage encodes content and style and decodes once; the colour convolution conv0, pooling
    and the transforms are not counted.
    """
    return sum(2 * 3 * spec.encoder_macs for spec in specs) * size**2


def _write_weights(path: Path, model: Model) -> None:
    arrays: dict[str, Any] = {"method": np.array(model.config.method)}
    for spec in model.config.specs:
        for network, convs in (("encoder", spec.encoder), ("decoder", spec.decoder)):
            layers = model.params[f"stage{spec.stage}"][network]
            for name in [*(["conv0"] if network == "encoder" else []), *(c.name for c in convs)]:
                prefix = f"stage{spec.stage}/{network}/{name}"
                kernel = np.asarray(layers[name]["kernel"])
                arrays[f"{prefix}/weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
                arrays[f"{prefix}/bias"] = np.asarray(layers[name]["bias"])
    np.savez(path, **arrays)


def _time(process: Worker) -> dict[str, Any]:
    time.sleep(_PAUSE)
    return process.ask("run")


def compare(
    folder: Path, specs: Sequence[Spec], size: int, *, runs: int, dtype: str
) -> tuple[Comparison, dict[str, Any]]:
    """Times both implementations at one size.

    Args:
        folder: holds `checkpoint` and `weights.npz`, and gets images, results and caches.
        specs: the networks of the checkpoint.
        size: height and width of content and style.
        runs: timed runs of each.
        dtype: in which the networks compute.

    Returns:
        The comparison, and what the workers say of themselves under `"cdjax"` and `"torch"`.

    Raises:
        WorkerError: if one of the processes comes to a bad end.
    """
    for seed, name in enumerate(("content", "style")):
        np.save(folder / f"{name}.npy", photograph(size, seed=seed))
    with worker("cdjax", folder, dtype=dtype) as throwaway:
        throwaway.ask("run")  # Fills the compilation cache.
        product = throwaway.ask("product")["flops"]
        device = throwaway.about["platform"]
    with (
        worker("cdjax", folder, dtype=dtype, allocator=STYLISATION) as ours,
        worker("torch", folder, dtype=dtype, platform=device) as theirs,
    ):
        pair = {"cdjax": ours, "torch": theirs}
        for process in pair.values():
            _time(process)
            process.ask("save")
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in pair}
        for _ in range(runs):
            for name, process in pair.items():
                answers[name].append(_time(process))
        about = {name: process.about for name, process in pair.items()}
    measured = {
        name: Measurement(
            tuple(answer["seconds"] for answer in answers[name]),
            answers[name][-1]["peak"],
            about[name]["held"],
            sum(answer["compilations"] for answer in answers[name]),
            answers[name][-1]["cache_misses"],
        )
        for name in pair
    }
    our_result, their_result = (np.load(folder / f"{name}.npy") for name in pair)
    apart = 255 * np.abs(our_result - their_result)
    comparison = Comparison(
        size,
        measured["cdjax"],
        measured["torch"],
        difference=float(apart.max()),
        mean_difference=float(apart.mean()),
        flops=cascade_flops(specs, size),
        product=product,
    )
    return comparison, about


def compare_cold_starts(folder: Path, size: int, *, runs: int, device: str) -> Comparison:
    """Times whole processes that read two image files and write the stylised one, in float32.

    Args:
        folder: as for `compare`.
        size: height and width of content and style.
        runs: timed runs of each, after one that fills the caches.
        device: `"cpu"` or `"cuda"`, where PyTorch is to compute.

    Raises:
        WorkerError: if one of the processes fails.
    """
    from PIL import Image

    files = [folder / f"{name}.png" for name in ("content", "style")]
    for seed, file in enumerate(files):
        Image.fromarray(photograph(size, seed=seed)).save(file)
    content, style = map(str, files)
    outputs = {name: folder / f"{name}.png" for name in ("cdjax", "torch")}
    checkpoint, weights = str(folder / "checkpoint"), str(folder / "weights.npz")
    ours, theirs = map(str, outputs.values())
    entry = "from cdjax.cli.main import command; command()"
    stylize = ["stylize", content, style, "--weights", checkpoint, "--output", ours]
    commands = {
        "cdjax": ["-c", entry, *stylize],
        "torch": ["-m", "experiments.plain_torch", weights, content, style, theirs, device],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(1 + runs):
        for name, command in commands.items():
            outputs[name].unlink(missing_ok=True)
            seconds[name].append(time_process(command, f"cold {name}", folder=folder))
    our_result, their_result = (np.asarray(Image.open(o), np.float32) for o in outputs.values())
    apart = np.abs(our_result - their_result)
    return Comparison(
        size,
        Measurement(tuple(seconds["cdjax"][1:])),
        Measurement(tuple(seconds["torch"][1:])),
        difference=float(apart.max()),
        mean_difference=float(apart.mean()),
    )


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark",
        description="cdjax against plain PyTorch: WCT, AdaIN or a training step; windows.",
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", help="pixels a side")
    add("--runs", type=int, default=5, help="timed runs of each implementation")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the networks")
    add("--weights", help="checkpoint directory; random weights if absent")
    add("--method", choices=["wct", "adain"], default="wct", help="of random weights (wct)")
    add("--cold-size", type=int, default=512, help="pixels a side of the cold start; 0: none")
    add("--training", action="store_true", help="time the student-encoder step instead")
    add("--stages", type=int, nargs="+", default=[3, 5], help="of the training step")
    add("--batch", type=int, default=4, help="crops in a training step")
    add("--crop", type=int, default=128, help="their side, in pixels")
    add_ultra_options(parser)
    add_gatys_options(parser)
    add("--output", type=Path, help="file for the report, which is printed too")
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or ([512, 1024] if options.gatys else [512, 1024, 2048])
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    if options.output and not options.output.resolve().parent.is_dir():
        parser.error(f"--output: there is no directory {options.output.resolve().parent}")
    if not set(options.stages) <= set(range(1, 6)):
        parser.error("--stages must be from 1 to 5")
    if options.batch < 1 or options.crop % 16 or options.crop < 32:
        parser.error("--batch must be at least 1, --crop a multiple of 16 and at least 32")
    return options


def _measure_training(options: argparse.Namespace, command: str, folder: Path) -> str:
    from experiments.training_benchmark import compare_steps, training_report

    shared = {"runs": options.runs, "dtype": options.dtype, "crop": options.crop}
    results = []
    for stage in options.stages:
        result, about = compare_steps(
            folder, student(stage), teacher(stage), batch=options.batch, **shared
        )
        results.append(result)
        print(f"stage {stage}: done", file=sys.stderr)
    return training_report(command, about, results, **shared)


def _measure_ultra(options: argparse.Namespace, command: str, folder: Path) -> str:
    from experiments.ultra_benchmark import measure_sizes
    from experiments.ultra_report import ultra_json, ultra_plot, ultra_report

    limits = check_ultra_options(options)
    weights = options.weights or "wct-16x"
    model = load_model(weights)
    _check(model, [])
    save_model(folder / "checkpoint", model)
    _write_weights(folder / "weights.npz", model)
    about = {"command": command, "weights": weights, "dtype": options.dtype, "runs": options.runs}
    plot = options.output.resolve().with_suffix(".png") if options.output else None
    text = ""
    shared = {"limits": limits, "runs": options.runs, "dtype": options.dtype}
    for results in measure_sizes(folder, options.megapixels, **shared):
        text = ultra_report(about | limits, *results, plot.name if plot else None)
        if plot:  # After every size: what took hours is there even if the next one fails.
            write_whole(plot, ultra_plot(results[1]))
            write_whole(plot.with_suffix(".json"), ultra_json(about | limits, *results).encode())
            write_whole(options.output.resolve(), text.encode())
    return text


def _check(model: Model, sizes: Sequence[int]) -> None:
    specs, stride = model.config.specs, model.config.specs[0].stride
    if model.config.method == "encoder" or any(spec.padding != "reflect" for spec in specs):
        raise BenchmarkError("the plain version knows models with decoders and reflection padding")
    for size in sizes:
        if size % stride or size < 2 * stride:
            raise BenchmarkError(
                f"a size must be a multiple of {stride}, at least {2 * stride}, not {size}"
            )


def _measure(options: argparse.Namespace, command: str, folder: Path) -> str:
    if options.weights:
        model = load_model(options.weights)
    else:
        model = random_model(_STUDENTS[options.method], method=options.method)
    _check(model, [*options.sizes, *([options.cold_size] if options.cold_size else [])])
    save_model(folder / "checkpoint", model)
    _write_weights(folder / "weights.npz", model)
    results = []
    for size in options.sizes:
        specs, dtype = model.config.specs, options.dtype
        result, about = compare(folder, specs, size, runs=options.runs, dtype=dtype)
        results.append(result)
        pair = f"cdjax {result.ours.median:.3g} s, PyTorch {result.theirs.median:.3g} s"
        print(f"{size} pixels: {pair}", file=sys.stderr)
    cold = None
    if options.cold_size:
        device = about["torch"]["platform"]
        cold = compare_cold_starts(folder, options.cold_size, runs=options.runs, device=device)
    return report(options, model.config.method, command, about, results, cold)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    if not (options.ultra or options.gatys) and importlib.util.find_spec("torch") is None:
        print("benchmark: PyTorch is missing: pip install 'cdjax[bench]'", file=sys.stderr)
        return 2
    # This process, too, uses the GPU that the workers share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    command = f"python -m experiments.benchmark {shlex.join(arguments)}".strip()
    try:
        with tempfile.TemporaryDirectory(prefix="cdjax-benchmark-") as folder:
            measure = _measure_training if options.training else _measure
            measure = _measure_ultra if options.ultra else measure
            measure = measure_gatys if options.gatys else measure
            text = measure(options, command, Path(folder))
        print(text, end="")
        if options.output:
            write_whole(options.output.resolve(), text.encode())
    except (ValueError, WorkerError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
