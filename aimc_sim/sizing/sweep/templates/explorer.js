"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const C = data.columns, N = C.point.length;
const state = { accuracy: null, colour: null, selected: null, chosen: null, sort: ["energy_per_token_j", 1] };
const $ = (id) => document.getElementById(id);
const PALETTE = ["#0b6e99", "#d1495b", "#2e8b57", "#8661c1", "#c77700", "#4a5568", "#00a1b3", "#b5476d", "#7a8b00"];
const LABEL = {
  sqnr_db: "SQNR of a product (dB)", loss_nats: "loss above digital (nats/token)", perplexity: "perplexity",
  energy_per_token_j: "energy per token (J)", latency_per_token_s: "latency per token (s)", area_mm2: "area (mm²)",
  rows: "rows of a tile", cols: "columns of a tile", adc_bits: "ADC bits", dac_bits: "DAC bits",
  adcs_per_tile: "converters per tile", hardware: "hardware", devices: "devices a polarity", enob: "effective bits",
  t_read_ns: "reading time (ns)", v_read_v: "reading voltage (V)", pair_columns: "columns a weight", phases: "phases",
  slices: "slices", slice_bits: "bits a slice",
};
const SHORT = {
  energy_per_token_j: "energy", latency_per_token_s: "latency", area_mm2: "area", sqnr_db: "SQNR, dB",
  loss_nats: "loss, nats", perplexity: "perplexity", tokens_per_s: "tokens/s", power_w: "power", rows: "rows",
  cols: "columns", adc_bits: "ADC bits", dac_bits: "DAC bits", adcs_per_tile: "converters", hardware: "hardware",
};
const UNITS = { energy_per_token_j: "J", latency_per_token_s: "s", power_w: "W" };
const ACCURACY = ["sqnr_db", "loss_nats", "perplexity"].filter((name) => C[name].some((v) => v !== null));
const AXES = ["hardware", "rows", "cols", "dac_bits", "adc_bits", "adcs_per_tile", "slice_bits", "phases", "slices",
  "pair_columns", "devices", "t_read_ns", "v_read_v"].filter((name) => C[name] && new Set(C[name]).size > 1);
const COSTS = ["energy_per_token_j", "latency_per_token_s", "area_mm2"];
const TABLE = [...new Set(["hardware", "rows", "cols", "adc_bits", "adcs_per_tile", ...AXES, ...ACCURACY, ...COSTS,
  "tokens_per_s", "power_w"])];

function si(value, unit) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0 " + unit;
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"]];
  const [size, prefix] = steps.find(([size]) => Math.abs(value) >= 0.9995 * size) || steps[steps.length - 1];
  return `${Number((value / size).toPrecision(3))} ${prefix}${unit}`;
}
function shown(name, i) {
  const value = C[name][i];
  if (value === null) return "–";
  if (UNITS[name]) return si(value, UNITS[name]);
  if (name === "area_mm2") return `${Number(value.toPrecision(4)).toLocaleString("en")} mm²`;
  if (typeof value === "number") return Number(value.toPrecision(4)).toLocaleString("en");
  return value;
}
function nameOf(i) {
  return `${C.hardware[i]}, ${C.rows[i]} × ${C.cols[i]}, ${C.adc_bits[i]}-bit ADC, ${C.adcs_per_tile[i]} converters a tile`;
}
function hover(i) {
  const rest = AXES.filter((n) => !["hardware", "rows", "cols", "adc_bits", "adcs_per_tile"].includes(n));
  const lines = [`<b>${escaped(nameOf(i))}</b>`, ...rest.map((n) => `${LABEL[n] || n}: ${shown(n, i)}`)];
  for (const n of [...ACCURACY, ...COSTS]) lines.push(`${LABEL[n].replace(/ \(.*/, "")}: ${shown(n, i)}`);
  if (C.chips_measured[i]) lines.push(`perplexity on ${C.chips_measured[i]} chip(s), ${C.windows_measured[i]} windows`);
  return lines.join("<br>");
}
function escaped(text) {
  return String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
}
const HOVER = Array.from({ length: N }, (_, i) => hover(i));

function pairs() {
  if (state.accuracy) return COSTS.map((x) => [x, state.accuracy]);
  return [[COSTS[0], COSTS[1]], [COSTS[0], COSTS[2]], [COSTS[1], COSTS[2]]];
}
function wide(name) {
  const values = C[name].filter((v) => v !== null);
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  return low > 0 && high > 8 * low;
}
function ticks(name) {  // of a logarithmic axis: few round numbers, each with its SI prefix
  const values = C[name].filter((v) => v !== null), at = [];
  const [low, high] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
  const digits = high > 30 * low ? [1, 3] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of digits) at.push(digit * 10 ** power);
  }
  const seen = at.filter((v) => v >= 0.8 * low && v <= 1.25 * high);
  return { type: "log", tickvals: seen, ticktext: seen.map((v) => si(v, "").trim()) };
}
function visible() {
  const front = $("only-front").checked;
  return Array.from({ length: N }, (_, i) => i).filter((i) => !front || C.on_front[i]);
}
function groups() {
  const found = new Map();
  for (const i of visible()) {
    const key = state.colour ? C[state.colour][i] : "all";
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  return [...found.entries()].sort((a, b) => (typeof a[0] === "number" ? a[0] - b[0] : String(a[0]).localeCompare(b[0])));
}
function drawPlots() {
  pairs().forEach(([x, y], k) => {
    const traces = groups().map(([key, points], g) => {
      const drawn = points.filter((i) => C[x][i] !== null && C[y][i] !== null);
      const trace = {
        type: N > 4000 ? "scattergl" : "scatter", mode: "markers", name: String(key), showlegend: k === 0 && state.colour !== null,
        x: drawn.map((i) => C[x][i]), y: drawn.map((i) => C[y][i]), customdata: drawn,
        text: drawn.map((i) => HOVER[i]), hovertemplate: "%{text}<extra></extra>",
        marker: {
          color: PALETTE[g % PALETTE.length], size: drawn.map((i) => (C.on_front[i] ? 10 : 6)),
          opacity: drawn.map((i) => (C.on_front[i] ? 0.95 : 0.45)),
          line: { width: drawn.map((i) => (i === state.chosen ? 3 : 0)), color: "#1d2733" },
        },
        unselected: { marker: { opacity: 0.08 } },
      };
      if (state.selected) trace.selectedpoints = drawn.flatMap((i, at) => (state.selected.has(i) ? [at] : []));
      return trace;
    });
    const [xwide, ywide] = [wide(x), y !== "sqnr_db" && wide(y)];
    const layout = {
      margin: { l: 62, r: 12, t: 58, b: 48 }, hovermode: "closest", dragmode: "select", height: 360, uirevision: `${x}/${y}`,
      xaxis: { title: { text: LABEL[x] }, nticks: 6, exponentformat: "SI", ...(xwide ? ticks(x) : { type: "linear" }) },
      yaxis: { title: { text: LABEL[y] }, exponentformat: "SI", ...(ywide ? ticks(y) : { type: "linear" }) },
      legend: { orientation: "h", title: { text: (LABEL[state.colour] || state.colour || "") + "  " }, y: 1.0, yanchor: "bottom", font: { size: 11 } },
      font: { family: "system-ui, sans-serif", size: 12 },
    };
    const div = $(`plot-${k}`);
    Plotly.react(div, traces, layout, { responsive: true, displaylogo: false, modeBarButtons: [["select2d", "lasso2d", "zoom2d", "pan2d", "resetScale2d"]] });
    if (!div.wired) {
      div.wired = true;
      new ResizeObserver(() => Plotly.Plots.resize(div)).observe(div);
      div.on("plotly_selected", (event) => select(event && event.points.length ? event.points.map((p) => p.customdata) : null));
      div.on("plotly_deselect", () => select(null));
      div.on("plotly_click", (event) => choose(event.points[0].customdata));
    }
  });
}
function select(points) {
  state.selected = points ? new Set(points) : null;
  drawPlots();
  drawTable();
}
function choose(i) {
  state.chosen = i;
  $("chosen-name").textContent = nameOf(i);
  const asked = data.axes.map((n) => ` --${n.replace(/_/g, "-")} ${C[n][i]}`);
  if (data.devices[C.hardware[i]]) asked.push(` --device ${data.devices[C.hardware[i]]}`);
  if (data.square) asked.push(` --cols ${C.cols[i]}`);
  $("chosen-command").textContent = `${data.command}${asked.join("")} --explain`;
  const kinds = [["area", "area", "mm²"], ["latency", "latency", "s"], ["energy", "energy", "J"]];
  const total = Object.fromEntries(kinds.map(([kind]) => [kind, Object.values(data.breakdown[kind]).reduce((sum, v) => sum + v[i], 0)]));
  const parts = [...new Set(kinds.flatMap(([kind]) => Object.keys(data.breakdown[kind])))];
  const write = (kind, unit, v) => (unit === "mm²" ? `${Number(v.toPrecision(4))} mm²` : si(v, unit));
  const bars = parts.map((part, g) => ({
    type: "bar", orientation: "h", name: part, marker: { color: PALETTE[g % PALETTE.length] },
    y: kinds.map(([kind, name, unit]) => `${name}<br>${write(kind, unit, total[kind])}`),
    x: kinds.map(([kind]) => (total[kind] ? (100 * (data.breakdown[kind][part] || [])[i] || 0) / total[kind] : 0)),
    text: kinds.map(([kind, , unit]) => write(kind, unit, (data.breakdown[kind][part] || [])[i] || 0)),
    textposition: "none", hovertemplate: `${part}: %{text} (%{x:.1f} %)<extra></extra>`,
  }));
  $("parts").replaceChildren(...parts.map((part, g) => {
    const item = document.createElement("li");
    item.textContent = part;
    item.style.setProperty("--colour", PALETTE[g % PALETTE.length]);
    return item;
  }));
  const font = { family: "system-ui, sans-serif", size: 12 };
  Plotly.react("breakdown", bars, {
    barmode: "stack", margin: { l: 90, r: 10, t: 10, b: 40 }, height: 240, font, xaxis: { title: { text: "share (%)" }, range: [0, 100] },
    showlegend: false,
  }, { responsive: true, displayModeBar: false });
  const roles = data.roles[C.design[i]];
  $("by-role").hidden = !roles;
  if (roles) {
    Plotly.react("by-role", [{ type: "bar", x: Object.keys(roles), y: Object.values(roles), marker: { color: "#0b6e99" }, hovertemplate: "%{x}: %{y} dB<extra></extra>" }],
      { margin: { l: 50, r: 10, t: 10, b: 40 }, height: 240, font, yaxis: { title: { text: "SQNR by role (dB)" } } }, { responsive: true, displayModeBar: false });
  }
  drawPlots();
  drawTable();
}
function drawTable() {
  const [key, sign] = state.sort;
  const rows = visible().filter((i) => !state.selected || state.selected.has(i));
  rows.sort((a, b) => {
    const u = C[key][a], v = C[key][b];
    if (u === null || v === null) return (u === null) - (v === null);
    return sign * (typeof u === "number" ? u - v : String(u).localeCompare(v));
  });
  $("count").textContent = `${rows.length.toLocaleString("en")} of ${N.toLocaleString("en")} points`;
  const head = document.createElement("tr");
  for (const name of TABLE) {
    const th = document.createElement("th"), button = document.createElement("button");
    th.scope = "col";
    button.type = "button";
    button.textContent = (SHORT[name] || LABEL[name] || name) + (name === key ? (sign > 0 ? " ▲" : " ▼") : "");
    button.onclick = () => { state.sort = [name, name === key ? -sign : 1]; drawTable(); };
    th.append(button);
    head.append(th);
  }
  const body = rows.slice(0, 200).map((i) => {
    const tr = document.createElement("tr");
    tr.tabIndex = 0;
    tr.className = i === state.chosen ? "chosen-row" : "";
    tr.onclick = () => choose(i);
    tr.onkeydown = (event) => { if (event.key === "Enter") choose(i); };
    for (const name of TABLE) {
      const td = document.createElement("td");
      td.textContent = shown(name, i);
      tr.append(td);
    }
    return tr;
  });
  document.querySelector("#designs thead").replaceChildren(head);
  document.querySelector("#designs tbody").replaceChildren(...body);
}
function options(select, names, chosen, changed) {
  for (const name of names) select.append(new Option(LABEL[name] || name, name, false, name === chosen));
  select.onchange = () => { changed(select.value); };
}
state.accuracy = ACCURACY[0] || null;
$("accuracy-label").hidden = !ACCURACY.length;
options($("accuracy"), ACCURACY, state.accuracy, (name) => { state.accuracy = name; drawPlots(); });
state.colour = AXES.includes("adc_bits") ? "adc_bits" : AXES[0] || null;
options($("colour"), AXES, state.colour, (name) => { state.colour = name; drawPlots(); });
$("only-front").onchange = () => { drawPlots(); drawTable(); };
$("clear").onclick = () => select(null);
const start = C.point.filter((i) => C.on_front[i]);
choose(start.length ? start[Math.floor(start.length / 2)] : 0);
