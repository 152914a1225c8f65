#!/usr/bin/env python3
"""look-at-report.py REPORT.html OUT: opens the page in a headless Chromium, uses it as a person
would, and leaves pictures in OUT. Fails when anything does not work or the console complains."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

# What a person does, and what must come of it. Runs in the page.
USE = """
const problems = [];
const expect = (is, what) => { if (!is) problems.push(what); };
addEventListener("error", (event) => problems.push(event.message));

const table = [...document.querySelectorAll("main table")].find((t) => t.rows.length > 8);
const texts = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const button = table.rows[0].cells[0].querySelector("button");
button.click();
expect(table.rows[0].cells[0].ariaSort === "ascending", "a sorted column says so");
const up = texts();
button.click();
expect(texts().join() === up.reverse().join() || new Set(up).size < up.length, "turns around");
expect(number("2.07 ± 0.01 s") > number("683 ± 10 ms"), "units count");
expect(number("−1.2 %") < number("+34.5 %"), "signs count");
expect(number("–") === null, "nothing is no number");

const plots = document.querySelectorAll("main > p .plot svg");
expect(plots.length >= 4, `${plots.length} plots`);
const plot = plots[0];
plot.focus();
plot.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
expect(!tip.hidden && /\\d/.test(tip.textContent), "the arrows show a figure");
plot.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
expect(tip.hidden, "Escape hides it");
const figure = plot.querySelector(".figure");
figure.dispatchEvent(new PointerEvent("pointerenter"));
expect(!tip.hidden, "the pointer shows a figure");
figure.dispatchEvent(new PointerEvent("pointerleave"));

expect(document.querySelectorAll("#trial svg").length === 3, "a trial has anatomy and course");
form.elements.settings.selectedIndex = 1;
form.dispatchEvent(new Event("change", { bubbles: true }));
expect(document.querySelector("#trial h3").textContent.startsWith(form.elements.settings.value),
  "the picked settings are shown");
const listed = [...document.querySelectorAll("td a[href^='#trial-'] code")];
expect(listed.length > 0, "keys are links");
const key = listed.at(-1)?.textContent;
location.hash = `#trial-${key}`;

for (const link of document.querySelectorAll("nav a")) {
  expect(document.getElementById(link.hash.slice(1)), `${link.hash} leads somewhere`);
}
for (const control of document.querySelectorAll("button, select, a, [tabindex='0']")) {
  const name = control.ariaLabel || control.textContent || control.closest("label")?.textContent;
  expect(name?.trim(), `${control.outerHTML.slice(0, 80)} has no name`);
}
setTimeout(() => {
  expect(document.querySelector("#trial code").textContent.startsWith(key), "a link shows its trial");
  for (const wide of document.querySelectorAll("main > *, #trial > *")) {
    expect(wide.getBoundingClientRect().right <= innerWidth, `wider than the screen: ${wide.outerHTML.slice(0, 90)}`);
  }
  document.body.dataset.problems = JSON.stringify(problems);
}, 50);
"""


def chromium(page: pathlib.Path, *more: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-quic", "--enable-logging=stderr", "--log-level=0",
             f"--user-data-dir={profile}", *more, f"file://{page.resolve()}"],
            capture_output=True, text=True, timeout=120, check=True)


def main() -> None:
    report, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    page = report.read_text()
    assert not re.search(r"\ssrc=|<link (?!rel=\"icon\" href=\"data:)|url\(|@import", page), "the page asks for something else"
    used = out / "used.html"
    used.write_text(page.replace("</body>", f"<script>{{{USE}}}</script></body>"))
    problems = []
    for name, size in [("desk", "1280,900"), ("wide", "1920,900"), ("narrow", "500,900")]:
        run = chromium(used, f"--window-size={size}", "--virtual-time-budget=3000", "--dump-dom")
        found = re.search(r'data-problems="([^"]*)"', run.stdout)
        problems += json.loads(found[1].replace("&quot;", '"')) if found else [f"{name}: did not end"]
        problems += [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    used.unlink()
    dark = "--blink-settings=preferredColorScheme=0"
    # A picture is of a page's top: the trials' page is the report without what stands before.
    trials = out / "trials.html"
    trials.write_text(page.replace("</head>", "<style>main > :not(section) {display:none}</style></head>"))
    # No window is as narrow as a phone: a frame is.
    phone = out / "phone.html"
    for what, shown in [("report", report), ("trial", trials)]:
        frame = f'<iframe src="file://{shown.resolve()}" style="border:0;width:390px;height:1900px">'
        phone.write_text(f'<meta name="color-scheme" content="light dark"><body style="margin:0">{frame}')
        for width, of, size in [(390, phone, "500,1900"), (1280, shown, "1280,1900"), (1920, shown, "1920,1900")]:
            for color, more in [("light", []), ("dark", [dark])]:
                picture = f"--screenshot={(out / f'{what}-{width}-{color}').resolve()}.png"
                chromium(of, f"--window-size={size}", picture, *more)
    phone.unlink()
    trials.unlink()
    chromium(report, f"--print-to-pdf={(out / 'paper').resolve()}.pdf", "--no-pdf-header-footer")
    if problems:
        sys.exit("\n".join(problems))
    print(f"{report}: renders, sorts, shows trials; pictures in {out}")


main()
