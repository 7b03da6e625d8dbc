"""Every screen, light and dark, wide and narrow: nothing axe objects to, no errors, nothing that moves, no sideways scrolling. PNGs go to build/screens."""

import pathlib

import pytest

from conftest import ROOT, UI

AXE = UI / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = ROOT / "build" / "screens"

# name: (path with {dataset name} and {run kind-state}, keys to press, what must be on the page)
SCREENS = {
    "datasets": ("/", [], "First comparisons"),
    "dataset": ("/datasets/{First comparisons}", [], "Krippendorff"),
    "dataset-empty": ("/datasets/{Nothing in it}", [], "Import records"),
    "records": ("/datasets/{First comparisons}/records", [], "sourdough"),
    "pair": ("/datasets/{First comparisons}/label", ["2"], "A better"),
    "pair-skip": ("/datasets/{First comparisons}/label", ["s"], "Skip this task"),
    "pair-guidelines": ("/datasets/{First comparisons}/label", ["g"], "What to prefer"),
    "pair-help": ("/datasets/{First comparisons}/label", ["?"], "Keyboard shortcuts"),
    "pair-diff": ("/datasets/{First comparisons}/label", ["d"], "sourdough"),
    "rank-3": ("/datasets/{Three answers}/label", ["3", "1"], "Un-rank"),
    "rank-6": ("/datasets/{Six answers}/label", ["6", "=", "1"], "Un-rank"),
    "questions": ("/datasets/{Made by a client}/label", ["4"], "What kind of prompt"),
    "nothing": ("/datasets/{Nothing in it}/label", [], "No records yet"),
    "runs": ("/runs", [], "Reward model on"),
    "run-reward": ("/runs/{train_reward-done}", [], "Predicted against observed"),
    "run-improve": ("/runs/{improve}", [], "Samples"),
    "run-failed": ("/runs/{train_reward-failed}", [], "NaN in layer 3"),
    "people": ("/users", [], "amelie"),
}


def visit(page, mock, name):
    path, keys, text = SCREENS[name]
    datasets = page.evaluate("fetch('/ui/datasets').then((r) => r.json())")["datasets"]
    runs = page.evaluate("fetch('/ui/runs').then((r) => r.json())")["runs"]
    for d in datasets:
        path = path.replace("{" + d["name"] + "}", d["id"])
    for r in runs:
        path = path.replace("{%s-%s}" % (r["kind"], r["state"]), r["id"]).replace("{%s}" % r["kind"], r["id"])
    page.goto(mock.base + path)
    page.wait_for_selector("main .card, .task:not([inert]), .nothing h2")
    page.wait_for_timeout(400)
    for k in keys:
        page.keyboard.press(k)
        page.wait_for_timeout(150)
    page.wait_for_selector(f"text={text}", state="attached")
    page.wait_for_timeout(250)


def violations(page):
    page.evaluate(AXE.read_text())  # evaluated by the debugger, which the page's policy does not bind
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']][:4]}" for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_every_screen(mock, signed_in, scheme, width):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page, _ = signed_in(scheme=scheme, width=width, height=900 if width > 700 else 844)
    problems = []
    for name in SCREENS:
        visit(page, mock, name)
        page.screenshot(path=SHOTS / f"{name}-{scheme}-{width}.png")
        problems += [f"{name}: {v}" for v in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            problems.append(f"{name}: scrolls sideways")
        shift = page.evaluate("[window.__shift, JSON.stringify(window.__shifts)]")
        if shift[0] > 0:
            problems.append(f"{name}: layout shift {shift}")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_sign_in(mock, open_page, scheme):
    page = open_page(scheme=scheme)
    page.goto(mock.base + "/")
    page.wait_for_selector("input[name=username]")
    page.wait_for_timeout(200)
    page.screenshot(path=SHOTS / f"sign-in-{scheme}.png") if SHOTS.exists() else None
    assert violations(page) == []
    assert page.evaluate("document.activeElement.name") == "username"
    page.keyboard.type("maria")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=The username or the password is wrong.")
    page.fill("input[name=password]", "maria")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=First comparisons")


def test_a_link_works_and_leaves_the_address(mock, open_page):
    page = open_page()
    page.goto(mock.base + "/sign-in#demo")
    page.wait_for_selector("text=First comparisons")
    assert "demo" not in page.url
    page.goto(mock.base + "/users")
    page.click("text=maria >> nth=0")
    page.click("[role=menuitem]:has-text('Sign out')")
    page.wait_for_selector("input[name=password]")


def test_a_used_link_says_so(mock, open_page):
    page = open_page()
    page.goto(mock.base + "/sign-in#stale")
    page.wait_for_selector("text=This link was used before or has expired.")


def test_theme_by_hand(mock, signed_in):
    page, _ = signed_in()
    light = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    page.keyboard.press("Shift+T")
    dark = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    assert light != dark
    page.reload()
    page.wait_for_selector("text=First comparisons")
    assert page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor") == dark


def test_reduced_motion_and_forced_colours(mock, chromium):
    context = chromium.new_context(reduced_motion="reduce", forced_colors="active", viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto(mock.base + "/sign-in#demo")
    page.wait_for_selector("text=First comparisons")
    page.click("a.primary")
    page.wait_for_selector(".task:not([inert]) .reader")
    page.wait_for_timeout(300)
    page.keyboard.press("2")
    assert page.evaluate("getComputedStyle(document.querySelector('.segment')).transitionDuration") == "0s"
    colours = page.evaluate("[...document.querySelectorAll('.segment')].map((e) => getComputedStyle(e).backgroundColor)")
    assert colours[1] not in (colours[0], colours[4]), "what is chosen must stand out in forced colours too"
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / "forced-colors.png")
    context.close()


def test_from_the_dataset_to_a_run_that_moves_and_back_to_labeling(mock, signed_in):
    page, ids = signed_in()
    page.goto(f"{mock.base}/datasets/{ids['First comparisons']}")
    page.click("text=More")
    page.click("[role=menuitem]:has-text('Improve the model')")
    page.wait_for_selector("dialog select[name=reward]")
    page.fill("input[name=max_steps]", "60")
    page.click("dialog .actions .primary")
    page.wait_for_url("**/runs/*")
    job = mock.log("/jobs", "POST")[-1]["body"]
    assert job["kind"] == "improve" and job["args"]["max_steps"] == 60 and job["reward"] and job["id"] in page.url
    page.wait_for_selector(".chart canvas")
    page.wait_for_function("() => /step ([3-9]|\\d\\d)/.test(document.querySelector('.titles').innerText)")
    page.click("text=Stop and keep")
    page.wait_for_selector("text=Resume")
    page.click("text=Resume")
    page.wait_for_selector("text=Stop and keep")
    page.wait_for_selector(".samples .side", timeout=20_000)
    page.keyboard.press("j")
    page.wait_for_selector("text=2 of 24")
    page.click("text=Send to labeling")
    page.fill("dialog input[name=n]", "12")
    page.click("dialog .actions .primary")
    page.wait_for_selector("text=12 prompts")


def test_a_refused_setting_is_shown_at_its_field(mock, signed_in):
    page, ids = signed_in()
    page.expected_errors += ("422",)
    page.goto(f"{mock.base}/datasets/{ids['First comparisons']}")
    page.click("text=More")
    page.click("[role=menuitem]:has-text('Train reward model')")
    page.fill("dialog input[name=learning_rate]", "3")
    page.click("dialog .actions .primary")
    page.wait_for_selector("text=The learning rate must be below 1.")
    assert page.get_attribute("input[name=learning_rate]", "aria-invalid") == "true"


def test_the_server_away_and_back(mock, signed_in):
    page, ids = signed_in()
    page.expected_errors += ("ERR_EMPTY_RESPONSE", "ERR_CONNECTION")
    page.wait_for_selector("text=First comparisons")
    mock.tell("offline", on=True)
    page.click("text=First comparisons")
    page.wait_for_selector("text=The server cannot be reached.")
    mock.tell("offline", on=False)
    page.click("text=Try again")
    page.wait_for_selector("text=Krippendorff")
    page.wait_for_selector("text=The server cannot be reached.", state="detached")


def test_make_import_and_export(mock, signed_in, tmp_path):
    page, _ = signed_in()
    page.click("text=New dataset")
    page.fill("dialog input[name=name]", "Fresh")
    page.click("dialog >> text=Create")
    page.wait_for_selector("h1:has-text('Fresh')")
    page.click("button.primary:has-text('Import records')")
    file = pathlib.Path(tmp_path) / "answers.jsonl"
    file.write_text('{"prompt":"p","answers":[{"text":"x"},{"text":"y"}]}\nnot json\n')
    page.set_input_files("dialog input[type=file]", str(file))
    page.click("dialog .actions .primary")
    page.wait_for_selector("text=answers.jsonl:2: not a JSON object")
    page.click("dialog .actions >> text=Close")
    page.wait_for_selector("text=1 prompt")
    page.click("text=Export")
    with page.expect_download() as d:
        page.click("[role=menuitem]:has-text('Preference pairs')")
    assert d.value.path()
