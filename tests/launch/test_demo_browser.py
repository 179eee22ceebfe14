"""The demo's page in a real browser, with real clicks and keys."""

import re

import numpy as np
import pytest
from PIL import Image

from ..shards.browser import find_browser, open_browser
from .demo_server import RedIsNear, serving

pytestmark = pytest.mark.slow

LEFT, RIGHT, ENTER, ESCAPE = "\ue012", "\ue014", "\ue007", "\ue00c"
SHOWN = "return !document.querySelector('#result').hidden && !document.body.classList.contains('waiting')"
WIDTH, HEIGHT = 480, 320


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = find_browser()
    if found is None:
        pytest.skip("no chromium and chromedriver on this machine")
    folder = tmp_path_factory.mktemp("browser")
    with open_browser(found, folder) as opened:
        opened.resize(1200, 900)
        opened.downloads = folder / "downloads"
        yield opened


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """A picture whose red, and so its nearness, grows to the right; the file has a name that would be a tag."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, WIDTH)
    path = tmp_path_factory.mktemp("pictures") / "<img src=x onerror=alert(1)>.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def page(browser):
    with serving(RedIsNear()) as port:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for("return document.querySelector('#about dd')")
        yield browser


def text(page, css):
    return " ".join(page.run(f"return document.querySelector({css!r}).textContent").split())


def show(page, path):
    page.put_file("#file", path)
    page.wait_for(SHOWN)


def margin_percent(page):
    return float(re.search(r"margin ([\d.]+) %", text(page, "#verdict"))[1])


def mark(page, view, name):
    """Where a mark is, as shares of the width and the height; None where it is not shown."""
    return page.run(
        f"const m = document.querySelector('#{view} .mark-{name}');"
        "return m.hidden ? null : [parseFloat(m.style.left) / 100, parseFloat(m.style.top) / 100]"
    )


def test_two_clicks_tell_which_point_is_nearer_and_by_how_much(page, ramp):
    show(page, ramp)
    assert "Choose two points" in text(page, "#verdict")
    page.click("#picture", 0.25, 0.5)
    assert "A is set" in text(page, "#verdict")
    page.click("#depth", 0.75, 0.4)
    assert text(page, "#verdict").startswith("B is nearer than A")
    # A ramp's 2nd to 98th percentile is 96 % of its length, of which the points are half a length apart.
    assert margin_percent(page) == pytest.approx(100 * 0.5 / 0.96, abs=1.5)
    for view in ("picture", "depth"):
        assert mark(page, view, "a") == pytest.approx([0.25, 0.5], abs=0.01)
        assert mark(page, view, "b") == pytest.approx([0.75, 0.4], abs=0.01)
    places = page.run("return [...document.querySelectorAll('.tag')].map((tag) => parseFloat(tag.style.left))")
    assert places == pytest.approx([100 * (0.25 - 0.02) / 0.96, 100 * (0.75 - 0.02) / 0.96], abs=1.5)

    page.click("#picture", 0.6, 0.2)  # a new pair
    assert mark(page, "depth", "b") is None
    page.click("#picture", 0.3, 0.7)
    assert text(page, "#verdict").startswith("A is nearer than B")
    page.click("#picture .mark-b", to=(0.5 + (0.59 - 0.3) * page.run(WIDTH_OF_VIEW) / 34, 0.5))  # dragged
    assert mark(page, "picture", "b") == pytest.approx([0.59, 0.7], abs=0.01)
    assert text(page, "#verdict").startswith("A and B are about equally near")
    assert margin_percent(page) < 2
    page.click("#clear")
    assert mark(page, "picture", "a") is None
    assert page.run("return document.querySelector('#clear').disabled")


WIDTH_OF_VIEW = "return document.querySelector('#picture').getBoundingClientRect().width"


def test_a_finger_sets_and_drags_points(page, ramp):
    page.emulate(390, 800, phone=True)
    try:
        show(page, ramp)
        page.click("#picture", 0.3, 0.5, kind="touch")
        page.click("#depth", 0.6, 0.5, kind="touch")
        assert text(page, "#verdict").startswith("B is nearer than A")
        page.click("#depth .mark-b", to=(0.5 - (0.6 - 0.1) * page.run(WIDTH_OF_VIEW) / 34, 0.5), kind="touch")
        assert mark(page, "picture", "b") == pytest.approx([0.1, 0.5], abs=0.02)
        assert text(page, "#verdict").startswith("A is nearer than B")
        top, bottom = page.run(
            "const r = document.querySelector('#verdict').getBoundingClientRect(); return [r.top, r.bottom]"
        )
        assert 0 <= top < bottom <= 800, "what the points say stays in sight"
    finally:
        page.emulate(1200, 900)


def test_the_colours_are_those_of_the_command_line(page, ramp):
    from pipeline.eval.colour import colourise

    show(page, ramp)
    script = (
        f"const c = document.querySelector('#depth canvas'); return [...c.getContext('2d').getImageData(0, 100, {WIDTH}"
        ", 1).data]"
    )
    row = np.array(page.run(script)).reshape(WIDTH, 4)[:, :3]
    expected = colourise(np.tile(np.linspace(0, 1, WIDTH, dtype=np.float32), (HEIGHT, 1)))[0]
    assert np.abs(row - expected).mean() < 3
    page.click("#save")
    saved = page.downloads / "depth.png"
    for _ in range(200):
        if saved.exists():
            break
        page.run("return new Promise((done) => setTimeout(done, 50))")
    with Image.open(saved) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB"))[100], row)
    saved.unlink()


def test_keys_alone_are_enough(page, ramp):
    show(page, ramp)
    page.run("document.querySelector('#picture').focus()")
    page.press(*[LEFT] * 10, ENTER)  # ten steps of a hundredth of the long side
    assert mark(page, "depth", "a") == pytest.approx([0.5 - 10 * 5 / WIDTH, 0.5], abs=0.01)
    page.press(*[RIGHT] * 20, ENTER)
    assert text(page, "#verdict").startswith("B is nearer than A")
    assert margin_percent(page) == pytest.approx(100 * 20 * 5 / WIDTH / 0.96, abs=1)
    page.wait_for("return document.querySelector('#spoken').textContent.includes('from the left')")
    page.press(*[RIGHT] * 5, "a")
    assert text(page, "#verdict").startswith("A is nearer than B")
    page.press(ESCAPE)
    assert mark(page, "picture", "a") is None
    names = page.run(
        "return [...document.querySelectorAll('button, [tabindex], input')].map((e) => (e.getAttribute('aria-label')"
        " ?? e.textContent).trim())"
    )
    assert all(names)


def test_a_dropped_file_a_pasted_one_and_the_scene_are_shown_and_a_broken_file_is_explained(page, tmp_path):
    drop = (
        "const data = new DataTransfer(); data.items.add(new File([%s], '<b>x</b>.png'));"
        "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));"
    )
    page.run(drop % "'no picture'")
    page.wait_for("return document.querySelector('#problem').textContent")
    assert text(page, "#problem") == "This file: no picture of a known format."
    assert page.run("return document.querySelector('#result').hidden")
    page.run(drop % "new Uint8Array(33 * 2 ** 20)")
    page.wait_for("return document.querySelector('#problem').textContent.includes('more than 32 MiB')")
    page.click("#example")
    page.wait_for(SHOWN)
    assert text(page, "#problem") == ""
    assert text(page, "#picture-caption") == "Picture, 480 × 360 pixels"
    page.run("document.querySelector('#result').hidden = true")
    page.run(
        "return fetch('example.png').then((answer) => answer.blob()).then((blob) => { const data = new DataTransfer();"
        "data.items.add(new File([blob], 'image.png'));"
        "document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data })) })"
    )
    page.wait_for(SHOWN)
    page.run("document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: new DataTransfer(), bubbles: true }))")
    assert "no file" in text(page, "#problem")


def test_names_are_text_and_nothing_foreign_runs(page, ramp):
    show(page, ramp)
    assert "<b>test</b>" in text(page, "#about")
    assert page.run("return document.querySelectorAll('main :is(b, svg, script), footer b').length") == 0
    assert not page.alert_is_open()
    inline = (
        "const s = document.createElement('script'); try { s.textContent = 'globalThis.bad = 1' } catch {}"
        "document.body.append(s); return globalThis.bad ?? 'refused'"
    )
    assert page.run(inline) == "refused"


@pytest.mark.parametrize("size", [(30, 900), (900, 30), (1, 1), (2000, 1500)])
def test_nothing_overflows_at_any_shape_and_width(page, tmp_path, size):
    path = tmp_path / "picture.png"
    Image.new("RGB", size, (90, 10, 10)).save(path)
    show(page, path)
    page.click("#picture", 0.5, 0.5)
    page.click("#picture", 0.9, 0.9)
    assert "No difference" in text(page, "#verdict")
    for width, phone in ((320, True), (390, True), (700, False), (1200, False)):
        page.emulate(width, 800, phone=phone)
        assert page.run("return innerWidth") == width
        assert page.run("return document.documentElement.scrollWidth") <= width
        assert page.run("return getComputedStyle(document.querySelector('#camera')).display !== 'none'") == phone
    page.emulate(1200, 900)
