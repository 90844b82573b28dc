"""The page: what stands on it, and what happens when something is dropped, chosen or clicked."""

import contextlib
import html
import sys
import traceback
from typing import Any

import gradio as gr

from keras_video_focalnet.app.answers import COMPUTED, WHY, Answers
from keras_video_focalnet.app.messages import Refused, short, without_paths
from keras_video_focalnet.app.networks import Networks
from keras_video_focalnet.app.uploads import Uploads

TITLE = "What happens in this video?"
KEPT = 1800
"""Seconds after which an upload or a picture is removed, whoever still looks at it."""
_SWEPT = 60
_WAITING = 16
ANY_BLOCK = "a block that tells much"
# Fonts of the machine that the page is seen on: none is fetched.
_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "Consolas", "monospace")
_CSS = """
#maps .image-frame, #timeline .image-frame { padding-top: 40px; }
#answer .output-class, #answer .text { overflow-wrap: anywhere; }
#answer .output-class { max-height: 6em; overflow: hidden auto; }
@media (max-width: 640px) {
  #maps .image-frame, #timeline .image-frame { justify-content: flex-start; overflow-x: auto; }
  #maps img, #timeline img { max-width: none !important; width: 860px !important; }
}
footer { display: none !important; }
"""


def theme() -> gr.Theme:
    """A theme whose fonts are the machine's."""
    return gr.themes.Soft(primary_hue="indigo", secondary_hue="indigo", font=_FONT, font_mono=_MONO)


def style() -> str:
    """The page's own rules of CSS: wide pictures are scrolled on a phone."""
    return _CSS


class Page:
    """What the page does.

    Args:
        networks: `Networks`.
        answers: `Answers`.
        uploads: `Uploads`.
    """

    def __init__(self, networks: Networks, answers: Answers, uploads: Uploads):
        self._networks, self._answers, self._uploads = networks, answers, uploads

    def build(self) -> gr.Blocks:
        """The page as Gradio has it."""
        networks, limits = self._networks, self._answers.limits
        model = networks.model()
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(_SWEPT, KEPT)) as blocks:
            gr.Markdown(
                f"# {TITLE}\nDrop a video or record one, and see what the model answers, what happens when, and what "
                f"the model looks at. Up to {limits.megabytes:g} MB and {limits.seconds:g} seconds. The video goes to "
                "the machine that runs this page and to no other, and is removed when you leave."
            )
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    video = gr.Video(sources=["upload", "webcam"], label="Video", height=280, elem_id="video",
                                     include_audio=True)  # fmt: skip
                    chosen = gr.Dropdown(networks.models(), value=model, label="Model", elem_id="model")
                    weights = gr.Dropdown(
                        networks.weights(model),
                        value=networks.default_weights(model),
                        label="Weights",
                        elem_id="weights",
                    )
                    names = gr.Textbox(
                        "\n".join(networks.started.names),
                        label="Class names",
                        info="What the video may show, separated by commas or one a line.",
                        placeholder="opening a door, closing a door",
                        lines=3,
                        visible=networks.takes_names(model),
                        elem_id="names",
                    )
                    ask = gr.Button("What happens?", variant="primary", elem_id="ask")
                    with gr.Accordion("What the model looks at", open=False):
                        shown = gr.Radio(
                            [("what a block computes", COMPUTED), ("what speaks for the answer (Grad-CAM)", WHY)],
                            value=COMPUTED,
                            label="Show",
                            elem_id="shown",
                        )
                        block = gr.Dropdown([ANY_BLOCK], value=ANY_BLOCK, label="Block", elem_id="block",
                                            info="Blocks are listed after the first answer.")  # fmt: skip
                with gr.Column(scale=3, min_width=300):
                    label = gr.Label(label="Answer", elem_id="answer")
                    track = gr.Image(label="What happens when", interactive=False, format="png", elem_id="timeline",
                                     buttons=["download", "fullscreen"], type="numpy")  # fmt: skip
                    maps = gr.Image(label="What the model looks at", interactive=False, format="png", elem_id="maps",
                                    buttons=["download", "fullscreen"], type="numpy")  # fmt: skip
            asked = [video, chosen, weights, names, shown, block]
            # One question at a time, whichever it is.
            once = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
            light = {"api_visibility": "private", "show_progress": "hidden"}
            for arrived in (video.upload, video.stop_recording):
                # What was refused is taken off the page.
                arrived(self.check, [video], None, **light).failure(lambda: None, None, [video], **light)
            video.clear(self.clear, None, [label, track, maps], **light)
            chosen.input(self.choose, [chosen], [weights, names, block, label, track, maps], **light)
            # What another model answered is not shown beside the name of this one.
            weights.input(lambda: (None, None, None), None, [label, track, maps], **light)
            ask.click(self.answer, asked, [label, track, maps, block], **once)
            for choice in (shown, block):
                choice.input(self.look, asked, [maps], **once)
            blocks.unload(self.leave)
        return blocks.queue(max_size=_WAITING, default_concurrency_limit=4)

    def check(self, path: str | None, request: gr.Request) -> None:
        """Refuse what is no video, and what is too large or too long, as soon as it is there."""
        if path is None:
            return
        self._uploads.hold(request.session_hash, path)
        with self._told(path):
            try:
                self._answers.open(path).reader.close()
            except BaseException:
                self._uploads.drop(request.session_hash)
                raise

    def clear(self, request: gr.Request) -> tuple:
        """Remove a video that was taken off the page, and what was answered about it."""
        self.leave(request)
        return None, None, None

    def leave(self, request: gr.Request) -> None:
        """Remove the video of a page that was closed."""
        self._uploads.drop(request.session_hash)

    def choose(self, model: str) -> tuple:
        """What there is to choose for another model, and nothing in place of what was answered."""
        with self._told():
            return (
                gr.Dropdown(self._networks.weights(model), value=self._networks.default_weights(model)),
                gr.Textbox(visible=self._networks.takes_names(model)),
                gr.Dropdown([ANY_BLOCK], value=ANY_BLOCK),
                *(None, None, None),
            )

    def answer(
        self, path: str | None, model: str, weights: str, names: str, shown: str, block: str, request: gr.Request
    ) -> Any:
        """Give the answer part by part: the classes, what the model looks at, what happens when."""
        if path is not None:
            # What was cut on the page comes without having been looked at.
            self._uploads.hold(request.session_hash, path, beside=True)
        with self._asked(path, model, weights, names) as (loaded, video):
            scores = self._answers.scores(loaded, video)
            blocks = [ANY_BLOCK, *self._answers.blocks(loaded)]
            block = block if block in blocks else ANY_BLOCK
            _warn(loaded)
            label = gr.Label(scores, label=f"Answer of {loaded.title}")
            yield label, None, None, gr.Dropdown(blocks, value=block)
            picture = self._answers.maps(loaded, video, _named(block), shown)
            yield gr.skip(), gr.skip(), gr.Image(picture), gr.skip()
            picture = self._answers.timeline(loaded, video)
            yield gr.skip(), gr.Image(picture), gr.skip(), gr.skip()

    def look(self, path: str | None, model: str, weights: str, names: str, shown: str, block: str) -> Any:
        """Show another block, or something else of it."""
        if path is None:
            return gr.skip()
        with self._asked(path, model, weights, names) as (loaded, video):
            _warn(loaded)
            return gr.Image(self._answers.maps(loaded, video, _named(block), shown))

    @contextlib.contextmanager
    def _asked(self, path, model, weights, names):
        """The network and the video that are asked about."""
        with self._told(path):
            if path is None:
                raise Refused("There is no video yet; drop one, or record one.")
            with self._answers.open(path) as video:
                yield self._networks.load(model, weights, names), video

    @contextlib.contextmanager
    def _told(self, path=None):
        """Errors are shown on the page, in a sentence and as text."""
        try:
            yield
        except gr.Error:
            raise
        except (Refused, ImportError, OSError, ValueError) as error:
            text = without_paths(str(error), path, _name(path)).replace("class_names", "class names")
            raise gr.Error(_text(text), print_exception=False) from None
        except Exception:
            traceback.print_exc(file=sys.stderr)
            raise gr.Error(
                "This did not work, and it is not your fault: the terminal that the page was started from tells more.",
                print_exception=False,
            ) from None


def _warn(loaded):
    """Says what its user has to know of a network."""
    for note in loaded.notes:
        gr.Warning(_text(without_paths(note)))
    if loaded.is_random:
        gr.Warning("Nobody has trained random weights: what they answer says nothing about the video.")


def _text(message):
    """A message as text, in which nothing is markup."""
    return html.escape(short(message))


def _name(path):
    return "the video" if path is None else path.replace("\\", "/").rpartition("/")[2]


def _named(block):
    return None if block == ANY_BLOCK else block
