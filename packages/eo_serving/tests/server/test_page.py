"""The page at `/` in a real browser: what is dropped, what is shown, what is downloaded."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
DRAWN = """(id) => {
    const image = document.getElementById(id), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return [canvas.height, canvas.width, Array.from(context.getImageData(0, 0, canvas.width, canvas.height).data)];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("the page is not tested: there is no Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=list(QUIET))
        yield running
        running.close()


OpenPage = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Open the page of a server; whatever the browser complains of fails the test, but for refused requests."""
    contexts, complaints = [], []

    def note(message: Any) -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def start(server: Any, width: int = 1100, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.goto(server.url)
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def choose(page: Any, body: bytes, name: str = "scene.tif") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/tiff", "buffer": body})


def await_result(page: Any) -> None:
    page.wait_for_selector("#result:not([hidden])", timeout=60_000)


def post(server: Any, body: bytes, accept: str) -> Any:
    with server.client() as client:
        return client.post("/invocations", content=body, headers={"Content-Type": "image/tiff", "Accept": accept})


def drawn(page: Any, layer: str) -> NDArray[np.uint8]:
    """What the browser draws of a picture, `[H, W, 4]`."""
    height, width, values = page.evaluate(DRAWN, layer)
    return np.array(values, dtype=np.uint8).reshape(height, width, 4)


def test_a_chosen_file_is_shown_with_its_mask(
    open_page: OpenPage, server: Any, tiff_chip: bytes, chip: NDArray[Any], decode: Any
) -> None:
    page = open_page(server)
    choose(page, tiff_chip)
    await_result(page)
    said = post(server, tiff_chip, "application/json").json()
    mask = decode(post(server, tiff_chip, "image/tiff").content)
    rows = [row.inner_text().split("\t") for row in page.query_selector_all("#classes tr")]
    assert [row[0].strip() for row in rows] == ["land", "water"]
    for row, one in zip(rows, said["classes"], strict=True):
        assert float(row[1].split()[0]) == pytest.approx(100 * one["fraction"], abs=0.005)
        assert float(row[2].replace(",", "")) == pytest.approx(one["hectares"], abs=0.005)
    details = page.inner_text("#details")
    for text in ("120 \u00d7 100 pixels", "EPSG:32630", "water/2", said["digest"][:16], said["radiometry"], "infer"):
        assert text in details
    layer = drawn(page, "mask")
    np.testing.assert_array_equal(layer[..., 3] > 0, mask.pixels[0] == 1)
    assert {tuple(color) for color in layer[mask.pixels[0] == 1][:, :3]} == {mask.colors[1][:3]}
    scene = drawn(page, "scene")
    assert (scene[~(chip > 0).any(axis=0)][:, :3] == 255).all()
    assert len(np.unique(scene[..., 0])) > 50


def test_a_dropped_file(open_page: OpenPage, server: Any, tiff_chip: bytes) -> None:
    page = open_page(server)
    page.evaluate(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.tif", {type: "image/tiff"}));
            document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        list(tiff_chip),
    )
    await_result(page)
    assert page.inner_text("#file-name") == "dropped.tif"


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("image/tiff", "scene-mask.tif"),
        ("application/geo+json", "scene-mask.geojson"),
        ("image/png", "scene-quicklook.png"),
    ],
)
def test_what_is_saved_is_what_the_endpoint_answers(
    open_page: OpenPage, server: Any, tiff_chip: bytes, accept: str, name: str
) -> None:
    page = open_page(server)
    choose(page, tiff_chip)
    await_result(page)
    with page.expect_download(timeout=60_000) as waiting:
        page.click(f'[data-accept="{accept}"]')
    assert waiting.value.suggested_filename == name
    assert Path(waiting.value.path()).read_bytes() == post(server, tiff_chip, accept).content


def test_doubtful_values_are_told(open_page: OpenPage, server: Any, tiff_chip: bytes, tiff: Any) -> None:
    page = open_page(server)
    choose(page, tiff(np.full((6, 64, 64), 65535, np.uint16)))
    page.wait_for_selector("#warning:not([hidden])", timeout=60_000)
    assert "no reflectance of this sensor" in page.inner_text("#warning")
    choose(page, tiff_chip, "other.tif")
    page.locator("#file-name", has_text="other.tif").wait_for()
    assert page.is_hidden("#warning")


def test_a_raster_without_a_place(open_page: OpenPage, server: Any, chip: NDArray[Any], tiff: Any) -> None:
    page = open_page(server)
    choose(page, tiff(chip, crs=None, transform=None))
    await_result(page)
    assert "no CRS" in page.inner_text("#area-note")
    assert page.inner_text("#classes tr:nth-child(2) td:last-child") == "\u2013"
    assert page.is_disabled('[data-accept="application/geo+json"]')
    assert page.is_enabled('[data-accept="image/tiff"]')


def test_refusals_are_told_and_forgotten(open_page: OpenPage, server: Any, tiff_chip: bytes, tiff: Any) -> None:
    page = open_page(server)
    choose(page, tiff(np.ones((4, 8, 8), np.uint16)))
    page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    assert "4 bands without descriptions" in page.inner_text("#problem-what")
    assert page.inner_text("#problem-where") == "Where: body"
    assert "Describe the bands" in page.inner_text("#problem-fix")
    assert page.is_hidden("#result")
    choose(page, b"\0" * (5 * 2**20), "large.tif")  # never sent
    page.wait_for_function("document.getElementById('problem-what').textContent.includes('at most 4.0 MiB')")
    choose(page, tiff_chip)
    await_result(page)
    assert page.is_hidden("#problem")


def test_what_a_file_says_is_never_markup(open_page: OpenPage, server: Any, tiff: Any) -> None:
    page = open_page(server)
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    names = (*("B02", "B03", "B04", "B08", "B11"), evil)
    choose(page, tiff(np.ones((6, 8, 8), np.uint16), names=names), f"{evil}.tif")
    page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    assert "<img src=x" in page.inner_text("#problem")
    choose(page, tiff(np.ones((6, 8, 8), np.uint16)), f"{evil}.tif")
    await_result(page)
    assert evil in page.inner_text("#file-name")
    assert page.query_selector_all("main script, main img:not(#scene):not(#mask)") == []


def test_it_asks_for_the_token_and_keeps_it_for_the_tab(
    open_page: OpenPage, start_server: Any, tiff_chip: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    token = "a-token-of-the-tests-of-the-page"
    server = start_server(tmp_path_factory.mktemp("closed") / "state", options=(), TERRALOOP_ENDPOINT_TOKEN=token)
    server.await_status("/readyz", 200)
    page = open_page(server)
    assert "Authorization: Bearer $TERRALOOP_ENDPOINT_TOKEN" in page.inner_text("pre")
    page.fill("#token", "wrong-and-quite-long-enough")
    choose(page, tiff_chip)
    page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    assert "token" in page.inner_text("#problem")
    page.fill("#token", token)
    choose(page, tiff_chip)
    await_result(page)
    page.reload()
    assert page.input_value("#token") == token
    assert token not in page.content()


def test_it_fits_a_telephone_and_the_keyboard(open_page: OpenPage, server: Any, tiff_chip: bytes) -> None:
    page = open_page(server, width=380, color_scheme="dark")
    choose(page, tiff_chip)
    await_result(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.dataset.accept"))
    assert {"file", "opacity", "image/tiff", "application/geo+json", "image/png"} <= reached


def test_layers_are_offered_apart(server: Any, tiff_chip: bytes) -> None:
    from PIL import Image

    for layer, mode in (("scene", "RGB"), ("mask", "P")):
        answer = post(server, tiff_chip, f"image/png; layer={layer}")
        picture = Image.open(io.BytesIO(answer.content))
        assert (answer.status_code, picture.mode, picture.size) == (200, mode, (100, 120))
    assert post(server, tiff_chip, "image/png; layer=other").status_code == 406
    assert json.loads(post(server, tiff_chip, "image/png; layer=other").content)["where"] == "Accept"
