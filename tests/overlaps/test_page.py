"""The page: what is in the file, and what a browser makes of it (Chromium, without network; skipped without one)."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from basket_softmax.data import open_basket
from basket_softmax.overlaps import ClassNames, Overlaps, read_decisions, write_page

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
NASTY = '</script><b>"x", y'  # a folder may be called so, without the slash


@pytest.fixture(scope="module")
def baskets(tmp_path_factory):
    """a: 6 images of `one` and 1 of each other; b: large colour images with transparency."""
    root = tmp_path_factory.mktemp("baskets")
    for name, identities in {"a": ("one", "two", "three"), "b": ("one", NASTY.replace("/", "∕"))}.items():
        for identity in identities:
            (root / name / identity).mkdir(parents=True)
            for i in range(6 if (name, identity) == ("a", "one") else 1):
                image = (
                    Image.new("RGBA", (300, 200), (10, 200, i, 128))
                    if name == "b"
                    else Image.new("L", (40, 40), 9)
                )
                image.save(root / name / identity / f"{i}.png")
    return [open_basket(root / name) for name in "ab"]


@pytest.fixture(scope="module")
def pairs(baskets):
    """(a/one, b/one), (a/two, b/nasty), (a/three, b/one)."""
    find = ClassNames(baskets).find
    nasty = next(name for name in baskets[1].identities if name != "one")
    rows = [
        (find("a", "one"), find("b", "one")),
        (find("a", "two"), find("b", nasty)),
        (find("a", "three"), find("b", "one")),
    ]
    first, second = np.array(rows).T
    return Overlaps(first, second, np.array([0.9, 0.8, 0.7], np.float32), np.array([0.99, 0.8, 0.6]))


def data_of(page) -> dict:
    (text,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(text)


def test_holds_bounded_thumbnails_and_no_link_to_anywhere(baskets, pairs, tmp_path):
    page = tmp_path / "page.html"
    assert write_page(page, pairs, baskets, images_per_class=4) == 3
    text = page.read_text("utf-8")
    assert not re.search(r"https?://|src=|<link|@import", text.replace(data_text(text), ""))
    data = data_of(page)
    assert [(len(c["images"]), c["count"]) for c in data["classes"].values()] == [
        (4, 6),
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]
    for shown in data["classes"].values():
        for image in shown["images"]:
            kind, encoded = image["data"].split(",")
            assert kind == "data:image/jpeg;base64"
            assert max(Image.open(io.BytesIO(base64.b64decode(encoded))).size) <= 112
    assert data["pairs"][0]["confidence"] == 0.99
    assert data["more"] == ""


def data_text(text: str) -> str:
    return re.findall(r'<script id="data" type="application/json">(.*?)</script>', text)[0]


def test_says_what_it_leaves_out(baskets, pairs, tmp_path):
    assert write_page(tmp_path / "page.html", pairs, baskets, max_pairs=2, images_per_class=1) == 2
    data = data_of(tmp_path / "page.html")
    assert len(data["pairs"]) == 2
    assert data["more"] == "The other pair is in the CSV."
    assert all(len(shown["images"]) == 1 for shown in data["classes"].values())
    with pytest.raises(ValueError, match="max_pairs: expected a positive int, got 0"):
        write_page(tmp_path / "page.html", pairs, baskets, max_pairs=0)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("keys", "want"),
    [
        ("ar", [True, False, None]),  # a decision moves on to the next pair
        ("jjr", [None, None, False]),
        ("aka", [True, None, None]),  # back to the first: the same again
        ("ararku", [True, None, False]),  # the fourth key decides the last one again; up; undo
    ],
)
def test_keys_decide_and_the_csv_is_read_back(baskets, pairs, tmp_path, keys, want):
    text, names = press(tmp_path, baskets, pairs, keys), ClassNames(baskets)
    (tmp_path / "decisions.csv").write_text(text, encoding="utf-8")
    decided = read_decisions(tmp_path / "decisions.csv", names)
    got = [decided.get((int(a), int(b))) for a, b in zip(pairs.first, pairs.second, strict=True)]
    assert got == want


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_pair_without_a_confidence_is_shown(baskets, pairs, tmp_path):
    """JSON has no NaN: a page that held one would show nothing."""
    write_page(tmp_path / "page.html", pairs._replace(confidence=np.array([0.9, np.nan, np.nan])), baskets)
    dom = browse(tmp_path / "page.html", "")
    assert re.findall("cosine 0.[79]00, confidence ([^<]*)", dom) == ["0.900", "n/a"]


def press(folder, baskets, pairs, keys: str) -> str:
    """Open the page, press keys as a person would, and return what the save button would download."""
    page = folder / "page.html"
    write_page(page, pairs, baskets)
    dom = browse(
        page,
        f"""for (const key of {json.dumps(list(keys))}) dispatchEvent(new KeyboardEvent("keydown", {{ key }}));
        out.textContent = table();""",
    )
    assert dom.count('class="pair') == 3
    return shown_by(dom)


def browse(page, script: str, before: str = "") -> str:
    """The page as the browser leaves it after `script`, which may fill `out`; `before` runs before the page does."""
    text = page.read_text("utf-8")
    script = f"""<script>{{
    const out = document.createElement("pre");
    out.id = "out";
    document.body.append(out);
    {script}
    }}</script></body>"""
    text = text.replace("</body>", script).replace("<main", f"<script>{before}</script><main", 1)
    (page.parent / "opened.html").write_text(text, encoding="utf-8")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={page.parent / 'profile'}",
        "--dump-dom",
    ]
    command = [BROWSER, *options, (page.parent / "opened.html").as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def shown_by(dom: str) -> str:
    (out,) = re.findall(r'<pre id="out">(.*?)</pre>', dom, re.DOTALL)
    return html.unescape(out)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize(("kept", "want"), [('[[1,"accept"]]', True), ("[]", False)])
def test_a_reload_forgot_that_decisions_are_not_saved(baskets, pairs, tmp_path, kept, want):
    """They come back from the browser's storage, and so does the warning before the page is closed."""
    write_page(tmp_path / "page.html", pairs, baskets)
    number = data_of(tmp_path / "page.html")["id"]
    dom = browse(
        tmp_path / "page.html",
        """const event = new Event("beforeunload", { cancelable: true });
        dispatchEvent(event);
        out.textContent = event.defaultPrevented + "; " + document.getElementById("count").textContent;""",
        before=f"localStorage.setItem('bbs-overlaps-{number}', '{kept}');",
    )
    decided = "1 of 3 decided, 1 accepted, not saved" if want else "0 of 3 decided, 0 accepted"
    assert shown_by(dom) == f"{str(want).lower()}; {decided}"


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
@pytest.mark.parametrize("count", [0, 3])
def test_a_page_without_pairs_showed_only_how_to_decide(baskets, pairs, tmp_path, count):
    write_page(tmp_path / "page.html", pairs.select(np.arange(count)), baskets)
    dom = browse(tmp_path / "page.html", "out.textContent = document.body.innerText;")
    text = " ".join(shown_by(dom).split())
    assert ("There is nothing to decide" in text) == (count == 0)
    for instruction in ("Accept those that", "Save decisions", "0 accepted"):
        assert (instruction in text) == (count > 0)


def test_thumbnails_show_what_the_network_sees(tmp_path):
    """16-bit grey is scaled, not clipped to white; the rotation of a photo is applied."""
    for name in ("deep", "photo"):
        (tmp_path / name / "one").mkdir(parents=True)
    grey = np.full((16, 16), 20000, np.uint16)
    grey[:, :8] = 5000
    Image.fromarray(grey).save(tmp_path / "deep" / "one" / "0.png")
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by a quarter
    Image.new("RGB", (20, 10)).save(tmp_path / "photo" / "one" / "0.jpg", exif=exif)
    opened = [open_basket(tmp_path / name) for name in ("deep", "photo")]
    pair = Overlaps(np.array([0]), np.array([1]), np.array([0.5], np.float32), np.array([0.5]))
    write_page(tmp_path / "page.html", pair, opened)
    deep, photo = (
        Image.open(io.BytesIO(base64.b64decode(shown["images"][0]["data"].split(",")[1])))
        for shown in data_of(tmp_path / "page.html")["classes"].values()
    )
    pixels = np.asarray(deep).astype(int)
    assert abs(pixels[:, :4] - (5000 >> 8)).max() <= 3
    assert abs(pixels[:, 12:] - (20000 >> 8)).max() <= 3
    assert photo.size == (10, 20)
