// --- cells ----------------------------------------------------------------------------------------------------------

let cellTable = null;
function drawCells() {
  const all = byId("all-columns").checked;
  const columns = all ? DATA.columns : DATA.columns.slice(0, DATA.shown);
  const number = (i) => DONE.some((cell) => typeof cell[columns[i]] === "number");
  const numeric = columns.map((_, i) => number(i));
  cellTable = sortable(byId("cell-table"), columns.map((name) => name.replaceAll("_", " ")), filtered(), {
    number: (i) => numeric[i],
    sticky: true,
    fill(row, tr) {
      if (!SETTLED.includes(row[COLUMN.status])) tr.className = "bad";
      columns.forEach((name, i) => {
        const td = element("td", undefined, numeric[i] ? {class: "number"} : {});
        if (name === "folder" && row.number in DATA.matrices.of) {
          const button = element("button", row[i], {type: "button", class: "choose", title: "show this run's matrices"});
          button.addEventListener("click", () => { chooseRun(row.number); byId("matrices").scrollIntoView(); });
          td.append(button);
        } else td.textContent = words(row[i]);
        if (name === "status") td.classList.add("status");
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
