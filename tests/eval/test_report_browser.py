"""The report in a real browser, as wide as a phone and as a desk."""

import pytest

from launch.cli import run_command
from launch.report import main as report

from ..shards.browser import find_browser, open_browser
from .report_run import make_run

pytestmark = pytest.mark.slow
LONG = "x" * 300


def test_nothing_overflows_on_a_phone_and_all_pictures_show(tmp_path):
    found = find_browser()
    if found is None:
        pytest.skip("no chromium and chromedriver on this machine")
    run = make_run(tmp_path)
    (run / "evaluation.json").write_text(
        '{"whdr_percent": {"%s": {%s}}}' % (LONG, ", ".join(f'"set number {n}": {n}.5' for n in range(30)))  # noqa: UP031
    )
    assert run_command(report, [str(run)]) == 0
    with open_browser(found, tmp_path) as browser:
        browser.open(run / "report.html")
        # Headless windows have a least width, so a frame of the phone's width holds the page.
        for width in (390, 320, 1200):
            inner = browser.run(
                f"document.documentElement.style.width = '{width}px'; document.body.style.width = '{width}px';"
                "document.querySelectorAll('details').forEach((part) => part.open = true);"
                "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, svg, summary') &&"
                f" e.getBoundingClientRect().right > {width} + 1).map((e) => e.outerHTML.slice(0, 80))"
            )
            assert inner == []
        browser.run("document.querySelectorAll('img').forEach((image) => image.loading = 'eager')")
        browser.wait_for("return [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert browser.run("return document.querySelectorAll('svg').length") >= 6
