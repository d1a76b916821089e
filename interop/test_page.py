"""The search page in a real browser."""

import html
import re
import shutil
import subprocess

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def address(program, run):
    serving = subprocess.Popen([program, "serve", run, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/", serving.stderr.readline()).group()
    finally:
        serving.kill()
        serving.wait()


def browse(url, tmp_path, *more):
    """The page after its script has run."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=10000"
    ).split()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *flags, profile, *more, url], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_a_search_shows_pictures_with_their_captions(address, tmp_path):
    page = browse(address + "?text=three+large+red+circles+on+a+white+background", tmp_path, "--dump-dom")
    results = re.search(r'<ul id="results".*?</ul>', page, re.S).group()
    cards = re.findall(r'<li class="card">(.*?)</li>', results, re.S)
    assert len(cards) == 40
    captions = [html.unescape(re.search(r'<p class="caption">(.*?)</p>', card).group(1)) for card in cards]
    assert sum("red" in caption for caption in captions[:10]) >= 6, captions
    for card in cards:
        assert re.search(r'<img [^>]*src="/api/v1/images/\d{9}"', card), card
    assert "40 results for" in page


def test_the_pictures_are_drawn(address, tmp_path):
    """A card's picture is not one colour, as an image that did not load would be."""
    from PIL import Image

    shot = tmp_path / "page.png"
    url = address + "?text=a+large+blue+square"
    browse(url, tmp_path, f"--screenshot={shot}", "--window-size=1200,900")
    picture = Image.open(shot).convert("RGB")
    assert picture.size == (1200, 900)
    assert len(picture.getcolors(1 << 24)) > 5_000


def test_the_funnel_is_shown(address, tmp_path):
    page = browse(address + "?view=report", tmp_path, "--dump-dom")
    for word in ("collect", "download", "other language", "precision"):
        assert word in page


def test_pairs_around_a_threshold_are_drawn(program, run, tmp_path):
    """Small pictures are in the page itself, and its policy lets a browser show them."""
    from PIL import Image

    page, shot = tmp_path / "threshold.html", tmp_path / "page.png"
    arguments = [program, "stats", run, "--similarity-min", "0.5", "--html", page, "--quiet"]
    subprocess.run(arguments, check=True, capture_output=True)
    dom = browse(page.as_uri(), tmp_path, "--dump-dom")
    pictures = re.findall(r'<img [^>]*src="([^"]*)"', dom)
    assert len(pictures) >= 6 and all(picture.startswith("data:image/jpeg;base64,") for picture in pictures)
    assert not re.search(r"<(script|link|iframe)|href=", dom)
    browse(page.as_uri(), tmp_path, f"--screenshot={shot}", "--window-size=1200,2000")
    colours = Image.open(shot).convert("RGB").getcolors(1 << 24)
    assert len(colours) > 5_000, "pictures that did not load would be of one colour"
    assert sum(count for count, (r, g, b) in colours if b > r + 60) > 5_000, "matched pairs are blue"


def test_the_page_of_a_package_is_drawn_and_fetches_nothing(program, run, tmp_path):
    from PIL import Image

    page, shot = tmp_path / "images.html", tmp_path / "page.png"
    package = run / "packages/tfds/laion400m/images/1.0.0"
    subprocess.run([program, "stats", package, "--html", page, "--quiet"], check=True, capture_output=True)
    dom = browse(page.as_uri(), tmp_path, "--dump-dom")
    assert "<h1>images/1.0.0</h1>" in dom and "threshold of LAION-400M" in dom
    assert not re.search(r"<(script|link|img|iframe)|(src|href)=", dom)
    browse(page.as_uri(), tmp_path, f"--screenshot={shot}", "--window-size=1200,1800")
    colours = Image.open(shot).convert("RGB").getcolors(1 << 24)
    assert sum(count for count, (r, g, b) in colours if b > r + 60) > 10_000, "bars are blue"
