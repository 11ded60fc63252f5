// The room Rewrite: paint a mask, paste a pattern, learn the rule, try its strength.
import { project, refresh } from "./app.js";
import { brushTools } from "./brush.js";
import { fill, isActive, wasShown } from "./controls.js";
import { api, command, h, later, latest, say, slider } from "./dom.js";
import { exampleList, newLesson } from "./examples.js";
import { load, picture, state as made, title } from "./make.js";
import { Painting } from "./paint.js";

const SEEDS = 24, BUILT_IN = ["builtin:character", "builtin:anime"];  // generators with a projector
/** @type {any} */
let model = null;
/** @type {any} */
let page;
/** @type {Painting} */
let painting;
/** What the generators of a root were last taught: a rewritten one has the seeds of its root, so examples stay usable.
 * @type {Map<string, import("./examples.js").Lesson>} */
const lessons = new Map();
let lesson = newLesson();
/** The generators from which rules are learned, by the folders of the results. @type {Map<string, string>} */
const origins = new Map();
/** @type {{seed?: number, number?: number} | null} */
let target = null;
/** @type {Record<string, number>} */
let strengths = {};
/** Whether the next picture of the strip is one to take from. */
let taking = false;
/** Whether something was painted since a rule was begun, which showing its model would lose. */
let touched = false;
const choice = latest();
/** Whether a comparison is computed, and whether it is out of date already. */
let comparing = false, outdated = false;

function editable() {
  const own = project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && one.detail === "stylegan2").map((/** @type {any} */ one) => one.path);
  return [...own, ...BUILT_IN];
}

function fillModels() {
  const names = editable(), now = model?.model || BUILT_IN[0];
  fill(page.model, names, "", now);
}

/** @param {string} name @param {string} [from]  where the rule of its examples was learned @param {boolean} [show]  scroll to what its rules do */
async function choose(name, from, show) {
  const newest = choice(), found = await api("rewrite/model?name=" + encodeURIComponent(name)).catch(wasShown);
  if (!newest()) return;
  if (found) model = found;
  fillModels();
  if (!found) return;
  page.problem.textContent = model.problem;
  strengths = Object.fromEntries(model.rules.map((/** @type {any} */ rule) => [rule.name, rule.strength]));
  lesson = lessons.get(model.root) ?? newLesson();
  lessons.set(model.root, lesson);
  if (from !== undefined) lesson.from = from;
  suggest(lesson.name);
  takeFrom(false);
  drawStrip();
  drawRules();
  page.list.show(lesson);
  pick({ seed: 10 });
  page.pairs.replaceChildren();
  page.compare.hidden = !model.rules.length;
  if (model.rules.length) await compare();
  if (show) page.compare.scrollIntoView();
}

/** The picture of a seed, or of Make, as the generator draws it: neither turned nor mirrored. @param {{seed?: number, number?: number}} one */
function url(one) {
  const which = one.number === undefined ? `seed=${one.seed}` : `number=${one.number}&list=${made.id}`;
  return `/api/rewrite/picture?model=${encodeURIComponent(model.model)}&${which}&hash=${model.hash}`;
}

/** The same to paint on: enlarged, lines and areas cleaned, if the upscaler is made for the generator. @param {{seed?: number, number?: number}} one */
const canvasUrl = (one) => url(one) + (project.enlarged.includes(model.model) ? "&large=true" : "");

function drawStrip() {
  const own = [...made.items.values()].filter((item) => item.star && !item.blended && item.model === model.model).map((item) => ({ number: item.number, name: title(item) }));
  const seeds = Array.from({ length: SEEDS }, (_, seed) => ({ seed, name: `seed ${seed}` }));
  page.strip.replaceChildren(...[...own, ...seeds].map((one) => h("button", { title: one.name, "aria-label": one.name, onclick: () => (taking ? take(url(one)) : pick(one)) }, h("img", { src: url(one), alt: "", width: 64, height: 64, loading: "lazy" }))));
}

/** @param {{seed?: number, number?: number}} one */
function pick(one) {
  target = one;
  painting.show(canvasUrl(one), model.width, model.height);
  page.brush.resize();
  page.brush.choose("brush");
}

function painted() {
  touched = true;
  const pattern = Boolean(painting.pattern);
  page.brush.buttons.move.disabled = !pattern;
  page.sizeOf.hidden = !pattern;
  if (pattern) {
    page.size.value = Math.round(painting.at.size * /** @type {HTMLImageElement} */ (painting.pattern).naturalWidth);
    page.turn.value = ((Math.round(painting.at.turn) + 180) % 360 + 360) % 360 - 180;
  }
  page.add.disabled = painting.empty || !model;
  page.add.textContent = pattern ? "Add this example" : "Add: erase the painted area";
}

/** @param {string} source @param {string} name  of the rule, if it has none yet @param {boolean} [whole]  a picture of which the mask shows a part */
function usePattern(source, name, whole = false) {
  const image = new Image();
  image.onload = () => { painting.setPattern(image, whole); page.brush.choose(painting.tool); };
  image.onerror = () => say("This is not a picture that the browser can show.", "error");
  image.src = source;
  if (!lesson.examples.length) suggest(name);
}

/** The name of a rule that gets none: that of its first pattern. @param {string} name */
function suggest(name) {
  lesson.name = name;
  page.name.placeholder = name || "rule";
}

/** @param {File} file */
const usePatternFile = (file) => usePattern(URL.createObjectURL(file), file.name.replace(/[-_ \d]*\.[^.]*$/, "").slice(0, 40));

/** @param {DataTransfer | null} data */
function drop(data) {
  const number = data?.getData("text/kyara-picture");
  const item = number ? made.items.get(Number(number)) : undefined;
  const file = [...(data?.files || [])].find((one) => one.type.startsWith("image/"));
  if (item) take(picture(item));
  else if (file) usePatternFile(file);
}

/** Begins or ends the choice of a picture to take from. @param {boolean} on */
function takeFrom(on) {
  taking = on;
  page.take.setAttribute("aria-pressed", String(on));
  page.strip.classList.toggle("taking", on);
  if (on) say("Click the picture in the strip that has what you want.");
}

/** Paints with another picture. @param {string} source */
function take(source) {
  takeFrom(false);
  usePattern(source, "part", true);
  say("Paint where the other picture should show.");
}

const addExample = () => page.list.add(painting, { ...(target?.number === undefined ? { seed: target?.seed } : { number: target.number }), model: model.model });

/** The rule can be learned if there is an example. */
function allowLearn() {
  page.learn.disabled = Boolean(model?.problem) || !lesson.examples.length;
}

function another() {
  lesson = newLesson();
  lessons.set(model.root, lesson);
  page.name.value = "";
  suggest("");
  page.list.show(lesson);
}

/** Says why a rule was not learned, until the next attempt. @param {string} text */
function explain(text) {
  page.reason.textContent = text;
  page.reason.hidden = !text;
}

async function learn() {
  const name = page.name.value.trim() || lesson.name || "rule", from = lesson.from || model.model;
  page.learn.disabled = true;
  explain("");
  try {
    const sent = lesson.examples.map(({ shown, ...rest }) => rest);
    const edit = await api("rewrite/edit", { name, model: from, examples: sent });
    const started = await api("rewrite/learn", { model: from, edit: edit.path, name, quick: !page.careful.checked });
    command(started.command);
    origins.set(started.out, from);
    touched = lesson.added = false;
    page.progress.hidden = false;
    page.progress.scrollIntoView({ block: "nearest" });
  } catch (error) {
    wasShown(error);
    explain(/** @type {Error} */ (error).message);
  } finally {
    allowLearn();
  }
}

/** Shows how far the job of a rule is. @param {any} job */
function showProgress(job) {
  page.progress.hidden = !isActive(job);
  if (job.state === "failed") explain(`${job.title}: ${job.error}`);
  page.progress.firstChild.value = job.progress ?? 0;
  const state = job.state === "waiting" ? "waits for other tasks" : job.progress === null ? "begins" : `${Math.round(job.progress * 100)} %${job.left ? `, ${job.left} left` : ""}`;
  page.progress.lastChild.textContent = `${job.title}: ${state}`;
}

function drawRules() {
  const rows = model.rules.map((/** @type {any} */ rule) => {
    const start = strengths[rule.name];
    const control = slider(rule.name, { min: 0, max: 1.5, step: 0.05, value: start, show: (v) => v.toFixed(2), oninput: (v) => { strengths[rule.name] = v; on.setAttribute("aria-pressed", String(v > 0)); compareSoon(); } });
    const on = h("button", { "aria-pressed": String(start > 0), "aria-label": `${rule.name} on or off`, onclick: () => {
      const value = strengths[rule.name] > 0 ? 0 : rule.strength || 1;
      strengths[rule.name] = value;
      control.value = value;
      on.setAttribute("aria-pressed", String(value > 0));
      compareSoon();
    } }, "on");
    return h("div", { class: "rule" }, control.element, on, h("a", { class: "button", href: `/api/file?path=${encodeURIComponent(`${model.model}/edits/${rule.file}`)}`, download: rule.file, title: "The rule as a file, to share" }, "Share"));
  });
  page.rules.replaceChildren(h("h2", {}, "Rules"), ...(rows.length ? [...rows, h("div", { class: "row" }, h("button", { id: "save-strengths", onclick: () => saveStrengths().catch(wasShown) }, "Save as a new model"), h("button", { onclick: resetStrengths }, "Undo changes"))] : [h("p", { class: "quiet" }, "This model has no rules yet.")]), h("label", { class: "button file" }, "Add a shared rule", page.shared));
}

function resetStrengths() {
  strengths = Object.fromEntries(model.rules.map((/** @type {any} */ rule) => [rule.name, rule.strength]));
  drawRules();
  compareSoon();
}

/** Adds a rule that somebody shared. @param {File} file */
async function addRule(file) {
  touched = !painting.empty;
  command((await api(`rewrite/rule?model=${encodeURIComponent(model.model)}&name=${encodeURIComponent(file.name)}`, file)).command);
}

async function saveStrengths() {
  touched = !painting.empty;
  const started = await api("rewrite/save", { model: model.model, strengths, name: "rules" });
  command(started.command);
}

/** Shows what the rules do, one request at a time: each takes seconds. */
async function compare() {
  outdated = true;
  if (comparing) return;
  comparing = true;
  while (outdated) {
    const asked = model;
    outdated = false;
    const found = await api("rewrite/compare", { model: asked.model, strengths }).catch(() => null);
    if (found && asked === model) showPairs(found);
  }
  comparing = false;
}

/** @param {{before: string[], after: string[]}} found */
function showPairs(found) {
  const old = page.pairs.children;
  if (old.length === found.before.length) {
    found.after.forEach((/** @type {string} */ source, /** @type {number} */ i) => { old[i].children[0].src = found.before[i]; old[i].children[1].src = source; });
    return;
  }
  page.pairs.replaceChildren(...found.before.map((/** @type {string} */ before, /** @type {number} */ i) =>
    h("div", { class: "pair" }, h("img", { src: before, alt: `seed ${i} before`, width: 64, height: 64 }), h("img", { class: "after", src: found.after[i], alt: `seed ${i} after`, width: 64, height: 64 }))));
}
const compareSoon = later(compare, 60);

/** Shows the model of a rule that is learned, or offers it if that would lose something. @param {string} out */
async function arrived(out) {
  await refresh();
  fillModels();
  page.offer.hidden = !touched && page.model.isConnected;
  page.offer.textContent = `Show ${out}`;
  page.offer.onclick = () => { page.offer.hidden = true; choose(out, origins.get(out), true); };
  if (page.offer.hidden) choose(out, origins.get(out), true);
}

/** The room's parts, made once: leaving the room loses nothing. */
function build() {
  painting = new Painting(() => page && painted());
  const select = h("select", { onchange: () => { explain(""); choose(select.value, ""); } });
  const problem = h("p", { class: "error-text" });
  const rules = h("div", { class: "section" });
  const left = h("section", { class: "panel left", "aria-label": "Model and rules" }, h("label", { class: "field" }, h("span", { class: "caption" }, "Generator"), select), problem, rules);

  const strip = h("div", { class: "strip", "aria-label": "Pictures to choose from", role: "group" });
  const split = slider("Show what was before", { min: 0, max: 100, step: 1, value: 0, show: (v) => `${v} %`, oninput: (v) => pairs.style.setProperty("--split", `${v}%`) });
  const pairs = h("div", { class: "pairs-grid", id: "pairs" });
  pairs.style.setProperty("--split", "0%");
  const compareBox = h("section", { class: "section", id: "compare", hidden: true }, h("h2", {}, "Sixteen seeds, before and after"), split.element, pairs);
  const middle = h("section", { class: "middle scroll", "aria-label": "The picture" }, h("h2", {}, "1. Choose a picture"), strip, h("h2", {}, "2. Paint where it changes, or drop a pattern on it"), h("div", { class: "easel" }, painting.element), compareBox);

  const brush = brushTools(painting, ["move", "Move pattern"]);
  const size = slider("Size of the pattern", { min: 4, max: 256, step: 1, value: 32, show: (v) => `${v} px`, oninput: (v) => { painting.at.size = v / /** @type {any} */ (painting.pattern).naturalWidth; painting.draw(); } });
  const turn = slider("Turn", { min: -180, max: 180, step: 1, value: 0, show: (v) => `${v}°`, oninput: (v) => { painting.at.turn = v; painting.draw(); } });
  const sizeOf = h("div", { class: "field", hidden: true }, size.element, turn.element);
  const file = h("input", { type: "file", accept: "image/*", id: "pattern-file", class: "sr-only", onchange: () => { if (file.files[0]) usePatternFile(file.files[0]); file.value = ""; } });
  const take = h("button", { id: "take", "aria-pressed": "false", onclick: () => takeFrom(!taking) }, "Take from another picture");
  const add = h("button", { id: "add-example", disabled: true, onclick: addExample }, "Add this example");
  const list = exampleList(allowLearn, another), reason = h("p", { class: "error-text", id: "why-not", role: "alert", hidden: true });
  const name = h("input", { type: "text", id: "rule-name", placeholder: "rule", maxlength: 40, autocomplete: "off" });
  const start = h("button", { class: "main", id: "learn", disabled: true, onclick: learn }, "Learn this rule");
  const careful = h("input", { type: "checkbox", id: "careful" });
  const shared = h("input", { type: "file", accept: ".safetensors", id: "rule-file", class: "sr-only", onchange: () => { if (shared.files[0]) addRule(shared.files[0]).catch(wasShown); shared.value = ""; } });
  const offer = h("button", { id: "offer", hidden: true });
  const progress = h("div", { class: "field", id: "learning", hidden: true }, h("progress", { max: 1, value: 0, "aria-label": "Learning" }), h("p", { class: "quiet" }, ""));
  const right = h("section", { class: "panel right", "aria-label": "Tools" }, ...brush.elements,
    h("div", { class: "section" }, h("h2", {}, "Pattern"), h("p", { class: "quiet" }, "A PNG with a transparent background works best. Drop it on the picture, paste it, or choose a file. Without a pattern, the painted area is erased."), h("div", { class: "row" }, h("label", { class: "button file" }, "Choose a file", file), take), sizeOf),
    h("div", { class: "section" }, h("h2", {}, "3. Examples"), ...list.elements, add),
    h("div", { class: "section" }, h("h2", {}, "4. Learn"), h("label", { class: "field" }, h("span", { class: "caption" }, "Name of the rule"), name), h("label", { class: "row check" }, careful, "Take twice the time, for a clearer pattern"), start, reason, progress, offer));

  page = { model: select, problem, rules, strip, compare: compareBox, pairs, brush, size, turn, sizeOf, add, list, name, learn: start, careful, take, reason, progress, offer, shared, parts: [left, middle, right] };
  painting.element.addEventListener("drop", (/** @type {DragEvent} */ e) => { e.preventDefault(); e.stopPropagation(); drop(e.dataTransfer); });
}

/** @param {HTMLElement} room */
function open(room) {
  if (!page) {
    build();
    const last = project.jobs.findLast((/** @type {any} */ job) => job.about.room === "rewrite");
    if (last) showProgress(last);
  }
  room.append(...page.parts);
  fillModels();
  if (!model || !editable().includes(model.model)) choose(BUILT_IN[0]);
  else drawStrip();
  load().then(() => model && drawStrip());  // the starred pictures of Make
}

/** Whether a reload would lose a mask or an example. */
const unlearned = () => page && ((touched && !painting.empty) || [...lessons.values()].some((one) => one.added));

addEventListener("beforeunload", (event) => { if (unlearned()) event.preventDefault(); });
addEventListener("paste", (event) => { if (page?.model.isConnected) drop(/** @type {ClipboardEvent} */ (event).clipboardData); });

/** @param {string} kind @param {any} data */
function event(kind, data) {
  if (!page) return;
  if (kind === "project") fillModels();
  if (kind !== "job" || data.job.about.room !== "rewrite") return;
  showProgress(data.job);
  if (data.job.state !== "done") return;
  arrived(data.job.about.out);
  const rule = data.job.results.at(-1)?.rules?.find((/** @type {any} */ one) => one.learned);
  if (rule) say(`${rule.name} is learned. Move the slider below the picture to compare, or change its strength on the left.`);
}

export const room = { id: "rewrite", name: "Rewrite", open, event };
