"use strict";
// Only the cells of the grid that can be seen are in the document. Names of files become text, never HTML.
(() => {
const OVERSCAN = 2, UNDOABLE = 50;  // rows, actions
const CELL = 116, GAP = 8, TEXT = 40, EDGE = 12;  // least width of a cell, between cells, below and around a thumbnail

const $ = (id) => document.getElementById(id);
const grid = $("grid"), bar = $("bar"), about = $("about");
const data = JSON.parse($("data").textContent);
const KEY = "kyara-report-" + data.id;
const pictures = data.rows.map(([file, reason, detail, size, sharpness, score, nearest, distance, place, kept], i) =>
  ({ i, file, reason: data.reasons[reason], detail, size, sharpness, score, nearest, distance, place, kept, copies: 0 }));
for (const { reason, nearest } of pictures) {
  if (reason.endsWith("duplicate") && nearest !== null) pictures[nearest].copies++;
}

const SORTS = {
  "source order": { key: (p) => p.i },
  "file name": { key: (p) => p.file, compare: new Intl.Collator(undefined, { numeric: true }).compare },
  "sharpness": { key: (p) => p.sharpness, show: (p) => p.sharpness.toFixed(3) },
  "size": { key: (p) => p.size && Math.min(...p.size), show: (p) => `${p.size[1]} × ${p.size[0]}` },
  "certainty of the face": { key: (p) => p.score, show: (p) => p.score.toFixed(2) },
  "nearest copy": { key: (p) => p.distance, show: (p) => p.distance.toFixed(3) },
};
const FILTERS = {
  "all files": () => true,
  "kept": (p) => p.kept !== null,
  "left out": (p) => p.kept === null,
  ...Object.fromEntries(data.reasons.filter(Boolean).map((reason) => ["– " + reason, (p) => p.reason === reason])),
  "ticked": (p) => ticked[p.i],
};

let ticked = pictures.map((p) => p.reason === data.dropped);  // so that the new list contains the one before
let shown = [];  // the pictures in the grid
let cursor = 0, anchor = 0;  // positions in `shown`; the range is from one to the other
let reversed = false, original = null;  // with `original`, it and its copies are shown
let columns = 1, width = CELL;
const cells = new Map();  // position in `shown` -> element
const before = [];  // ticks before the last actions

// Ticks

function restore() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY));
    if (!Array.isArray(stored)) return;
    ticked.fill(false);
    for (const i of stored) if (i in ticked) ticked[i] = true;
  } catch { /* without storage, the ticks last as long as the page */ }
}

function changed() {
  try {
    localStorage.setItem(KEY, JSON.stringify(chosen().map((p) => p.i)));
  } catch {
    $("save").title = "This browser does not store the ticks: save the list before you close the page.";
  }
  draw();
  describe();
}

const chosen = () => pictures.filter((p) => ticked[p.i]);

function tick(some, value) {
  if (some.every((p) => ticked[p.i] === value)) return;
  before.push(ticked.slice());
  if (before.length > UNDOABLE) before.shift();
  for (const p of some) ticked[p.i] = value;
  changed();
}

function undo() {
  if (!before.length) return;
  ticked = before.pop();
  changed();
}

function save() {
  const lines = ["file_name", ...chosen().map((p) => '"' + p.file.replaceAll('"', '""') + '"')];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = data.list;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Which pictures are shown, in which order

function select(current = shown[cursor]) {
  const wanted = $("search").value.toLowerCase(), passes = FILTERS[$("filter").value];
  const { key, compare = (a, b) => a - b } = SORTS[$("sort").value], sign = reversed ? -1 : 1;
  const order = (a, b) => sign * compare(key(a), key(b)) || a.i - b.i;
  const found = pictures.filter((p) => passes(p) && (!wanted || p.file.toLowerCase().includes(wanted)));
  shown = original ? [original, ...pictures.filter((p) => p.kept === null && pictures[p.nearest] === original)]
    : [...found.filter((p) => key(p) !== null).sort(order), ...found.filter((p) => key(p) === null)];
  cursor = anchor = Math.max(0, shown.indexOf(current));
  layout();
  describe();
}

function show(picture) {
  original = null;
  $("search").value = "";
  $("filter").selectedIndex = 0;
  select(picture);
  reveal();
}

function copiesOf(picture) {
  original = picture;
  select();
  scrollTo(0, 0);
}

// The grid

function layout() {
  columns = Math.max(1, Math.floor((grid.clientWidth + GAP) / (CELL + GAP)));
  width = (grid.clientWidth + GAP) / columns - GAP;
  grid.style.height = Math.ceil(shown.length / columns) * (width + TEXT + GAP) + "px";
  grid.replaceChildren(...shown.length ? [] : [element("p", "", "No file matches.")]);
  cells.clear();
  draw();
}

function draw() {
  const height = width + TEXT + GAP, top = grid.getBoundingClientRect().top;
  const first = Math.max(0, (Math.floor(-top / height) - OVERSCAN) * columns);
  const end = Math.min(shown.length, (Math.ceil((innerHeight - top) / height) + OVERSCAN) * columns);
  for (const [at, cell] of cells) {
    if (at < first || at >= end) { cell.remove(); cells.delete(at); }
  }
  for (let at = first; at < end; at++) {
    if (!cells.has(at)) { cells.set(at, newCell(at)); grid.append(cells.get(at)); }
    const cell = cells.get(at), on = ticked[shown[at].i];
    cell.classList.toggle("ticked", on);
    cell.classList.toggle("cursor", at === cursor);
    cell.classList.toggle("range", anchor !== cursor && (at - anchor) * (at - cursor) <= 0);
    cell.ariaSelected = String(on);
  }
  grid.setAttribute("aria-activedescendant", "at" + cursor);
  const count = chosen().length;
  $("save").textContent = `save list (${count.toLocaleString()})`;
  $("save").disabled = !count;
  $("undo").disabled = !before.length;
  $("status").textContent = original ? `copies of ${original.file}` : `${shown.length.toLocaleString()} shown`;
}

function newCell(at) {
  const picture = shown[at], { key, show: value } = SORTS[$("sort").value];
  const cell = element("div", picture.kept === null ? "cell left" : "cell");
  const left = (at % columns) * (width + GAP), top = Math.floor(at / columns) * (width + TEXT + GAP);
  Object.assign(cell.style, { left: left + "px", top: top + "px", width: width + "px", height: width + TEXT + "px" });
  Object.assign(cell, { id: "at" + at, role: "option", title: picture.file, ariaPosInSet: at + 1 });
  cell.ariaSetSize = shown.length;
  cell.ariaLabel = [picture.file, picture.reason || "kept", picture.detail].filter(Boolean).join(", ");
  const measured = value && key(picture) !== null ? value(picture) : "";
  const text = [measured, picture.reason].filter(Boolean).join(" · ") || SORTS.size.show(picture);
  const [, name, face] = /^(.*?)(#\d+)?$/s.exec(picture.file.slice(picture.file.lastIndexOf("/") + 1));
  const title = element("p", "name");
  title.append(element("span", "", name), face || "");  // a long name is shortened before the number of the face
  cell.append(thumbnail(picture, width - EDGE), title, element("p", "value", text));
  return cell;
}

function thumbnail(picture, side) {
  const box = element("div", picture.place ? "box" : "box empty");
  box.style.height = side + "px";
  if (!picture.place) {
    box.append(element("span", "", "no picture"));
    return box;
  }
  const [number, w, h] = picture.place, { columns: across, slot, gap } = data.sheet, scale = side / Math.max(w, h);
  const at = number % across ** 2, sheet = (number - at) / across ** 2;
  const x = (at % across) * slot + gap, y = Math.floor(at / across) * slot + gap;
  const inside = element("div", "thumb");
  Object.assign(inside.style, {
    width: w * scale + "px", height: h * scale + "px",
    backgroundImage: `url("${data.folder}/${String(sheet).padStart(3, "0")}.jpg")`,
    backgroundSize: across * slot * scale + "px",
    backgroundPosition: `${-x * scale}px ${-y * scale}px`,
  });
  box.append(inside);
  return box;
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function button(text, action) {
  const made = element("button", "", text);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// The picture at the cursor

function describe() {
  const p = shown[cursor];
  if (!p) return about.replaceChildren();
  const facts = [];
  if (p.size) facts.push(`${p.size[1]} × ${p.size[0]} pixels`, `sharpness ${p.sharpness.toFixed(3)}`);
  if (p.score !== null) facts.push(`certainty of the face ${p.score.toFixed(2)}`);
  if (p.nearest !== null) {
    const name = button(pictures[p.nearest].file, () => show(pictures[p.nearest]));
    facts.push(element("span", "", "most similar "), name, `distance ${p.distance.toFixed(3)}`);
  }
  if (p.copies) facts.push(button(p.copies === 1 ? "1 copy left out" : `${p.copies} copies left out`, () => copiesOf(p)));
  if (original) facts.push(button("show all again", () => show(p)));
  if (p.kept && data.linked) {
    const link = element("a", "", "open the picture");
    Object.assign(link, { href: p.kept, target: "_blank" });
    facts.push(link);
  }
  const line = element("p", "");
  facts.forEach((fact, i) => line.append(i && facts[i - 1].tagName !== "SPAN" ? " · " : "", fact));
  const text = element("div", "");
  const verdict = p.kept ? "kept" : `left out: ${p.reason}${p.detail && ", " + p.detail}`;
  text.append(element("h2", "", p.file), element("p", p.kept ? "" : "why", verdict), line);
  about.replaceChildren(thumbnail(p, matchMedia("(max-width: 600px)").matches ? 72 : 96), text);
}

function move(to, extend) {
  cursor = Math.max(0, Math.min(shown.length - 1, to));
  if (!extend) anchor = cursor;
  reveal();
  draw();
  describe();
}

function reveal() {
  const height = width + TEXT, top = grid.offsetTop + Math.floor(cursor / columns) * (height + GAP);
  const above = top - bar.offsetHeight - GAP, below = top + height + about.offsetHeight + GAP - innerHeight;
  if (scrollY > above) scrollTo(0, above);
  else if (scrollY < below) scrollTo(0, below);
}

const range = () => shown.slice(Math.min(anchor, cursor), Math.max(anchor, cursor) + 1);

// Mouse and keyboard

grid.addEventListener("click", (event) => {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  cursor = Number(cell.id.slice(2));
  if (!event.shiftKey) anchor = cursor;
  const value = event.shiftKey ? ticked[shown[anchor].i] : !ticked[shown[cursor].i];
  tick(range(), value);
  draw();
  describe();
});

grid.addEventListener("keydown", (event) => {
  const rows = Math.max(1, Math.floor((innerHeight - bar.offsetHeight - about.offsetHeight) / (width + TEXT + GAP)));
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -rows * columns,
    PageDown: rows * columns, Home: -Infinity, End: Infinity };
  const all = (event.ctrlKey || event.metaKey) && event.key === "a";
  if (!shown.length || event.altKey || !(event.key in steps || event.key === " " || all)) return;
  event.preventDefault();
  if (event.key === " ") {
    tick(range(), range().some((p) => !ticked[p.i]));
  } else if (all) {
    anchor = 0;
    move(Infinity, true);
  } else {
    move(cursor + steps[event.key], event.shiftKey);
  }
});

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && event.target !== $("search")) {
    event.preventDefault();
    undo();
  }
});

function filtered() {
  original = null;
  select();
  if (scrollY > grid.offsetTop) scrollTo(0, grid.offsetTop - bar.offsetHeight);
}

bar.addEventListener("submit", (event) => event.preventDefault());
for (const id of ["search", "filter", "sort"]) $(id).addEventListener("input", filtered);
$("reverse").addEventListener("click", () => {
  reversed = !reversed;
  $("reverse").ariaPressed = String(reversed);
  $("reverse").textContent = reversed ? "↑" : "↓";
  filtered();
});
$("all").addEventListener("click", () => tick(shown, true));
$("none").addEventListener("click", () => tick(shown, false));
$("undo").addEventListener("click", undo);
$("save").addEventListener("click", save);
addEventListener("scroll", draw, { passive: true });
addEventListener("resize", () => { layout(); describe(); });

// The start

for (const [name, passes] of Object.entries(FILTERS)) {
  const count = name === "ticked" ? "" : ` (${pictures.filter(passes).length.toLocaleString()})`;
  $("filter").append(new Option(name + count, name));
}
for (const [name, { key }] of Object.entries(SORTS)) {
  if (pictures.some((p) => key(p) !== null)) $("sort").append(new Option(name));
}
const probe = new Image();
probe.onerror = () => { $("missing").hidden = false; };
if (pictures.some((p) => p.place)) probe.src = data.folder + "/000.jpg";
restore();
select();
grid.focus({ preventScroll: true });
})();
