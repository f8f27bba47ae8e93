"""The page in a real browser: a person trains, samples, paints and restores; every view can be read, reached and shared.

One server and one browser serve the whole file. Pictures of all views go to SCOREFIELD_SCREENSHOTS, or to a temporary folder.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from web_server import Server, serving

from scorefield import ScorefieldError, app, pictures
from scorefield.interchange.foreign import Foreign, write_run
from scorefield.runs import open_run

pytest.importorskip("fastapi", reason='needs the libraries of the page: pip install "scorefield[web]"')
SMALL = (
    *("network.channels=8,16", "network.blocks=1", "training.batch=16"),
    *("training.precision=float32", "training.pictures=0", "training.ema=0.999"),
)
STATIC = Path(app.__file__).parents[1] / "web" / "static"
PREVIEW = pictures.png(Image.new("RGB", (136, 60), "gray"))
VIEWS = {
    "field": "/field",
    "train": "/train?source=digits&steps=7",
    "sample": "/sample?run=digits&n=9&seed=3",
    "restore": "/restore?run=digits&image=2",
    "sharpen": "/restore?run=digits&image=2&task=blur",
    "tables": "/tables?run=flowers",
    "runs": "/runs",
    "run": "/runs/digits",
    "two runs": "/runs?compare=digits,flowers",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small runs, which have learned next to nothing: one of images, one of a table."""
    root = tmp_path_factory.mktemp("page") / "runs"
    app.train("digits", out=root / "digits", steps=8, settings=SMALL)
    for step in (4, 8):
        path = root / "digits" / "previews" / f"step-{step:08d}-raw-and-average.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(PREVIEW)
    rows = [f"{4 + i % 7 / 2},{i % 5},{'ab'[i % 3 == 0]}" for i in range(60)]
    table = root.parent / "flowers.csv"
    table.write_text("\n".join(["length,width,kind", *rows]) + "\n")
    app.train(str(table), out=root / "flowers", steps=8, settings=("network.width=16", "network.depth=2"))
    return root


@pytest.fixture(scope="module")
def uploads(root: Path) -> Path:
    """Where the server puts what is uploaded."""
    folder = root.parent / "temporary"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def server(root: Path, uploads: Path) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(uploads))
        with serving(root) as found:
            yield found


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("SCOREFIELD_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """A fresh page of 1280 pixels; afterwards nothing must have gone wrong on it, and nothing have left the machine."""
    made = opened(browser, server)
    yield made
    made.context.close()
    assert made.wrong == []


def opened(browser: Any, server: Server, width: int = 1280, scheme: str = "light") -> Any:
    """A page; `wrong` collects errors of the console, exceptions, and requests to anyone but the server."""
    page = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=server.url, reduced_motion="reduce"
    ).new_page()
    page.set_default_timeout(30_000)
    page.wrong = []
    page.on("console", lambda said: said.type == "error" and page.wrong.append(said.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.asked = set()  # what the server has not answered yet
    page.on("request", lambda asked: page.asked.add(asked))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda asked: page.asked.discard(asked))
    here = {server.host, ""}  # blobs and data have no host
    page.on("request", lambda asked: urlsplit(asked.url).netloc in here or page.wrong.append(f"asked {asked.url}"))
    page.on("websocket", lambda socket: urlsplit(socket.url).netloc in here or page.wrong.append(f"asked {socket.url}"))
    return page


def form(page: Any, name: str) -> Any:
    return page.get_by_role("form", name=name, exact=True)


def settled(page: Any, path: str) -> None:
    """Open a view and wait until it is drawn and has all that it asked for."""
    page.goto(path)
    page.locator("main h1").wait_for()
    quiet = 0
    while quiet < 4:
        page.wait_for_timeout(25)
        quiet = 0 if page.asked else quiet + 1


def state(page: Any) -> str:
    return str(page.locator(".painter [aria-live]").inner_text())


# --- what a person does -----------------------------------------------------------------------------------------------


def test_a_person_trains_stops_goes_on_samples_and_saves_what_the_command_would(
    page: Any, root: Path, tmp_path: Path, shots: Path
) -> None:
    progress = lambda: json.loads((root / "mine" / "manifest.json").read_text())["progress"]  # noqa: E731
    page.goto("/")
    page.get_by_role("link", name="Train").click()
    train = form(page, "Train")
    train.get_by_label("Name of the run").fill("mine")
    train.get_by_label("Time").fill("10m")
    train.get_by_text("More settings").click()
    train.get_by_label("Settings").fill("\n".join(SMALL))
    train.get_by_role("button", name="Start training").click()
    page.get_by_text(re.compile("Step [1-9].* left")).wait_for()
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_text("Stopped and saved").wait_for()
    page.get_by_role("button", name="Go on with mine").wait_for()
    page.screenshot(path=shots / "trained.png", full_page=True)
    stopped = progress()
    assert stopped["finished"] is False
    page.get_by_role("button", name="Go on with mine").click()
    page.get_by_text("Stopped and saved").wait_for(state="hidden")
    page.get_by_text(re.compile("Step [1-9].* left")).wait_for()
    page.get_by_role("button", name="Stop and save").click()
    page.get_by_text("Stopped and saved").wait_for()
    assert progress()["step"] > stopped["step"]

    page.get_by_role("link", name="Draw samples").click()
    sample = form(page, "Sample")
    sample.get_by_label("Number of samples").fill("9")
    sample.get_by_label("Seed").fill("3")
    sample.get_by_role("button", name="Draw samples").click()
    page.get_by_role("img", name="The samples").wait_for()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download NPZ").click()
    app.sample(root / "mine", n=9, seed=3, out=tmp_path / "samples.npz")
    assert Path(saved.value.path()).read_bytes() == (tmp_path / "samples.npz").read_bytes()
    assert "n=9" in page.url
    assert "seed=3" in page.url
    page.screenshot(path=shots / "sampled.png", full_page=True)


def test_a_person_paints_a_hole_and_gets_several_answers_and_a_map_of_doubt(page: Any, uploads: Path, shots: Path) -> None:
    settled(page, "/restore?run=digits&image=2&samples=3")
    canvas = page.locator(".painter canvas")
    box = canvas.bounding_box()
    at = lambda x, y: (box["x"] + (x + 0.5) * box["width"] / 8, box["y"] + (y + 0.5) * box["height"] / 8)  # noqa: E731
    page.mouse.move(*at(1, 2))
    page.mouse.down()
    page.mouse.move(*at(4, 2), steps=5)
    page.mouse.up()
    assert state(page).startswith("4 of 64")
    form(page, "Restore").get_by_role("button", name="Restore").click()
    page.get_by_role("heading", name="3 answers").wait_for()
    expected = np.zeros((8, 8), np.uint8)
    expected[2, 1:5] = 255
    (sent,) = uploads.rglob("mask.png")
    with Image.open(sent) as mask:
        assert np.array_equal(np.asarray(mask.convert("L")), expected)
    for name in ("mean of the answers", "map of doubt: standard deviation, white is largest", "answer 3"):
        assert page.get_by_role("img", name=name).evaluate("image => image.decode().then(() => image.naturalWidth)") >= 8
    page.screenshot(path=shots / "restored.png", full_page=True)


def test_a_hole_is_painted_by_keyboard_as_well_and_undone(page: Any) -> None:
    settled(page, "/restore?run=digits&image=2")
    page.locator(".painter canvas").focus()
    for key, count in {"Space": 1, "ArrowRight": 1, "Enter": 2, "u": 1, "ArrowDown": 1, " ": 2}.items():
        page.keyboard.press(key)
        assert state(page).startswith(f"{count} of 64"), key
    page.get_by_role("button", name="Invert").click()
    assert state(page).startswith("62 of 64")
    page.get_by_role("button", name="Clear").click()
    assert state(page).startswith("0 of 64")
    for count in (62, 2, 1):
        page.get_by_role("button", name="Undo").click()
        assert state(page).startswith(f"{count} of 64")


def test_a_wrong_value_gets_the_commands_own_sentence_beside_its_field(page: Any, root: Path) -> None:
    before = sorted(root.rglob("*"))
    settled(page, "/sample?run=digits&n=0")
    form(page, "Sample").get_by_role("button", name="Draw samples").click()
    wrong = page.locator("[aria-invalid=true]")
    wrong.wait_for()
    with pytest.raises(ScorefieldError) as refused:
        app.sample(root / "digits", n=0)
    said = page.locator(f"#{wrong.get_attribute('aria-errormessage')}")
    assert said.inner_text() == str(refused.value)
    assert wrong.get_attribute("name") == "n"
    assert wrong.evaluate("field => field === document.activeElement")
    form(page, "Sample").get_by_label("Number of samples").fill("1")
    form(page, "Sample").get_by_role("button", name="Draw samples").click()
    page.get_by_role("img", name="The samples").wait_for()
    assert wrong.count() == 0
    settled(page, "/restore?run=digits&image=2&task=blur&blur=-3")
    form(page, "Restore").get_by_role("button", name="Restore").click()
    wrong.wait_for()
    assert "got sigma = -3 for a blur" in page.locator(f"#{wrong.get_attribute('aria-errormessage')}").inner_text()
    assert sorted(root.rglob("*")) == before


def test_a_person_sees_what_is_wrong_with_data_before_training_on_them(page: Any, tmp_path: Path) -> None:
    page.goto("/train")
    page.get_by_label("Upload").check()
    table = tmp_path / "people.csv"
    table.write_text("age,name\n" + "".join(f"{20 + i % 40},Ann\n" for i in range(80)))
    page.get_by_label("A zip of images, an array or a table").set_input_files(table)
    page.get_by_text("people.csv is here.").wait_for()
    page.get_by_role("button", name="Check the data first").click()
    page.get_by_role("heading", name="What the data are").wait_for()
    plan = app.plan(table)
    assert plan.findings.warnings
    for sentence in (*plan.data.notes, *plan.findings.warnings):
        assert page.get_by_text(sentence, exact=True).count() == 1, sentence


def test_a_table_comes_back_with_its_holes_filled_an_interval_for_each_and_its_odd_rows_marked(
    page: Any, root: Path, uploads: Path, tmp_path: Path, shots: Path
) -> None:
    settled(page, "/tables?run=flowers")
    page.get_by_label("Row 2, width").fill("")
    page.get_by_label("Row 3, kind").fill("")
    page.get_by_role("button", name="Fill", exact=True).click()
    page.get_by_role("heading", name="Answers").wait_for()
    (sent,) = uploads.rglob("held-out.csv")
    report = app.impute(root / "flowers", sent, out=tmp_path / "filled.csv").to_dict()
    holes = [(row["row"], name, cell) for row in report["rows"] for name, cell in row["cells"].items()]
    assert len(holes) == page.locator("input[placeholder=empty]").evaluate_all("all => all.filter((one) => !one.value).length")
    assert page.locator("td.filled").count() == len(holes)
    for row, name, cell in holes:
        column = ["length", "width", "kind"].index(name)
        shown = page.get_by_role("region", name="Answers").locator("tbody tr").nth(row).locator("td").nth(column)
        assert shown.inner_text().startswith(f"{cell['value']:g}" if name != "kind" else cell["value"])
        assert ("of the draws" if name == "kind" else f"{cell['low']:g} to {cell['high']:g}") in shown.inner_text()
    page.get_by_label("Rate").fill("0.5")
    page.get_by_role("button", name="Find", exact=True).click()
    page.get_by_text("at a false-alarm rate of 50 %").wait_for()
    (whole,) = set(uploads.rglob("held-out.csv")) - {sent}
    found = app.odd(root / "flowers", whole, rate=0.5).to_dict()
    marked = (
        page.get_by_role("region", name="Answers")
        .locator("tbody tr")
        .evaluate_all("all => all.map((row, index) => (row.matches('.odd-row') ? index : -1)).filter((index) => index >= 0)")
    )
    assert marked == [row["row"] for row in found["rows"] if row["odd"]]
    page.screenshot(path=shots / "filled.png", full_page=True)


def test_an_address_holds_the_state_of_its_view(page: Any) -> None:
    settled(page, "/sample?run=digits&n=5&seed=2")
    form(page, "Sample").get_by_label("Number of samples").fill("6")
    form(page, "Sample").get_by_label("Sampler").select_option("heun")
    address = page.url
    settled(page, "/runs")
    settled(page, address)
    values = form(page, "Sample").evaluate("form => Object.fromEntries(new FormData(form))")
    assert (values["n"], values["seed"], values["sampler"]) == ("6", "2", "heun")
    page.go_back()
    page.get_by_role("heading", name="Runs", exact=True).wait_for()


def test_what_a_run_is_called_or_holds_is_never_markup(page: Any, root: Path, tmp_path: Path) -> None:
    table = tmp_path / "odd.csv"
    table.write_text("<img src=x onerror=alert(1)>,b\n" + "".join(f"{i % 9},{i % 4}\n" for i in range(60)))
    app.train(str(table), out=root / "odd", steps=2, settings=("network.width=16", "network.depth=2"))
    for path in ("/runs/odd", "/tables?run=odd", "/runs?compare=odd,digits"):
        settled(page, path)
        assert page.locator("main img[src=x]").count() == 0
    assert "<img src=x" in page.goto("/api/runs/odd").text()


def test_a_model_that_was_imported_is_chosen_and_sampled_like_a_run_that_was_trained_here(
    browser: Any, root: Path, tmp_path: Path
) -> None:
    """It has weights, and no step of training."""
    run = open_run(root / "digits")
    parts = {name: getattr(run.config, name) for name in ("network", "parametrisation", "process")}
    weights = run.field.network.state_dict()
    write_run(
        Foreign(source="elsewhere", found="a model", weights=weights, shape=run.shape, classes=run.classes, **parts),
        tmp_path / "church",
    )
    with serving(tmp_path) as server:
        page = opened(browser, server)
        page.goto("/runs/church")
        page.get_by_text("elsewhere: a model", exact=True).wait_for()
        assert page.get_by_role("link", name="Train a new one like it").count() == 0  # there are no data to train it on
        page.get_by_role("link", name="Draw samples").click()
        page.get_by_text("images of 1 x 8 x 8, imported, a model").wait_for()
        assert page.get_by_label("Run", exact=True).input_value() == "church"
        page.get_by_placeholder("64").fill("4")
        page.get_by_role("button", name="Draw samples").click()
        page.get_by_text(re.compile("^Done")).wait_for(timeout=120_000)
        page.context.close()
        assert page.wrong == []


def test_a_lost_connection_is_said_and_found_again(page: Any, server: Server) -> None:
    sockets = list[Any]()
    page.route_web_socket("**/ws?**", lambda socket: (sockets.append(socket), socket.connect_to_server()))
    settled(page, "/runs")
    assert sockets
    page.unroute_all()
    page.route_web_socket("**/ws?**", lambda socket: socket.close())
    sockets[0].close()
    page.get_by_text("The connection to the server is lost. Trying again.").wait_for()


def test_a_view_that_could_not_be_drawn_is_drawn_when_the_server_is_back(page: Any) -> None:
    sockets = list[Any]()
    page.route_web_socket("**/ws?**", lambda socket: (sockets.append(socket), socket.connect_to_server()))
    settled(page, "/train")
    page.route("**/api/runs", lambda route: route.abort())
    page.get_by_role("link", name="Runs", exact=True).click()
    page.get_by_text("The server does not answer.").wait_for()
    page.unroute("**/api/runs")
    sockets[-1].close()
    page.get_by_role("link", name="digits", exact=True).wait_for()
    page.wrong[:] = [one for one in page.wrong if "ERR_FAILED" not in one]  # what was cut off here


def test_a_job_that_the_server_has_forgotten_does_not_seem_to_run(page: Any) -> None:
    settled(page, "/sample?run=digits")
    forgotten = {"error": "got a job that this server does not know any more"}
    page.route("**/api/jobs/*", lambda route: route.fulfill(status=404, json=forgotten))
    form(page, "Sample").get_by_role("button", name="Draw samples").click()
    page.get_by_text("Failed", exact=True).wait_for()
    assert page.get_by_role("button", name="Cancel").is_hidden()
    assert page.get_by_text(forgotten["error"]).count() == 2  # beside the form, and in the panel of the job
    page.wrong.clear()  # the browser's note of the address


def test_the_address_names_the_run_that_was_chosen(page: Any) -> None:
    settled(page, "/sample?run=digits")
    page.get_by_label("Run", exact=True).select_option("flowers")
    page.get_by_text("3 columns").wait_for()
    assert "run=flowers" in page.url


def test_a_badly_written_address_opens_the_page_all_the_same(page: Any) -> None:
    page.goto("/runs/%")
    page.get_by_text("unknown run '%'").wait_for()
    page.wrong.clear()  # the browser's note that there is no such run


def test_a_training_on_a_file_goes_on_with_the_same_file(page: Any, root: Path) -> None:
    steps = ("network.width=16", "network.depth=2")
    app.train(str(root.parent / "flowers.csv"), out=root / "left", steps=8, settings=steps, stop=lambda: True)
    progress = lambda: json.loads((root / "left" / "manifest.json").read_text())["progress"]  # noqa: E731
    assert not progress()["finished"]
    settled(page, "/runs/left")
    page.get_by_role("link", name="Go on training").click()
    page.get_by_role("button", name="Go on with left").wait_for()
    assert page.get_by_role("button", name="Go on with").first.get_attribute("aria-label") == "Go on with left"
    form(page, "Train").get_by_label("Time").fill("2s")
    page.get_by_role("button", name="Go on with left").click()
    page.get_by_role("link", name="See the run").wait_for()
    assert progress()["finished"]


def test_a_person_gives_the_password_and_is_where_they_wanted_to_be(browser: Any, root: Path, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse\n")
    with serving(root, "--password-file", tmp_path / "password") as guarded:
        page = opened(browser, guarded)
        page.goto("/runs/digits")
        for password in ("wrong horse", "correct horse"):
            page.get_by_label("Password").fill(password)
            page.get_by_role("button", name="Open").click()
            page.get_by_text("That is not the password." if "wrong" in password else "scorefield").first.wait_for()
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("link", name="digits", exact=True).wait_for()
        fresh = opened(browser, guarded)
        fresh.goto("/runs/digits")
        fresh.get_by_label("Password").fill("correct horse")
        fresh.get_by_role("button", name="Open").click()
        fresh.get_by_role("heading", name="digits", exact=True).wait_for()
        for one in (page, fresh):
            one.context.close()


# --- how the page is read ---------------------------------------------------------------------------------------------

AUDIT = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n.slice(0, 3), 1]; };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const ground = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]);
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const v = c[i] / 255;
    return sum + w * (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  }, 0);
  const contrast = (one, other) => (Math.max(light(one), light(other)) + 0.05) / (Math.min(light(one), light(other)) + 0.05);
  const found = [];
  const check = (node, colour, text) => {
    const under = ground(node);
    const ratio = contrast(over(parse(colour), under), under);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} of "${text.trim().slice(0, 40)}" in ${node.outerHTML.slice(0, 80)}`);
  };
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const text = walker.currentNode.data;
    const hidden = ".visually-hidden, option, datalist, title, .skip";
    if (!text.trim() || !node.checkVisibility({ visibilityProperty: true }) || node.closest(hidden)) continue;
    const style = getComputedStyle(node);
    texts += 1;
    check(node, node.closest("svg") ? style.fill : style.color, text);
  }
  for (const field of document.querySelectorAll("input, textarea, select")) {
    if (!field.checkVisibility()) continue;
    check(field, getComputedStyle(field).color, field.value || "value");
    if (field.placeholder) check(field, getComputedStyle(field, "::placeholder").color, field.placeholder);
  }
  return { found, texts, overflow: document.documentElement.scrollWidth - innerWidth };
}"""
CONTROLS = {"button", "link", "textbox", "combobox", "checkbox", "radio", "slider", "spinbutton", "searchbox", "application"}


def test_every_view_is_readable_wide_and_narrow_in_light_and_dark(page: Any, shots: Path) -> None:
    """Contrast of all texts, in the colours that the browser computes, at least 4.5; nothing wider than the window; names."""
    session = page.context.new_cdp_session(page)
    for name, path in VIEWS.items():
        settled(page, path)
        page.evaluate(UNFOLD)
        for width, scheme in itertools.product((1280, 390), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            if (width, scheme) in ((1280, "light"), (390, "dark")):
                page.screenshot(path=shots / f"{name}-{width}-{scheme}.png", full_page=True)
            audit = page.evaluate(AUDIT)
            assert audit["texts"] > 20, name
            assert audit["found"] == [], (name, scheme)
            assert audit["overflow"] <= 0, (name, width)
        nodes = session.send("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
        assert len(controls) > 8
        assert [node for node in controls if not node["name"]["value"]] == [], name


UNFOLD = "() => document.querySelectorAll('main details').forEach((one) => (one.open = true))"
FOLLOW = """() => {
  document.activeElement.blur();
  document.addEventListener("focusin", ({ target }) => {
    const style = getComputedStyle(target);
    target.dataset.reached = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 ? "seen" : "unseen";
  });
}"""
WANTED = """() => {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']");
  const group = (node) => document.querySelector(`input[type=radio][name="${node.name}"][data-reached=seen]`);
  const there = [...all].filter((node) => node.checkVisibility() && !node.disabled);
  const missed = there.filter((node) => node.dataset.reached !== "seen" && !(node.type === "radio" && group(node)));
  return { count: there.length, missed: missed.map((node) => node.outerHTML.slice(0, 120)) };
}"""


def test_every_control_is_reached_by_tab_and_shows_where_the_focus_is(page: Any) -> None:
    for name, path in VIEWS.items():
        settled(page, path)
        page.evaluate(UNFOLD)
        page.evaluate(FOLLOW)
        count = page.evaluate(WANTED)["count"]
        assert count > 10
        for _ in range(count + 5):
            page.keyboard.press("Tab")
        assert page.evaluate(WANTED)["missed"] == [], name


def test_the_page_is_small_and_whole() -> None:
    """No build, no library, no other host: what is in the folder is what is sent."""
    files = [path for path in STATIC.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.suffix for path in files} <= {".html", ".css", ".js", ".svg"}
    outside = re.compile(r"(src|href)=\"(?![/#])|@import|url\((?!#)|\bfrom \"(?!\.)|innerHTML|\beval\(|Math\.random")
    assert [path.name for path in files if outside.search(path.read_text(encoding="utf-8"))] == []
