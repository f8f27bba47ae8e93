"""The page: what it costs to install and import, how soon it is seen, how fast it moves, and the same in a minimal gradio app.

    python benchmarks/page.py [--browser /usr/bin/chromium] [--gradio PYTHON] [--run RUN_OF_DIGITS]

Frames are counted in the browser: pictures that a canvas has drawn, or addresses that the image of gradio has had, each a
second. `--gradio` names a Python with gradio; its app draws the same 2,000 particles (Langevin steps on the exact score of two
moons, as an image of 480 pixels) and streams the same 64 digits. `benchmarks/page_field.py` measures the Field view alone. What
it printed is kept in `benchmarks/results/page.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

import scorefield
from scorefield import app

HERE = Path(__file__).parent
STATIC = Path(scorefield.__file__).parent / "web" / "static"


def closure(extra: str | None) -> set[str]:
    """Return the names of the packages that scorefield needs, with those of an extra."""
    found, left = set[str](), [("scorefield", extra)]
    while left:
        name, of = left.pop()
        for text in importlib.metadata.requires(name) or ():
            wanted = re.match(r"[\w.-]+", text)
            optional = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", text)
            if (
                wanted
                and (optional is None or optional[1] == of)
                and "sys_platform" not in text
                and "python_version" not in text
            ):
                package = wanted[0].lower().replace("_", "-")
                if package not in found and _is_here(package):
                    found.add(package)
                    left.append((package, None))
    return found


def _is_here(package: str) -> bool:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return bool(importlib.metadata.version(package))
    return False


def megabytes(packages: set[str]) -> float:
    """Return the size of their files."""
    files = (path for name in packages for path in importlib.metadata.files(name) or ())
    return sum(Path(str(path.locate())).stat().st_size for path in files if Path(str(path.locate())).is_file()) / 2**20


def seconds_of_import(*modules: str) -> list[float]:
    """Return the medians of seven interleaved starts of Python that import a module."""
    found: dict[str, list[float]] = {module: [] for module in modules}
    for _ in range(7):
        for module in modules:
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            found[module].append(time.perf_counter() - begin)
    return [statistics.median(found[module]) for module in modules]


@contextlib.contextmanager
def served(runs: Path) -> Iterator[str]:
    """Give the address of a server."""
    command = [sys.executable, "-m", "scorefield", "serve", str(runs), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
        process.terminate()


def first_view(browser: Browser, runs: Path) -> tuple[float, float, float]:
    """Return seconds from the command to an answer, to a drawn field, and to forms, for which a worker has loaded torch."""
    begin = time.perf_counter()
    with served(runs) as url:
        answered = time.perf_counter() - begin
        page = browser.new_page()
        page.goto(f"{url}field")
        page.wait_for_selector(".field-canvas")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        drawn = time.perf_counter() - begin
        page.request.get(f"{url}api/forms")
        page.close()
        return answered, drawn, time.perf_counter() - begin


COUNTED = """() => {
  globalThis.counted = [];
  for (const name of ["drawImage", "putImageData"]) {
    const draw = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (...all) {
      if (this.canvas.isConnected) globalThis.counted.push(performance.now());
      return draw.apply(this, all);
    };
  }
}"""
RATE = """(all) => {
  const t = [...new Set(all.map(Math.round))];
  return t.length < 3 ? 0 : 1000 * (t.length - 1) / (t.at(-1) - t[0]);
}"""


def digits(browser: Browser, url: str) -> float:
    """Return frames of 64 digits a second, drawn by 400 steps of Euler's method."""
    page = browser.new_page()
    page.goto(f"{url}sample?run=digits&sampler=euler&steps=400")
    page.get_by_role("button", name="Draw samples").wait_for()
    page.wait_for_timeout(3000)
    page.evaluate(COUNTED)
    page.get_by_role("button", name="Draw samples").click()
    page.wait_for_timeout(12_000)
    rate = page.evaluate(f"() => ({RATE})(globalThis.counted)")
    page.close()
    return float(rate)


def learned(browser: Browser, url: str) -> float:
    """Return milliseconds for the scores of a learned field at the arrows and the error map, 2,600 positions; median of 40."""
    page = browser.new_page()
    page.goto(f"{url}field")
    found = page.evaluate(
        """async () => {
          const all = [], positions = new Float32Array(5200).map((_, i) => Math.sin(i));
          for (let i = 0; i < 41; i++) {
            const from = performance.now();
            await (await fetch(`/api/fields/moons?level=${0.05 + i / 20}`, { method: "POST", body: positions })).arrayBuffer();
            all.push(performance.now() - from);
          }
          return all.slice(1).sort((a, b) => a - b)[20];
        }"""
    )
    page.close()
    return float(found)


def health(url: str) -> tuple[float, int]:
    """Return the 95th percentile of 200 health checks, 8 at once, in ms, and how many failed, while samples are drawn."""
    host = url.split("/")[2]

    def ask(method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    given = {"run": "digits", "n": 5000, "steps": 1000}
    _, body = ask("POST", "/api/jobs", {"verb": "sample", "arguments": given, "owner": "benchmark-owner"})
    time.sleep(3)

    def timed(_: int) -> tuple[float, int]:
        begin = time.perf_counter()
        status, _content = ask("GET", "/api/health")
        return 1000 * (time.perf_counter() - begin), status

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(timed, range(200)))
    ask("DELETE", f"/api/jobs/{json.loads(body)['id']}")
    return sorted(each for each, _ in found)[189], sum(status != 200 for _, status in found)


def of_gradio(browser: Browser, python: str) -> dict[str, float]:
    """Return seconds to the first view of the gradio app, and its frames a second."""
    begin = time.perf_counter()
    with subprocess.Popen([python, str(HERE / "baselines" / "page_gradio.py")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(line for line in process.stdout if "http" in line).split()[-1]
        page = browser.new_page()
        page.goto(url)
        page.get_by_role("button", name="particles").wait_for()
        found = {"first view": time.perf_counter() - begin}
        page.wait_for_timeout(2000)
        for name in ("particles", "digits"):
            page.evaluate("""() => {
              globalThis.counted = [];
              new MutationObserver((all) => {
                if (all.some((one) => one.target.tagName === "IMG")) globalThis.counted.push(performance.now());
              }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["src"], childList: true });
            }""")
            page.get_by_role("button", name=name).click()
            page.wait_for_timeout(10_000)
            found[name] = float(page.evaluate(f"() => ({RATE})(globalThis.counted)"))
        page.close()
        process.terminate()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--gradio", help="a Python with gradio")
    asked = parser.parse_args()
    added = closure("web") - closure(None)
    bare, cli, web = seconds_of_import("sys", "scorefield.cli.serve", "scorefield.web.serve")
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}\n")
    print(f"- the extra adds {megabytes(added):.1f} MB: {', '.join(sorted(added))}")
    print(f"- import: {web - cli:.2f} s beyond the command's own ({web:.2f} s in all; Python alone {bare:.2f} s; medians of 7)")
    print(f"- the page has {sum(path.stat().st_size for path in STATIC.rglob('*') if path.is_file()):,} bytes")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        runs = Path(folder) / "runs"
        app.train("digits", out=runs / "digits", steps=100)
        app.train("two-moons", out=runs / "moons", steps=300)
        browser = driver.chromium.launch(executable_path=asked.browser, args=["--no-sandbox"])
        views = [first_view(browser, runs) for _ in range(5)]
        answered, drawn, ready = (statistics.median(each) for each in zip(*views, strict=True))
        print(f"- from the command: {answered:.2f} s to an answer, {drawn:.2f} s to the field, {ready:.2f} s with torch")
        with served(runs) as url:
            print(f"- scores of a learned field at 2,600 positions: {learned(browser, url):.0f} ms")
            print(f"- 64 digits while they are drawn: {digits(browser, url):.1f} frames a second")
            p95, failed = health(url)
            print(f"- health while samples are drawn, 200 at 8 at once: 95 % within {p95:.0f} ms, {failed} failed")
        if asked.gradio:
            found = of_gradio(browser, asked.gradio)
            print(
                f"- gradio: {found['first view']:.1f} s to the first view; 2,000 particles {found['particles']:.1f}, "
                f"64 digits {found['digits']:.1f} frames a second"
            )
        browser.close()


if __name__ == "__main__":
    main()
