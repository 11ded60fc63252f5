// The room Fill: paint a hole into a picture, and have it filled.
import { project } from "./app.js";
import { brushTools, Brush } from "./brush.js";
import { fill as fillSelect, isActive, wasShown } from "./controls.js";
import { api, command, h, latest, loaded, say } from "./dom.js";
import { load, picture, state as made, title } from "./make.js";
import { fileButton, madeNumber, pictureFile, receive, upload } from "./receive.js";

const EXAMPLES = "builtin:anime", SEEDS = 24, SHOWN = 200;

/** A picture, as the server finds it. @typedef {{seed?: number, number?: number, path?: string}} Source */
/** @type {any} */
let page;
/** @type {Brush} */
let painting;
/** @type {Source} */
let source = { seed: 10 };
let shown = "examples";  // in the strip
let chosen = "";  // the model
/** The mask and the result that Keep would write. @type {{source: Source, model: string, mask: string} | null} */
let filled = null;
let kept = 0;  // number of the job that writes it
const newPick = latest(), newFill = latest(), newStrip = latest();

/** @param {Source} one */
function url(one) {
  if (one.path) return `/api/file?path=${encodeURIComponent(one.path)}`;
  const item = one.number === undefined ? undefined : made.items.get(one.number);
  return item ? picture(item) : `/api/rewrite/picture?model=${EXAMPLES}&seed=${one.seed}`;
}

/** @param {Source} one @param {boolean} [keep]  whether an example may take its place @returns {Promise<void>} */
async function pick(one, keep = false) {
  const isLast = newPick();
  const image = new Image();
  image.src = url(one);
  const shows = await loaded(image);
  if (!isLast()) return;
  if (!shows) {
    if (keep) return pick({ seed: 10 });
    say("This picture cannot be shown.", "error");
    return;
  }
  if (!painting.element.isConnected) return;
  source = one;
  painting.show(image.src, image.naturalWidth, image.naturalHeight);
  page.brush.resize();
  forget();
}

/** Removes the result: the picture or the mask is another one now. */
function forget() {
  newFill();
  filled = null;
  kept = 0;
  showKept();
  page.state.textContent = "";
  page.result.hidden = true;
}

function painted() {
  if (page) page.fill.disabled = !painting.painted();
}

async function drawStrip() {
  const isLast = newStrip();
  /** @type {[Source, string, string][]} */
  let rows = Array.from({ length: SEEDS }, (_, seed) => [{ seed }, `seed ${seed}`, url({ seed })]);
  if (shown === "make") rows = [...made.items.values()].filter((item) => !item.rejected).slice(-SHOWN).reverse().map((item) => [{ number: item.number }, title(item), picture(item)]);
  else if (shown !== "examples") {
    const found = await api("gallery?path=" + encodeURIComponent(shown));
    if (!isLast() || !page.strip.isConnected) return;
    rows = found.rows.slice(0, SHOWN).map((/** @type {any} */ row) => {
      const path = `${shown}/${row.file_name}`;
      return [{ path }, row.file_name, `${url({ path })}&side=128`];
    });
  }
  page.strip.replaceChildren(...rows.map(([one, name, small]) => h("button", { title: name, "aria-label": name, onclick: () => pick(one) }, h("img", { src: small, alt: "", width: 64, height: 64, loading: "lazy" }))));
}

function lists() {
  const of = (/** @type {string} */ kind, /** @type {string} */ detail) => project.found.filter((/** @type {any} */ one) => one.kind === kind && (!detail || one.detail === detail)).map((/** @type {any} */ one) => one.path);
  const galleries = of("gallery", "");
  if (!["examples", "make", ...galleries].includes(shown)) shown = "examples";
  fillSelect(page.from, [["examples", "Examples"], ["make", "Pictures of Make"], ...galleries], "", shown);
  const models = [...of("checkpoint", "inpainting"), "builtin:inpainting"];
  if (!models.includes(chosen)) chosen = "builtin:inpainting";
  fillSelect(page.model, models, "", chosen);
}

async function fill() {
  const isLast = newFill(), asked = { source, model: chosen, mask: painting.result() };
  page.state.textContent = "Filling…";
  page.fill.disabled = true;
  try {
    const found = await api("fill/try", asked);
    if (!isLast() || !page.result.isConnected) return;
    filled = asked;
    kept = 0;
    showKept();
    page.after.src = found.picture;
    page.before.src = painting.image.src;
    page.result.hidden = false;
    page.result.scrollIntoView({ block: "nearest" });
  } finally {
    if (isLast()) page.state.textContent = "";
    painted();
  }
}

async function keep() {
  if (!filled) return;
  page.keep.disabled = true;
  try {
    const started = await api("fill/keep", filled);
    command(started.command);
    kept = started.job;
    showKept();
  } finally {
    page.keep.disabled = false;
  }
}

/** What became of Keep: its job may be done before its number is here. */
function showKept() {
  const job = kept && project.jobs.find((/** @type {any} */ one) => one.number === kept);
  page.kept.textContent = !kept ? "" : !job || isActive(job) ? "Writing…" : job.state === "done" ? `It is in ${job.about.out}.` : job.error || job.state;
}

/** Continues with the result, to fill another hole. */
async function goOn() {
  const canvas = document.createElement("canvas");
  canvas.width = page.after.naturalWidth;
  canvas.height = page.after.naturalHeight;
  canvas.getContext("2d")?.drawImage(page.after, 0, 0);
  const image = await new Promise((done) => canvas.toBlob(done));
  pick({ path: (await upload(/** @type {Blob} */ (image), "filled.png")).path });
}

/** @param {File} file */
function take(file) {
  upload(file).then((saved) => pick({ path: saved.path })).catch(wasShown);
}

/** @param {DataTransfer | null} data */
function receivePicture(data) {
  const number = madeNumber(data);
  if (number && made.items.has(number)) { pick({ number }); return; }
  const file = pictureFile(data);
  if (file) take(file);
}

/** Whether a reload would lose a mask, which is not the one of a result that is kept. */
const unkept = () => page && painting.painted() && !(kept && filled?.mask === painting.result());

addEventListener("beforeunload", (event) => { if (unkept()) event.preventDefault(); });

/** The room's parts, made once: leaving the room loses nothing. */
function build() {
  painting = new Brush(() => painted());
  const from = h("select", { id: "fill-from", onchange: () => { shown = from.value; drawStrip().catch(wasShown); } });
  const strip = h("div", { class: "strip", "aria-label": "Pictures to choose from", role: "group" });
  const model = h("select", { id: "fill-model", onchange: () => { chosen = model.value; forget(); } });
  const brush = brushTools(painting), state = h("p", { class: "quiet", role: "status" });
  const start = h("button", { class: "main", id: "fill", disabled: true, onclick: () => fill().catch(wasShown) }, "Fill");
  const before = h("img", { alt: "the original", width: 64, height: 64 }), after = h("img", { alt: "the filled picture", width: 64, height: 64 });
  const save = h("button", { class: "main", id: "keep-fill", onclick: () => keep().catch(wasShown) }, "Keep");
  const saved = h("p", { class: "quiet", role: "status", id: "kept" });
  const result = h("section", { class: "section", id: "filled", hidden: true }, h("h2", {}, "3. The result"), h("div", { class: "side-by-side" },
    h("figure", {}, before, h("figcaption", {}, "original")), h("figure", {}, after, h("figcaption", {}, "filled"))),
    h("div", { class: "row" }, save, h("button", { id: "continue-fill", onclick: () => goOn().catch(wasShown) }, "Go on with the result")), saved);
  const left = h("section", { class: "panel left", "aria-label": "Picture" }, h("h2", {}, "1. Choose a picture"), h("label", { class: "field" }, h("span", { class: "caption" }, "Pictures"), from), fileButton("fill-file", "Choose a file", take), h("p", { class: "quiet" }, "Or drop or paste one on this page. The built-in model knows drawn faces that fill the picture."));
  const middle = h("section", { class: "middle scroll", "aria-label": "The picture" }, strip, h("h2", {}, "2. Paint what is to be filled"), h("div", { class: "easel" }, painting.element), result);
  const right = h("section", { class: "panel right", "aria-label": "Tools" }, ...brush.elements, h("p", { class: "quiet" }, "With the keyboard: arrow keys move the brush, Space paints, Shift and the arrow keys draw a line, Ctrl+Z undoes."),
    h("div", { class: "section" }, h("label", { class: "field" }, h("span", { class: "caption" }, "Model"), model), start, state));
  page = { from, strip, model, brush, fill: start, state, result, before, after, keep: save, kept: saved, parts: [left, middle, right] };
}

/** @param {HTMLElement} room */
function open(room) {
  const first = !page;
  if (first) build();
  room.append(...page.parts);
  receive(room, receivePicture);
  lists();
  drawStrip();
  if (first) pick(source, true);
  load().then(() => shown === "make" && drawStrip());
}

/** @param {string} kind */
function event(kind) {
  if (!page?.strip.isConnected) return;
  if (kind === "project") lists();
  if (kind === "made") load().then(() => shown === "make" && drawStrip());
  if (kind === "job" || kind === "project") showKept();
}

export const room = { id: "fill", name: "Fill", open, event };
