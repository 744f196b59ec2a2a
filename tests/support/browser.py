"""Chromium without a window, as Debian has it: what it shows, what it asks for, and what it complains about."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Self

from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from tests.support.documents import ROOT
from tests.support.polling import until

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from selenium.webdriver.remote.webelement import WebElement

PROGRAMS: Final = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
IS_MISSING: Final = None in PROGRAMS.values()
MISSING: Final = "chromium or chromedriver is not installed (make test installs chromium and chromium-driver on Debian)"
PICTURES: Final = ROOT / "tests-output"
"""Screenshots; git ignores them."""
WIDE: Final = (1280, 900)
PHONE: Final = (390, 844)


class Browser:
    """One browser with a profile of its own. Leaving ends it."""

    def __init__(self) -> None:
        self._profile = TemporaryDirectory(prefix="ingestd-chromium-")
        options = ChromeOptions()
        options.binary_location = str(PROGRAMS["chromium"])
        for argument in (
            "--headless=new",
            "--no-sandbox",  # it cannot have one as root
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            f"--user-data-dir={self._profile.name}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        self.driver = Chrome(options=options, service=Service(str(PROGRAMS["chromedriver"])))
        self.emulate(*WIDE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.driver.quit()
        self._profile.cleanup()

    def emulate(self, width: int, height: int, *, dark: bool = False) -> None:
        """A screen of this size, as a phone has one below 600 pixels, and whether its user likes it dark."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._command("Emulation.setDeviceMetricsOverride", metrics)
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._command("Emulation.setEmulatedMedia", {"features": features})

    def time_of_first(self, selector: str) -> float:
        """Milliseconds from the beginning of loading a page until such an element is drawn; see `note_first`."""
        until(lambda: self.run("return window.firstSeen"), within=20)
        return float(self.run("return window.firstSeen[arguments[0]]", selector))

    def note_first(self, selector: str) -> None:
        """From now on each page notes when such an element is drawn for the first time."""
        script = """
            const selector = SELECTOR;
            new MutationObserver((_, observer) => {
              if (!document.querySelector(selector)) return;
              observer.disconnect();
              requestAnimationFrame(() => setTimeout(() => { window.firstSeen = {[selector]: performance.now()}; }));
            }).observe(document, {childList: true, subtree: true});
        """
        self._command(
            "Page.addScriptToEvaluateOnNewDocument", {"source": script.replace("SELECTOR", json.dumps(selector))}
        )

    def answer_with(self, path: str, document: object) -> str:
        """From now on each page that fetches this path gets this document; `undo` takes the name that is returned."""
        script = """
            const ask = window.fetch;
            const told = () => Promise.resolve(Response.json(DOCUMENT));
            window.fetch = (path, ...rest) => path === PATH ? told() : ask(path, ...rest);
        """
        source = script.replace("PATH", json.dumps(path)).replace("DOCUMENT", json.dumps(document))
        added = self._command("Page.addScriptToEvaluateOnNewDocument", {"source": source})
        return str(added["identifier"])

    def undo(self, name: str) -> None:
        self._command("Page.removeScriptToEvaluateOnNewDocument", {"identifier": name})

    def open(self, url: str) -> None:
        """A page that is loaded anew, also if only the part after # is another."""
        self.driver.get("about:blank")
        self.driver.get(url)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first element of this kind, once it is there."""
        return self.some(selector)[0]

    def some(self, selector: str, *, at_least: int = 1) -> list[WebElement]:
        until(lambda: len(self.all(selector)) >= at_least, within=20)
        return self.all(selector)

    def texts(self, selector: str, *, at_least: int = 1) -> list[str]:
        """The texts of all elements of this kind, by one script: the page draws them anew with each look."""
        self.some(selector, at_least=at_least)
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((element) => element.innerText)", selector
        )
        return found

    def wait_for_text(self, text: str) -> None:
        """Until the page shows this."""
        until(lambda: text in str(self.run("return document.body.innerText")), within=20)

    def run(self, script: str, *arguments: object) -> Any:  # noqa: ANN401 - whatever the script returns
        return self.driver.execute_script(script, *arguments)

    def click(self, selector: str) -> None:
        """By script: a button may be made anew in the moment between finding and clicking it."""
        self.one(selector)
        self.run("document.querySelector(arguments[0]).click()", selector)

    def press(self, *keys: str) -> None:
        """These keys, one after the other, at what has the focus."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def complaints(self) -> list[str]:
        """What the console has, since the last time."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]

    def requests(self) -> list[str]:
        """The addresses that the page asked for, since the last time."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def picture(self, name: str) -> Path:
        """The whole page as an image."""
        PICTURES.mkdir(exist_ok=True)
        self.driver.execute_async_script(  # all that changed is drawn
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        height = int(self.run("return document.documentElement.scrollHeight"))
        width = int(self.run("return innerWidth"))
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self._command("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path = PICTURES / f"{name}.png"
        path.write_bytes(b64decode(taken["data"]))
        return path

    def _command(self, name: str, parameters: dict[str, Any]) -> Any:  # noqa: ANN401 - of the browser's protocol
        return self.driver.execute_cdp_cmd(name, parameters)
