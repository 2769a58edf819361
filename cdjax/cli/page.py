"""The page of `cdjax serve`: what is on it, and what happens when something is dropped or clicked.

Gradio's events know a user by the session of the browser's tab; the files of a session are in
`cdjax.cli.page_files`. Events take uploads as they lie on the disk (`preprocess=False`), because
Gradio would leave an empty file behind for each.
"""

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from cdjax.cli import page_work
from cdjax.cli.jobs import Settings
from cdjax.cli.page_canvas import SEND, canvas, shown_on_canvas
from cdjax.cli.page_files import Session, Sessions
from cdjax.cli.page_regions import COLORS
from cdjax.errors import UsageError, first_line
from cdjax.progress import Progress

if TYPE_CHECKING:
    from cdjax.model import Model

_FONT, _MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
LAUNCH: dict[str, Any] = {
    "theme": gr.themes.Soft(font=_FONT, font_mono=_MONO),  # No fonts from another server.
    "footer_links": [],
    "run_history": False,
    "share": False,
    "ssr_mode": False,
    "mcp_server": False,
    "inbrowser": False,
    "enable_monitoring": False,
    "show_error": True,
    "quiet": True,
    "prevent_thread_lock": True,
}
"""How the page is served: by this machine alone."""
_OWN = "of the model"
_TRANSFORMS = {
    _OWN: None,
    "whitening and colouring (wct)": "wct",
    "optimal transport (ot)": "ot",
    "mean and deviation (adain)": "adain",
}
_COLORS: dict[str, Literal["luminance", "match"] | None] = {
    "of the paintings": None,
    "of the photograph": "luminance",
    "strokes in the photograph's palette": "match",
}
_QUIETLY: dict[str, Any] = {"print_exception": False}
_HINT = "Drop a photograph and a painting, or several to mix, or try the samples."
_REGIONS = "Regions: paint on the photograph where the style goes"
_REGIONS_HINT = (
    "Nothing painted: everywhere. What is not painted stays photograph. With several paintings, "
    "each has a colour and goes where it is, unless they are mixed there."
)


@dataclass(frozen=True)
class PageConfig:
    """What the server decides for all users.

    Attributes:
        models: models to choose from, as `cdjax.load_model` takes them; the first is the default.
        memory: bytes of device memory for a picture, as in `cdjax.cli.jobs.Settings`.
        queue: requests that may wait.
    """

    models: tuple[str, ...]
    memory: int | None
    queue: int


def build(config: PageConfig, sessions: Sessions) -> gr.Blocks:
    """The page, not yet served."""
    with gr.Blocks(title="cdjax", analytics_enabled=False) as page:
        gr.Markdown("# cdjax\nRepaints a photograph in the style of paintings.")
        with gr.Row():
            with gr.Column(scale=1, min_width=320):
                uploads = _Uploads()
                controls = _Controls(config.models)
            with gr.Column(scale=2, min_width=320):
                regions = _Regions()
                result = _Result()
        events = _Events(controls, regions, config, sessions)
        _connect(uploads, controls, regions, result, events)
        page.unload(events.left)
    page.queue(max_size=config.queue, default_concurrency_limit=2)
    return page


class _Regions:
    """Where regions are painted, and the file in which the strokes arrive."""

    def __init__(self) -> None:
        with gr.Accordion(_REGIONS, open=False, elem_id="regions"):
            gr.Markdown(_REGIONS_HINT)
            mixed = "Mix the paintings in all that is painted, whatever the colour"
            self.mixed = gr.Checkbox(False, label=mixed, visible=False, elem_id="mixed")
            self.canvas = canvas()
        self.layer = gr.File(visible=False)


class _Uploads:
    """Where files are dropped, and what was."""

    def __init__(self) -> None:
        drop: dict[str, Any] = {"height": 150, "min_width": 140}
        shown: dict[str, Any] = {
            "height": 150, "min_width": 140, "interactive": False, "buttons": [],
            "show_label": False, "visible": False,
        }  # fmt: skip
        with gr.Row():
            self.content = gr.File(label="Photograph", elem_id="photograph", **drop)
            self.content_preview = gr.Image(**shown)
        with gr.Row():
            self.styles = gr.File(
                label="Paintings", file_count="multiple", elem_id="paintings", **drop
            )
            self.style_previews = gr.Gallery(columns=3, object_fit="contain", **shown)
        self.samples = gr.Button("Try the samples", size="sm", elem_id="samples")


class _Controls:
    """How the picture is made: the values that become `cdjax.cli.jobs.Settings`."""

    def __init__(self, models: tuple[str, ...]) -> None:
        alpha = "0 keeps the photograph, 1 is what the model was trained for"
        self.alpha = gr.Slider(0, 2, 1, step=0.05, label="Strength", info=alpha)
        with gr.Group():
            self.weights = [
                gr.Slider(0, 1, 1, step=0.05, label=f"Share of painting {i + 1}", visible=False)
                for i in range(page_work.MOST_STYLES)
            ]
        self.color = gr.Radio([*_COLORS], value=next(iter(_COLORS)), label="Colours")
        self.model = gr.Radio([*models], value=models[0], label="Model")
        with gr.Accordion("Method and sizes", open=False):
            self.transform = gr.Dropdown([*_TRANSFORMS], value=_OWN, label="Method")
            size: dict[str, Any] = {"minimum": 0, "maximum": 100_000, "precision": 0, "value": 0}
            self.style_size = gr.Number(
                label="Shorter side of paintings",
                info="pixels; 0 leaves them as they are; larger paintings give larger strokes",
                **size,
            )
            self.content_size = gr.Number(
                label="Shorter side of the result", info="pixels; 0: as the photograph", **size
            )

    def all(self) -> set[Any]:
        """All components."""
        sizes = (self.content_size, self.style_size)
        return {self.alpha, self.color, self.model, self.transform, *sizes, *self.weights}

    def choice(
        self, values: dict[Any, Any], session: Session, config: PageConfig
    ) -> tuple[str, Settings]:
        """The model and the settings that values of the components stand for.

        Raises:
            UsageError: if they are none of those on the page, or do not fit each other.
        """
        names = [values[control] for control in (self.model, self.transform, self.color)]
        model, transform, color = names
        if model not in config.models or transform not in _TRANSFORMS or color not in _COLORS:
            raise UsageError(f"there is no such choice: {', '.join(map(repr, names))}")
        shares = tuple(float(values[slider]) for slider in self.weights[: len(session.styles)])
        if shares and not any(shares):
            raise UsageError("at least one share must be above 0")
        return model, Settings(
            alpha=values[self.alpha],
            transform=_TRANSFORMS[transform],
            preserve_color=_COLORS[color],
            content_size=int(values[self.content_size] or 0) or None,
            style_size=int(values[self.style_size] or 0) or None,
            style_weights=shares if len(shares) > 1 else None,
            memory=config.memory,
            quiet=True,
        )


class _Result:
    """The picture, and the buttons that make it and fetch it."""

    def __init__(self) -> None:
        self.slider = gr.ImageSlider(
            label="Before and after",
            interactive=False,
            max_height=640,
            buttons=["fullscreen"],
            elem_id="result",
        )
        self.message = gr.Markdown(_HINT, elem_id="message")
        with gr.Row():
            self.paint = gr.Button("Paint", variant="primary", elem_id="paint")
            self.stop = gr.Button("Stop", elem_id="stop")
            self.download = gr.DownloadButton("Download", interactive=False, elem_id="download")


class _Events:
    """What happens when something is dropped or clicked, and when a user leaves."""

    def __init__(
        self, controls: _Controls, regions: _Regions, config: PageConfig, sessions: Sessions
    ) -> None:
        self._controls, self._regions = controls, regions
        self._config, self._sessions = config, sessions
        self._load = lru_cache(maxsize=len(config.models))(_load)

    def content_dropped(self, file: Any, request: gr.Request) -> list[Any]:
        with _told(self._sessions, request) as session:
            (path,) = _paths(file)
            return _content_shown(page_work.take_content(session, path))

    def styles_dropped(self, files: Any, request: gr.Request) -> list[Any]:
        with _told(self._sessions, request) as session:
            return _styles_shown(page_work.take_styles(session, _paths(files)))

    def samples_clicked(self, request: gr.Request) -> list[Any]:
        with _told(self._sessions, request) as session:
            content, style = page_work.take_samples(session)
            return _content_shown(content) + _styles_shown([style])

    def regions_painted(self, file: Any, request: gr.Request) -> None:
        with _told(self._sessions, request) as session:
            page_work.take_layer(session, _paths(file))

    def paint_clicked(
        self,
        values: dict[Any, Any],
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (this is how Gradio hands it over)
    ) -> list[Any]:
        with _told(self._sessions, request) as session, session.working() as guard:
            model, settings = self._controls.choice(values, session, self._config)
            progress(None, desc="painting")
            settings = replace(settings, on_progress=partial(_show, progress))
            load = partial(_checked, self._load, model, settings)
            mixed = bool(values[self._regions.mixed])
            painted = page_work.paint(session, guard, load, settings, mixed=mixed)
        size = f"{painted.size[0]} x {painted.size[1]} pixels"
        message = f"{html.escape(painted.output.name)}: {size}, {painted.seconds:.1f} s"
        before_after = (str(painted.before), str(painted.after))
        download = gr.DownloadButton(value=str(painted.output), interactive=True)
        return [gr.ImageSlider(value=before_after), message, download]

    def stop_clicked(self, request: gr.Request) -> None:
        self._sessions.stop(request.session_hash)

    def left(self, request: gr.Request) -> None:
        self._sessions.end(request.session_hash)


def _connect(
    uploads: _Uploads,
    controls: _Controls,
    regions: _Regions,
    result: _Result,
    events: _Events,
) -> None:
    """Calls the events of what is on the page."""
    content_out = [uploads.content, uploads.content_preview, regions.canvas]
    style_out = [uploads.styles, uploads.style_previews, regions.mixed]
    shares = controls.weights
    raw: dict[str, Any] = {"preprocess": False, "show_progress": "minimal"}
    hidden: dict[str, Any] = {"queue": False, "api_visibility": "private"}
    uploads.content.upload(
        events.content_dropped, uploads.content, content_out, api_name="photograph", **raw
    ).failure(lambda: None, None, uploads.content, **hidden)
    uploads.styles.upload(
        events.styles_dropped, uploads.styles, style_out + shares, api_name="paintings", **raw
    ).failure(lambda: None, None, uploads.styles, **hidden)
    uploads.samples.click(
        events.samples_clicked, None, content_out + style_out + shares, api_name="samples"
    )
    result.paint.click(
        events.regions_painted, regions.layer, None, js=SEND, api_name="regions", **raw
    ).success(
        events.paint_clicked,
        controls.all() | {regions.mixed},
        [result.slider, result.message, result.download],
        api_name="paint",
        concurrency_limit=1,
        show_progress_on=result.slider,
    )
    result.stop.click(events.stop_clicked, queue=False, api_name="stop")


def _content_shown(preview: Path) -> list[Any]:
    """The drop zone, empty again, the preview, and what regions are painted on."""
    return [None, gr.Image(value=str(preview), visible=True), shown_on_canvas(preview)]


def _styles_shown(previews: list[Path]) -> list[Any]:
    """The drop zone, empty again, the previews, and, of several, whether and how to mix them."""
    count = len(previews) if len(previews) > 1 else 0
    sliders = [gr.Slider(visible=i < count) for i in range(page_work.MOST_STYLES)]
    captions = [f"{number}: {name}" for number, name in enumerate(COLORS, 1)] if count else [None]
    shown = [(str(path), caption) for path, caption in zip(previews, captions, strict=False)]
    mixed = gr.Checkbox(visible=count > 0)
    return [None, gr.Gallery(value=shown, visible=True), mixed, *sliders]


def _load(source: str) -> "Model":
    from cdjax.checkpoints.load import load_model

    return load_model(source)


def _checked(load: Callable[[str], "Model"], source: str, settings: Settings) -> "Model":
    """The model; ValueError if it does not fit the settings."""
    from cdjax.transfer.transforms import with_transform

    model = load(source)
    with_transform(model, settings.transform, settings.regularization)
    return model


def _show(progress: gr.Progress, report: Progress) -> None:
    if report.total:
        progress((report.done, report.total), desc=report.task, unit="pixels")


def _paths(files: Any) -> list[Path]:
    """Where uploads are; Gradio has checked that they are in its folder."""
    return [Path(file["path"]) for file in (files if isinstance(files, list) else [files]) if file]


@contextmanager
def _told(sessions: Sessions, request: gr.Request) -> Iterator[Session]:
    """The session of a request; errors are told in one line on the page, without our folders."""
    session = sessions.get(request.session_hash)
    try:
        yield session
    except KeyboardInterrupt:
        raise gr.Error("the picture is not finished", title="Stopped", **_QUIETLY) from None
    except (ValueError, OSError, MemoryError) as error:
        line = session.shortened(first_line(error))
        raise gr.Error(html.escape(line), **_QUIETLY) from error
