"""The report's page: what stands in it, and in Chromium, without a network, what it does."""

import json
import os
import re
import shutil
from contextlib import contextmanager
from itertools import pairwise

import pytest

from junkdna.report import __main__ as report
from made_up_runs import make_run, make_sweep, make_toy

pytestmark = pytest.mark.xdist_group("page")  # the pages are made, and the browser is started, once

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
EVIL = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2">'


def make_tree(root) -> None:
    """Two tasks, unstructured and N:M, three seeds: 34 cells done, one failed, two missing; names that are markup."""
    steep = {"cola": 0.9, "sst2": 0.3}
    make_sweep(
        root,
        steep,
        ["0.1", "0.5", "0.9", "4:8", "1:8"],
        [41, 42, 43],
        lambda task, s, seed: steep[task] * s**2 + (seed - 41) / 100,
    )
    for folder in ("cola/100/0.5/42", "sst2/100/0.9/43", "sst2/100/0.1/43"):
        shutil.rmtree(root / folder)
    make_run(root, "sst2", "0.9", 43, None, status="failed", error=f"{EVIL} failed")
    make_run(root, "sst2", "0.1", 43, 0.9, folder=root / EVIL.replace("/", ""), commit=EVIL, prune_exclude=[EVIL])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    make_tree(root)
    out = tmp_path_factory.mktemp("out")
    assert report.main([str(root), "--out", str(out), "--published"]) == 0
    return out / "report.html"


def data_of(page) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    return json.loads(text)


def test_the_page_holds_every_cell_and_nothing_that_is_loaded(page):
    text, data = page.read_text(), data_of(page)
    columns = data["columns"]
    rows = [dict(zip(columns, row)) for row in data["rows"]]
    assert sorted(row["status"] for row in rows) == ["done"] * 34 + ["failed"] + ["missing"] * 2
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)=["\']?(?:https?:)?//', text.split("<script>")[0])
    assert "default-src 'none'" in text
    half = next(row for row in rows if (row["task"], row["pattern"], row["seed"]) == ("sst2", "0.5", 42))
    assert half["normalised"] == pytest.approx((0.91 - 0.3 * 0.25 - 0.01) / 0.91) and half["learning_rate"] == 2e-5


def test_names_from_runs_are_never_markup(page):
    text = page.read_text()
    assert "<script>window" not in text and "<img" not in text
    folders = [row[data_of(page)["columns"].index("folder")] for row in data_of(page)["rows"]]
    assert any("<script>window" in (folder or "") for folder in folders)  # it is there, as text
    assert "<script>window" not in (page.parent / "summary.md").read_text()


def test_masks_that_are_the_same_stand_in_the_page_once(page):
    matrices = data_of(page)["matrices"]
    assert (
        len(matrices["masks"]) == 4 and len(matrices["of"]) == 28
    )  # 0.1, 0.5 = 4:8, 0.9, 1:8; every pruned run that is done
    assert matrices["masks"][0][0] == ["encoder.layer.0.weight", "10x100", 120, 880, False, "encoder layer", 0]


# --- in a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    """Chromium, for all tests of this file."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(CHROMIUM)})")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, page):
    """The page in Chromium with the network cut off; gives (page, messages of the console, requests)."""
    with visit(chromium, page) as seen:
        yield seen


@contextmanager
def visit(chromium, page, width=1280, scheme="light"):
    context = chromium.new_context(offline=True, viewport={"width": width, "height": 1000}, color_scheme=scheme)
    view, messages, requests = context.new_page(), [], []
    view.on("console", lambda message: messages.append(message.text))
    view.on("pageerror", lambda error: messages.append(str(error)))
    view.on("request", lambda request: requests.append(request.url))
    view.goto(page.as_uri())
    view.wait_for_selector(".plot .main-svg")
    yield view, messages, requests
    context.close()


def column(view, name: str) -> list[str]:
    """The texts of a column of the table of cells."""
    names = [text.strip() for text in view.locator("#cell-table thead button").all_inner_texts()]
    return view.locator(f"#cell-table tbody td:nth-child({names.index(name) + 1})").all_inner_texts()


def curve(view, panel: int = 0) -> list:
    """The values of the first curve of a panel, as plotly has them."""
    return view.evaluate("i => [...document.querySelectorAll('.plot')[i].data[0].y]", panel)


@pytest.mark.browser
def test_the_page_works_in_a_browser(opened, page, tmp_path):
    view, messages, requests = opened
    cells = [dict(zip(data_of(page)["columns"], row)) for row in data_of(page)["rows"]]

    values = lambda pattern, seeds: [  # noqa: E731
        100 * cell["normalised"] for cell in cells
        if (cell["task"], cell["pattern"], cell["status"]) == ("cola", pattern, "done") and cell["seed"] in seeds
    ]  # fmt: skip
    mean = lambda numbers: sum(numbers) / len(numbers)  # noqa: E731
    everything = [mean(values(pattern, {41, 42, 43})) for pattern in ("0.1", "0.5", "0.9")]
    assert curve(view) == pytest.approx(everything)
    view.screenshot(path=tmp_path / "curves.png", full_page=True)

    # sort, by mouse and by keyboard; what has no value stays last
    button = view.locator("#cell-table thead button", has_text="value")
    button.click()
    numbers = [float(text) for text in column(view, "value") if text]
    assert numbers == sorted(numbers) and len(numbers) == 34 and column(view, "value")[-1] == ""
    assert view.locator("#cell-table th[aria-sort=ascending]").inner_text().startswith("value")
    button.press("Enter")
    assert [float(text) for text in column(view, "value") if text] == numbers[::-1] and column(view, "value")[-1] == ""

    # filter
    view.get_by_label("Filter").fill("cola 4:8")
    assert view.locator("#shown").inner_text() == f"3 of {len(cells)} cells" and set(column(view, "pattern")) == {"4:8"}
    view.get_by_label("Filter").fill("linear")  # in a column that is not shown
    assert view.locator("#shown").inner_text() == f"0 of {len(cells)} cells"
    view.get_by_label("Filter").fill("")
    view.get_by_label("Status").select_option("failed")
    assert column(view, "status") == ["failed"] and column(view, "error") == [f"{EVIL} failed"]
    view.get_by_label("Status").select_option("")
    view.get_by_label("all settings and metrics").check()
    assert "learning rate" in view.locator("#cell-table thead").inner_text()

    # hover
    point = view.locator(".plot").first.locator(".scatterlayer .trace").first.locator(".points path").nth(1)
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    tooltip = view.locator(".plot").first.locator(".hoverlayer .hovertext")
    tooltip.wait_for(timeout=5000)
    words = tooltip.text_content()
    assert (
        "cola" in words and "missing: seed 42" in words and f"mean {everything[1]:.2f}" in words and "(n = 2)" in words
    )
    view.screenshot(path=tmp_path / "hover.png")

    # seeds
    view.locator("#seeds").get_by_label("41").uncheck()
    assert curve(view) == pytest.approx([mean(values(pattern, {42, 43})) for pattern in ("0.1", "0.5", "0.9")])
    assert curve(view) != pytest.approx(everything)
    view.get_by_label("the paper's curves").uncheck()
    assert view.evaluate("document.querySelector('.plot').data.length") == 1

    # a run's matrices
    run = view.locator("#run option", has_text="sst2").filter(has_text="0.9").first.get_attribute("value")
    view.locator("#run").select_option(run)
    assert "3,520 of 4,000 weights removed (88.00 %) in 4 matrices" in view.locator("#run-words").inner_text()
    shown = view.locator("#matrix-table tbody tr")
    assert shown.count() == 4 and "1,000\t0\t100.00 %" in shown.first.inner_text()
    assert "fresh head" in shown.nth(3).inner_text()

    # nothing from a run's name was run, nothing was asked of a network, nothing went wrong
    assert view.evaluate("window.taken") is None and view.locator("img").count() == 0
    assert "code_commit" in view.locator("#difference-body").inner_text()
    assert requests == [page.as_uri()] and messages == []
    view.set_viewport_size({"width": 380, "height": 800})
    view.reload()
    view.wait_for_selector(".plot .main-svg")
    assert view.evaluate("document.documentElement.scrollWidth") <= 380
    view.screenshot(path=tmp_path / "narrow.png", full_page=True)


def overlap(one: dict, other: dict) -> bool:
    """Whether two boxes have more than an edge in common."""
    apart = [
        one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
        for at, size in (("x", "width"), ("y", "height"))
    ]
    return not any(apart)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 500])
def test_the_tool_bar_covers_neither_title_nor_curves(chromium, page, width):
    with visit(chromium, page, width) as (view, messages, _):
        figures = view.locator("#plots figure, #heat-plots figure")
        assert figures.count() >= 6
        for i in range(figures.count()):
            figure = figures.nth(i)
            figure.scroll_into_view_if_needed()
            figure.locator(".nsewdrag").first.hover()  # the tool bar shows
            bar, title = figure.locator(".modebar").bounding_box(), figure.locator("figcaption").bounding_box()
            plot = figure.locator(".nsewdrag").first.bounding_box()
            assert bar["width"] > 10 and bar["height"] > 10 and title["width"] > 100
            assert not overlap(bar, title) and not overlap(bar, plot), figure.locator("figcaption").inner_text()
            titles = figure.locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
            assert titles and not [one for one in titles if "hare" in one or "loud" in one]  # nothing leaves the page
        assert not overlap({"x": 0, "y": 0, "width": 9, "height": 9}, {"x": 9, "y": 0, "width": 9, "height": 9})
        assert messages == []


@pytest.mark.browser
@pytest.mark.parametrize(("width", "least"), [(1400, 4), (500, 3)])
def test_the_first_columns_stay_in_sight(chromium, page, width, least):
    with visit(chromium, page, width) as (view, _, _):
        view.get_by_label("all settings and metrics").check()
        box = view.locator("#cells .scroll")
        row = view.locator("#cell-table tbody tr").nth(3).locator("td")
        head = view.locator("#cell-table thead th")
        assert head.all_inner_texts()[:3] == ["task", "pattern", "seed"]
        before = [row.nth(i).bounding_box()["x"] for i in range(least)]
        far = row.nth(20).bounding_box()["x"]
        box.evaluate("box => { box.scrollLeft = 700; box.scrollTop = 100; }")
        assert row.nth(20).bounding_box()["x"] == pytest.approx(far - 700)
        for i in range(least):
            assert row.nth(i).bounding_box()["x"] == pytest.approx(before[i], abs=0.5)
            assert head.nth(i).bounding_box()["x"] == pytest.approx(before[i], abs=0.5)
        backs = "cells => cells.map((cell) => getComputedStyle(cell).backgroundColor)"
        seen = view.locator("#cell-table .stick").evaluate_all(backs)
        assert (
            len(seen) >= 30 * least and "rgba(0, 0, 0, 0)" not in seen
        )  # what scrolls below them does not shine through
        stuck = view.locator("#cell-table thead .stick").count()
        last = row.nth(stuck - 1).bounding_box()
        assert last["x"] + last["width"] < 0.75 * width  # something else is left to see
        button = head.nth(0).locator("button")
        assert button.evaluate("b => { const r = b.getBoundingClientRect();"
                               "return b.contains(document.elementFromPoint(r.x + 5, r.y + 5)); }")  # fmt: skip


LAYERS = ("attention.self.query", "attention.output.dense", "output.dense")


def bert_like(factor: float) -> list[dict]:
    """Two layers of three matrices, embeddings and a fresh classifier: each loses another share."""
    names = [f"bert.encoder.layer.{layer}.{kind}.weight" for layer in (0, 1) for kind in LAYERS]
    names = ["bert.embeddings.word_embeddings.weight", *names, "classifier.weight"]
    made = []
    for i, name in enumerate(names):
        removed = round(1000 * factor * (i + 1) / 10)
        made.append({"name": name, "shape": [10, 100], "removed": removed, "kept": 1000 - removed, "head": i == 7})
    return made


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A report of two curves (two sparsities of GLUE with seeds 1 and 2, one of a toy family)."""
    root = tmp_path_factory.mktemp("maps")
    for seed in (1, 2):
        make_run(root, "sst2", "dense", seed, 0.9)
        for pattern, factor in (("0.5", 1.0), ("0.1", 0.2)):
            make_run(root, "sst2", pattern, seed, 0.8, matrices=bert_like(factor / seed))
    experts = [f"model.layers.{n}.mlp.experts.{e}.up.weight" for n in (0, 10, 2) for e in (0, 1)]
    counts = [{"name": n, "shape": [2, 2], "removed": i % 4, "kept": 4 - i % 4} for i, n in enumerate(experts)]
    make_toy(root, "nq", "0.5", 1, 20.0, matrices=counts)
    out = tmp_path_factory.mktemp("out")
    assert report.main([str(root), "--out", str(out)]) == 0
    return out / "report.html"


def heat(view, number: int) -> dict:
    """Rows, columns and per cents of a map, as plotly has them."""
    return view.evaluate("i => (({x, y, z, zmin, zmax}) => ({x, y, z, zmin, zmax}))"
                         "(document.querySelectorAll('.heat')[i].data[0])", number)  # fmt: skip


@pytest.mark.browser
def test_the_heat_maps_show_which_parts_go_first(chromium, maps, tmp_path):
    with visit(chromium, maps) as (view, messages, requests):
        titles = view.locator("#heat-plots figcaption")
        assert titles.all_inner_texts() == [
            "0.1 (10.0 % of the weights in scope removed)",
            "0.5 (50.0 % of the weights in scope removed)",
        ]
        half = heat(view, 1)
        assert half["y"] == ["word embeddings", "attention query", "attention output", "output", "classifier"]
        assert half["x"] == ["0", "1", "none"]
        expected = [[None, None, 10], [20, 50, None], [30, 60, None], [40, 70, None], [None, None, 80]]
        assert half["z"] == expected and (half["zmin"], half["zmax"]) == (0, 100)
        tenth = heat(view, 0)
        assert [[value and round(value, 6) for value in row] for row in tenth["z"]] == [
            [value and value / 5 for value in row] for row in expected
        ]

        field = view.locator(".heat").nth(1)
        field.scroll_into_view_if_needed()
        box = field.locator(".nsewdrag").first.bounding_box()
        view.mouse.move(box["x"] + box["width"] / 2, box["y"] + 0.3 * box["height"])  # second row, second column
        tooltip = field.locator(".hoverlayer .hovertext")
        tooltip.wait_for(timeout=5000)
        words = tooltip.text_content()
        assert "attention query" in words and "layer 1" in words and "50.00 % removed" in words
        assert "500 of 1,000 weights" in words

        view.locator("#heat-seed").select_option("2")
        assert heat(view, 1)["z"][1] == [10, 25, None]
        view.get_by_label("Shades").select_option("own")
        assert (heat(view, 1)["zmin"], heat(view, 1)["zmax"]) == (5, 40)
        view.locator("#heat-curve").select_option(index=1)
        assert titles.all_inner_texts() == ["0.5 (50.0 % of the weights in scope removed)"]
        toy = heat(view, 0)  # the experts of a layer are one field, layers stand in the order of their numbers
        assert (toy["y"], toy["x"]) == (["mlp experts up"], ["0", "2", "10"])
        assert toy["z"] == [[100 * 1 / 8, 100 * 1 / 8, 100 * 5 / 8]]
        assert messages == [] and requests == [maps.as_uri()]
        view.screenshot(path=tmp_path / "maps.png", full_page=True)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_shades_grow_in_grey_too_and_differ_from_no_matrix(chromium, maps, scheme):
    with visit(chromium, maps, scheme=scheme) as (view, _, _):
        shades = view.evaluate("document.querySelector('.heat').data[0].colorscale.map(([, shade]) => shade)")
        back = view.evaluate("css('--back')")
        light = [grey(shade) for shade in [back, *shades]]
        steps = [after - before for before, after in pairwise(light)]
        assert len(shades) == 5 and all(step < -0.05 if scheme == "light" else step > 0.05 for step in steps)


def grey(colour: str) -> float:
    """A colour's brightness as a print in grey shows it, 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue


def test_points_with_collapsed_seeds_are_ringed_as_in_the_figure(chromium, tmp_path):
    make_sweep(tmp_path, ["sst2"], ["0.1", "0.5"], [1, 2], lambda task, sparsity, seed: sparsity / 3)
    make_run(tmp_path, "sst2", "dense", 3, 0.92)
    make_run(tmp_path, "sst2", "0.5", 3, 0.5)  # at chance
    assert report.main([str(tmp_path), "--out", str(tmp_path)]) == 0
    rung = "() => document.querySelector('.plot').data.filter((t) => t.meta === 'ring').map((t) => [...t.x])"
    said = "() => document.querySelector('.plot').data[0].text[1]"
    with visit(chromium, tmp_path / "report.html") as (view, messages, _):
        assert view.evaluate(rung) == [[50]] and "collapsed: seed 3<br>" in view.evaluate(said) + "<br>"
        assert "Collapsed: on the validation split" in view.locator("#captions").inner_text()
        view.locator("#seeds input[value='3']").uncheck()
        assert view.evaluate(rung) == [] and not messages
