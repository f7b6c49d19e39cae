"""The report's page: what stands in it, and in Chromium, without a network, what it does."""

import json
import os
import re
import shutil

import pytest

from junkdna.report import __main__ as report
from made_up_runs import make_run, make_sweep

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


@pytest.fixture
def opened(page):
    """The page in Chromium with the network cut off; gives (page, messages of the console, requests)."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no Chromium on the PATH (looked for {', '.join(CHROMIUM)})")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            context = browser.new_context(offline=True, viewport={"width": 1280, "height": 1000})
            view, messages, requests = context.new_page(), [], []
            view.on("console", lambda message: messages.append(message.text))
            view.on("pageerror", lambda error: messages.append(str(error)))
            view.on("request", lambda request: requests.append(request.url))
            view.goto(page.as_uri())
            view.wait_for_selector(".plot .main-svg")
            yield view, messages, requests
        finally:
            browser.close()


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
