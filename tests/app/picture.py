"""A picture of the page with an answer, for the docs.

python -m tests.app.picture docs/app.jpg
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.app.processes import served
from tests.clips import real_clips
from tests.evaluation.chromium import find_chromium


def main():
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (address, _), sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1180, "height": 700})
        page.goto(address)
        page.wait_for_selector("#ask")
        page.set_input_files("#video input[type=file]", str(real_clips() / "bikes.mp4"))
        page.wait_for_selector("#video video")
        page.click("#ask")
        for name in ("#maps img", "#timeline img"):
            page.wait_for_selector(name, timeout=120_000)
        # What says that it is at work fades.
        page.wait_for_timeout(2000)
        page.screenshot(path=sys.argv[1], type="jpeg", quality=80, full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
