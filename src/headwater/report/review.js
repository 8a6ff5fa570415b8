"use strict";
// Pictures marked as bad become a CSV. All it works on stands in the page: a checkbox's value is
// JSON, [id, label]. Marks stay in this browser until they are cleared.

const at = (id) => document.getElementById(id);
const store = `headwater-review-${at("marked").dataset.key}`;
const boxes = [...document.querySelectorAll('.tile input[type="checkbox"]')];

function cell(text) {
  // No cell is a formula to a spreadsheet; pairlist.py reads it back by the same rule.
  const guarded = /^['=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
}

function marked() {
  return boxes.filter((box) => box.checked).map((box) => box.value);
}

function csv() {
  const rows = [["id", "label"], ...marked().map((pair) => JSON.parse(pair))];
  return rows.map((row) => row.map(cell).join(",") + "\n").join("");
}

function show() {
  const pairs = marked();
  at("count").textContent = `${pairs.length} marked`;
  at("csv").value = csv();
  at("save").disabled = at("clear").disabled = pairs.length === 0;
}

function keep() {
  try {
    localStorage.setItem(store, JSON.stringify(marked()));
  } catch {
    // No storage here: the marks last as long as the page is open.
  }
  show();
}

function recall() {
  try {
    const kept = new Set(JSON.parse(localStorage.getItem(store)) || []);
    for (const box of boxes) box.checked = box.checked || kept.has(box.value);
  } catch {
    // No storage here, or not ours: the page starts as the browser has it.
  }
  show();
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "rejected.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function clear() {
  for (const box of boxes) box.checked = false;
  keep();
}

document.addEventListener("change", keep);
window.addEventListener("pageshow", show); // a browser may restore marks of its own
at("save").addEventListener("click", save);
at("clear").addEventListener("click", clear);
at("csv").addEventListener("focus", () => at("csv").select());
at("off").hidden = true;
at("on").hidden = at("bar").hidden = false;
recall();
