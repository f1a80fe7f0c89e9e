import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.evaluation import (
    Curve,
    Evaluation,
    Example,
    Reliability,
    ReliabilityCounts,
    write_report,
)
from napari_wsss.evaluation.figures import MAX_SIDE_PX, panel_uri, picture_uri

CLASSES = ClassTable.from_names(["tumour", "stroma"])
VOID = {"meta", "img", "br", "source"}


class _Page(HTMLParser):
    """Collect the elements, and fail on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def _decode(uri):
    head, data = uri.split(",", 1)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{image.format.lower()};base64"
    return image


@pytest.fixture
def page(tmp_path):
    counts = np.array([[[8, 2, 0], [1, 7, 2]]] * 3)
    perfect = np.array([[[10, 0, 0], [0, 10, 0]]] * 3)
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 2, (2, 30, 40), np.uint8)
    doubt = ReliabilityCounts().update(truth, prediction, *rng.random((2, 30, 40)))
    evaluation = Evaluation.from_counts(
        {"predicted_gate": counts, "oracle_labels": perfect},
        CLASSES,
        reliability=Reliability.from_counts([doubt], temperature=1.25),
        bootstrap=20,
    )
    image = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    example = Example(
        "a <b> & c.png",
        image,
        {"Truth": rng.integers(0, 2, (30, 40)), "CAM": rng.random((30, 40)), "Picture": image},
    )
    path = write_report(
        tmp_path / "out",
        title="Tissue & <more>",
        classes=CLASSES,
        summary="First.\n\nSecond.",
        comparison=[{"Method": "weak", "mIoU": 0.5}, {"Method": "full", "mIoU": None}],
        evaluations={"Weak": evaluation},
        examples=[example],
        curves=[Curve("Loss", "epoch", {"training": [1.0, 0.5], "held out": [1.0, np.nan]})],
        facts={"seed": "0"},
    )
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return _Page(path.read_text(encoding="utf-8"))


def test_page_needs_nothing_else(page):
    links = [a["href"] for a in page.all("a")]
    ids = {attrs.get("id") for _, attrs in page.tags}
    assert links
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert page.all("script") == page.all("link") == []
    for uri in [i["src"] for i in page.all("img")] + [s["srcset"] for s in page.all("source")]:
        _decode(uri)


def test_page_is_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in page.all("img"))
    assert all("scope" in header for header in page.all("th"))
    assert "Last values: training 0.500, held out –." in page.all("img")[-1]["alt"]


def test_page_shows_text_as_text_and_all_numbers(page):
    assert "Tissue & <more>" in page.text
    assert "a <b> & c.png" in page.text
    assert "b" not in {tag for tag, attrs in page.tags if not attrs}
    assert "0.500" in page.text
    assert "First." in page.text
    for caption in ("Truth", "CAM", "Picture", "Predicted gate", "Oracle labels", "seed"):
        assert caption in page.text
    assert "Expected calibration error" in page.text
    assert "1.250" in page.text
    # IoU of tumour 8/11, of stroma 7/12, and the column of pixels without a class
    assert "0.727" in page.text
    assert "0.583" in page.text
    assert page.text.count("no class") == 1
    assert not re.search(r"\bnan\b|None", page.text)


def test_empty_report_is_a_page(tmp_path):
    path = write_report(tmp_path, title="Nothing yet", classes=CLASSES)
    page = _Page(path.read_text(encoding="utf-8"))
    assert page.all("section") == []
    assert page.text.count("stroma") == 1  # the legend


def test_same_input_gives_same_bytes(tmp_path):
    curves = [Curve("Loss", "epoch", {"a": [1.0, 2.0]})]
    one = write_report(tmp_path / "1", title="T", classes=CLASSES, curves=curves).read_bytes()
    two = write_report(tmp_path / "2", title="T", classes=CLASSES, curves=curves).read_bytes()
    assert one == two


def test_mask_pixels_keep_their_colours_and_big_pictures_are_reduced():
    mask = np.array([[0, 1, 255]] * 3)
    shown = np.asarray(_decode(panel_uri(mask, CLASSES)).convert("RGB"))
    assert shown[0].tolist() == [*CLASSES.rgb.tolist(), [255, 255, 255]]
    assert _decode(picture_uri(np.zeros((10, 4000, 3), np.uint8))).size == (MAX_SIDE_PX, 2)


def test_bad_panels_name_the_example_and_write_nothing(tmp_path):
    example = Example("x.png", np.zeros((2, 2, 3), np.uint8), {"odd": np.zeros((2, 2, 5))})
    with pytest.raises(DataError, match=r"'x\.png'"):
        write_report(tmp_path / "r", title="T", classes=CLASSES, examples=[example])
    assert not (tmp_path / "r").exists()


def test_existing_report_is_kept_when_it_must_be(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_report(tmp_path, title="T", classes=CLASSES, overwrite=False)
    assert (tmp_path / "report.html").read_text() == "mine"
