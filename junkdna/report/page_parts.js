// --- what goes first: a heat map per sparsity -----------------------------------------------------------------------

const MASKED = CELLS.filter((cell) => cell.number in DATA.matrices.of);
const curveName = (cell) => [cell.place, cell.curve, ...(unique(MASKED.map((other) => other.model)).length > 1 ? [cell.model] : [])].join(", ");
const curveKey = (cell) => JSON.stringify([cell.family, cell.model, cell.place, cell.curve]);
const LIGHT = ["#dfe7ee", "#b9d0e4", "#7fb0d3", "#2f6fa8", "#0a2747"], DARK = ["#2b3742", "#2f5273", "#3f78a8", "#86b8de", "#f2f7fb"];

function heatOf(mask) {
  // counts by kind of matrix and layer; what is outside the layers stands in a column of its own
  const layers = unique(mask.map((m) => m[6])).sort((a, b) => (a === null) - (b === null) || a - b);
  const kinds = unique(mask.map((m) => m[5])), sums = {};
  for (const [, , removed, kept, head, kind, layer] of mask) {
    const sum = sums[JSON.stringify([kind, layer])] ??= {removed: 0, size: 0, matrices: 0, head: false};
    sum.removed += removed; sum.size += removed + kept; sum.matrices += 1; sum.head ||= head;
  }
  const at = (kind, layer) => sums[JSON.stringify([kind, layer])] ?? null;
  return {kinds, layers, cells: kinds.map((kind) => layers.map((layer) => at(kind, layer)))};
}

function heatTrace(heat, own) {
  const share = (sum) => sum && sum.size ? 100 * sum.removed / sum.size : null;
  const z = heat.cells.map((row) => row.map(share)), known = z.flat().filter((value) => value !== null);
  const [low, high] = own ? [Math.min(...known), Math.max(...known)] : [0, 100];
  const text = heat.cells.map((row, i) => row.map((sum, j) => sum === null ? "" : [
    `<b>${escaped(heat.kinds[i])}</b>, ${heat.layers[j] === null ? "outside the layers" : `layer ${heat.layers[j]}`}`,
    `${share(sum).toFixed(2)} % removed`, `${sum.removed.toLocaleString("en")} of ${sum.size.toLocaleString("en")} weights`,
    ...(sum.matrices > 1 ? [`${sum.matrices} matrices`] : []), ...(sum.head ? ["fresh head"] : []),
  ].join("<br>")));
  const shades = matchMedia("(prefers-color-scheme: dark)").matches ? DARK : LIGHT;
  return {
    type: "heatmap", x: heat.layers.map((layer) => layer === null ? "none" : String(layer)), y: heat.kinds.map(escaped), z, text,
    zmin: low, zmax: high > low ? high : low + 1, colorscale: shades.map((shade, i) => [i / (shades.length - 1), shade]),
    xgap: 1, ygap: 1, hoverongaps: false, hovertemplate: "%{text}<extra></extra>",
    colorbar: {thickness: 10, ticksuffix: " %", outlinewidth: 0, len: 1},
  };
}

function heatLayout(heat) {
  const axis = {type: "category", showgrid: false, zeroline: false, fixedrange: true};
  return {
    margin: {l: 20, r: 10, t: 30, b: 40}, height: Math.max(180, 90 + 22 * heat.kinds.length),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: css("--text"), family: "system-ui, sans-serif", size: 12},
    hoverlabel: {bgcolor: css("--back"), bordercolor: css("--soft"), font: {color: css("--text")}, align: "left"},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: css("--soft"), activecolor: css("--text")},
    xaxis: {...axis, title: {text: "layer"}}, yaxis: {...axis, autorange: "reversed", automargin: true},
  };
}

function drawHeat() {
  const mine = MASKED.filter((cell) => curveKey(cell) === byId("heat-curve").value && String(cell.seed) === byId("heat-seed").value);
  mine.sort((a, b) => a.sparsity - b.sparsity);
  const own = byId("heat-range").value === "own";
  byId("heat-plots").querySelectorAll(".heat").forEach((div) => Plotly.purge(div));
  byId("heat-plots").replaceChildren();
  for (const cell of mine) {
    const heat = heatOf(DATA.matrices.masks[DATA.matrices.of[cell.number]]);
    const label = `${cell.pattern}: sparsity per kind of matrix and layer; its numbers are in the table of this run's matrices`;
    const box = element("figure"), div = element("div", undefined, {class: "heat", role: "group", "aria-label": label});
    box.append(element("figcaption", `${cell.pattern} (${(100 * cell.sparsity).toFixed(1)} % of the weights in scope removed)`), div);
    byId("heat-plots").append(box);
    Plotly.newPlot(div, [heatTrace(heat, own)], heatLayout(heat),
      {displaylogo: false, responsive: true, modeBarButtons: [["toImage"]]});
  }
}

function heatSeeds() {
  const mine = MASKED.filter((cell) => curveKey(cell) === byId("heat-curve").value);
  const seeds = unique(mine.map((cell) => String(cell.seed))).sort(compare), before = byId("heat-seed").value;
  byId("heat-seed").replaceChildren(...seeds.map((seed) => element("option", seed, {value: seed})));
  if (seeds.includes(before)) byId("heat-seed").value = before;
  drawHeat();
}

function startHeat() {
  if (!MASKED.length) {
    byId("heat-controls").hidden = true;
    byId("heat-plots").append(element("p", "No finished run has a mask."));
    return;
  }
  const names = new Map(MASKED.map((cell) => [curveKey(cell), curveName(cell)]));
  for (const [key, name] of names) byId("heat-curve").append(element("option", name, {value: key}));
  byId("heat-curve").addEventListener("change", heatSeeds);
  byId("heat-seed").addEventListener("change", drawHeat);
  byId("heat-range").addEventListener("change", drawHeat);
  byId("heat-controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawHeat);
  heatSeeds();
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
  const rows = DATA.matrices.masks[DATA.matrices.of[number]].map(([name, shape, removed, kept, head, kind]) =>
    [name, shape, removed, kept, removed / (removed + kept), kind + (head ? " (fresh head)" : "")]);
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
