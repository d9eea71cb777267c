"""The Chromium that tests look with."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --disable-background-networking"
    " --disable-component-update --disable-sync --no-first-run"
)


def chromium() -> str:
    """The path of a Chromium, or a skip (in CI: a failure) with a sentence."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("FEDLAB_BROWSER") or next(
        (path for name in names if (path := shutil.which(name))), None
    )
    if found:
        return found
    sentence = (
        "no Chromium found; install one (Debian and Ubuntu: apt-get install chromium) or set"
        " FEDLAB_BROWSER to its path"
    )
    if os.environ.get("FEDLAB_REQUIRE_BROWSER"):
        pytest.fail(sentence)
    pytest.skip(sentence)


@contextmanager
def launched() -> Iterator:
    """Playwright's Browser, closed afterwards."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        try:
            yield browser
        finally:
            browser.close()
