"""report.html in a browser: sortable, whole, safe against names, and it fetches nothing."""

from __future__ import annotations

import base64
import http.server
import json
import re
import shutil
import subprocess
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.records import FACTS, write_cell
from wash_bench.report import page as embedded
from wash_bench.report import write
from wash_bench.report.page import _unbroken, sort_value, write_page
from wash_bench.report.read import frames
from wash_bench.report.tables.main_table import main_tables

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
browser = pytest.mark.skipif(not CHROMIUM, reason="no chromium, chromium-browser or google-chrome")
EVIL = "<script>document.title='owned'</script>"


class Elements(HTMLParser):
    """What a page consists of: tags with their attributes, and the text of each ``text`` tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("title", "td", "th", "li", "p", "pre", "summary", "script", "button"):
            self._open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data):
        for tag in self._open:
            self.texts[tag][-1] += data


def chrome(profile: Path, *arguments: str) -> str:
    """What headless Chromium prints; nothing of its own goes over the network."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--disable-default-apps", "--hide-scrollbars", f"--user-data-dir={profile}", *arguments],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """Two experiments, one of them with names that a page must not take for its own."""
    out = tmp_path_factory.mktemp("run")
    for method in ("wash", "papa", "dart"):
        for seed in range(2):
            write_cell(out, method, seed)
    write_cell(out, "dart", 2, status="failed", reason="<img src=http://nowhere.invalid/x>")
    path = write_cell(out, "evil", 0, epochs=2)
    record = json.loads(path.read_text())
    record["method"] = EVIL
    record["config"]["training"]["dataset"] = "folder:/tmp/<b>pets</b>"
    record["options"] = {"p": "</code></pre>" + EVIL}
    path.write_text(json.dumps(record))
    folder = tmp_path_factory.mktemp("report")
    write.write_report([out], folder, figures=("barrier",))
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.fault("Names and texts", "markup in names, in HTML", "shown as text")
@pytest.mark.slow
def test_names_come_out_as_text(page):
    found = Elements(page)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert not {"b", "iframe", "link"} & {tag for tag, _ in found.tags}
    assert EVIL in found.texts["th"]
    assert any("folder:/tmp/<b>pets</b>" in text for text in found.texts["p"])
    assert any("<img src=http://nowhere.invalid/x>" in text for text in found.texts["li"])
    assert any("</code></pre>" + EVIL in text for text in found.texts["pre"])
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)


def test_it_points_at_nothing_outside_itself(page):
    found = Elements(page)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            if value := attributes.get(name):
                assert value.startswith("data:image/" if tag == "img" else "#"), (tag, value)
    assert "@import" not in page and "url(" not in page
    (policy,) = (a["content"] for tag, a in found.tags if a.get("http-equiv"))
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_figures_tables_and_seeds_are_there(page):
    found = Elements(page)
    images = [attributes for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 2 and all(image["alt"] for image in images)
    for image in images:
        kind, _, data = image["src"].partition(";base64,")
        assert kind == "data:image/svg+xml"
        drawing = base64.b64decode(data, validate=True).decode()
        points = float(re.search(r'<svg[^>]*width="([0-9.]+)pt"', drawing)[1])
        assert int(image["width"]) == round(points / 72 * embedded.SCALE)
    assert sum(tag == "table" and a.get("class") == "sortable main" for tag, a in found.tags) == 6
    assert "wash: 2 seeds" in found.texts["summary"]
    assert "dart: 3 seeds" in found.texts["summary"]
    # Every heading of a row or column says which it is: a screen reader reads them out.
    assert all(a.get("scope") in ("row", "col") for tag, a in found.tags if tag == "th")
    assert "Test CPU" in found.texts["td"] and "average_acc" in found.texts["th"]


def test_a_picture_that_is_too_large_a_drawing_is_as_wide(recorded, tmp_path, monkeypatch):
    """The PNG in place of the SVG, at the same scale."""
    write.write_report([recorded], tmp_path / "report", figures=("bytes",))
    files = [tmp_path / "report" / f"bytes.{kind}" for kind in ("png", "svg")]
    drawing = embedded.pictures(files)["bytes"]
    monkeypatch.setattr(embedded, "MOST_SVG", 0)
    pixels = embedded.pictures(files)["bytes"]
    assert drawing.data.startswith("data:image/svg") and pixels.data.startswith("data:image/png")
    assert pixels.width == pytest.approx(drawing.width, abs=2)


def test_the_page_shows_the_tables_entries(recorded, tmp_path):
    records = frames.load([recorded])
    (table,) = main_tables(records)
    text = write_page(records, [], tmp_path / "report.html").read_text(encoding="utf-8")
    names = [row[0].text for row in table.rows]
    shown: dict[str, list[str]] = {}
    for part in text.split("</table>")[:2]:  # accuracies, and the rest
        entries = Elements(part[part.rindex("<table") :])
        first, *columns = entries.texts["th"][: -len(names)]
        assert first == "method" and entries.texts["th"][-len(names) :] == names
        told = [" ".join(entry.split()) for entry in entries.texts["td"]]
        shown |= {column: told[at :: len(columns)] for at, column in enumerate(columns)}
    assert shown == {
        column: [row[at].plain() for row in table.rows]
        for at, column in enumerate(table.columns) if at
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("88.42 ± 0.17", "88.42"), ("−0.35 ± 0.1", "-0.35"), ("+1.5", "1.5"), ("5,489", "5489"),
     ("0.147×", "0.147"), ("–", ""), ("wash", ""), ("1e-07", "1e-07")],
)  # fmt: skip
def test_entries_are_sorted_by_the_number_they_begin_with(text, value):
    assert sort_value(text) == value


@browser
def test_a_click_sorts_and_names_do_nothing(page, tmp_path):
    """The page's own script makes the buttons; a second script, let in here, presses them."""
    press = """
      const main = document.querySelector("table.main");
      const names = () => [...main.tBodies[0].rows].map((row) => row.cells[0].textContent).join();
      const buttons = [...main.querySelectorAll("th button")];
      const button = buttons.find((b) => b.textContent === "delivered");
      const seen = [names()];
      for (let i = 0; i < 3; i++) {
        button.click();
        seen.push(button.parentNode.getAttribute("aria-sort") + " " + names());
      }
      const told = document.createElement("p");
      told.textContent = "SEEN " + seen.join(";") + " TITLE " + document.title;
      document.body.append(told);
    """
    # Without its policy, which would shut this script out too.
    loose = re.sub(r"<meta http-equiv[^>]*>", "", page)
    (tmp_path / "page.html").write_text(
        loose.replace("</body>", f"<script>{press}</script></body>")
    )
    dom = chrome(tmp_path / "profile", "--dump-dom", f"file://{tmp_path / 'page.html'}")
    (told,) = (text for text in Elements(dom).texts["p"] if text.startswith("SEEN"))
    seen, title = told.removeprefix("SEEN ").split(" TITLE ")
    by_average = sorted(("wash", "papa", "dart"), key=lambda name: FACTS[name][2])
    assert seen.split(";") == [
        "wash,papa,dart",
        "descending " + ",".join(by_average[::-1]),
        "ascending " + ",".join(by_average),
        "none wash,papa,dart",
    ]
    assert title == "2 experiments – wash-bench report"


@pytest.mark.slow
@browser
def test_no_request_leaves_the_page(page, tmp_path):
    """A proxy hears whatever the browser asks of the network; a page that asks shows it listens."""
    heard: list[str] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_error(404)

        do_CONNECT = do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        asking = '<img src="http://asked.invalid/x.png">'
        (tmp_path / "asking.html").write_text(asking)
        (tmp_path / "page.html").write_text(page)
        (tmp_path / "planted.html").write_text(page.replace("</main>", asking + "</main>"))
        dom = {}
        for name in ("asking", "planted", "page"):
            dom[name] = chrome(
                tmp_path / name,
                f"--proxy-server=127.0.0.1:{server.server_port}",
                "--dump-dom",
                f"file://{tmp_path / f'{name}.html'}",
            )
            if name == "asking":
                assert any("asked.invalid" in path for path in heard)
                heard.clear()
    finally:
        server.shutdown()
        server.server_close()
    # Even with something planted in it: the page's policy forbids to fetch.
    own = [path for path in heard if not re.search(r"google|gvt1|chromium", path)]
    assert own == []
    # And with the policy its own script runs.
    found = Elements(dom["page"])
    heads = [a for tag, a in found.tags if tag == "th" and "aria-sort" in a]
    assert len(heads) == len(found.texts["button"]) > 20
    assert all(tag != "button" or a["type"] == "button" for tag, a in found.tags)


@pytest.mark.slow
@browser
@pytest.mark.parametrize(("width", "dark"), [(1200, True), (500, False)])
def test_it_is_drawn_in_light_and_dark_and_on_a_phone(page, tmp_path, width, dark):
    import numpy as np
    from PIL import Image

    (tmp_path / "page.html").write_text(page)
    chrome(
        tmp_path / "profile",
        f"--window-size={width},1500",
        f"--screenshot={tmp_path / 'page.png'}",
        *(["--blink-settings=preferredColorScheme=0"] if dark else []),
        f"file://{tmp_path / 'page.html'}",
    )
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape[1] == width
    corner = pixels[3, 3].astype(int)
    assert (corner.max() < 60) if dark else (corner.min() > 240)
    # The first figure's colours are on the screen: WASH's blue.
    assert (np.abs(pixels.astype(int) - (0, 114, 178)).max(axis=2) < 12).sum() > 50
    # Nothing runs out of the window: its right edge is empty, but for the tables that scroll.
    edge = pixels[:, -2].astype(int)
    assert (np.abs(edge - corner).max(axis=1) > 100).mean() < 0.05


def test_wide_entries_break_before_brackets_and_unequal_intervals_alone():
    for parts in (
        ["98.57", "+1.43/−1.91", "(1)"],
        ["84.19\xa0±\xa010.54", "[78.84,\xa094.71]"],
        ["−87.32\xa0±\xa010.66"],
    ):
        assert _unbroken(" ".join(parts).replace("\xa0", " ")) == " ".join(parts)
