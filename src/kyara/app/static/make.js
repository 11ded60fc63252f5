// The room Make: the pictures that were made, and what happens to them.
import { project } from "./app.js";
import { $, api, h, later, say, throttled } from "./dom.js";
import { Grid } from "./grid.js";
import { about, inspector } from "./inspect.js";
import { showLarge } from "./large.js";
import { fillModels, newPanel, openPanel } from "./new.js";
import { forget, showPicture } from "./pictures.js";
import { receive } from "./receive.js";
import { search, sort } from "./search.js";
import { take } from "./take.js";

/**
 * @typedef {object} Item
 * @property {number} number
 * @property {number | string} seed
 * @property {Record<string, string>} labels
 * @property {number | null} score
 * @property {boolean} star
 * @property {boolean} rejected
 * @property {string} model
 * @property {string} origin
 * @property {number | null} parent
 * @property {number} truncation
 * @property {number} turn  of the head, in degrees
 * @property {boolean} blended  whether it is of two generators
 */

/** Everything the room knows. The server's list is the truth; `version` is the last one of which all is known. */
export const state = {
  id: "", version: -1, undo: "", redo: "", problem: "",
  /** @type {Map<number, Item>} */
  items: new Map(),
  /** @type {number[]} */
  order: [],
  /** @type {Map<string, Set<string>>} */
  labels: new Map(),
  /** @type {any} */
  model: null,
  /** @type {Record<string, string>} */
  where: {},
  /** Names of the files that are read. @type {string[]} */
  reading: [],
};
/** @type {Grid} */
let grid;
/** @type {any} */
let tools;
let size = 128;
let changes = 0;  // that this page made
let exporting = "";  // how far the export is, as the button says it
/** "Twice the size" as it was clicked, for all pictures; null before. @type {boolean | null} */
let doubled = null;

/** @param {Item} item */
export const picture = (item) => `/api/make/picture/${item.number}.png?v=${state.id}`;

/** Whether a picture is enlarged: by default if the upscaler is made for its generator. @param {Item} item */
const enlarged = (item) => doubled ?? project.enlarged.includes(item.model);

/** The same at the size that is wanted. @param {Item} item */
export const finished = (item) => picture(item) + (enlarged(item) ? "&large=true" : "");

/** A command that makes a picture, at the size that is wanted: by default, and with --like as in the file, which is small.
 * @param {string} command @param {Item | undefined} item */
export function sized(command, item) {
  if (!item || !command) return command;
  const usual = project.enlarged.includes(item.model) && !command.includes(" --like ");
  return enlarged(item) === usual ? command : `${command} --upscale ${usual ? "none" : "builtin:upscaler"}`;
}

/** @param {Item} item */
export const title = (item) => (typeof item.seed === "number" ? `seed ${item.seed}` : item.origin || `picture ${item.number}`);

/** The same for the narrow space below a picture. @param {Item} item */
function caption(item) {
  const text = title(item).split(",")[0];
  return text.startsWith("shape of") ? "mixture" : text.replace(/^(variation|dragged) .*/, "$1").replace(/^from /, "").replace(" of ", "/");
}

/** @param {any[]} row */
function put([number, seed, labels, score, star, rejected, model, origin, parent, truncation, turn, blended]) {
  if (!state.items.has(number)) state.order.push(number);
  state.items.set(number, { number, seed, labels, score, star, rejected, model, origin, parent, truncation, turn, blended });
  for (const [name, value] of Object.entries(labels)) {
    if (!state.labels.has(name)) state.labels.set(name, new Set());
    state.labels.get(name)?.add(/** @type {string} */ (value));
  }
}

/** Sends a request that adds or changes pictures, and shows the result. @param {string} path @param {any} body @param {{all?: boolean}} [select]  all new pictures, not the first */
export function act(path, body, select = {}) {
  const answer = acted.then(() => send(path, body, select));  // one after the other: Undo must not overtake a star
  acted = answer.catch(() => undefined);
  return answer;
}
/** @type {Promise<any>} */
let acted = Promise.resolve();

/** @param {string} path @param {any} body @param {{all?: boolean}} select */
async function send(path, body, { all = false }) {
  const answer = await api("make/" + path, body);
  changes++;
  answer.rows.forEach(put);
  for (const note of answer.notes) say(note);
  show();
  const numbers = answer.rows.map((/** @type {any[]} */ row) => row[0]);
  if (numbers.length) grid.choose(all ? numbers : numbers.slice(0, 1));
  if (answer.command) inspector.showAction(sized(answer.command, state.items.get(numbers[0])));
  loadSoon();
  return answer;
}

/** Shows a command, or that there is none: the one before would be that of something else. @param {string} text */
export const showCommand = (text) => { $("command").textContent = text; };

/** Brings here what changed in the list of the server. @returns {Promise<void>} */
export async function load() {
  const before = changes;
  const found = await api(`make/state?id=${state.id}&since=${state.version}`);
  if (changes !== before) return load();  // the answer may be older than what is shown
  if (!found.all && found.version < state.version) return;  // a later answer was faster
  if (found.id !== state.id) forget();
  if (found.all) {
    state.items = new Map();
    state.order = [];
  }
  found.rows.forEach(put);
  for (const number of found.removed) state.items.delete(number);
  if (found.rows.length || found.removed.length) state.order = [...state.items.keys()].sort((a, b) => a - b);
  if (found.problem && found.problem !== state.problem) say(found.problem, "error");
  Object.assign(state, { id: found.id, version: found.version, undo: found.undo, redo: found.redo, problem: found.problem });
  if (grid) show();
}
const loadSoon = later(() => load().catch(() => undefined), 150);

/** The numbers that pass the filter, in the chosen order. */
function chosen() {
  const passes = search(tools.search.value, state.labels), filter = tools.filter.value;
  const kept = (/** @type {Item} */ item) => filter === "every" || (filter === "stars" ? item.star : item.rejected === (filter === "rejected"));
  const found = state.order.map((number) => /** @type {Item} */ (state.items.get(number))).filter((item) => kept(item) && passes(item));
  return sort(found, tools.sort.value).map((item) => item.number);
}

/** Shows whether all, some or none of the pictures are enlarged. */
function showTick() {
  if (doubled !== null) {
    tools.large.checked = doubled;
    return;
  }
  const models = new Set([...state.items.values()].map((item) => item.model));
  const suited = [...models].filter((model) => project.enlarged.includes(model)).length;
  tools.large.checked = suited === models.size;
  tools.large.indeterminate = suited > 0 && suited < models.size;
}

function show() {
  const numbers = chosen();
  showTick();
  grid.setItems(numbers);
  grid.refresh();
  tools.count.textContent = `${numbers.length.toLocaleString()} of ${state.order.length.toLocaleString()}`;
  tools.undo.disabled = !state.undo;
  tools.undo.title = state.undo ? `Undo ${state.undo} (Ctrl+Z)` : "Undo (Ctrl+Z)";
  tools.redo.disabled = !state.redo;
  tools.empty.hidden = numbers.length > 0;
  tools.emptyText.textContent = state.order.length ? "No picture passes the filter." : "Choose a generator and attributes, then press “Make pictures”.";
  inspector.update();
  showExport();
}

/** Stars or rejects; takes it back if the server refuses. @param {"star" | "rejected"} flag @param {number[]} numbers */
export async function toggle(flag, numbers) {
  const items = numbers.flatMap((number) => state.items.get(number) || []);
  if (!items.length) return;
  const value = !items.every((item) => item[flag]), before = items.map((item) => item[flag]);
  changes++;
  items.forEach((item) => { item[flag] = value; });
  show();
  try {
    await act("flag", { numbers, flag, value });
  } catch {
    items.forEach((item, i) => { item[flag] = before[i]; });
    show();
  }
}

/** Runs something with a button disabled. Its messages are shown already. @param {() => Promise<any>} work */
export const busy = (work) => async (/** @type {Event} */ event) => {
  const button = /** @type {HTMLButtonElement} */ (event.currentTarget);
  button.disabled = true;
  await work().catch(() => undefined);
  button.disabled = false;
  if (document.activeElement !== document.body) return;
  if (button.isConnected) button.focus();
  else focusGrid();
};

/** @param {KeyboardEvent} event */
function onkey(event) {
  const numbers = [...grid.selected];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "s") toggle("star", numbers);
  else if (event.key === "x") toggle("rejected", numbers);
  else if (event.key === "Delete" && numbers.length) act("remove", { numbers }).catch(() => undefined);
}

/** Opens the selected picture or the two selected ones as large as they fit. */
export function enlarge() {
  if (!grid.selected.size) grid.go(grid.cursor);
  const two = grid.selected.size === 2;
  const shown = () => [...grid.selected].slice(0, two ? 2 : 1).map((number) => /** @type {Item} */ (state.items.get(number)));
  showLarge(() => shown().map((item) => ({ src: finished(item), text: `${item.star ? "★ " : ""}${about(item)}` })), (event) => {
    const moves = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 });
    if (event.key in moves && !two) grid.go(grid.cursor + moves[event.key]);
    else if ("sx".includes(event.key) || event.key === "Delete") onkey(event);
    else return false;
    return true;
  });
}

export const focusGrid = () => grid.element.focus({ preventScroll: true });

function makeCell() {
  const image = h("img", { alt: "", draggable: "true", decoding: "async" });
  const cell = h("div", { class: "cell" }, image, h("div", { class: "caption" }, h("span", {}), h("b", {}), h("i", { class: "star" })));
  image.addEventListener("dragstart", (/** @type {DragEvent} */ event) => event.dataTransfer?.setData("text/kyara-picture", String(cell.number)));
  return cell;
}

/** @param {any} cell @param {number} number */
function fillCell(cell, number) {
  const item = state.items.get(number);
  if (!item) return;
  const [image, below] = cell.children, [text, score, star] = below.children;
  const large = enlarged(item);
  if (cell.number !== number || cell.large !== large || !image.src) {
    Object.assign(cell, { number, large });
    showPicture(image, { number, large });
  }
  const words = Object.entries(item.labels).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");
  image.alt = title(item);
  cell.title = [...new Set([title(item), words, item.origin])].filter(Boolean).join(" · ");
  text.textContent = caption(item);
  score.textContent = item.score === null ? "" : `${Math.round(item.score * 100)} %`;
  star.textContent = item.star ? "★" : "";
  cell.classList.toggle("rejected", item.rejected);
}

/** Filters are as they were when the room is opened again. */
function toolbar() {
  const before = tools;
  const filtered = later(show, 120);
  const field = h("input", { type: "search", placeholder: "red hair, seed 100-120, score > 90", "aria-label": "Search", oninput: filtered });
  const option = (/** @type {string} */ value, /** @type {string} */ text) => h("option", { value }, text);
  const filter = h("select", { "aria-label": "Filter", onchange: show }, option("all", "not rejected"), option("stars", "starred"), option("rejected", "rejected"), option("every", "all"));
  const order = h("select", { "aria-label": "Order", onchange: show }, option("newest", "newest first"), option("oldest", "oldest first"), option("score", "best first"), option("seed", "by seed"));
  const undo = h("button", { "aria-label": "Undo", onclick: () => step("undo") }, "↶");
  const redo = h("button", { "aria-label": "Redo", onclick: () => step("redo") }, "↷");
  const smaller = h("button", { "aria-label": "Smaller pictures", title: "Smaller pictures", onclick: () => resize(0.8) }, "−");
  const larger = h("button", { "aria-label": "Larger pictures", title: "Larger pictures", onclick: () => resize(1.25) }, "+");
  if (before) for (const [now, one] of [[field, before.search], [filter, before.filter], [order, before.sort]]) now.value = one.value;
  const count = h("span", { class: "count", role: "status" });
  const out = h("button", { id: "export", title: "Write the selected pictures to a gallery; without a selection (Esc), the starred ones", onclick: exportChosen }, "Export");
  const large = h("input", { type: "checkbox", id: "large", onchange: () => { doubled = large.checked; show(); inspector.select([...grid.selected]); } });
  const tick = h("label", { class: "row check", title: "Double the size, clean lines and areas, here, in downloads and exports. Made for builtin:character and models rewritten from it: until you click here, only their pictures are enlarged" }, large, "Twice the size");
  const emptyText = h("p", {});
  const empty = h("div", { class: "empty", hidden: true }, emptyText);
  tools = { search: field, filter, sort: order, undo, redo, count, empty, emptyText, out, large };
  return h("div", { class: "bar" }, field, filter, order, h("div", { class: "row line" }, count, undo, redo, smaller, larger, tick, out));
}

/** @param {"undo" | "redo"} which */
async function step(which) {
  await act(which, {}).catch(() => undefined);
}

/** @param {number} factor */
function resize(factor) {
  size = Math.max(72, Math.min(360, Math.round(size * factor)));
  grid.layout();
}

/** What Export writes: the selection, or else the starred pictures. */
function toExport() {
  if (grid.selected.size) return { numbers: grid.items.filter((number) => grid.selected.has(number)), what: "selected" };
  return { numbers: state.order.filter((number) => state.items.get(number)?.star), what: "starred" };
}

function showExport() {
  const { numbers, what } = toExport();
  tools.out.textContent = exporting || (numbers.length ? `Export ${numbers.length.toLocaleString()} ${what}` : "Export");
  tools.out.disabled = Boolean(exporting) || !numbers.length;
}

async function exportChosen() {
  const { numbers } = toExport();
  exporting = "Exporting …";
  showExport();
  try {
    const large = numbers.filter((number) => enlarged(/** @type {Item} */ (state.items.get(number))));
    const done = await api("make/export", { numbers, name: "chosen", large });
    showCommand(done.command);
    say(`${done.pictures === 1 ? "The picture is" : `${done.pictures.toLocaleString()} pictures are`} in ${done.path}, with a sheet and a page.`);
  } catch { /* the message is shown */ } finally {
    exporting = "";
    showExport();
  }
}

/** @param {HTMLElement} room */
async function open(room) {
  const before = { id: state.id, selected: grid ? [...grid.selected] : [] };
  const selected = (/** @type {number[]} */ numbers) => { inspector.select(numbers); showExport(); };
  grid = new Grid({ label: "Pictures", size: () => size, text: 26, make: makeCell, fill: fillCell, key: onkey, select: selected, open: enlarge });
  const left = newPanel(), bar = toolbar();
  const middle = h("section", { class: "middle", "aria-label": "Pictures" }, bar, grid.element);
  grid.element.append(tools.empty);
  room.append(left, middle, inspector.open());
  receive(room, take);
  const ready = await openPanel();
  state.version = -1;
  await load();
  if (before.selected.length && before.id === state.id) grid.choose(before.selected);
  if (grid.items.length && !grid.selected.size) grid.go(0);
  ready();
}

/** @param {string} kind @param {any} data */
function event(kind, data) {
  const found = kind === "job" && data.job.state === "done" && data.job.about.step === "find";
  if (found && !grid?.element.isConnected) say(`${data.job.title}: done, see the room Make.`);
  if (!grid?.element.isConnected) return;
  if (kind === "made" && data.version !== state.version) loadSoon();
  if (kind === "project") fillModels();
  if (kind === "export" && exporting) {
    exporting = `Exporting, ${Math.round(data.share * 100)} %`;
    showExport();
  }
  if (found) showFound();
  if (kind === "scores") {
    for (const [number, score] of data.scores) {
      const item = state.items.get(number);
      if (item) item.score = score;
    }
    if (tools.sort.value === "score" || tools.search.value.includes("score")) showSoon();
    else grid.refresh();
    inspector.update();
  }
}
const showSoon = throttled(() => show(), 1000);

async function showFound() {
  await load();
  grid.show(state.order[state.order.length - 1]);
  say("The search is done: the most similar picture is selected.");
}

const TYPED = "input:not([type=range]):not([type=checkbox]):not([type=radio]), textarea, [contenteditable]";
const PRESSED = "button, a, input, select, summary, textarea, [tabindex='0']";  // which have keys of their own

addEventListener("keydown", (pressed) => {
  const target = /** @type {Element} */ (pressed.target);
  if (!grid?.element.isConnected || document.querySelector("dialog[open]") || target.closest(TYPED)) return;
  if ((pressed.ctrlKey || pressed.metaKey) && "zy".includes(pressed.key.toLowerCase())) {
    pressed.preventDefault();
    step(pressed.key.toLowerCase() === "y" || pressed.shiftKey ? "redo" : "undo");
  } else if (!grid.element.contains(target)) {
    if (!target.closest(PRESSED)) grid.onkey(pressed);
    else if (!target.closest("select")) onkey(pressed);
  }
});

export const room = { id: "make", name: "Make", open, event };
