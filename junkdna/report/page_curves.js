// --- curves ---------------------------------------------------------------------------------------------------------

const MEASURES = [
  ["normalised", DATA.scale, 100],  // drawn as the ratio to the base, whichever direction is better
  ["above_chance", DATA.scale.replace(/^\(.*\) \/ (.*), %$/, "% of $1") + ", above chance", 100],
  ["value", "the metric itself", 1],
];
// nine marks and eight colours, as in the figure: more curves than either still differ
const SYMBOLS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right", "x"];
const GLYPHS = ["\u25cf", "\u25a0", "\u25b2", "\u25c6", "\u25bc", "\u271a", "\u25c0", "\u25b6", "\u2716"];
const DASHES = ["solid", "8px,3px", "8px,3px,2px,3px", "2px,2px", "12px,4px"];
const PUBLISHED_DASHES = [["dot", "dotted"], ["dash", "dashed"], ["dashdot", "dashes and dots"], ["longdash", "long dashes"]];
const PRUNED = CELLS.filter((cell) => cell.curve && cell.pattern !== "dense");
const lineKey = (cell) => JSON.stringify([cell.family, cell.model, cell.curve, cell.rest]);
const styleKey = (cell) => JSON.stringify([cell.family, cell.model, cell.line, cell.rest]);
const STYLES = DATA.looks.map((look) => ({...look, key: styleKey(look)}));  // mark and dash as in the figure
const drawnOf = (cell, measure) => measure === "normalised" ? cell.ratio ?? null : cell[measure];
const kindOf = (cell) => cell.nm ? "N:M" : "unstructured";
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const lineLabel = (cell) => STYLES.find((style) => style.key === styleKey(cell))?.label ?? cell.line;

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
  glyph.textContent = GLYPHS[style.mark % GLYPHS.length];
  picture.append(glyph);
  return picture;
}

function trace(cells, measure, scale, seeds) {
  const nm = kindOf(cells[0]) === "N:M";
  const patterns = unique(cells.map((cell) => cell.pattern));
  const place = (pattern) => mean(cells.filter((cell) => cell.pattern === pattern && cell.sparsity !== null).map((cell) => cell.sparsity));
  patterns.sort((a, b) => place(a) - place(b));
  const made = {x: [], y: [], text: [], ringed: [], error_y: {type: "data", symmetric: false, array: [], arrayminus: [], thickness: 1.2, width: 4, visible: true}};
  for (const pattern of patterns) {
    const mine = cells.filter((cell) => cell.pattern === pattern && seeds.has(String(cell.seed)));
    const done = mine.filter((cell) => cell.status === "done" && drawnOf(cell, measure) !== null);
    const each = done.map((cell) => scale * drawnOf(cell, measure));
    const of = unique(done.map((cell) => cell.seed));  // a seed that occurs twice counts once
    const values = of.map((seed) => mean(each.filter((_, i) => done[i].seed === seed)));
    const spread = deviation(values);
    const ends = done.length === 1 ? interval(done[0], measure) : null;
    made.x.push(nm ? pattern : 100 * place(pattern));
    made.y.push(values.length ? mean(values) : null);
    made.error_y.array.push(ends ? scale * ends[1] - values[0] : spread);
    made.error_y.arrayminus.push(ends ? values[0] - scale * ends[0] : spread);
    const fell = done.filter((cell) => cell.fell), based = done.filter((cell) => cell.base_fell && measure !== "value");
    made.ringed.push(fell.length + based.length > 0);
    const digits = scale === 1 ? 4 : 2;
    const lost = mine.filter((cell) => !SETTLED.includes(cell.status)).map((cell) => `${cell.status}: seed ${cell.seed}`);
    made.text.push([
      `<b>${escaped(cells[0].place)}, ${escaped(lineLabel(cells[0]))}</b>`,
      nm ? `${pattern}, ${(100 * place(pattern)).toFixed(1)} % removed` : `sparsity ${pattern}`,
      values.length ? `mean ${mean(values).toFixed(digits)}` + (ends ? ` [${ends.map((end) => (scale * end).toFixed(digits)).join(", ")}] over ${done[0].questions} ${escaped(done[0].unit)}` : spread === null ? " (one seed)" : ` ± ${spread.toFixed(digits)} (n = ${values.length})`) : "",
      ...done.map((cell, i) => `seed ${escaped(cell.seed)}: ${each[i].toFixed(digits)}`),
      ...(fell.length ? [`collapsed: seed ${fell.map((cell) => escaped(cell.seed)).join(", ")}`] : []),
      ...(based.length ? [`its base has collapsed: seed ${based.map((cell) => escaped(cell.seed)).join(", ")}`] : []),
      ...lost.map(escaped),
    ].filter(Boolean).join("<br>"));
  }
  return made;
}

function ringTrace(made, ringed) {
  // a ring around the points that hold collapsed seeds, as in the figure
  const kept = (values) => values.filter((_, i) => ringed[i] && made.y[i] !== null);
  return {
    type: "scatter", mode: "markers", meta: "ring", name: "collapsed", x: kept(made.x), y: kept(made.y), hoverinfo: "skip",
    marker: {symbol: "circle-open", size: 18, color: css("--text"), line: {width: 1.5}},
  };
}

function interval(cell, measure) {
  // over questions, of a run that scored each by itself; null where there is none
  const [low, high] = {normalised: [cell.ratio_low, cell.ratio_high], value: [cell.value_low, cell.value_high]}[measure] ?? [];
  return low === null || low === undefined ? null : [low, high];
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
      const {ringed, ...made} = trace(mine, measure, scale, seeds);
      traces.push({
        ...made, type: "scatter", mode: "lines+markers", name: escaped(lineLabel(mine[0])),
        connectgaps: false, hovertemplate: "%{text}<extra></extra>",
        marker: {symbol: SYMBOLS[look.mark % SYMBOLS.length], size: 9, color: palette[look.mark % 8]},
        line: {dash: DASHES[look.dash % 5], color: palette[look.mark % 8]},
      });
      if (ringed.some(Boolean)) traces.push(ringTrace(made, ringed));
    }
    if (byId("published").checked && measure === "normalised") traces.push(...publishedTraces(panel, lines, palette));
    return traces;
  });
  const logs = PANELS.map((panel, i) => panel.less && measure !== "above_chance" && drawn[i].every((trace) => trace.y.every((y) => y === null || y > 0)));
  const shared = commonRange(drawn.filter((_, i) => !PANELS[i].less || measure === "above_chance").flat(), measure);
  PANELS.forEach((panel, number) => {
    const range = panel.less && measure !== "above_chance" ? undefined : shared;
    const dense = measure === "value" ? unique(denseMeans(panel, seeds)) : [measure === "normalised" ? DATA.base : 100];
    const layout = {
      margin: {l: 60, r: 15, t: 34, b: 45},  // the tool bar stands in the upper margin; the title is above the plot
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: css("--text"), family: "system-ui, sans-serif"},
      hovermode: "closest", hoverlabel: {bgcolor: css("--back"), bordercolor: css("--soft"), font: {color: css("--text")}, align: "left"},
      showlegend: false, modebar: {bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--text")},
      xaxis: panel.kind === "N:M"
        ? {title: {text: "N:M, N kept of every M"}, type: "category", categoryorder: "array", categoryarray: DATA.nm, gridcolor: css("--rule")}
        : {title: {text: "sparsity, % removed"}, gridcolor: css("--rule"), zeroline: false},
      yaxis: {title: {text: title + (panel.less && measure !== "above_chance" ? "; more is worse" : "")}, type: logs[number] ? "log" : "linear",
        gridcolor: css("--rule"), zeroline: false, automargin: true, range},
      annotations: outside(drawn[number], range),
      shapes: dense.filter((y) => !logs[number] || y > 0).map((y) => ({type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: {dash: "dash", width: 1.2, color: css("--soft")}})),
    };
    Plotly.react(panel.div, drawn[number], layout, {displaylogo: false, showSendToCloud: false, plotlyServerURL: "", responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"]});
  });
}

function commonRange(traces, measure) {
  // panels that are to be compared share their axis, as in the paper's figures
  const withDense = measure !== "value";
  const ends = withDense ? [measure === "normalised" ? DATA.base : 100] : [];
  for (const trace of traces) {
    trace.y.forEach((y, i) => { if (y !== null) ends.push(y - (trace.error_y?.arrayminus[i] ?? 0), y + (trace.error_y?.array[i] ?? 0)); });
  }
  if (!ends.length) return undefined;
  const shift = measure === "normalised" ? 0 : 100 - DATA.base;
  const [least, most] = withDense ? DATA.limits.map((end) => end + shift) : [-Infinity, Infinity];  // a ratio to a tiny base would flatten all others
  const [low, high] = [Math.max(Math.min(...ends), least), Math.min(Math.max(...ends), most)], margin = 0.05 * (high - low || 1);
  return [low - margin, high + margin];
}

function outside(traces, range) {
  // a point beyond the axis is named at its edge, so that it is not taken for a hole
  if (!range) return [];
  return traces.filter((trace) => trace.meta !== "ring").flatMap((trace) => trace.x.flatMap((x, i) => {
    const y = trace.y[i];
    if (y === null || (y >= range[0] && y <= range[1])) return [];
    const above = y > range[1];
    return [{x, y: above ? range[1] : range[0], text: (above ? "\u25b2 " : "\u25bc ") + y.toFixed(0), showarrow: false,
      yanchor: above ? "top" : "bottom", font: {color: trace.line.color}}];
  }));
}

function denseMeans(panel, seeds) {
  const dense = DONE.filter((cell) => cell.pattern === "dense" && cell.wide === panel.wide && seeds.has(String(cell.seed)));
  return unique(dense.map(lineKey)).map((key) => mean(dense.filter((cell) => lineKey(cell) === key).map((cell) => cell.value)));
}

function publishedTraces(panel, lines, palette) {
  const mine = DATA.published.filter((point) => point.panel === panel.panel && point.nm === (panel.kind === "N:M"));
  return unique(mine.map((point) => point.label)).flatMap((label) => {
    const points = mine.filter((point) => point.label === label);
    const beside = points[0].beside.map((number) => STYLES[number]);
    if (!beside.some((style) => lines.has(style.key))) return [];
    const mark = beside[0].mark, colour = beside.length === 1 ? palette[mark % 8] : css("--soft");
    return [{
      type: "scatter", mode: "lines+markers", name: escaped(label), connectgaps: false,
      x: points.map((p) => p.nm ? p.pattern : 100 * p.sparsity), y: points.map((p) => p.value),
      text: points.map((p) => `<b>${escaped(label)}</b><br>${escaped(p.panel)}, ${escaped(p.figure)}, ${p.pattern}: ${p.value?.toFixed(1)}`),
      hovertemplate: "%{text}<extra></extra>", opacity: 0.8,
      marker: {symbol: (beside.length === 1 ? SYMBOLS[mark % SYMBOLS.length] : "circle") + "-open", size: 6, color: colour},
      line: {dash: PUBLISHED_DASHES[points[0].dash % 4][0], width: 1, color: colour},
    }];
  });
}

const PANELS = [];
function makePanels() {
  for (const kind of ["unstructured", "N:M"]) {
    for (const panel of unique(PRUNED.map((cell) => cell.panel))) {
      const present = PRUNED.filter((cell) => cell.panel === panel && cell.status !== "missing" && kindOf(cell) === kind);
      if (!present.length) continue;
      const keys = new Set(present.map(lineKey));
      const sample = Object.fromEntries(present.map((cell) => [lineKey(cell), cell]));
      const holes = CELLS.filter((cell) => cell.status === "missing" && cell.panel === panel && keys.has(lineKey(cell)))
        .map((cell) => ({...cell, nm: sample[lineKey(cell)].nm, line: sample[lineKey(cell)].line}));
      const metric = present.find((cell) => cell.metric)?.metric;
      const title = panel + (metric ? ` (${metric.replaceAll("_", " ")})` : "") + `, ${kind}`;
      const label = `${panel}, ${kind}: curves; their numbers are in the table of cells`;
      const box = element("figure"), div = element("div", undefined, {class: "plot", role: "group", "aria-label": label});
      box.append(element("figcaption", title), div);
      byId("plots").append(box);
      const less = present.every((cell) => cell.status !== "done" || cell.less);
      PANELS.push({div, panel, kind, less, wide: present[0].wide, cells: [...present, ...holes]});
    }
  }
  if (!PANELS.length) byId("plots").append(element("p", "No pruned run yet."));
}
