"use strict";
// Asks which class each picture of this page shows. All it works on stands in the page; the answers
// stay in this browser until they are saved as a CSV.

const at = (id) => document.getElementById(id);
const { known, buttons, none: NONE, skipped: SKIPPED } = at("desk").dataset;
const store = `headwater-label-${known}`;
const sheet = [...at("sheet").children];
const ids = sheet.map((button) => JSON.parse(button.dataset.id));
const names = new Map(); // label -> display name
const meant = new Map(); // what may be typed -> labels
for (const option of at("classes").options) {
  const label = JSON.parse(option.dataset.label);
  const name = option.value;
  names.set(label, name);
  option.label = name === label ? "" : label;
  for (const text of new Set([name, label].map(fold))) {
    meant.set(text, [...(meant.get(text) || []), label]);
  }
}
for (const option of at("classes").options) {
  // A name that several classes share cannot be chosen: their labels can.
  if (meant.get(fold(option.value)).length > 1) option.value = JSON.parse(option.dataset.label);
}

const SLOTS = Number(buttons) || 9;
const answers = new Map(); // id -> label, NONE or SKIPPED
let slots = Number(buttons) ? [...names.keys()] : []; // the labels that have a button
let used = []; // labels, the last one used first
let here = 0;
let unsaved = false;

function fold(text) {
  return text.trim().toLowerCase();
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(store)) || {};
    for (const [id, label] of kept.answers || []) {
      if (ids.includes(id) && (names.has(label) || label === NONE || label === SKIPPED)) {
        answers.set(id, label);
      }
    }
    used = (kept.used || []).filter((label) => names.has(label));
    if (!Number(buttons)) slots = (kept.slots || []).filter((label) => names.has(label));
  } catch {
    // No storage here, or not ours: the page starts empty.
  }
}

function keep() {
  unsaved = true;
  try {
    localStorage.setItem(store, JSON.stringify({ answers: [...answers], slots, used }));
    unsaved = false;
  } catch {
    // Closing the page then asks first.
  }
}

function give(slot, label) {
  const button = document.createElement("button");
  const name = document.createElement("bdi");
  button.type = "button";
  name.textContent = names.get(label);
  button.title = label;
  button.append(name);
  if (slot < 9) {
    const key = document.createElement("kbd");
    key.textContent = slot + 1;
    button.append(key);
  }
  button.setAttribute("aria-pressed", answers.get(ids[here]) === label);
  button.addEventListener("click", () => answer(label));
  return button;
}

function show() {
  const button = sheet[here];
  const said = answers.get(ids[here]);
  at("picture").src = button.firstElementChild.src;
  at("caption").textContent = button.dataset.caption || "no caption";
  at("place").textContent = `picture ${here + 1} of ${ids.length}`;
  at("choices").replaceChildren(...slots.map((label, slot) => give(slot, label)));
  at("none").setAttribute("aria-pressed", said === NONE);
  at("skip").setAttribute("aria-pressed", said === SKIPPED);
  at("back").disabled = here === 0;
  at("message").textContent = "";
  sheet.forEach((each, place) => mark(each, ids[place], place === here));
  at("progress").value = answers.size;
  at("count").textContent = `${answers.size} of ${ids.length} answered`;
}

function mark(button, id, current) {
  const said = answers.get(id);
  const text = button.lastElementChild;
  text.textContent = names.get(said) || said || "";
  text.className = names.has(said) ? "named" : "";
  button.setAttribute("aria-current", current);
}

function answer(label) {
  answers.set(ids[here], label);
  if (names.has(label)) remember(label);
  keep();
  const open = ids.findIndex((id, place) => place > here && !answers.has(id));
  const next = open >= 0 ? open : ids.findIndex((id) => !answers.has(id));
  if (next >= 0) here = next;
  show();
  if (next < 0) at("message").textContent = "All are answered. Save the answers.";
}

function remember(label) {
  used = [label, ...used.filter((each) => each !== label)];
  if (slots.includes(label)) return;
  if (slots.length < SLOTS) slots.push(label);
  else {
    // The class not used for longest gives its key away; the others keep theirs.
    const oldest = slots.reduce((a, b) => (used.indexOf(a) > used.indexOf(b) ? a : b));
    slots[slots.indexOf(oldest)] = label;
  }
}

function find(typed) {
  const text = fold(typed);
  const exact = meant.get(text) || [];
  if (exact.length) return exact;
  return [...names].filter((pair) => pair.some((each) => fold(each).includes(text))).map(([x]) => x);
}

function choose(event) {
  event.preventDefault();
  const field = at("find");
  if (!field.value.trim()) return;
  const found = find(field.value);
  if (found.length === 1) {
    field.value = "";
    field.blur();
    answer(found[0]);
  } else {
    const some = found.slice(0, 4).join(", ") + (found.length > 4 ? ", …" : "");
    const which = found.length ? `${found.length} classes fit: ${some}` : "No class is called so.";
    at("message").textContent = which;
  }
}

function go(place) {
  here = Math.min(Math.max(place, 0), ids.length - 1);
  show();
}

function reveal() {
  at("caption").hidden = !at("caption").hidden;
  at("reveal").setAttribute("aria-expanded", !at("caption").hidden);
}

function quote(text) {
  // A spreadsheet takes a cell that begins so for a formula; pairlist.py has the same rule.
  const guarded = /^['=+\-@\t\r\n]/.test(text) ? `'${text}` : text;
  return `"${guarded.replaceAll('"', '""')}"`;
}

function save() {
  const rows = ids.filter((id) => answers.has(id)).map((id) => [id, answers.get(id)]);
  const lines = [["id", "label"], ...rows].map((row) => row.map(quote).join(",") + "\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
  URL.revokeObjectURL(link.href);
  unsaved = false;
}

const KEYS = {
  n: () => answer(NONE),
  s: () => answer(SKIPPED),
  b: () => go(here - 1),
  ArrowLeft: () => go(here - 1),
  ArrowRight: () => go(here + 1),
  c: reveal,
  "/": () => at("find").focus(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === at("find")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const label = /^[1-9]$/.test(event.key) && slots[Number(event.key) - 1];
  const act = label ? () => answer(label) : KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
window.addEventListener("beforeunload", (event) => unsaved && event.preventDefault());
at("none").addEventListener("click", () => answer(NONE));
at("skip").addEventListener("click", () => answer(SKIPPED));
at("back").addEventListener("click", () => go(here - 1));
at("reveal").addEventListener("click", reveal);
at("search").addEventListener("submit", choose);
at("save").addEventListener("click", save);
sheet.forEach((button, place) => {
  button.addEventListener("click", () => {
    go(place);
    at("desk").scrollIntoView();
  });
});

recall();
go(Math.max(ids.findIndex((id) => !answers.has(id)), 0));
