// --- start ----------------------------------------------------------------------------------------------------------

function start() {
  const count = (status) => CELLS.filter((cell) => cell.status === status).length;
  byId("counts").textContent = unique(["done", ...CELLS.map((cell) => cell.status)]).map((status) => `${count(status)} ${status}`).join(", ")
    + (DATA.unreadable.length ? `; unreadable: ${DATA.unreadable.join(", ")}` : "");
  MEASURES.forEach(([name, title]) => byId("measure").append(element("option", title, {value: name})));
  unique(PRUNED.map((cell) => String(cell.seed))).sort(compare).forEach((seed) => checkBox(byId("seeds"), seed, seed));
  STYLES.forEach((style) => checkBox(byId("lines"), style.key, style.label, swatch(style)));
  byId("published-label").hidden = !DATA.published.length;
  const theirs = unique(DATA.published.map((point) => `${point.short.replace("published, ", "")}: ${PUBLISHED_DASHES[point.dash % 4][1]}`));
  if (theirs.length) byId("published-words").textContent = `The paper's curves: ${theirs.join("; ")}.`;
  byId("captions").textContent = DATA.captions.join(" ");
  makePanels();
  drawCurves();
  byId("curve-controls").addEventListener("change", drawCurves);
  byId("curve-controls").addEventListener("submit", (event) => event.preventDefault());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurves);

  for (const column of DATA.selects) {
    const label = element("label", `${column[0].toUpperCase()}${column.slice(1).replaceAll("_", " ")} `);
    label.append(element("select", undefined, {"data-column": column}));
    byId("selects").append(label);
  }
  for (const select of byId("cell-controls").querySelectorAll("select")) {
    select.append(element("option", "all", {value: ""}));
    unique(CELLS.map((cell) => cell[select.dataset.column])).filter((value) => value !== null && value !== "").sort(compare)
      .forEach((value) => select.append(element("option", value, {value})));
    select.addEventListener("change", () => cellTable.replace(filtered()));
  }
  byId("filter").addEventListener("input", () => cellTable.replace(filtered()));
  byId("all-columns").addEventListener("change", drawCells);
  byId("cell-controls").addEventListener("submit", (event) => event.preventDefault());
  drawCells();
  addEventListener("resize", () => stick(byId("cell-table")));

  startHeat();
  for (const number of Object.keys(DATA.matrices.of)) {
    const cell = CELLS[number];
    byId("run").append(element("option", `${cell.place}, ${cell.curve}, ${cell.pattern}, seed ${cell.seed}`, {value: number}));
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
