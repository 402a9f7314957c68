"""The report page: its text, and what a real browser makes of it."""

import itertools
import json
import pathlib
import shutil

import pytest
from measured import path_of

from tbtjax.cli import main
from tbtjax.report.page import (
    PageError,
    analysis_page,
    read_analysis,
    read_sweep,
    sweep_page,
    verdict,
)
from tbtjax.report.page.charts import analysis_charts

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def model(name, alpha, beta):
    steps = [0.0, 10.0, 100.0]
    return {
        "model": name, "family": None, "parameters_billion": None,
        "alpha": alpha, "alpha_deviation": 0.01, "beta": beta, "beta_deviation": None,
        "lower": 0.0, "upper": 1.0, "chi2": 3.0, "dof": 1, "flags": ["MISFIT"],
        "points_used": 3, "points_left_out": 0,
        "steps": steps, "scores": [0.5, 0.6, 0.7], "errors": [0.01, None, 0.01],
    }  # fmt: skip


def a_document():
    """What `analysis.json` may hold, unpleasant values included."""
    names = ["big", "</script><b>small</b>"]

    def threshold(worth, delta, status, upper="inf"):
        weak, rival = (names[1], names[0]) if delta not in (0, "inf") else (None, None)
        return {
            "worth": worth, "delta": delta, "upper": upper, "settled": delta,
            "status": status, "weak": weak, "rival": rival, "by_pair": [delta],
        }  # fmt: skip

    def effort(delta, steps):
        return {"delta": delta, "by_pair": [steps], "least": steps} | dict(
            weak=names[1], rival=names[0], in_order=True
        )

    return {
        "tbtjax": "0",
        "data": {"source": "a.csv", "task": None, "metric": None, "last_step": 100.0}
        | {"order": "size", "left_out": [{"model": "x", "reason": "x: one point"}]},
        "settings": {"fit": "weighted", "limits": "fixed", "lower": 0.0},
        "warnings": ["1 < 2"],
        "models": [model(names[0], 1.0, 0.9), model(names[1], 0.0, 0.8)],
        "pairs": [{"weak": names[1], "strong": names[0], "rho": 0.9, "e0": "inf"}],
        "effort": [effort(0.0, 3.0)],
        "effort_curve": [effort(0.0, 3.0), effort(10.0, "inf"), effort(20.0, 0.0)],
        "thresholds": [threshold(10.0, 0, "STABLE_AT_ZERO"), threshold(1e3, 17.5, "FOUND")],
        "threshold_curve": [threshold(10.0, 0, "STABLE_AT_ZERO"), threshold(1e3, 17.5, "FOUND")],
    }


def test_the_verdict_is_of_the_case():
    document = a_document()
    assert "17.500 steps" in verdict(document)
    document["thresholds"][1] |= {"status": "INTERVAL", "upper": 80.0}
    assert "only up to 80 steps" in verdict(document)
    document["thresholds"] = document["thresholds"][:1]
    assert "nobody gains" in verdict(document)
    document["thresholds"][0]["status"] = "NOWHERE"
    assert "does any level" in verdict(document)


def test_names_cannot_break_out_of_the_page():
    page = analysis_page(a_document())
    assert "<b>small" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data) == a_document()
    assert "∞" in page and "1 &lt; 2" in page and "x: one point" in page


def test_the_price_of_the_capability_order_is_a_sentence_and_a_table():
    document = a_document()
    assert "order cost" not in analysis_page(document)
    models = [
        {"model": row["model"], "alpha": 0.5, "beta": 0.9, "chi2": 4.0, "cost": 1.25}
        | {"alpha_tied": i == 1, "beta_tied": False}
        for i, row in enumerate(document["models"])
    ]
    order = {
        "limits": "fixed", "price": 2.5, "ties": 1, "chi2_per_degree": 3.0, "p_value": 0.36,
        "delta": [0, 31.0], "models": models,
    }  # fmt: skip
    page = analysis_page(document | {"capability_order": order})
    words, _, tables = page.split("What does the capability order cost?")[1].partition("</p>")
    assert "cost 2.5 more in χ², for 1 tie. " in words and "with probability 0.36," in words
    assert tables.count("as the model before") == 1
    assert tables.count('<td data-value="1.25">1.25</td>') == 2
    assert '<td data-value="31.0">31</td><td data-value="17.5">17.5</td>' in tables
    unknown = analysis_page(document | {"capability_order": order | {"p_value": None}})
    assert "cannot be weighed" in unknown
    for row in models:
        row["alpha_tied"] = False
    free = order | {"ties": 0, "price": 0.0, "models": models}
    assert "follow it as they are" in analysis_page(document | {"capability_order": free})


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "no such file"), ("{", "not readable"), ("[]", "missing"), ('{"tbtjax": 1}', "'data'")],
)
def test_what_is_no_analysis_is_said_in_one_line(tmp_path, capsys, text, words):
    if text is not None:
        (tmp_path / "analysis.json").write_text(text)
    with pytest.raises(PageError, match=words):
        read_analysis(tmp_path)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()


@pytest.fixture(scope="module")
def browser():
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
        "disable-background-networking", "disable-component-update", "disable-dev-shm-usage",
    ):  # fmt: skip
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def open_page(browser, path, *, width, dark):
    from selenium.webdriver.support.ui import WebDriverWait

    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(pathlib.Path(path).resolve().as_uri())
    ready = "return document.documentElement.dataset.ready === 'true'"
    WebDriverWait(browser, 120).until(lambda page: page.execute_script(ready))


def lines_drawn(browser, chart):
    count = "return document.querySelectorAll(arguments[0]).length"
    return browser.execute_script(count, f"#{chart} .mark-line path")


def page_of(folder, *arguments):
    assert main(["analyze", *arguments, "--resamples", "0", "--out", str(folder)]) == 0
    page = folder / "report.html"
    assert main(["report", str(folder), "--out", str(page)]) == 0
    return page, json.loads((folder / "analysis.json").read_text())


@pytest.fixture(scope="module")
def packaged_page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("page"))


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (390, True)], ids=["wide", "phone"])
def test_a_browser_shows_numbers_and_switches_a_model_off(browser, packaged_page, width, dark):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    page, document = packaged_page
    assert page.stat().st_size < 3e6
    browser.get_log("browser")
    open_page(browser, page, width=width, dark=dark)

    # The numbers of the file are those on the page.
    shown = browser.execute_script(
        "return [...document.querySelectorAll('#threshold-table tbody tr')]"
        ".map(row => row.cells[1].dataset.value)"
    )
    assert [float(x) for x in shown] == [row["delta"] for row in document["thresholds"]]

    # Every chart is drawn, fits the window and has words for those who do not see it.
    for chart in ("thresholds", "curves", "efforts"):
        svg = browser.find_element(By.CSS_SELECTOR, f"#{chart} svg")
        assert browser.find_element(By.ID, chart).get_attribute("aria-label")
        assert 0 < svg.size["width"] <= width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width

    # A model is switched off by keyboard alone: its curve and its pairs go.
    models = len(document["models"])
    assert lines_drawn(browser, "curves") == models
    box = browser.find_elements(By.CSS_SELECTOR, "input[name=model]")[1]
    browser.execute_script("arguments[0].focus()", box)
    assert browser.switch_to.active_element == box
    box.send_keys(Keys.SPACE)
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda _: lines_drawn(browser, "curves") == models - 1)
    WebDriverWait(browser, 30).until(lambda _: lines_drawn(browser, "efforts") == models - 3)

    ink = browser.execute_script("return getComputedStyle(document.body).color")
    assert (sum(map(int, ink.removeprefix("rgb(").rstrip(")").split(","))) > 380) is dark
    assert browser.get_log("browser") == []


@pytest.mark.slow
def test_a_browser_shows_the_55_models(browser, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    source = str(path_of("mmlu_finetuning.csv"))
    page, document = page_of(tmp_path, source, "--lower", "0.25")
    assert page.stat().st_size < 3e6
    browser.get_log("browser")
    open_page(browser, page, width=1100, dark=False)
    models = [row["model"] for row in document["models"]]
    assert len(models) == 55

    # Every model is in the table with its own figures, and has a curve.
    rows = browser.execute_script(
        "return [...document.querySelectorAll('#fit-table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.dataset.value ?? cell.textContent))"
    )
    assert [row[0] for row in rows] == models
    heads = browser.execute_script(
        "return [...document.querySelectorAll('#fit-table thead th')].map(x => x.textContent)"
    )
    place = heads.index("χ²")
    assert [float(row[place]) for row in rows] == [row["chi2"] for row in document["models"]]
    assert lines_drawn(browser, "curves") == len(models)

    box = browser.find_elements(By.CSS_SELECTOR, "input[name=model]")[10]
    browser.execute_script("arguments[0].click()", box)
    fewer = len(models) - 1
    WebDriverWait(browser, 60).until(lambda _: lines_drawn(browser, "curves") == fewer)
    assert browser.get_log("browser") == []


def test_all_numbers_are_to_download(browser, packaged_page, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    page, document = packaged_page
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    open_page(browser, page, width=1100, dark=False)
    for selector in ("button[data-json]", "button[data-table=fit-table]"):
        browser.execute_script(
            "arguments[0].click()", browser.find_element(By.CSS_SELECTOR, selector)
        )
    files = [tmp_path / "analysis.json", tmp_path / "fit-table.csv"]
    WebDriverWait(browser, 30).until(lambda _: all(file.exists() for file in files))
    assert json.loads(files[0].read_text()) == document
    assert document["models"][0]["model"] in files[1].read_text()


def test_the_interval_of_the_threshold_is_drawn_and_listed(packaged_page):
    _, document = packaged_page

    def ends(rows):
        values = [row["delta"] for row in rows]
        return {"low": [value / 2 for value in values], "high": [*values[:-1], "inf"]}

    intervals = {
        "delta": ends(document["thresholds"]),
        "delta_curve": ends(document["threshold_curve"]),
    }
    families = {"confidence": 0.9, "levels": [0, 40000.0], "intervals": intervals}
    with_intervals = document | {"families": families}
    band, line = analysis_charts(with_intervals)["thresholds"]["spec"]["layer"]
    assert [row["low"] for row in band["data"]["values"]] == intervals["delta_curve"]["low"]
    assert band["data"]["values"][-1]["high"] == 40000
    assert len(line["data"]["values"]) == len(band["data"]["values"])
    assert "90% interval from" in analysis_page(with_intervals)


def a_sweep():
    """What `read_sweep` may return of a map with three axes."""
    axes = [
        {"name": "prize", "label": "prize", "units": "value", "values": [1.0, 10.0, 100.0]},
        {"name": "cost.scale", "label": "cost", "units": "1", "values": [0.1, 1.0]},
        {"name": "scheme", "label": "scheme", "units": "1", "values": ["top-k", "geometric"]},
    ]
    places = [
        dict(zip(("prize", "cost.scale", "scheme"), values, strict=True))
        for values in itertools.product(*(axis["values"] for axis in axes))
    ]
    cells = [
        place | {"delta_low": 0.0, "delta_median": median, "delta_high": "inf"}
        | {"always": 0.9, "never": 0.1}
        for place, median in zip(places, [*map(float, range(11)), "inf"], strict=True)
    ]  # fmt: skip
    return {
        "title": "a <map>",
        "about": {"source": "tbtjax 0", "configuration": '{"title": "a <map>"}'},
        "axes": axes,
        "quantiles": [0.05, 0.5, 0.95],
        "cells": cells,
        "stability": [p | {"delta": d, "share": d / 10} for p in places for d in (0.0, 10.0)],
        "sensitivity": [{"parameter": "capability.1", "value": 0.5}],
    }


def test_a_browser_shows_a_sweep(browser, tmp_path):
    from selenium.webdriver.common.by import By

    path = tmp_path / "sweep.html"
    path.write_text(sweep_page(a_sweep()), encoding="utf-8")
    browser.get_log("browser")
    open_page(browser, path, width=390, dark=False)
    assert "a <map>" in browser.find_element(By.TAG_NAME, "h1").text
    assert len(browser.find_elements(By.CSS_SELECTOR, "#map .mark-rect path[fill]")) >= 6
    assert len(browser.find_elements(By.CSS_SELECTOR, "#map select, #stability select")) == 3
    assert lines_drawn(browser, "stability") == 3
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.get_log("browser") == []


def test_a_store_that_is_none_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "zarr.json").write_text("{}")
    with pytest.raises(PageError, match="not a store"):
        read_sweep(tmp_path)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "not a store" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_store_becomes_a_page(browser, tmp_path):
    store, page = tmp_path / "map.zarr", tmp_path / "page.html"
    configuration = pathlib.Path(__file__).parents[1] / "examples" / "reward_cost_map.toml"
    assert main(["sweep", str(configuration), "--out", str(store)]) == 0
    assert main(["report", str(store), "--out", str(page)]) == 0
    assert page.stat().st_size < 3e6
    browser.get_log("browser")
    open_page(browser, page, width=1100, dark=True)
    assert browser.get_log("browser") == []
