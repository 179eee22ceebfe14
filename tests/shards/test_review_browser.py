"""The review page in a real browser, with real keys, from the disk."""

import json

import numpy as np
import pytest

from shards.decisions import read_decisions
from shards.format import jpeg_hw
from shards.preview import preview_strip
from shards.review import write_review
from shards.review_entries import Entry

from .browser import find_browser, open_browser

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>.jpg"
RIGHT, ESCAPE, END = "\ue014", "\ue00c", "\ue010"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = find_browser()
    if found is None:
        pytest.skip("no chromium and chromedriver on this machine")
    folder = tmp_path_factory.mktemp("browser")
    with open_browser(found, folder) as opened:
        opened.downloads = folder / "downloads"
        yield opened


@pytest.fixture(autouse=True)
def forgetful(request, browser):
    yield
    browser.run("localStorage.clear()")


def write(folder, entries):
    return write_review(folder, "album", "f" * 64, entries, {}).page


def pairs(count):
    grey = np.full((60, 80, 3), 128, dtype=np.uint8)
    strip = preview_strip(grey, grey, np.ones((60, 80), dtype=np.float32))
    for i in range(count):
        undecided = i % 2 == 1
        yield Entry(
            f"{i:05d}_L.jpg",
            None if undecided else "train",
            "eyes_undecided" if undecided else None,
            "undecided" if undecided else "swapped",
            {},
            strip,
            jpeg_hw(strip),
        )


def text(browser, css):
    return browser.run(f"return document.querySelector({css!r}).textContent")


def current(browser):
    return text(browser, ".tile.current .name")


def stored(browser):
    saved = browser.run("return localStorage.getItem('depthrank-review:' + 'f'.repeat(64))")
    return {entry.pop("name"): entry for entry in json.loads(saved)["decisions"]}


def test_keys_decide_undo_and_survive_a_reload(browser, tmp_path):
    page = write(tmp_path / "page", pairs(6))
    browser.open(page)
    browser.run("document.querySelector('#order').value = 'item'")
    browser.run("document.querySelector('#order').dispatchEvent(new Event('change'))")
    assert current(browser) == "00000_L.jpg"
    browser.press("k")  # accepted and drawn swapped: keeping confirms that
    assert current(browser) == "00001_L.jpg"
    browser.press("s", "k")  # undecided and drawn as given: swapped, then confirmed
    assert current(browser) == "00002_L.jpg"
    browser.press("d", "s")  # dropped; the next, drawn as given, is swapped and stays the current one
    assert current(browser) == "00003_L.jpg"
    decided = {
        "00000_L.jpg": {"keep": True, "eyes": "swapped", "by": "person"},
        "00001_L.jpg": {"keep": True, "eyes": "swapped", "by": "person"},
        "00002_L.jpg": {"keep": False, "by": "person"},
        "00003_L.jpg": {"eyes": "swapped", "by": "person"},
    }
    assert stored(browser) == decided
    browser.press("s")
    del decided["00003_L.jpg"]
    assert stored(browser) == decided
    browser.press("u", "u")
    assert stored(browser) == decided
    browser.press("u")
    del decided["00002_L.jpg"]
    assert stored(browser) == decided and current(browser) == "00002_L.jpg"
    browser.press("n", RIGHT, END)
    assert current(browser) == "00005_L.jpg"
    browser.open(page)
    assert "2 decided" in text(browser, "#counts")
    assert stored(browser) == decided


def test_the_downloaded_file_is_read_by_packing_and_loaded_again(browser, tmp_path):
    page = write(tmp_path / "page", [*pairs(4), Entry(HOSTILE, "val", None, "as_given")])
    browser.open(page)
    browser.press("k", "d", "k", "s", "e")
    target = browser.downloads / "decisions-album.json"
    browser.wait_for("return document.querySelector('#status').textContent.includes('downloaded')")
    for _ in range(200):
        if target.exists():
            break
        browser.run("return new Promise((done) => setTimeout(done, 50))")
    decisions = read_decisions(str(target))
    saved = stored(browser)
    assert {entry.name for entry in decisions.decisions} == set(saved) and len(saved) == 4
    assert all(decisions.of(name).keep == saved[name].get("keep") for name in saved)
    browser.run("localStorage.clear()")
    browser.open(page)
    assert "0 decided" in text(browser, "#counts")
    browser.put_file("#file", target)
    browser.wait_for("return document.querySelector('#counts').textContent.includes('4 decided')")
    assert stored(browser) == saved
    target.write_text('{"format": "depthrank-decisions", "version": 1, "decisions": [{"name": 3}]}')
    browser.put_file("#file", target)
    browser.wait_for("return document.querySelector('#status').textContent.includes('malformed')")
    assert stored(browser) == saved
    target.unlink()


def test_hostile_names_are_inert_text(browser, tmp_path):
    figures = {"<b>figure</b>": "<svg onload=alert(3)>"}
    page = write(tmp_path / "page", [Entry(HOSTILE, None, "<i>reason</i>", None, figures), *pairs(2)])
    browser.open(page)
    browser.press("/", *"onerror", ESCAPE)
    assert current(browser) == HOSTILE
    assert text(browser, ".tile.current .verdict") == "<i>reason</i>"
    assert "<b>figure</b> <svg onload=alert(3)>" in text(browser, ".tile.current .figures")
    browser.press("d")
    assert list(stored(browser)) == [HOSTILE]
    assert browser.run("return document.querySelectorAll('main :is(b, i, svg, script)').length") == 0
    assert not browser.alert_is_open()
    inline = (
        "const s = document.createElement('script'); s.textContent = 'globalThis.bad = 1'; document.body.append(s);"
    )
    assert browser.run(f"{inline} return globalThis.bad ?? 'refused'") == "refused"


def test_thousands_of_pairs_keep_the_page_small(browser, tmp_path):
    browser.open(write(tmp_path / "page", pairs(3000)))
    browser.resize(1400, 900)
    for key in (END, "k", "u", RIGHT):
        browser.press(key)
        assert browser.run("return document.querySelectorAll('.tile').length") < 60
    assert "3000 of 3000" in text(browser, "#shown")
    shown = "return [...document.querySelectorAll('.tile.current img')].every((i) => i.complete && i.naturalWidth > 0)"
    assert browser.wait_for(shown)
    browser.resize(500, 800)
    assert browser.wait_for("return document.documentElement.scrollWidth <= innerWidth")
