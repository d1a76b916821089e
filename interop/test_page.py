"""The search page in a real browser, served by the real program; and the pages that `stats` writes."""

import base64
import json
import re
import shutil
import subprocess
import tarfile
import time
import urllib.request
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
RED_CIRCLES = "three large red circles on a white background"


@contextmanager
def serving(program, run):
    server = subprocess.Popen([program, "serve", run, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/", server.stderr.readline()).group()
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="module")
def address(program, run):
    with serving(program, run) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def window(browser, address, **options):
    """A window in which nothing may be asked of anybody but the server, and no script may fail."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
    page = context.new_page()
    page.set_default_timeout(60_000)  # a busy machine takes its time
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda said: "Content Security Policy" in said.text and wrong.append(said.text))
    yield page
    context.close()
    strangers = [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))]
    assert asked and not strangers, strangers
    assert not wrong, wrong


@pytest.fixture
def page(browser, address):
    with window(browser, address) as page:
        yield page


def ask(address, path):
    with urllib.request.urlopen(address + "api/v1/" + path) as answer:
        return json.load(answer)


def look_for(page, text):
    page.get_by_role("searchbox").fill(text)
    page.keyboard.press("Enter")
    told(page, text)


def told(page, *words):
    """Waits until the results are there, and said to be."""
    for word in words:
        page.locator("#status", has_text=word).wait_for()
    page.locator("#results .tile").first.wait_for()


def keys(page, grid="#results"):
    images = page.locator(f"{grid} .open img")
    return images.evaluate_all("images => images.map((image) => image.getAttribute('src').split('/').pop())")


def captions(page, grid="#results"):
    return page.locator(f"{grid} .caption").all_text_contents()


def until(page, expression, arg=None):
    """Waits as `wait_for_function` does, which after its first try evaluates strings in the page, where nothing may."""
    deadline = time.monotonic() + 30
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


def are_drawn(page, grid):
    until(
        page,
        """grid => [...document.querySelectorAll(grid + ' .open img')].slice(0, 6)
           .every((image) => image.complete && image.naturalWidth > 0)""",
        arg=grid,
    )


def test_words_find_pictures_and_the_address_says_so(page, browser, address):
    page.goto(address)
    assert page.evaluate("document.activeElement.id") == "text", "typing is searching"
    look_for(page, RED_CIRCLES)
    assert sum("red" in caption for caption in captions(page)[:10]) >= 6, captions(page)
    are_drawn(page, "#results")
    expected = ask(address, "search?count=60&text=" + RED_CIRCLES.replace(" ", "%20"))["results"]
    assert keys(page)[:60] == [found["key"] for found in expected]
    assert captions(page)[:60] == [found["caption"] for found in expected]
    facts = page.locator("#results .tile").first.locator(".facts")
    assert f"similarity {expected[0]['similarity']:.3f}" in facts.text_content()
    with window(browser, address) as another:
        another.goto(page.url)
        told(another, RED_CIRCLES)
        assert keys(another)[:20] == keys(page)[:20]
    page.go_back()
    page.locator("#around .tile").first.wait_for()
    assert page.url == address and page.get_by_role("searchbox").input_value() == ""
    page.go_forward()
    told(page, RED_CIRCLES)


def test_words_can_be_taken_away(page, address):
    page.goto(address)
    look_for(page, "a large circle - red")
    assert sum("red" in caption for caption in captions(page)[:10]) <= 2, captions(page)


def drop(page, name, content):
    """Lets a file fall onto the page."""
    content = base64.b64encode(content).decode()
    event = page.evaluate_handle(
        """([name, content]) => {
             const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
             const dropped = new DataTransfer();
             dropped.items.add(new File([bytes], name, { type: 'image/jpeg' }));
             return dropped;
           }""",
        [name, content],
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": event})
    page.locator("#drop").wait_for()
    page.dispatch_event("body", "drop", {"dataTransfer": event})


def picture(address, key):
    with urllib.request.urlopen(f"{address}api/v1/images/{key}") as answer:
        return answer.read()


def some(address, count=3):
    return [found["key"] for found in ask(address, f"random?count={count}&seed=11")["results"]]


def test_a_picture_finds_itself_however_it_comes(page, address, tmp_path):
    page.goto(address)
    dropped, chosen, shared = some(address)
    drop(page, "dropped.jpg", picture(address, dropped))
    told(page, "like your picture")
    assert keys(page)[0] == dropped
    assert page.locator("#subject-canvas").is_visible() and page.locator("#drop").is_hidden()
    colours = page.locator("#subject-canvas").evaluate(
        "canvas => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, 72, 72).data.buffer)).size"
    )
    assert colours > 10, "the picture is drawn beside the box"

    (tmp_path / "chosen.jpg").write_bytes(picture(address, chosen))
    page.set_input_files("#file", tmp_path / "chosen.jpg")
    until(page, "key => document.querySelector('#results img')?.src.endsWith(key)", arg=chosen)
    page.go_back()
    until(page, "key => document.querySelector('#results img')?.src.endsWith(key)", arg=dropped)

    look_for(page, "on a white background")
    assert page.locator("#subject-canvas").is_visible(), "words join the picture"
    page.get_by_role("button", name="Remove your picture").click()
    told(page, "for “on a white background”")
    page.goto(f"{address}?key={shared}")
    told(page, "like the picture you chose")
    assert keys(page)[0] == shared


def test_what_is_no_picture_is_said_so(page, address):
    page.goto(address)
    drop(page, "no.jpg", b"no picture at all")
    page.locator("#wrong").wait_for()
    assert page.locator("#wrong-cause").text_content()


def test_filters_are_applied_told_and_removed(page, address):
    page.goto(address + "?text=" + RED_CIRCLES)
    told(page, RED_CIRCLES)
    before = keys(page)
    values = sorted(found["similarity"] for found in ask(address, "random?count=100")["results"])
    least = f"{values[70]:.3f}"
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("spinbutton", name="from").fill(least)
    page.keyboard.press("Enter")
    page.locator("#chips button").wait_for()
    told(page, RED_CIRCLES)
    until(page, "before => document.querySelector('#results').children.length < before", arg=len(before) + 1)
    shown = [float(re.search(r"similarity ([\d.]+)", facts).group(1)) for facts in page.locator("#results .facts").all_text_contents()]
    assert shown and min(shown) >= float(least) - 0.001, (least, shown)
    assert f"similarity_min={least}" in page.url

    page.get_by_label("Which pictures to show").select_option("everything")
    page.locator("#chips", has_text="not safe").wait_for()
    page.get_by_role("button", name="Remove filter: similarity").click()
    until(page, "document.querySelectorAll('#chips button').length === 1")
    assert "similarity_min" not in page.url and "safe=false" in page.url
    page.get_by_role("button", name="Remove all filters").click()
    until(page, "before => document.querySelector('#results img')?.src.endsWith(before)", arg=before[0])
    assert page.locator("#chips").is_hidden()


def test_hosts_and_licences_can_be_chosen(page, address):
    counted = ask(address, "statistics")
    host = counted["hosts"][0][0]
    licences = [name for name, _ in counted["licenses"] if name not in ("", "?")]
    page.goto(address)
    page.get_by_role("button", name="Filters").click()
    page.locator("#filter-license .choice").nth(len(licences)).wait_for()
    page.get_by_role("checkbox", name="any known").check()
    page.locator("#chips", has_text="licence known").wait_for()
    page.get_by_label("Host, or several").fill(host)
    page.keyboard.press("Enter")
    page.locator("#chips", has_text=host).wait_for()
    look_for(page, "a circle")
    shown = {found["key"]: found for found in ask(address, f"search?text=a%20circle&count=200&host={host}&license=any")["results"]}
    assert keys(page) == list(shown)[:60]
    assert all(found["url"].split("/")[2].split(":")[0] == host for found in shown.values())
    assert all("CC" in facts or "Public domain" in facts for facts in page.locator("#results .facts").all_text_contents())


def test_nothing_found_offers_a_way_on(page, address):
    page.goto(address + f"?text={RED_CIRCLES}&host=nobody.example")
    page.get_by_role("heading", name="Nothing found").wait_for()
    page.get_by_role("button", name="Search without filters").click()
    told(page, RED_CIRCLES)
    assert "host" not in page.url


def test_more_like_this_and_the_large_view(page, address):
    page.goto(address + "?text=" + RED_CIRCLES)
    told(page, RED_CIRCLES)
    first, second, third = keys(page)[:3]
    page.locator("#results .tile").nth(1).hover()
    page.locator("#results .like").nth(1).click()
    told(page, "like the picture you chose")
    assert keys(page)[0] == second and f"key={second}" in page.url
    page.go_back()
    told(page, RED_CIRCLES)

    page.locator("#results .open").nth(2).click()
    detail = page.get_by_role("dialog")
    detail.wait_for()
    assert f"show={third}" in page.url
    sample = ask(address, f"samples/{third}")
    assert detail.locator("h2").text_content() == sample["caption"]
    assert detail.get_by_role("link", name="Original picture").get_attribute("href") == sample["url"]
    assert detail.get_by_role("link", name="Page it is on").get_attribute("href") == sample["page_url"]
    facts = detail.locator("#detail-facts").text_content()
    for fact in (third, f"{sample['similarity']:.3f}", f"{sample['original_width']} × {sample['original_height']}"):
        assert fact in facts, facts
    page.locator("#detail-alike .tile").first.wait_for()
    shared = page.url
    detail.get_by_role("button", name="More like this", exact=True).click()
    told(page, "like the picture you chose")
    assert keys(page)[0] == third and detail.is_hidden()

    page.goto(shared)
    page.locator("#detail h2", has_text=sample["caption"]).wait_for()
    page.keyboard.press("Escape")
    until(page, "!location.search.includes('show=')")
    page.goto(f"{address}?show={first}")
    page.locator("#detail h2", has_text=ask(address, f"samples/{first}")["caption"]).wait_for()


def focused(page):
    return page.evaluate("document.activeElement.querySelector('img')?.getAttribute('src').split('/').pop() ?? document.activeElement.id")


def test_everything_can_be_done_by_keys(page, address):
    page.goto(address)
    page.locator("#around .tile").first.wait_for()
    page.get_by_role("button", name="Others").focus()
    page.keyboard.press("/")
    assert focused(page) == "text"
    page.keyboard.type(RED_CIRCLES)
    page.keyboard.press("Enter")
    told(page, RED_CIRCLES)
    found = keys(page)
    page.keyboard.press("ArrowDown")
    assert focused(page) == found[0]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert focused(page) == found[1]
    page.keyboard.press("ArrowDown")
    columns = found.index(focused(page)) - 1
    assert columns >= 3, "the tile below, not the next one"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("b")
    assert page.locator("#basket-count").text_content() == "1"
    page.keyboard.press("Enter")
    page.locator("#detail").wait_for()
    page.keyboard.press("ArrowRight")
    until(page, "key => location.search.includes('show=' + key)", arg=found[2])
    page.keyboard.press("b")
    assert page.locator("#basket-count").text_content() == "2"
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#detail').open && !location.search.includes('show=')")
    assert focused(page) == found[2], "the focus is where the large view was"
    page.keyboard.press("m")
    told(page, "like the picture you chose")
    page.keyboard.press("?")
    page.get_by_role("heading", name="Help").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("B")
    page.locator("#basket").wait_for()
    assert page.locator("#basket-list li").count() == 2


def test_hundreds_of_results_come_as_one_goes_on(page, address):
    page.goto(address + "?text=a+circle")
    told(page, "a circle")
    page.locator("#results .open").first.focus()
    for _ in range(4):
        before = page.locator("#results .tile").count()
        page.keyboard.press("End")
        until(page, "before => document.querySelectorAll('#results .tile').length > before", arg=before)
    found = keys(page)
    assert len(found) >= 300 and len(set(found)) == len(found), "no result comes twice"
    expected = [found["key"] for offset in (0, 200) for found in ask(address, f"search?text=a%20circle&count=200&offset={offset}")["results"]]
    assert found[:300] == expected[:300]


def saved(page, name, folder):
    with page.expect_download() as download:
        page.locator("#basket").get_by_role("button", name=name, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_the_basket_is_downloaded_and_packed(page, program, run, address, tmp_path):
    page.goto(address + "?text=" + RED_CIRCLES)
    told(page, RED_CIRCLES)
    for at in (0, 3, 5, 7):
        page.locator("#results .tile").nth(at).hover()
        page.locator("#results .keep").nth(at).click()
    page.locator("#results .keep").nth(7).click()
    wanted = [keys(page)[at] for at in (0, 3, 5)]
    page.reload()
    told(page, RED_CIRCLES)
    assert page.locator("#results .keep[aria-pressed=true]").count() == 3, "the basket outlives the page"
    page.get_by_role("button", name="Basket: 3 pictures").click()

    listed = saved(page, "Keys", tmp_path)
    assert listed.read_text().split() == wanted
    table = pq.read_table(saved(page, "Parquet", tmp_path))
    assert table["key"].to_pylist() == wanted
    lines = pa.csv.read_csv(saved(page, "CSV", tmp_path), convert_options=pa.csv.ConvertOptions(column_types={"key": pa.string()}))
    assert lines["caption"].to_pylist() == table["caption"].to_pylist()

    arguments = [program, "pack", run, "--keys", listed, "-o", tmp_path / "packed", "--json"]
    counts = json.loads(subprocess.run(arguments, check=True, capture_output=True, text=True).stdout)
    assert (counts["rows"], counts["kept"]) == (3, 3)
    packed = {}
    for tar in sorted((tmp_path / "packed/webdataset").glob("*.tar")):
        with tarfile.open(tar) as members:
            packed |= {member.name: members.extractfile(member).read() for member in members if member.isfile()}
    assert sorted(name for name in packed if name.endswith(".jpg")) == sorted(key + ".jpg" for key in wanted)
    for key, caption in zip(wanted, table["caption"].to_pylist()):
        assert packed[key + ".txt"].decode() == caption
        assert packed[key + ".jpg"] == picture(address, key)

    page.get_by_role("button", name=re.compile("^Remove: ")).first.click()
    assert page.locator("#basket-list li").count() == 2
    page.get_by_role("button", name="Empty the basket").click()
    assert page.locator("#basket-list li").count() == 0
    page.get_by_role("button", name="Undo").click()
    assert page.locator("#basket-list li").count() == 2


def test_the_dataset_is_told_of(page, run, address):
    page.goto(address)
    page.get_by_role("link", name="Dataset").click()
    page.locator("#dataset-charts .histogram").first.wait_for()
    page.locator("#dataset-funnel li").first.wait_for()
    report = json.loads((run / "report.json").read_text())
    told = page.locator("#dataset-funnel li").all_text_contents()
    assert len(told) == len(report["stages"])
    for stage, words in zip(report["stages"], told):
        assert stage["stage"] in words and f"{stage['kept']:,} of {stage['rows']:,} kept" in words
        for reason, count in {**stage["dropped"], **stage["failed"]}.items():
            assert reason.replace("_", " ") in words and f"{count:,}" in words
    assert "precision" in page.locator("#dataset-funnel").text_content()
    counted = ask(address, "statistics")
    hosts = page.get_by_role("table", name="Hosts").locator("th").all_text_contents()
    assert hosts == [host for host, _ in counted["hosts"]]
    bars = page.get_by_role("img", name=re.compile("^Similarity")).locator("rect")
    assert bars.count() == len(counted["similarity"])
    page.locator("#dataset-samples").scroll_into_view_if_needed()
    are_drawn(page, "#dataset-samples")
    before = keys(page, "#dataset-samples")
    page.get_by_role("button", name="Others").click()
    until(page, "before => !document.querySelector('#dataset-samples img')?.src.endsWith(before)", arg=before[0])
    page.get_by_role("table", name="Hosts").get_by_role("button").first.click()
    page.locator("#chips", has_text=hosts[0]).wait_for()
    page.locator("#around .tile").first.wait_for()


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "<script>alert(2)</script>",
    "\"><svg onload=alert(3)>",
    "</title></textarea></style><iframe src=javascript:alert(4)>",
    "{{constructor.constructor('alert(5)')()}} ${alert(6)}",
    "\u202eevil\u202c \x00\x1b[31m " + "W" * 3000,
]


@pytest.fixture(scope="module")
def hostile(program, run, tmp_path_factory):
    """The run with captions and addresses that nobody would like to meet, indexed by the program; without a report."""
    folder = tmp_path_factory.mktemp("hostile") / "run"
    for part in ("embeddings", "webdataset"):
        shutil.copytree(run / "packages" / part, folder / "packages" / part)
    for path in sorted((folder / "packages/embeddings/metadata").glob("*.parquet")):
        table = pq.read_table(path)
        rows = range(len(table))
        for name, values in {
            "caption": [HOSTILE[row % len(HOSTILE)] + f" {row}" for row in rows],
            "url": [("javascript:alert(7)", "data:text/html,<script>alert(8)</script>", "https://a.example/\" onclick=alert(9)")[row % 3] for row in rows],
            "page_url": ["javascript:alert(10)"] * len(table),
            "LICENSE": ["<b onmouseover=alert(11)>free</b>"] * len(table),
        }.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))
        pq.write_table(table, path)
    subprocess.run([program, "index", folder, "--quiet"], check=True, capture_output=True)
    with serving(program, folder) as address:
        yield address


def test_hostile_captions_are_text(browser, hostile):
    with window(browser, hostile) as page:
        page.goto(hostile)
        page.locator("#around .tile").first.wait_for()
        look_for(page, "<script>alert(0)</script>")
        assert any("<script>" in caption for caption in captions(page)) and any("onerror" in caption for caption in captions(page))
        assert page.locator("main :is(script, iframe, b, svg:not(.icon)), main [onclick], main [onerror]").count() == 0
        page.locator("#results .open").first.click()
        page.locator("#detail-alike .tile").first.wait_for()
        for at in range(3):
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(50)
        page.locator("#detail-all summary").click()
        page.keyboard.press("b")
        links = page.locator("a[href]").evaluate_all("links => links.map((link) => link.href)")
        assert all(re.match(r"https?:", link) for link in links), links
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Basket: 1 picture").click()
        page.locator("#basket-list li").wait_for()
        page.keyboard.press("Escape")
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide, "a caption makes the page too wide"
        page.goto(hostile + "?text=%3Cscript%3Ealert(12)%3C/script%3E&host=%22%3E%3Cimg%20src=x%20onerror=alert(13)%3E")
        page.locator("#nothing").wait_for()
        page.goto(hostile + "?view=dataset")
        page.locator("#dataset-charts figure").first.wait_for()
        assert "has no report" in page.locator("#dataset-funnel").text_content()


def test_a_server_that_is_gone_is_said_to_be(browser, program, run):
    with serving(program, run) as address, window(browser, address) as page:
        page.goto(address + "?text=a+circle")
        told(page, "a circle")
        page.context.set_offline(True)
        page.get_by_role("searchbox").fill("a square")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="That did not work").wait_for()
        assert "does not answer" in page.locator("#wrong-cause").text_content()
        page.context.set_offline(False)
        page.get_by_role("button", name="Try again").click()
        told(page, "a square")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nobody_is_shut_out(browser, address, scheme, width):
    """axe finds nothing serious on any view, and nothing is wider than the window."""
    axe = Axe()

    def check(page, view):
        page.wait_for_timeout(300)  # colours fade in
        found = axe.run(page).response
        assert len(found["passes"]) > 10, "axe has looked"
        grave = [wrong for wrong in found["violations"] if wrong["impact"] in ("serious", "critical")]
        assert not grave, (view, [(wrong["id"], wrong["nodes"][0]["html"]) for wrong in grave])
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (view, wide)

    with window(browser, address, color_scheme=scheme, viewport={"width": width, "height": 844}) as page:
        page.goto(address)
        page.locator("#around .tile").first.wait_for()
        check(page, "search")
        page.goto(address + "?text=a+circle&safe=false&similarity_min=0.1")
        told(page, "a circle")
        check(page, "results")
        page.get_by_role("button", name="Filters").click()
        check(page, "filters")
        page.locator("#results .keep").first.focus()
        page.keyboard.press("b")
        page.locator("#results .open").first.click()
        page.locator("#detail-alike .tile").first.wait_for()
        check(page, "detail")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Basket: 1 picture").click()
        check(page, "basket")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        check(page, "help")
        page.goto(address + "?text=a+circle&host=nobody.example")
        page.locator("#nothing").wait_for()
        check(page, "nothing")
        page.goto(address + "?view=dataset")
        page.locator("#dataset-charts .histogram").first.wait_for()
        page.locator("#dataset-samples .tile").first.wait_for()
        check(page, "dataset")


def browse(url, tmp_path, *more):
    """A page of `stats` after it has loaded."""
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --virtual-time-budget=10000"
    ).split()
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *flags, profile, *more, url], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


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
