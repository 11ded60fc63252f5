// The right side of Make: what can be done with the selected picture or pictures.
import { chips } from "./chips.js";
import { api, h, later, loaded, say, slider } from "./dom.js";
import { dragSection, stopDrag } from "./drag.js";
import { act, busy, enlarge, finished, focusGrid, picture, showCommand, sized, state, title, toggle } from "./make.js";
import { modelOf } from "./new.js";
import { copy } from "./take.js";

/** @typedef {import("./make.js").Item} Item */

/** @type {HTMLElement} */
let panel;
/** @type {number[]} */
let selected = [];
let shown = "";  // what the panel was drawn for
let strength = 0.3, frames = 24;  // of the next variations and walks
let changing = false;

const item = (/** @type {number} */ number) => /** @type {Item} */ (state.items.get(number));

export const inspector = {
  open() {
    panel = h("section", { class: "panel right", "aria-label": "The selected picture" });
    shown = "";
    inspector.select([]);
    return panel;
  },

  /** @param {number[]} numbers */
  select(numbers) {
    selected = numbers.filter((number) => state.items.has(number));
    inspector.update();
    if (selected.length === 1) commandOf(selected[0]);
    else showCommand("");
  },

  /** Shows the command of what was just done, not that of the selected picture. @param {string} text */
  showAction(text) {
    commandOf(0);
    showCommand(text);
  },

  /** Draws the panel anew if another picture is selected; otherwise only what can change of one. */
  update() {
    if (!panel) return;
    selected = selected.filter((number) => state.items.has(number));
    const model = selected.length ? modelOf(item(selected[0]), inspector.update) : null;
    const key = JSON.stringify([state.id, selected.slice(0, 13), selected.length, model?.hash, ...selected.slice(0, 2).map((number) => finished(item(number)))]);
    if (key !== shown) draw(key, model);
    const line = panel.querySelector("#about-one");
    if (line && selected.length === 1) line.textContent = about(item(selected[0]));
    panel.querySelector("#download")?.setAttribute("href", finished(item(selected[0])) + "&download=true");
    for (const flag of /** @type {const} */ (["star", "rejected"])) {
      panel.querySelector("#flag-" + flag)?.setAttribute("aria-pressed", String(selected.every((number) => item(number)[flag])));
    }
  },
};

/** The command of a picture, once the selection rests: that of a derived one has to be written first. */
const commandOf = later(async (/** @type {number} */ number) => {
  const found = number && await api("make/details/" + number).catch(() => null);
  if (found && panel.isConnected && selected.length === 1 && selected[0] === number) showCommand(sized(found.command, item(number)));
}, 200);

/** @param {string} key @param {any} model */
function draw(key, model) {
  const focused = panel.contains(document.activeElement), children = panel.children.length;
  shown = key;
  stopDrag();
  if (!selected.length) {
    panel.replaceChildren(h("p", { class: "quiet" }, "Select a picture to vary, change or drag it. Select two to compare or mix them, several to walk between them."),
      h("p", { class: "quiet" }, "Keys: arrows move, Space adds to the selection, Esc clears it, Enter or a double click shows a picture large, s stars, x rejects, Delete removes."));
  } else if (selected.length === 1) one(item(selected[0]), model);
  else several(selected.map(item), model);
  if (panel.children.length !== children) panel.scrollTop = 0;
  if (focused && !panel.contains(document.activeElement)) focusGrid();  // what had the focus is gone
}

/** @param {Item[]} items */
function actions(...items) {
  const numbers = items.map((one) => one.number), single = items.length === 1;
  return h("div", { class: "row" },
    h("button", { id: "flag-star", onclick: () => toggle("star", numbers) }, "★ Star"),
    h("button", { id: "flag-rejected", onclick: () => toggle("rejected", numbers) }, "Reject"),
    items.length < 3 && h("button", { id: "enlarge", title: "As large as the window (Enter, or double click)", onclick: enlarge }, "Large"),
    single && h("button", { id: "copy", title: "Copy the picture with its recipe", onclick: () => copy(items[0]) }, "Copy picture"),
    single && h("a", { class: "button", id: "download", download: "" }, "Download"));
}

/** @param {Item} it */
export function about(it) {
  const name = typeof it.seed === "number" ? it.origin : `picture ${it.number}`;
  const parts = [title(it), name !== "new" && name, typeof it.seed === "number" && `truncation ${it.truncation}`, it.score !== null && `${Math.round(it.score * 100)}\u00a0% undistorted`];
  return [...new Set(parts)].filter(Boolean).join(" · ");
}

/** @param {Item} it @param {any} model */
function one(it, model) {
  const image = h("img", { src: finished(it), alt: title(it), width: model?.width || 64, height: model?.height || 64 });
  const stage = h("div", { class: "stage" }, image);
  const different = slider("How different", { min: 0.05, max: 1, step: 0.05, value: strength, show: (v) => `${Math.round(v * 100)} %`, oninput: (v) => { strength = v; } });
  const attributes = model?.attributes || {};
  panel.replaceChildren(stage, h("p", { class: "quiet", id: "about-one" }), actions(it), model && !it.turn ? dragSection(it, stage, image, model) : "", turnSection(it, image),
    Object.keys(attributes).length ? h("div", { class: "section", id: "change" }, h("h2", {}, "Change one thing"), ...chips(attributes, it.labels, (name, value) => change(it, name, value))) : "",
    h("div", { class: "section" }, h("h2", {}, "Variations"), different.element,
      h("button", { id: "vary", onclick: busy(() => act("vary", { number: it.number, count: 8, strength })) }, "Make 8 variations")));
}

/** Turns the head, with a preview in the panel's picture. @param {Item} it @param {HTMLImageElement} image */
function turnSection(it, image) {
  const show = (/** @type {number} */ v) => (v ? `${Math.abs(v)}° to the ${v < 0 ? "left" : "right"}` : "as drawn");
  const preview = later(async (/** @type {number} */ degrees) => {
    const turned = await api("make/turn", { number: it.number, degrees, keep: false }).catch(() => null);
    if (turned && degrees === angle.value) image.src = turned.picture;
  }, 40);
  const angle = slider("Turn of the head", { min: -25, max: 25, step: 1, value: it.turn, show, oninput: (v) => { keep.disabled = v === it.turn; preview(v); } });
  const keep = h("button", { id: "turn", disabled: true, onclick: busy(() => act("turn", { number: it.number, degrees: angle.value })) }, "Keep this turn");
  return h("div", { class: "section" }, angle.element, keep);
}

/** @param {Item} it @param {string} name @param {string | null} value */
async function change(it, name, value) {
  if (changing || value === null || value === it.labels[name]) return;
  changing = true;
  await act("change", { number: it.number, where: { [name]: value } }).catch(() => undefined);
  changing = false;
}

/** @param {Item[]} items @param {any} model */
function several(items, model) {
  const [a, b] = items, alike = new Set(items.map((one) => one.model)).size === 1;
  const parts = [];
  if (items.length === 2) {
    parts.push(h("div", { class: "stage pairs", onclick: enlarge }, ...items.map((one) => h("img", { src: finished(one), alt: title(one), width: 64, height: 64 }))),
      h("p", { class: "quiet" }, `${title(a)} and ${title(b)}`), actions(...items));
    if (alike) parts.push(mixSection(a, b, model));
  } else {
    parts.push(h("p", {}, `${items.length.toLocaleString()} pictures selected`), actions(...items));
  }
  if (items.length <= 12 && alike) parts.push(walkSection(items.map((one) => one.number)));
  panel.replaceChildren(...parts);
}

/** @param {Item} a @param {Item} b @param {any} model */
function mixSection(a, b, model) {
  const image = h("img", { src: picture(a), alt: "mixture", width: 64, height: 64 });
  const preview = later(async (/** @type {number} */ layer) => {
    const mixed = await api("make/mix", { coarse: a.number, fine: b.number, layer, keep: false }).catch(() => null);
    if (mixed) image.src = mixed.picture;
  }, 40);
  const layers = model?.layers || 10;
  const layer = slider("Layers of the second picture: all to none", { min: 0, max: layers, step: 1, value: Math.round(layers * 0.4), oninput: preview });
  preview(layer.value);
  return h("div", { class: "section" }, h("h2", {}, "Mix"), h("p", { class: "quiet" }, "Pose and shape of the first, colours and details of the second."), h("div", { class: "stage" }, image), layer.element,
    h("div", { class: "row" }, h("button", { id: "mix", class: "main", onclick: busy(() => act("mix", { coarse: a.number, fine: b.number, layer: layer.value })) }, "Keep this mixture"),
      h("button", { onclick: () => inspector.select([b.number, a.number]) }, "Swap")));
}

/** @param {number[]} numbers */
function walkSection(numbers) {
  const least = Math.max(numbers.length, 8);
  const many = slider("Pictures", { min: least, max: 120, step: 1, value: Math.max(least, frames), oninput: (v) => { frames = v; } });
  const go = h("button", { id: "walk", onclick: busy(async () => {
    const answer = await act("walk", { numbers, frames: many.value }, { all: true });
    say("The walk is selected: Export writes it with an animation.");
    play(answer.rows.map((/** @type {any[]} */ row) => finished(item(row[0]))));
  }) }, "Walk between them");
  return h("div", { class: "section" }, h("h2", {}, "Walk"), many.element, go);
}

/** Plays pictures in the panel until something else is selected. @param {string[]} urls */
async function play(urls) {
  const image = h("img", { alt: "walk", width: 64, height: 64, src: urls[0] });
  const stage = h("div", { class: "stage" }, image), drawn = shown;
  await Promise.all(urls.map((url) => loaded(Object.assign(new Image(), { src: url }))));
  if (shown !== drawn) return;
  panel.prepend(stage);
  let i = 0;
  const timer = setInterval(() => {
    if (!stage.isConnected) { clearInterval(timer); return; }
    i = (i + 1) % (2 * urls.length - 2 || 1);
    image.src = urls[i < urls.length ? i : 2 * urls.length - 2 - i];
  }, 1000 / 12);
}
