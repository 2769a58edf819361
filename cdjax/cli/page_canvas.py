"""Where regions are painted with the mouse, on the page of `cdjax serve`.

Gradio's own editor sends its pictures again with every change of the page. This one sends one
picture of the strokes when it is asked for it, `SEND`.
"""

from pathlib import Path

import gradio as gr

from cdjax.cli.page_regions import COLORS

SEND = "async () => [await (window.cdjaxLayer?.() ?? null)]"
"""JavaScript that uploads the strokes, as the value of a `gr.File`; null if there are none."""

_BRUSHES = "".join(
    f'<button data-color="rgb{color}" style="background: rgb{color}" title="{name}: painting '
    f'{number}">{number}</button>'
    for number, (name, color) in enumerate(COLORS.items(), 1)
)
_HTML = f"""
{{{{#if value}}}}
<div class="tools">{_BRUSHES}<button data-color="">erase</button><button data-clear>clear</button>
<label>brush <input type="range" min="1" max="40" value="10"></label></div>
<div class="board"><img src="${{value}}" alt="" draggable="false"><canvas></canvas></div>
{{{{else}}}}<p>Drop a photograph first.</p>{{{{/if}}}}
"""
_CSS = """
.board { position: relative; display: inline-block; line-height: 0; }
.board img { max-width: 100%; max-height: 320px; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: 0.7;
  cursor: crosshair; touch-action: none; }
.tools { display: flex; flex-wrap: wrap; align-items: center; gap: 6px; margin: 6px 0; }
button { min-width: 32px; height: 32px; padding: 0 6px; border: 1px solid gray;
  border-radius: 6px; font-weight: bold; color: black; }
button[aria-pressed=true] { outline: 3px solid var(--primary-500); }
label { display: flex; align-items: center; gap: 6px; }
"""
_JS = """
let color = null, last = null;
const find = name => element.querySelector(name);
const choose = chosen => {
  color = chosen;
  for (const button of element.querySelectorAll('[data-color]'))
    button.setAttribute('aria-pressed', button.dataset.color === color);
};
const clear = () => {
  const canvas = find('canvas');
  if (canvas) canvas.painted = canvas.width = 0;
};
const place = event => {
  const canvas = find('canvas'), box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * canvas.width / box.width,
          (event.clientY - box.top) * canvas.height / box.height];
};
const stroke = to => {
  const canvas = find('canvas'), context = canvas.getContext('2d');
  context.globalCompositeOperation = color ? 'source-over' : 'destination-out';
  context.strokeStyle = color || 'black';
  context.lineWidth = find('input').value / 100 * Math.min(canvas.width, canvas.height);
  context.lineCap = 'round';
  context.beginPath();
  context.moveTo(...last);
  context.lineTo(...to);
  context.stroke();
  last = to;
};
element.addEventListener('pointerdown', event => {
  const canvas = event.target.closest('canvas'), image = find('img');
  if (!canvas) return;
  if (!canvas.painted) {
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    canvas.painted = true;
  }
  if (color === null) choose(find('[data-color]').dataset.color);
  canvas.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last);
});
element.addEventListener('pointermove', event => {
  if (last && event.buttons && event.target.closest('canvas')) stroke(place(event));
});
element.addEventListener('pointerup', () => { last = null; });
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (button && 'color' in button.dataset) choose(button.dataset.color);
  if (button && 'clear' in button.dataset) clear();
});
watch('value', clear);
window.cdjaxLayer = async () => {
  const canvas = find('canvas');
  if (!canvas || !canvas.painted) return null;
  const blob = await new Promise(done => canvas.toBlob(done, 'image/png'));
  const { path } = await upload(new File([blob], 'regions.png'));
  return { path, meta: { _type: 'gradio.FileData' } };
};
"""


def canvas() -> gr.HTML:
    """The canvas, as yet without a photograph."""
    return gr.HTML("", html_template=_HTML, css_template=_CSS, js_on_load=_JS)


def shown_on_canvas(photograph: Path) -> str:
    """The value of the canvas for a photograph whose file Gradio may serve; nothing is painted."""
    return f"gradio_api/file={photograph}"
