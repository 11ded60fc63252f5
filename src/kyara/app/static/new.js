// The left side of Make: new pictures of a generator.
import { project } from "./app.js";
import { chips } from "./chips.js";
import { fill } from "./controls.js";
import { api, h, slider } from "./dom.js";
import { act, state } from "./make.js";
import { fileButton } from "./receive.js";
import { takeFiles } from "./take.js";

const KINDS = ["stylegan2", "dcgan", "mlp", "vae", "cgan", "acgan"];
/** @type {any} */
let panel;

/** What is known about generators, by name. @type {Map<string, any>} */
const known = new Map();

/** What the generator of a picture can do; null until the server has answered, then `then` is called. @param {import("./make.js").Item} item @param {() => void} then */
export function modelOf({ model }, then) {
  if (!known.has(model)) {
    known.set(model, null);
    api("make/model?name=" + encodeURIComponent(model)).then((about) => { known.set(model, about); then(); }).catch(() => undefined);
  }
  return known.get(model);
}

/** What is left as it was when the room is opened again. */
function choices() {
  const before = panel;
  return before ? { model: before.model.value || before.last, truncation: before.truncation.value, count: before.count.value, seeds: before.seeds.value } : { model: "", truncation: 0.7, count: 16, seeds: "" };
}

export function newPanel() {
  const before = choices();
  const model = h("select", { id: "model", onchange: () => chooseModel(model.value) });
  const truncation = slider("Truncation", { min: 0, max: 1.2, step: 0.05, value: before.truncation, show: (v) => v.toFixed(2) });
  const count = h("input", { id: "count", type: "number", min: 1, max: 25000, required: true, value: before.count });
  const allowCount = () => { count.disabled = Boolean(seeds.value.trim()); };  // the seeds say how many
  const seeds = h("input", { id: "seeds", type: "text", placeholder: "next ones", autocomplete: "off", value: before.seeds, oninput: allowCount });
  const make = h("button", { class: "main", id: "make-new", type: "submit", disabled: true }, "Make pictures");
  const box = h("div", { class: "field", id: "new-chips" });
  const load = fileButton("load-file", "Choose a file", (file) => takeFiles([file])), reading = h("p", { class: "quiet", id: "reading", role: "status" });
  panel = { model, truncation, count, seeds, make, chips: box, load, reading, last: before.model };
  allowCount();
  showReading();
  return h("form", { class: "panel left", "aria-label": "New pictures", onsubmit: (/** @type {Event} */ e) => { e.preventDefault(); makeNew(); } },
    h("div", { class: "scrolled" }, h("label", { class: "field" }, h("span", { class: "caption" }, "Generator"), model), box, truncation.element,
      h("p", { class: "quiet" }, "Drop or paste a picture to go on with it, or choose a file."), load, reading),
    h("div", { class: "foot" },
      h("div", { class: "two" }, h("label", { class: "field" }, h("span", { class: "caption" }, "How many"), count), h("label", { class: "field" }, h("span", { class: "caption" }, "Seeds"), seeds)), make));
}

/** Says which file is read: a large one takes a while. */
export function showReading() {
  const [name] = state.reading;
  panel.reading.textContent = name ? `Reading ${name}…` : "";
  panel.load.querySelector("input").disabled = Boolean(name);
}

/** Shows the generators. Returns what enables the button, for when the room knows its pictures. */
export async function openPanel() {
  const { make } = panel;
  fillModels();
  await chooseModel(panel.model.value);
  return () => { make.disabled = false; };
}

/** Lists the generators of the project. */
export function fillModels() {
  const found = project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && KINDS.includes(one.detail)).map((/** @type {any} */ one) => one.path);
  const names = [...found, ...project.builtin.filter((/** @type {any} */ one) => one.model === "stylegan2").map((/** @type {any} */ one) => one.name)];
  const chosen = panel.model.value || panel.last, now = names.includes(chosen) ? chosen : names.find((name) => name === "builtin:character") || names[0];
  fill(panel.model, names, "", now);
}

/** @param {string} name */
async function chooseModel(name) {
  const found = await api("make/model?name=" + encodeURIComponent(name));
  known.set(name, found);
  if (panel.model.value !== name) return;  // another one was chosen meanwhile
  state.model = found;
  state.where = Object.fromEntries(Object.entries(state.where).filter(([a, v]) => found.attributes[a]?.includes(v)));
  drawChips();
}

function drawChips() {
  panel.chips.replaceChildren(...chips(state.model.attributes, state.where, (name, value) => {
    if (value === null || state.where[name] === value) delete state.where[name];
    else state.where[name] = value;
    drawChips();
  }, "any"));
}

async function makeNew() {
  const seeds = panel.seeds.value.trim();
  const body = { model: panel.model.value, where: state.where, truncation: panel.truncation.value };
  panel.make.disabled = true;
  try {
    await act("new", seeds ? { ...body, seeds } : { ...body, count: Number(panel.count.value) });
  } catch { /* the message is shown */ } finally {
    panel.make.disabled = false;
  }
}
