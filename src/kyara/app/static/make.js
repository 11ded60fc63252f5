// The room Make: new pictures, and everything that can be done with them.
import { project } from "./app.js";
import { api, command, h, later, say, slider } from "./dom.js";
import { Grid } from "./grid.js";
import { inspector } from "./inspect.js";
import { forget, showPicture } from "./pictures.js";

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
 */

/** Everything the room knows. The server's list is the truth; `version` says which one this is. */
export const state = {
  id: "", version: -1, undo: "", redo: "",
  /** @type {Map<number, Item>} */
  items: new Map(),
  /** @type {number[]} */
  order: [],
  /** @type {any} */
  model: null,
  /** @type {Record<string, string>} */
  where: {},
};
/** @type {Grid} */
let grid;
/** @type {any} */
let panel;
/** @type {any} */
let tools;
let size = 128;

/** @param {any[]} row @returns {Item} */
const toItem = ([number, seed, labels, score, star, rejected, model, origin, parent, truncation]) =>
  ({ number, seed, labels, score, star, rejected, model, origin, parent, truncation });

/** @param {Item} item */
export const picture = (item) => `/api/make/picture/${item.number}.png?v=${state.id}`;

/** @param {Item} item */
export const title = (item) => (item.seed !== "" ? `seed ${item.seed}` : item.origin || `picture ${item.number}`);

/** Sends a request that adds or changes pictures, and shows the result. @param {string} path @param {any} body */
export async function act(path, body) {
  const answer = await api("make/" + path, body);
  for (const row of answer.rows) {
    const item = toItem(row);
    if (!state.items.has(item.number)) state.order.push(item.number);  // a load may have brought it already
    state.items.set(item.number, item);
  }
  state.version = answer.version;
  command(answer.command);
  for (const note of answer.notes) say(note);
  show();
  if (answer.rows.length) grid.show(answer.rows[0][0]);
  loadSoon();
  return answer;
}

/** Brings the list of the server here. @returns {Promise<void>} */
export async function load() {
  const before = state.version;
  const found = await api("make/state");
  if (state.version !== before) return load();  // pictures were made meanwhile: the answer may be older than they are
  if (found.version !== state.version || found.id !== state.id) {
    if (found.id !== state.id) forget();
    state.items = new Map(found.rows.map((/** @type {any[]} */ row) => [row[0], toItem(row)]));
    state.order = found.rows.map((/** @type {any[]} */ row) => row[0]);
  }
  Object.assign(state, { id: found.id, version: found.version, undo: found.undo, redo: found.redo });
  if (grid) show();
}
const loadSoon = later(load, 150);

/** The numbers that pass the filter, in the chosen order. */
function chosen() {
  const words = tools.search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const filter = tools.filter.value, sort = tools.sort.value;
  const passes = (/** @type {Item} */ item) => {
    if (filter === "all" ? item.rejected : filter === "stars" ? !item.star : filter === "rejected" ? !item.rejected : false) return false;
    return words.every((word) => matches(item, word));
  };
  const found = state.order.filter((number) => passes(/** @type {Item} */ (state.items.get(number))));
  if (sort === "newest") found.reverse();
  if (sort === "score") found.sort((a, b) => (state.items.get(b)?.score ?? -1) - (state.items.get(a)?.score ?? -1));
  if (sort === "seed") found.sort((a, b) => Number(state.items.get(a)?.seed || Infinity) - Number(state.items.get(b)?.seed || Infinity));
  return found;
}

/** Whether a word of the search fits: a seed, a value, attribute=value, or score>0.9. @param {Item} item @param {string} word */
function matches(item, word) {
  const score = word.match(/^score([<>])(\d*\.?\d+)%?$/);
  if (score) {
    const limit = Number(score[2]) > 1 ? Number(score[2]) / 100 : Number(score[2]);
    return item.score !== null && (score[1] === ">" ? item.score > limit : item.score < limit);
  }
  const pair = word.match(/^(\w+)=(\w+)$/);
  if (pair) return (item.labels[pair[1]] || "").toLowerCase() === pair[2];
  if (/^\d+$/.test(word)) return String(item.seed).split("–").includes(word);
  return Object.values(item.labels).some((value) => value.toLowerCase() === word) || item.origin.toLowerCase().includes(word) || item.model.includes(word);
}

function show() {
  const numbers = chosen();
  grid.setItems(numbers);
  grid.refresh();
  tools.count.textContent = `${numbers.length.toLocaleString()} of ${state.order.length.toLocaleString()}`;
  tools.undo.disabled = !state.undo && !state.order.length;
  tools.undo.title = state.undo ? `Undo ${state.undo} (Ctrl+Z)` : "Undo (Ctrl+Z)";
  tools.redo.disabled = !state.redo;
  tools.empty.hidden = numbers.length > 0;
  tools.emptyText.textContent = state.order.length ? "No picture passes the filter." : "Choose a model and attributes on the left, then press “Make pictures”.";
  inspector.update();
}

/** Stars or rejects. @param {"star" | "rejected"} flag @param {number[]} numbers */
export async function toggle(flag, numbers) {
  if (!numbers.length) return;
  const value = !numbers.every((number) => state.items.get(number)?.[flag]);
  for (const number of numbers) Object.assign(state.items.get(number) || {}, { [flag]: value });
  show();
  await act("flag", { numbers, flag, value });
}

/** @param {KeyboardEvent} event */
function onkey(event) {
  const numbers = [...grid.selected];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "s") toggle("star", numbers);
  else if (event.key === "x") toggle("rejected", numbers);
  else if (event.key === "Delete") act("remove", { numbers });
}

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
  const [image, caption] = cell.children, [text, score, star] = caption.children;
  if (cell.number !== number || !image.src) {
    cell.number = number;
    showPicture(image, number);
  }
  const words = Object.entries(item.labels).map(([name, value]) => `${name} ${value}`).join(", ");
  image.alt = title(item);
  cell.title = [title(item), words, item.origin].filter(Boolean).join(" · ");
  text.textContent = title(item);
  score.textContent = item.score === null ? "" : `${Math.round(item.score * 100)} %`;
  star.textContent = item.star ? "★" : "";
  cell.classList.toggle("rejected", item.rejected);
}

const OPEN = 3;  // attributes whose chips are always shown; the others unfold
/** Attributes that were unfolded. @type {Set<string>} */
const unfolded = new Set();

/** Chips for each attribute, of which one or none is on. @param {Record<string, string[]>} attributes @param {Record<string, string>} where @param {(name: string, value: string | null) => void} pick @param {string} [none]  text of the chip for no value */
export function chips(attributes, where, pick, none) {
  return Object.entries(attributes).map(([name, values], i) => {
    const buttons = values.map((value) => h("button", { type: "button", "aria-pressed": String(where[name] === value), onclick: () => pick(name, value) }, value));
    if (none) buttons.unshift(h("button", { type: "button", "aria-pressed": String(!(name in where)), onclick: () => pick(name, null) }, none));
    const title = name.replaceAll("_", " "), row = h("div", { class: "chips" }, ...buttons);
    if (i < OPEN) return h("fieldset", {}, h("legend", {}, title), row);
    const details = h("details", { class: "attribute", open: unfolded.has(name), ontoggle: () => unfolded[details.open ? "add" : "delete"](name) },
      h("summary", {}, title, h("span", { class: "quiet" }, where[name] ?? none ?? "")), h("fieldset", { "aria-label": title }, row));
    return details;
  });
}

/** What is known about generators, by name. @type {Map<string, any>} */
const known = new Map();

/** What the generator of a picture can do; null until the server has answered, then `then` is called. @param {Item} item @param {() => void} then */
export function modelOf({ model }, then) {
  if (!known.has(model)) {
    known.set(model, null);
    api("make/model?name=" + encodeURIComponent(model)).then((about) => { known.set(model, about); then(); }).catch(() => undefined);
  }
  return known.get(model);
}

async function chooseModel(/** @type {string} */ name) {
  const found = await api("make/model?name=" + encodeURIComponent(name));
  known.set(name, found);
  if (panel.model.value !== name) return;  // another one was chosen meanwhile
  state.model = found;
  state.where = Object.fromEntries(Object.entries(state.where).filter(([a, v]) => found.attributes[a]?.includes(v)));
  drawChips();
}

function drawChips() {
  const pick = (/** @type {string} */ name, /** @type {string | null} */ value) => {
    if (value === null || state.where[name] === value) delete state.where[name];
    else state.where[name] = value;
    drawChips();
  };
  panel.chips.replaceChildren(...chips(state.model.attributes, state.where, pick, "any"));
}

function models() {
  const found = project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && ["stylegan2", "dcgan", "mlp", "vae", "cgan", "acgan"].includes(one.detail)).map((/** @type {any} */ one) => one.path);
  return [...found, ...project.builtin.filter((/** @type {any} */ one) => one.model === "stylegan2").map((/** @type {any} */ one) => one.name)];
}

function fillModels() {
  const names = models(), now = panel.model.value || names.find((/** @type {string} */ name) => name === "builtin:character") || names[0];
  panel.model.replaceChildren(...names.map((/** @type {string} */ name) => h("option", { value: name, selected: name === now }, name)));
}

async function makeNew() {
  const seeds = panel.seeds.value.trim();
  const body = { model: panel.model.value, where: state.where, truncation: panel.truncation.value };
  const next = Math.max(-1, ...state.order.map((number) => Number(state.items.get(number)?.seed)).filter(Number.isInteger)) + 1;
  const first = state.order.length > 20000 ? next : Math.max(next, 0);
  panel.make.disabled = true;
  try {
    await act("new", seeds ? { ...body, seeds } : { ...body, count: Number(panel.count.value), first });
  } finally {
    panel.make.disabled = false;
  }
}

function leftPanel() {
  const model = h("select", { id: "model", onchange: () => chooseModel(model.value) });
  const truncation = slider("Truncation", { min: 0, max: 1.2, step: 0.05, value: 0.7, show: (v) => v.toFixed(2) });
  const count = h("input", { id: "count", type: "number", min: 1, max: 25000, value: 16 });
  const seeds = h("input", { id: "seeds", type: "text", placeholder: "next ones", autocomplete: "off" });
  const make = h("button", { class: "main", id: "make-new", type: "submit", disabled: true }, "Make pictures");
  const box = h("div", { class: "field", id: "new-chips" });
  const form = h("form", { class: "panel left", "aria-label": "New pictures", onsubmit: (/** @type {Event} */ e) => { e.preventDefault(); makeNew(); } },
    h("label", { class: "field" }, h("span", { class: "caption" }, "Generator"), model), box, truncation.element,
    h("div", { class: "two" }, h("label", { class: "field" }, h("span", { class: "caption" }, "How many"), count), h("label", { class: "field" }, h("span", { class: "caption" }, "Seeds"), seeds)),
    make, h("p", { class: "quiet" }, "Drop a picture that Kyara made here to load it."));
  panel = { model, truncation, count, seeds, make, chips: box };
  return form;
}

function toolbar() {
  const search = h("input", { type: "search", placeholder: "seed, red, hair=blue, score>90", "aria-label": "Search", oninput: later(show, 120) });
  const option = (/** @type {string} */ value, /** @type {string} */ text) => h("option", { value }, text);
  const filter = h("select", { "aria-label": "Filter", onchange: show }, option("all", "not rejected"), option("stars", "starred"), option("rejected", "rejected"), option("every", "all"));
  const sort = h("select", { "aria-label": "Order", onchange: show }, option("newest", "newest first"), option("oldest", "oldest first"), option("score", "best first"), option("seed", "by seed"));
  const undo = h("button", { "aria-label": "Undo", onclick: () => step("undo") }, "↶");
  const redo = h("button", { "aria-label": "Redo", onclick: () => step("redo") }, "↷");
  const smaller = h("button", { "aria-label": "Smaller pictures", onclick: () => resize(0.8) }, "−");
  const larger = h("button", { "aria-label": "Larger pictures", onclick: () => resize(1.25) }, "+");
  const count = h("span", { class: "count", role: "status" });
  const out = h("button", { id: "export", title: "Write the selected pictures, or all starred ones, as a gallery" , onclick: exportChosen }, "Export");
  const emptyText = h("p", {});
  const empty = h("div", { class: "empty", hidden: true }, emptyText);
  tools = { search, filter, sort, undo, redo, count, empty, emptyText };
  return h("div", { class: "bar" }, search, filter, sort, count, undo, redo, smaller, larger, out);
}

/** @param {"undo" | "redo"} which */
async function step(which) {
  await api("make/" + which, {});
  state.version = -1;
  await load();
}

/** @param {number} factor */
function resize(factor) {
  size = Math.max(72, Math.min(360, Math.round(size * factor)));
  grid.layout();
}

async function exportChosen() {
  const selected = [...grid.selected], stars = state.order.filter((number) => state.items.get(number)?.star);
  const numbers = selected.length > 1 ? grid.items.filter((number) => grid.selected.has(number)) : stars.length ? stars : selected;
  if (!numbers.length) {
    say("Select pictures, or star them with s, then export.");
    return;
  }
  const done = await api("make/export", { numbers, name: "chosen" });
  command(done.command);
  say(`${done.pictures.toLocaleString()} pictures are in ${done.path}, with a sheet and a page.`);
}

/** @param {DragEvent} event */
async function drop(event) {
  for (const file of event.dataTransfer?.files || []) {
    await act("drop?name=" + encodeURIComponent(file.name), file).catch(() => undefined);
  }
}

/** @param {HTMLElement} room */
async function open(room) {
  grid = new Grid({ label: "Pictures", size: () => size, text: 26, make: makeCell, fill: fillCell, key: onkey,
    select: (numbers) => inspector.select(numbers), open: (number) => inspector.select([number]) });
  const left = leftPanel(), bar = toolbar();
  const middle = h("section", { class: "middle", "aria-label": "Pictures" }, bar, grid.element);
  grid.element.append(tools.empty);
  room.append(left, middle, inspector.open());
  room.addEventListener("drop", drop);
  fillModels();
  await chooseModel(panel.model.value);
  state.version = -1;
  await load();
  if (grid.items.length && !grid.selected.size) grid.go(0);
  panel.make.disabled = false;
}

/** @param {string} kind @param {any} data */
function event(kind, data) {
  if (!grid?.element.isConnected) return;
  if (kind === "made" && data.version !== state.version) later(() => data.version !== state.version && load(), 200)();
  if (kind === "project") fillModels();
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
const showSoon = later(() => show(), 1000);

addEventListener("keydown", (pressed) => {
  if (!grid?.element.isConnected || !(pressed.ctrlKey || pressed.metaKey) || /input|textarea/i.test(/** @type {any} */ (pressed.target).tagName)) return;
  if (pressed.key === "z" || pressed.key === "y") {
    pressed.preventDefault();
    step(pressed.key === "y" || pressed.shiftKey ? "redo" : "undo");
  }
});

export const room = { id: "make", name: "Make", open, event };
