"use strict";
// The page's behaviour. Everything from runs is shown with textContent, or escaped where plotly would read markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLUMN = Object.fromEntries(DATA.columns.map((name, i) => [name, i]));
const CELLS = DATA.rows.map((row, number) => ({
  ...Object.fromEntries(DATA.columns.map((name, i) => [name, row[i]])), number, line: row[COLUMN.curve], ...DATA.where[number],
}));
const SETTLED = ["done", "repeated"]; // of which nothing is missing
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
    if (options.sticky) stick(table);
  }
  table.replaceChildren(head, body);
  draw();
  return {replace(next) { rows = next; draw(); }};
}

function stick(table) {
  // the first columns stay in sight when the table is scrolled sideways: as many as fit into a part of its window
  const width = table.parentElement.clientWidth, room = Math.max(0.45 * width, Math.min(300, 0.7 * width)), lines = [...table.rows];
  lines.forEach((line) => [...line.cells].forEach((cell) => { cell.classList.remove("stick", "last"); cell.style.left = ""; }));
  const widths = [...(lines[0]?.cells ?? [])].map((cell) => cell.getBoundingClientRect().width);
  let left = 0, count = 0;
  while (count < widths.length && (count === 0 || left + widths[count] <= room)) left += widths[count++];
  lines.forEach((line) => {
    let at = 0;
    for (let i = 0; i < count && i < line.cells.length; i++) {
      line.cells[i].classList.add("stick");
      line.cells[i].classList.toggle("last", i === count - 1);
      line.cells[i].style.left = `${at}px`;
      at += widths[i];
    }
  });
}

function plainTable(parent, made) {
  const box = element("div", undefined, {class: "scroll", tabindex: "0", role: "region", "aria-label": "table"});
  const table = element("table");
  box.append(table);
  parent.append(box);
  sortable(table, made.head, made.rows, {number: (i) => made.right.includes(i)});
}
