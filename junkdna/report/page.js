"use strict";
// The page's behaviour. Everything from runs is shown with textContent, or escaped where plotly would read markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLUMN = Object.fromEntries(DATA.columns.map((name, i) => [name, i]));
const CELLS = DATA.rows.map((row, number) => ({
  ...Object.fromEntries(DATA.columns.map((name, i) => [name, row[i]])), number, line: DATA.lines[number] ?? row[COLUMN.curve],
}));
const DONE = CELLS.filter((cell) => cell.status === "done");
const unique = (values) => [...new Set(values)];
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => values.length < 2 ? null
  : Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));
const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const asNumber = (value) => typeof value === "number" ? value : /^[+-]?\d+(\.\d+)?( ?%)?$/.test(value) ? parseFloat(value) : null;
const compare = (a, b) => asNumber(a) !== null && asNumber(b) !== null ? asNumber(a) - asNumber(b)
  : String(a).localeCompare(String(b), "en", {numeric: true});

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function words(value) {
  if (value === null || value === undefined) return "";
  if (typeof value !== "number" || Number.isInteger(value)) return String(value);
  return Math.abs(value) >= 1e-3 ? String(Number(value.toFixed(4))) : value.toPrecision(3);
}

// --- a table whose columns sort -------------------------------------------------------------------------------------

function sortable(table, heads, rows, options = {}) {
  // rows: arrays of values, options.fill(row, tr) may build the cells itself; sorting is stable, empty values stay last
  let order = {column: null, down: false};
  const head = element("thead"), body = element("tbody"), line = element("tr");
  heads.forEach((name, column) => {
    const cell = element("th", undefined, {scope: "col", "aria-sort": "none"});
    const button = element("button", name, {type: "button"});
    if (options.number?.(column)) cell.classList.add("number");
    button.addEventListener("click", () => {
      order = {column, down: order.column === column && !order.down};
      draw();
    });
    cell.append(button);
    line.append(cell);
  });
  head.append(line);
  function draw() {
    const shown = [...rows];
    if (order.column !== null) {
      shown.sort((a, b) => {
        const [x, y] = [a[order.column] ?? "", b[order.column] ?? ""];
        if (x === "" || y === "") return (x === "") - (y === "");
        return order.down ? -compare(x, y) : compare(x, y);
      });
    }
    [...line.children].forEach((cell, i) => cell.setAttribute("aria-sort",
      i !== order.column ? "none" : order.down ? "descending" : "ascending"));
    body.replaceChildren(...shown.map((row) => {
      const tr = element("tr");
      if (options.fill) options.fill(row, tr);
      else row.forEach((value, i) => {
        const long = String(value ?? "").length > 50;
        const td = element("td", words(value));
        if (options.number?.(i)) td.className = "number";
        else if (long) td.className = "wrap";
        tr.append(td);
      });
      return tr;
    }));
  }
  table.replaceChildren(head, body);
  draw();
  return {replace(next) { rows = next; draw(); }};
}

function plainTable(parent, made) {
  const box = element("div", undefined, {class: "scroll", tabindex: "0", role: "region", "aria-label": "table"});
  const table = element("table");
  box.append(table);
  parent.append(box);
  sortable(table, made.head, made.rows, {number: (i) => made.right.includes(i)});
}

// --- curves ---------------------------------------------------------------------------------------------------------

const MEASURES = [
  ["normalised", DATA.first ? "% of own first point" : "% of dense", 100],
  ["above_chance", (DATA.first ? "% of own first point" : "% of dense") + ", above chance", 100],
  ["value", "the metric itself", 1],
];
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "star", "x"];
const GLYPHS = ["\u25cf", "\u25a0", "\u25b2", "\u25c6", "\u25bc", "\u271a", "\u2605", "\u2716"];
const DASHES = ["solid", "8px,3px", "8px,3px,2px,3px", "2px,2px", "12px,4px"];
const PRUNED = CELLS.filter((cell) => cell.curve && cell.pattern !== "dense");
const lineKey = (cell) => JSON.stringify([cell.model, cell.curve, cell.percentage]);
const styleKey = (cell) => JSON.stringify([cell.model, cell.line, cell.percentage]);
const STYLES = DATA.looks.map((look) => ({...look, key: styleKey(look)}));  // mark and dash as in the figure
const kindOf = (cell) => cell.kind === "N:M" ? "N:M" : "unstructured";
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function lineLabel(cell) {
  const several = (name) => unique(PRUNED.map((other) => other[name])).length > 1;
  return cell.line + (several("percentage") ? `, ${cell.percentage} % of data` : "") + (several("model") ? `, ${cell.model}` : "");
}

function chosen(id) {
  return new Set([...byId(id).querySelectorAll("input:checked")].map((box) => box.value));
}

function checkBox(parent, value, text, swatch) {
  const label = element("label"), box = element("input", undefined, {type: "checkbox", value});
  box.checked = true;
  label.append(box, " ", ...(swatch ? [swatch, " "] : []), text);
  parent.append(label);
}

function swatch(style) {
  const svg = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const picture = svg("svg", {viewBox: "0 0 42 16", class: "swatch", "aria-hidden": "true"});
  const colour = `var(--c${style.mark % 8})`, dash = DASHES[style.dash % 5];
  picture.append(svg("line", {x1: 0, x2: 42, y1: 8, y2: 8, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash === "solid" ? "none" : dash}));
  const glyph = svg("text", {x: 21, y: 13, "text-anchor": "middle", "font-size": 14, fill: colour});
  glyph.textContent = GLYPHS[style.mark % 8];
  picture.append(glyph);
  return picture;
}

function trace(cells, measure, scale, seeds) {
  const nm = kindOf(cells[0]) === "N:M";
  const patterns = unique(cells.map((cell) => cell.pattern));
  const place = (pattern) => mean(cells.filter((cell) => cell.pattern === pattern && cell.sparsity !== null).map((cell) => cell.sparsity));
  patterns.sort((a, b) => place(a) - place(b));
  const made = {x: [], y: [], text: [], error_y: {type: "data", array: [], thickness: 1.2, width: 4, visible: true}};
  for (const pattern of patterns) {
    const mine = cells.filter((cell) => cell.pattern === pattern && seeds.has(String(cell.seed)));
    const done = mine.filter((cell) => cell.status === "done" && cell[measure] !== null);
    const values = done.map((cell) => scale * cell[measure]);
    const spread = deviation(values);
    made.x.push(nm ? pattern : 100 * place(pattern));
    made.y.push(values.length ? mean(values) : null);
    made.error_y.array.push(spread);
    const digits = scale === 1 ? 4 : 2;
    const lost = mine.filter((cell) => cell.status !== "done").map((cell) => `${cell.status}: seed ${cell.seed}`);
    made.text.push([
      `<b>${escaped(cells[0].task)}, ${escaped(lineLabel(cells[0]))}</b>`,
      nm ? `${pattern}, ${(100 * place(pattern)).toFixed(1)} % removed` : `sparsity ${pattern}`,
      values.length ? `mean ${mean(values).toFixed(digits)}` + (spread === null ? " (one seed)" : ` ± ${spread.toFixed(digits)} (n = ${values.length})`) : "",
      ...done.map((cell, i) => `seed ${escaped(cell.seed)}: ${values[i].toFixed(digits)}`),
      ...lost.map(escaped),
    ].filter(Boolean).join("<br>"));
  }
  return made;
}

function drawCurves() {
  const [measure, title, scale] = MEASURES.find(([name]) => name === byId("measure").value);
  const seeds = chosen("seeds"), lines = chosen("lines");
  const palette = [...Array(8).keys()].map((i) => css(`--c${i}`));
  const drawn = PANELS.map((panel) => {
    const traces = [];
    for (const key of unique(panel.cells.map(lineKey))) {
      const mine = panel.cells.filter((cell) => lineKey(cell) === key);
      const look = STYLES.find((style) => style.key === styleKey(mine[0]));
      if (!lines.has(look.key)) continue;
      traces.push({
        ...trace(mine, measure, scale, seeds), type: "scatter", mode: "lines+markers", name: escaped(lineLabel(mine[0])),
        connectgaps: false, hovertemplate: "%{text}<extra></extra>",
        marker: {symbol: SYMBOLS[look.mark % 8], size: 9, color: palette[look.mark % 8]},
        line: {dash: DASHES[look.dash % 5], color: palette[look.mark % 8]},
      });
    }
    if (byId("published").checked && measure === "normalised") traces.push(...publishedTraces(panel, lines, palette));
    return traces;
  });
  const range = commonRange(drawn.flat(), measure !== "value");
  PANELS.forEach((panel, number) => {
    const dense = measure !== "value" ? [100] : unique(denseMeans(panel, seeds));
    const layout = {
      title: {text: escaped(panel.title), font: {size: 15}, x: 0.02, xanchor: "left"}, margin: {l: 60, r: 15, t: 40, b: 45},
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: css("--text"), family: "system-ui, sans-serif"},
      hovermode: "closest", hoverlabel: {bgcolor: css("--back"), bordercolor: css("--soft"), font: {color: css("--text")}, align: "left"},
      showlegend: false, modebar: {bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--text")},
      xaxis: panel.kind === "N:M"
        ? {title: {text: "N:M, N kept of every M"}, type: "category", categoryorder: "array", categoryarray: DATA.nm, gridcolor: css("--rule")}
        : {title: {text: "sparsity, % removed"}, gridcolor: css("--rule"), zeroline: false},
      yaxis: {title: {text: title}, gridcolor: css("--rule"), zeroline: false, automargin: true, range},
      annotations: outside(drawn[number], range),
      shapes: dense.map((y) => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: {dash: "dash", width: 1.2, color: css("--soft")}})),
    };
    Plotly.react(panel.div, drawn[number], layout, {displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"]});
  });
}

function commonRange(traces, withDense) {
  // panels that are to be compared share their axis, as in the paper's figures
  const ends = withDense ? [100] : [];
  for (const trace of traces) {
    trace.y.forEach((y, i) => { if (y !== null) ends.push(y - (trace.error_y?.array[i] ?? 0), y + (trace.error_y?.array[i] ?? 0)); });
  }
  if (!ends.length) return undefined;
  const [least, most] = withDense ? DATA.limits : [-Infinity, Infinity];  // a ratio to a tiny base would flatten all others
  const [low, high] = [Math.max(Math.min(...ends), least), Math.min(Math.max(...ends), most)], margin = 0.05 * (high - low || 1);
  return [low - margin, high + margin];
}

function outside(traces, range) {
  // a point beyond the axis is named at its edge, so that it is not taken for a hole
  if (!range) return [];
  return traces.flatMap((trace) => trace.x.flatMap((x, i) => {
    const y = trace.y[i];
    if (y === null || (y >= range[0] && y <= range[1])) return [];
    const above = y > range[1];
    return [{x, y: above ? range[1] : range[0], text: (above ? "\u25b2 " : "\u25bc ") + y.toFixed(0), showarrow: false,
      yanchor: above ? "top" : "bottom", font: {color: trace.line.color}}];
  }));
}

function denseMeans(panel, seeds) {
  const dense = DONE.filter((cell) => cell.pattern === "dense" && cell.task === panel.task && seeds.has(String(cell.seed)));
  return unique(dense.map(lineKey)).map((key) => mean(dense.filter((cell) => lineKey(cell) === key).map((cell) => cell.value)));
}

function publishedTraces(panel, lines, palette) {
  const mine = DATA.published.filter((point) => point.task === panel.task && (point.kind === "N:M") === (panel.kind === "N:M"));
  return unique(mine.map((point) => point.label)).flatMap((label) => {
    const points = mine.filter((point) => point.label === label);
    const beside = STYLES.filter((style) => style.transfer === points[0].transfer && style.percentage === points[0].percentage);
    if (!beside.some((style) => lines.has(style.key))) return [];
    const mark = beside[0].mark % 8, colour = beside.length === 1 ? palette[mark] : css("--soft");
    return [{
      type: "scatter", mode: "lines+markers", name: escaped(label), connectgaps: false,
      x: points.map((p) => p.kind === "N:M" ? p.pattern : 100 * p.sparsity), y: points.map((p) => p.value),
      text: points.map((p) => `<b>${escaped(label)}</b><br>${escaped(p.task)}, ${escaped(p.figure)}, ${p.pattern}: ${p.value}`),
      hovertemplate: "%{text}<extra></extra>", opacity: 0.8,
      marker: {symbol: (beside.length === 1 ? SYMBOLS[mark] : "circle") + "-open", size: 6, color: colour},
      line: {dash: points[0].model === "roberta-large" ? "dash" : "dot", width: 1, color: colour},
    }];
  });
}

const PANELS = [];
function makePanels() {
  for (const kind of ["unstructured", "N:M"]) {
    for (const task of unique(PRUNED.map((cell) => cell.task))) {
      const present = PRUNED.filter((cell) => cell.task === task && cell.status !== "missing" && kindOf(cell) === kind);
      if (!present.length) continue;
      const keys = new Set(present.map(lineKey));
      const sample = Object.fromEntries(present.map((cell) => [lineKey(cell), cell]));
      const holes = CELLS.filter((cell) => cell.status === "missing" && cell.task === task && keys.has(lineKey(cell)))
        .map((cell) => ({...cell, kind: sample[lineKey(cell)].kind, line: sample[lineKey(cell)].line}));
      const metric = present.find((cell) => cell.metric)?.metric ?? "";
      const div = element("div", undefined, {class: "plot", role: "group", "aria-label": `${task}, ${kind}: curves; their numbers are in the table of cells`});
      byId("plots").append(div);
      PANELS.push({div, task, kind, cells: [...present, ...holes], title: `${task} (${metric.replaceAll("_", " ")}), ${kind}`});
    }
  }
  if (!PANELS.length) byId("plots").append(element("p", "No pruned run yet."));
}

// --- cells ----------------------------------------------------------------------------------------------------------

let cellTable = null;
function drawCells() {
  const all = byId("all-columns").checked;
  const columns = all ? DATA.columns : DATA.columns.slice(0, DATA.shown);
  const number = (i) => DONE.some((cell) => typeof cell[columns[i]] === "number");
  const numeric = columns.map((_, i) => number(i));
  cellTable = sortable(byId("cell-table"), columns.map((name) => name.replaceAll("_", " ")), filtered(), {
    number: (i) => numeric[i],
    fill(row, tr) {
      if (row[COLUMN.status] !== "done") tr.className = "bad";
      columns.forEach((name, i) => {
        const td = element("td", undefined, numeric[i] ? {class: "number"} : {});
        if (name === "folder" && row.number in DATA.matrices.of) {
          const button = element("button", row[i], {type: "button", class: "choose", title: "show this run's matrices"});
          button.addEventListener("click", () => { chooseRun(row.number); byId("matrices").scrollIntoView(); });
          td.append(button);
        } else td.textContent = words(row[i]);
        if (String(row[i] ?? "").length > 40) td.title = row[i];
        tr.append(td);
      });
    },
  });
}

function filtered() {
  const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const exact = [...byId("cell-controls").querySelectorAll("select")].filter((select) => select.value);
  const shown = DATA.rows.map((row, number) => Object.assign([...row], {number})).filter((row) => {
    const text = row.slice(0, byId("all-columns").checked ? row.length : DATA.shown).filter((value) => value !== null).join("\n").toLowerCase();
    return wanted.every((word) => text.includes(word)) && exact.every((select) => row[COLUMN[select.dataset.column]] === select.value);
  });
  byId("shown").textContent = `${shown.length} of ${DATA.rows.length} cells`;
  return shown;
}

// --- matrices of a run ----------------------------------------------------------------------------------------------

function chooseRun(number) {
  byId("run").value = String(number);
  drawMatrices();
}

function drawMatrices() {
  const number = byId("run").value;
  if (number === "") {
    byId("run-words").textContent = "No finished run has a mask.";
    return;
  }
  const rows = DATA.matrices.masks[DATA.matrices.of[number]].map(([name, shape, removed, kept, head]) =>
    [name, shape, removed, kept, removed / (removed + kept), head ? "fresh head" : ""]);
  const removed = rows.reduce((sum, row) => sum + row[2], 0), size = rows.reduce((sum, row) => sum + row[2] + row[3], 0);
  const cell = CELLS[number];
  byId("run-words").textContent = `${cell.folder}: ${removed.toLocaleString("en")} of ${size.toLocaleString("en")} weights removed `
    + `(${(100 * removed / size).toFixed(2)} %) in ${rows.length} matrices`;
  sortable(byId("matrix-table"), ["matrix", "shape", "removed", "kept", "sparsity", "part"], rows, {
    number: (i) => i >= 2 && i <= 4,
    fill(row, tr) {
      row.forEach((value, i) => {
        const td = element("td", i === 4 ? `${(100 * value).toFixed(2)} %` : i === 2 || i === 3 ? value.toLocaleString("en") : value);
        if (i >= 2 && i <= 4) td.className = "number";
        if (i === 4) { td.classList.add("bar"); td.style.setProperty("--part", `${100 * value}%`); }
        tr.append(td);
      });
    },
  });
}

// --- start ----------------------------------------------------------------------------------------------------------

function start() {
  const count = (status) => CELLS.filter((cell) => cell.status === status).length;
  byId("counts").textContent = unique(["done", ...CELLS.map((cell) => cell.status)]).map((status) => `${count(status)} ${status}`).join(", ")
    + (DATA.unreadable.length ? `; unreadable: ${DATA.unreadable.join(", ")}` : "");
  MEASURES.forEach(([name, title]) => byId("measure").append(element("option", title, {value: name})));
  unique(PRUNED.map((cell) => String(cell.seed))).sort(compare).forEach((seed) => checkBox(byId("seeds"), seed, seed));
  STYLES.forEach((style) => checkBox(byId("lines"), style.key, lineLabel(style), swatch(style)));
  byId("published-label").hidden = !DATA.published.length;
  const theirs = unique(DATA.published.map((point) => point.short.replace("published, ", "")));
  if (theirs.length) byId("published-words").textContent = `The paper's curves: ${theirs.join("; ")}; roberta-large is dashed.`;
  makePanels();
  drawCurves();
  byId("curve-controls").addEventListener("change", drawCurves);
  byId("curve-controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurves);

  for (const select of byId("cell-controls").querySelectorAll("select")) {
    select.append(element("option", "all", {value: ""}));
    unique(CELLS.map((cell) => cell[select.dataset.column])).filter((value) => value !== null).sort(compare)
      .forEach((value) => select.append(element("option", value, {value})));
    select.addEventListener("change", () => cellTable.replace(filtered()));
  }
  byId("filter").addEventListener("input", () => cellTable.replace(filtered()));
  byId("all-columns").addEventListener("change", drawCells);
  byId("cell-controls").addEventListener("submit", (event) => event.preventDefault());
  drawCells();

  for (const number of Object.keys(DATA.matrices.of)) {
    const cell = CELLS[number];
    byId("run").append(element("option", `${cell.task}, ${cell.curve}, ${cell.pattern}, ${cell.percentage} %, seed ${cell.seed}`, {value: number}));
  }
  byId("run").addEventListener("change", drawMatrices);
  drawMatrices();

  const differs = byId("difference-body");
  if (DATA.differences.rows.length) plainTable(differs, DATA.differences);
  else differs.append(element("p", "All cells agree in their settings, code, versions and machine."));
  if (DATA.mixed.length) {
    differs.append(element("p", "These are inside one number, averaged or divided all the same:"));
    const list = element("ul");
    DATA.mixed.forEach((line) => list.append(element("li", line)));
    differs.append(list);
  } else differs.append(element("p", "No mean mixes code, versions, machines, weights or data, and neither does a ratio."));

  byId("claim-body").append(element("p", DATA.explained, {class: "note"}));
  for (const part of DATA.claims) {
    byId("claim-body").append(element("h3", part.title));
    part.tables.forEach((made) => plainTable(byId("claim-body"), made));
  }
}

start();
