"""The page of a report: names stay text in it, and in Chromium its tables sort, its pictures load, and that is all."""

import html.parser

import pytest

from keras_video_focalnet import VideoList, VideoRecord, evaluate_videos
from keras_video_focalnet.evaluation.page import page, picture, table, tag
from tests.evaluation.chromium import Page
from tests.evaluation.stand_in import Colours, colour_video

pytestmark = pytest.mark.backend_free
for package in ("sklearn", "pyarrow", "matplotlib"):
    pytest.importorskip(package)

HOSTILE = "<img src=x onerror=document.title='hacked'>"
CLASSES = (HOSTILE, 'a "quoted" & $\\broken{math}$ class', "<script>document.title='hacked'</script>")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of videos and classes with names that are markup; half of the answers are wrong."""
    folder = tmp_path_factory.mktemp("hostile")
    records = []
    for number in range(6):
        name = f"{number} <img onerror=document.title='hacked' src=x>.mp4"
        path = colour_video(folder / name, ("red", "green", "blue")[number % 3], seed=number)
        records.append(VideoRecord(str(path), (number + (number > 2)) % 3))
    records.append(VideoRecord(str(folder / "<b>missing.mp4"), 0))
    about = {"<i>weights": "javascript:alert(1)"}
    told = evaluate_videos(Colours(CLASSES), VideoList(records, CLASSES), "2x1", folder / "out", about=about)
    return folder / "out" / "report.html", told


class _Reader(html.parser.HTMLParser):
    """Notes the elements and the text of a page."""

    def __init__(self):
        super().__init__()
        self.elements, self.text = [], ""

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_names_stay_text_and_nothing_is_fetched(report):
    path, told = report
    reader = _Reader()
    reader.feed(path.read_text())
    names = {name for name, _ in reader.elements}
    assert "i" not in names and [name for name, _ in reader.elements].count("script") == 1
    for name, attributes in reader.elements:
        assert not {key for key in attributes if key.startswith("on")}, (name, attributes)
        for key in ("src", "href", "action", "data", "srcset"):
            assert attributes.get(key, "data:image/").startswith("data:image/"), (name, attributes)
    for text in (*CLASSES, *(error["video"] for error in told["worst_errors"]), "<b>missing.mp4", "<i>weights"):
        assert text in reader.text
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in reader.elements


def test_in_chromium_tables_sort_pictures_load_and_nothing_else_happens(report):
    path, told = report
    with Page(path) as opened:
        assert opened.run("document.title") == "Evaluation of colours"
        pictures = opened.run("[...document.images].map(image => [image.complete, image.naturalWidth])")
        assert len(pictures) == 2 + len(told["worst_errors"]) == 5
        assert all(complete and width > 50 for complete, width in pictures)
        # A phone shows it without moving it sideways.
        assert opened.run("document.scrollingElement.scrollWidth") <= 390
        assert opened.run("getComputedStyle(document.body).fontSize") == "16px"

        heads = opened.run("[...document.querySelectorAll('table')].map(t => [...t.tHead.rows[0].cells].length)")
        assert heads == [4, 5, 4, 2]
        for number, columns in enumerate(heads):
            for column in range(columns):
                assert sorts(opened, number, column), (number, column)
        # Another column takes the sign of its order with it.
        assert opened.run("document.querySelectorAll('table')[1].querySelectorAll('[aria-sort]').length") == 1

        texts = opened.run("[...document.querySelectorAll('td')].map(cell => cell.textContent)")
        assert all(name in texts for name in CLASSES)
        assert opened.run("document.querySelectorAll('td img, td script, figcaption img').length") == 0
        # What a name might still try is forbidden.
        opened.run("document.body.insertAdjacentHTML('beforeend', '<img src=https://127.0.0.1:9/x onerror=hack()>')")
        opened.run("new Promise(done => setTimeout(done, 300))")
        assert opened.run("document.title") == "Evaluation of colours"
        allowed = [url for url in opened.requests if not url.startswith(("data:", path.as_uri(), "about:"))]
        assert allowed in ([], ["https://127.0.0.1:9/x"])
        refused = [message for message in opened.messages if "Content Security Policy" in str(message)]
        assert len(refused) == len(opened.messages) >= 1


_CELLS = """
(() => {
  const rows = [...document.querySelectorAll("table")[TABLE].tBodies[0].rows];
  const values = rows.map(row => row.cells[COLUMN]).map(
    cell => cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value));
  const compare = (x, y) => typeof x === "number" ? x - y : x.localeCompare(y);
  const signs = values.slice(1).map((value, place) => Math.sign(compare(value, values[place])));
  return [values, signs.every(sign => sign >= 0), signs.every(sign => sign <= 0)];
})()
"""


def sorts(opened, number, column):
    """Whether two clicks on a head sort a table both ways, numbers by what they are."""
    head = f"document.querySelectorAll('table')[{number}].tHead.rows[0].cells[{column}]"
    cells = _CELLS.replace("TABLE", str(number)).replace("COLUMN", str(column))
    before, *_ = opened.run(cells)
    found = []
    for wanted in ("ascending", "descending"):
        opened.run(f"{head}.querySelector('button').click()")
        assert opened.run(f"{head}.getAttribute('aria-sort')") == wanted
        values, rises, falls = opened.run(cells)
        found.append(sorted(map(str, values)) == sorted(map(str, before)) and (rises, falls)[wanted == "descending"])
    return all(found)


def test_elements():
    assert tag("p", "<", tag("b", ">"), title='"') == '<p title="&quot;">&lt;<b>&gt;</b></p>'
    assert 'data-value="0.5"' in table(["x"], [[(0.5, "50 %")]])
    assert "<th" in table(["x", "y"], []) and picture(b"x", "<").endswith('alt="&lt;">')
    assert "</title>" not in page("</title><script>").split("<title>")[1].split("</title>")[0]
