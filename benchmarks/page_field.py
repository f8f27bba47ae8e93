"""The Field view in a browser: how long from a move of the noise level to the new picture, and how many frames a second.

    python benchmarks/page_field.py [--browser /usr/bin/chromium]

The one-file view is opened from disk. "To the picture" is the time from the input event of the slider until the frame after it
has been given to the screen (two animation frames, of which the first may already have been due), the median of 60 moves over
the whole range; "computed" is the part of it that the page's code takes. Frames a second are those in which 2,000 particles
have moved and the picture has been drawn anew, in 3 s of playing at a speed that asks for a step in every frame. What it
printed is kept in `benchmarks/results/page-field.md`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from scorefield.web.standalone import field_page

MOVES = """async () => {
  const slider = document.querySelector(".field-transport input"), frame = () => new Promise(requestAnimationFrame);
  const whole = [], computed = [];
  const median = (all) => all.sort((a, b) => a - b)[all.length >> 1];
  for (let i = 0; i < 60; i++) {
    await frame();
    slider.value = (i * 7919) % 400;
    const from = performance.now();
    slider.dispatchEvent(new Event("input"));
    computed.push(performance.now() - from);
    await frame();
    await frame();
    whole.push(performance.now() - from);
  }
  return [median(whole), median(computed)];
}"""
FRAMES = """async () => {
  const canvas = document.querySelector(".field-canvas"), pen = canvas.getContext("2d");
  let drawn = 0; // images of the density, one in a frame; that of the particles is as wide as the canvas
  const draw = pen.drawImage;
  pen.drawImage = function (...all) { drawn += all[0].width < canvas.width; return draw.apply(this, all); };
  document.querySelector(".field-play").click();
  const from = performance.now();
  await new Promise((done) => setTimeout(done, 3000));
  const rate = (1000 * drawn) / (performance.now() - from);
  delete pen.drawImage;
  return rate;
}"""
STATES = {
    "curve, langevin": "lesson=curve&n=2000&speed=60",
    "thin, langevin": "lesson=thin&n=2000&speed=60",
    "weights, langevin": "lesson=weights&n=2000&speed=60",
    "level, langevin": "lesson=level&n=2000&speed=60",
    "annealing, annealed": "lesson=annealing&n=2000&speed=60",
    "metropolis, mala": "lesson=metropolis&n=2000&speed=60",
    "moons (64), mala": "data=moons&sampler=mala&n=2000&speed=60",
    "curve (128), mala": "data=curve&sampler=mala&n=2000&speed=60",
    "curve (128), reverse SDE": "data=curve&sampler=sde&levels=500&n=2000&speed=60",
    "curve (128), Heun": "data=curve&sampler=heun&levels=500&n=2000&speed=60",
}


def measured(page: Page, address: str, state: str) -> tuple[float, float, float]:
    """Return milliseconds to the picture, those computed, and frames a second."""
    page.goto("about:blank")
    page.goto(f"{address}#{state}")
    whole, computed = page.evaluate(MOVES)
    return whole, computed, page.evaluate(FRAMES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default="/usr/bin/chromium")
    browser = parser.parse_args().browser
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        path = Path(folder) / "field.html"
        path.write_text(field_page(), encoding="utf-8")
        started = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = started.new_page(viewport={"width": 1280, "height": 900})
        print(f"{datetime.date.today()}, Chromium {started.version}, headless, {os.cpu_count()} cores, {platform.machine()},")
        print(f"load {os.getloadavg()[0]:.1f}; the file has {path.stat().st_size:,} bytes\n")
        print("| 2,000 particles | ms to the picture | of these computed | frames a second |\n| --- | --- | --- | --- |")
        for name, state in STATES.items():
            whole, computed, rate = measured(page, path.as_uri(), state)
            print(f"| {name} | {whole:.0f} | {computed:.1f} | {rate:.0f} |")
        started.close()


if __name__ == "__main__":
    main()
