"use strict";
const data = JSON.parse(document.getElementById("data").textContent);

/* Tables: a press on a column's head sorts by it; a second press turns it around. */
const UNITS = { s: 1, ms: 1e-3, min: 60 };
const collator = new Intl.Collator("en", { numeric: true });

// "2.07 ± 0.01 s" is 2.07, "683 ms" is 0.683, "+34.5 %" is 34.5; null where no number begins.
function number(text) {
  const found = /^[≤≥<>~]?\s*([+−-]?[\d,]*\.?\d+)(?:\s*±\s*[\d,.]+)?\s*([a-z]*)/.exec(text);
  if (!found) return null;
  return Number(found[1].replaceAll(",", "").replace("−", "-")) * (UNITS[found[2]] ?? 1);
}

function sort(table, column, head) {
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows].map((row) => {
    const text = row.cells[column]?.textContent.trim() ?? "";
    return { row, text, value: number(text) };
  });
  // What is no number comes last, whichever way the others stand.
  rows.sort((a, b) => {
    if ((a.value === null) !== (b.value === null)) return a.value === null ? 1 : -1;
    const order = a.value === null ? collator.compare(a.text, b.text) : a.value - b.value;
    return down ? -order : order;
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

function makeSortable(table) {
  if (!table.tHead || table.tBodies[0].rows.length < 2) return;
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, column, head));
    head.scope = "col";
    head.append(button);
  });
}

/* The column of verdicts or outcomes stays in sight. */
function keepVerdicts(table) {
  const heads = [...(table.tHead?.rows[0].cells ?? [])];
  const column = heads.findIndex((head) => ["Verdict", "Outcome"].includes(head.textContent.trim()));
  if (column < 0) return;
  for (const row of table.rows) row.cells[column]?.classList.add("verdict");
}

/* Plots: the pointer shows a figure's value; with the keyboard, arrows go from one to the next. */
const tip = document.getElementById("tip");

function showTip(figure) {
  document.querySelectorAll(".figure.here").forEach((other) => other.classList.remove("here"));
  tip.hidden = !figure;
  if (!figure) return;
  figure.classList.add("here");
  tip.textContent = figure.dataset.text;
  const box = figure.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(box.right + 8, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${Math.max(8, box.top - tip.offsetHeight - 6)}px`;
}

function makeAlive(svg) {
  const figures = [...svg.querySelectorAll(".figure")];
  let at = -1;
  for (const figure of figures) {
    // Ours takes the place of the browser's own, which comes late.
    figure.dataset.text = figure.textContent;
    figure.setAttribute("aria-label", figure.textContent);
    figure.setAttribute("role", "img");
    figure.replaceChildren();
    figure.addEventListener("pointerenter", () => showTip(figure));
    figure.addEventListener("pointerleave", () => showTip(null));
  }
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") showTip(null);
    if (!step || figures.length === 0) return;
    event.preventDefault();
    at = (at + step + figures.length) % figures.length;
    showTip(figures[at]);
  });
  svg.addEventListener("blur", () => showTip(null));
}

/* Trials. */
const form = document.getElementById("pick");
const FIELDS = ["stage", "settings", "load", "start"];
const COLORS = ["#f0e442", "#cc79a7", "#d55e00", "#e69f00", "#009e73"];

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const escaped = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
const three = (value) => value.toLocaleString("en", { maximumSignificantDigits: Math.abs(value) >= 1000 ? 21 : 3, maximumFractionDigits: 0, roundingPriority: "morePrecision" });
const time = (ms) => (ms >= 1000 || ms === 0 ? `${three(ms / 1000)} s` : `${three(ms)} ms`);

function svg(height, label, body) {
  const span = element("span", undefined, { class: "plot" });
  span.innerHTML = `<svg viewBox="0 0 900 ${height}" tabindex="0" role="group" aria-label="${label}"
    font-family="DejaVu Sans, Verdana, sans-serif" font-size="13" fill="#212121">
    <rect width="900" height="${height}" fill="#fff"/>${body}</svg>`;
  makeAlive(span.firstElementChild);
  return span;
}

const hover = (x, y, width, height, text) =>
  `<rect class="figure" x="${x}" y="${y}" width="${width}" height="${height}" fill="none"
    pointer-events="all"><title>${escaped(text)}</title></rect>`;

function drawAnatomy(anatomy) {
  const values = Object.values(anatomy);
  const total = values.reduce((sum, value) => sum + Math.max(value, 0), 0);
  let body = "", x = 20;
  values.forEach((value, i) => {
    const width = (860 * Math.max(value, 0)) / total;
    const key = 20 + 172 * i;
    const length = `${time(value)}, ${((100 * value) / total).toFixed(1)} %`;
    body += `<rect x="${x}" y="50" width="${width}" height="40" fill="${COLORS[i]}"/>`;
    body += hover(x, 50, Math.max(width, 2), 40, `${data.parts[i]}: ${length}`);
    body += `<rect x="${key}" y="10" width="13" height="13" fill="${COLORS[i]}"/>`;
    body += `<text x="${key + 20}" y="21">${data.parts[i]}</text>`;
    body += `<text x="${key + 20}" y="38">${length}</text>`;
    x += width;
  });
  return svg(100, "Where the mean request's time went", body);
}

// One panel of lines over the trial's time.
function drawLines(title, step, lines) {
  const [left, right, top, bottom] = [70, 880, 34, 170];
  const count = lines[0].values.length;
  const most = Math.max(1e-9, ...lines.flatMap((line) => line.values));
  const x = (i) => left + ((right - left) * (i + 0.5)) / count;
  const y = (value) => bottom - ((bottom - top) * value) / most;
  let body = `<text x="20" y="20" font-weight="bold">${title}</text>`;
  let key = right;
  for (const line of [...lines].reverse()) {
    key -= 40 + 7.4 * line.name.length;
    body += `<line x1="${key}" x2="${key + 22}" y1="15" y2="15" stroke="${line.color}" stroke-width="3"
      stroke-dasharray="${line.dash}"/><text x="${key + 28}" y="20">${line.name}</text>`;
  }
  for (const share of [0, 0.5, 1]) {
    body += `<line x1="${left}" x2="${right}" y1="${y(most * share)}" y2="${y(most * share)}" stroke="#e1e1e1"/>
      <text x="${left - 8}" y="${y(most * share) + 4}" text-anchor="end">${three(most * share)}</text>`;
  }
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    body += `<text x="${left + (right - left) * share}" y="${bottom + 20}"
      text-anchor="middle">${time(step * count * share)}</text>`;
  }
  for (const line of lines) {
    const points = line.values.map((value, i) => `${x(i)},${y(value)}`).join(" ");
    body += `<polyline fill="none" stroke="${line.color}" stroke-width="2"
      stroke-dasharray="${line.dash}" points="${points}"/>`;
  }
  for (let i = 0; i < count; i++) {
    const values = lines.map((line) => `${line.name} ${three(line.values[i])}`).join(", ");
    body += hover(x(i) - (right - left) / count / 2, top, (right - left) / count, bottom - top,
      `after ${time(step * i)}: ${values}`);
  }
  return svg(200, title, body);
}

function table(heads, rows) {
  const made = element("table");
  const head = made.createTHead().insertRow();
  heads.forEach((text, i) => head.append(element("th", text, i ? { style: "text-align:right" } : {})));
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((text, i) => {
      row.insertCell().textContent = text;
      if (i) row.cells[i].style.textAlign = "right";
    });
  }
  const scroll = element("div", undefined, { class: "scroll", tabindex: 0, role: "region", "aria-label": "table" });
  scroll.append(made);
  makeSortable(made);
  return scroll;
}

function show(trial) {
  const { key, record, series } = trial;
  const place = document.getElementById("trial");
  const parts = [element("h3", `${trial.settings} on ${trial.load}, start ${trial.start + 1}`)];
  const provenance = element("p");
  provenance.append("Key ", element("code", key), ` · asked for by ${trial.stage} · `,
    element("code", `cargo xtask explain ${key.slice(0, 12)}`));
  parts.push(provenance);
  if (record.status !== "measured") {
    parts.push(element("p", `Cannot run: ${record.class.replaceAll("_", " ")}`, { class: "bad" }));
    parts.push(element("pre", record.evidence.join("\n")));
    place.replaceChildren(...parts);
    return;
  }
  const { summary, observed, checks } = record;
  const failed = checks.filter((check) => !check.passed);
  for (const { name, detail } of failed) {
    parts.push(element("p", `Invalid, ${name}: ${detail}`, { class: "bad" }));
  }
  if (record.saturated) {
    parts.push(element("p", "Offered above capacity: latency grows with the length of the trial."));
  }
  if (summary.anatomy) {
    parts.push(element("h4", "Where the mean request's time went"), drawAnatomy(summary.anatomy));
  }
  if (series) {
    const requests = [
      { name: "waiting for the first token", color: "#d55e00", dash: "6 3", values: series.waiting },
      { name: "answering", color: "#0072b2", dash: "", values: series.answering },
    ];
    const tokens = [{ name: "tokens/s", color: "#009e73", dash: "", values: series.tokens_per_s }];
    parts.push(element("h4", "Over its time, as the client saw it"),
      drawLines("Requests", series.step_ms, requests),
      drawLines("Output tokens a second", series.step_ms, tokens));
  } else {
    parts.push(element("p", trial.start > 0
      ? "The course over time is drawn of each setting's first start."
      : "Its raw samples are not here, so its course over time cannot be drawn."));
  }
  const latency = (name, q) => [name, ...["mean", "p50", "p90", "p95", "p99", "max"].map((p) => q.count ? time(q[`${p}_ms`]) : "–")];
  parts.push(table(["Latency", "mean", "P50", "P90", "P95", "P99", "max"], [
    latency("TTFT", summary.ttft), latency("TPOT", summary.tpot), latency("ITL", summary.itl),
    latency("E2E", summary.e2e), latency("Send lag", summary.send_lag),
  ]));
  const counts = summary.counts;
  const lost = Object.entries(counts.failed).map(([kind, many]) => `${many} ${kind}`).join(", ");
  const known = (rows) => rows.filter(([, value]) => value !== null && value !== undefined);
  const plain = (value) => (typeof value === "number" ? three(value) : value);
  parts.push(table(["Figure", "Value"], known([
    ["Output tokens/s", three(summary.output_tokens_per_s)],
    ["Requests/s", three(summary.requests_per_s)],
    ["Duration", time(summary.duration_s * 1000)],
    ["Requests completed", `${counts.completed} of ${counts.planned}`],
    ["Failed", lost || "none"],
    ["Input and output tokens", `${three(summary.input_tokens)}, ${three(summary.output_tokens)}`],
    ["Preemptions", plain(summary.server.preemptions)],
    ["KV cache use, peak %", plain(summary.server.kv_cache_percent_max)],
    ["Requests running, mean", plain(summary.server.running_mean)],
    ["Requests waiting, mean", plain(summary.server.waiting_mean)],
    ["KV cache tokens", plain(observed.kv_cache_tokens)],
    ["Token budget of a step", plain(observed.max_num_batched_tokens)],
    ["Attention backend", observed.attention_backend],
    ["Engine version", observed.version],
    ["Start of the server", observed.start_s && time(observed.start_s * 1000)],
    ["Measured at", record.measured_at ?? "on a virtual clock"],
    ["Checks passed", `${checks.length - failed.length} of ${checks.length}`],
  ])));
  place.replaceChildren(...parts);
}

// Offers in each field what the fields before it leave, and shows the trial that remains.
function pick(wanted) {
  let left = data.trials;
  for (const field of FIELDS) {
    const values = [...new Set(left.map((trial) => trial[field]))];
    const value = values.find((value) => value === wanted[field]) ?? values[0];
    const select = form.elements[field];
    select.replaceChildren(...values.map((value) =>
      element("option", field === "start" ? value + 1 : value, { value })));
    select.value = value;
    left = left.filter((trial) => trial[field] === value);
  }
  show(left[0]);
}

function fromAddress() {
  const found = /^#trial-([0-9a-f]{12})/.exec(location.hash);
  const trial = found && data.trials.find((trial) => trial.key.startsWith(found[1]));
  if (trial) {
    pick(trial);
    document.getElementById("trials").scrollIntoView();
  }
  return Boolean(trial);
}

document.querySelectorAll("main table").forEach(keepVerdicts);
document.querySelectorAll("main table").forEach(makeSortable);
document.querySelectorAll(".plot svg").forEach(makeAlive);
if (data.trials.length > 0) {
  const keys = new Set(data.trials.map((trial) => trial.key.slice(0, 12)));
  document.querySelectorAll("td code").forEach((code) => {
    if (!keys.has(code.textContent)) return;
    const link = element("a", undefined, { href: `#trial-${code.textContent}` });
    code.replaceWith(link);
    link.append(code);
  });
  form.hidden = false;
  form.addEventListener("change", () => {
    const wanted = Object.fromEntries(new FormData(form));
    pick({ ...wanted, start: Number(wanted.start) });
  });
  addEventListener("hashchange", fromAddress);
  if (!fromAddress()) pick({});
}
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((details) => (details.open = true));
});
