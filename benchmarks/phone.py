"""How long the phone page trains, in this machine's Chromium.

    python -m benchmarks.phone

Thirty digits of a simulated handwriting, five epochs, B = 10: the page's own Worker in a headless
Chromium, in turn with fedlab's own training of the same digits in Python. Loading the Worker,
compilation and the way to the browser and back are outside the clock.
How to read it: the seconds of the page have a target; the ratio says how far its plain JavaScript
is from compiled code. A real phone is slower: how much was not measured.
It needs playwright, which `make setup` installs, and a Chromium: of the system, or where the
variable FEDLAB_BROWSER says.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path

from benchmarks.measure import in_process, in_turn, installed, judged, machine, spread, table

SECONDS = 2.0  # target
PAGE, PYTHON = "the page, in Chromium", "fedlab, in Python"
BATCH, RATE = 10, 0.1
NOWHERE = "http://phone.test/"  # answered from the disk
NAMES = "chromium", "chromium-browser", "google-chrome", "chrome"
FLAGS = "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"

PREPARE = """async ([weights, images, labels]) => {
    const {trainer} = await import("/phone/trainer.js");
    window.worker = trainer();
    window.first = weights.map(one => Float32Array.from(one));
    window.data = {images: Float32Array.from(images), labels: Uint8Array.from(labels)};
}"""
TRAIN = """async training => {
    const weights = first.map(one => one.slice()), began = performance.now();
    await worker.train(weights, data, training, "a seed");
    return (performance.now() - began) / 1000;
}"""


def chromium() -> str:
    """The path of a Chromium, or "" where there is none."""
    return os.environ.get("FEDLAB_BROWSER") or next(filter(None, map(shutil.which, NAMES)), "")


def seconds(digits: int, epochs: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of a training on each side, in turn in this process and its browser."""
    from playwright.sync_api import sync_playwright

    import fedlab
    from fedlab.classroom.writers import Writer, drawings

    pages = Path(fedlab.__file__).parent / "classroom" / "pages"
    data, classifier = drawings(Writer(0, 0), digits), fedlab.Classifier(seed=0)
    images = (data.x.reshape(-1) / 255).tolist()
    weights = [w.ravel().tolist() for w in classifier.weights]
    page_training = {"epochs": epochs, "batchSize": BATCH, "learningRate": RATE, "proximal": 0}

    def answer(route):
        name = route.request.url.removeprefix(f"{NOWHERE}phone/")
        if name.endswith(".js"):
            body = (pages / name).read_text("utf-8")
            return route.fulfill(body=body, content_type="text/javascript")
        return route.fulfill(body="<!doctype html><title>Blank</title>", content_type="text/html")

    def in_python() -> float:
        began = time.perf_counter()
        classifier.train(classifier.weights, data, fedlab.Training(epochs, BATCH, RATE), seed=0)
        return time.perf_counter() - began

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        page = browser.new_page()
        page.route(f"{NOWHERE}**", answer)
        page.goto(NOWHERE)
        page.evaluate(PREPARE, [weights, images, data.y.tolist()])
        sides = {PAGE: lambda: page.evaluate(TRAIN, page_training), PYTHON: in_python}
        for side in sides.values():  # compiles, and loads what it needs
            side()
        results = in_turn(sides, repeats)
        browser.close()
    return results


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--digits", type=int, default=30, help="that are trained on")
    parser.add_argument("--epochs", type=int, default=5, help="E")
    parser.add_argument("--repeats", type=int, default=7, help="trainings of each side")
    given = parser.parse_args(arguments)

    if missing := installed("playwright"):
        return print(f"{missing} is not installed, so nothing was measured: make setup installs it")
    if not chromium():
        return print(
            "no Chromium found, so nothing was measured: install one (Debian and Ubuntu: apt-get"
            " install chromium), or set FEDLAB_BROWSER to its path"
        )
    machine("playwright")
    results = in_process("phone:seconds", **vars(given))
    middle = {name: statistics.median(values) for name, values in results.items()}
    rows = [
        [name, spread(values), f"{middle[name] / middle[PYTHON]:.3g} x"]
        for name, values in results.items()
    ]
    title = f"{given.digits} digits, {given.epochs} epochs, B = {BATCH}"
    table(title, ["where", "median", "to Python"], rows)
    print(f"\n{PAGE}  {judged(middle[PAGE], most=SECONDS, unit=' s')}")


if __name__ == "__main__":
    main()
