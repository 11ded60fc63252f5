// The room Me: a photo of a person becomes a character, a photo or a film a cartoon.
import { project, refresh } from "./app.js";
import { action, field, figure, fill, isActive, jobRow, option, wasShown } from "./controls.js";
import { api, command, h, latest, say, slider } from "./dom.js";
import { chips } from "./chips.js";
import { fileButton, isFilm, mediaFile, receive, upload } from "./receive.js";
import { takePhoto } from "./webcam.js";

/** The generators of the verb, and others that are offered, by how a character is drawn. */
const CHILDREN = { traits: ["builtin:character", "builtin:anime"], photo: ["builtin:anime"] };
/** The photo, and what was found in it. @type {{path: string, width: number, height: number, faces: number[][], problem: string, film?: boolean} | null} */
let photo = null;
let face = 1, aligned = false;
/** How a character is drawn: from what is read in the photo, or from the photo itself, of which so much stays. */
const how = { by: /** @type {"traits" | "photo"} */ ("traits"), stays: 3, pose: false };
const STAYS = ["none", "a trace", "a little", "some", "much", "most", "nearly all"];
/** @type {Record<string, string>} */
let where = {};
/** The generator of characters. @type {any} */
let model = null;
/** @type {any} */
let page;
/** The gallery and the cartoon that are shown, and the drawing that is chosen. */
let shown = { out: /** @type {string | null} */ (null), cartoon: "", path: "" };
const newPhoto = latest(), newProposals = latest();

const url = (/** @type {string} */ path) => `/api/file?path=${encodeURIComponent(path)}`;
const filmUrl = (/** @type {string} */ path) => `/api/me/film?path=${encodeURIComponent(path)}`;

/** @param {any} element  an image or a film @param {string} source  or "" for none */
function setSource(element, source) {
  if ((element.getAttribute("src") ?? "") === source) return;
  if (source) element.src = source;
  else element.removeAttribute("src");
}

/** Uses a photo or a film. @param {File} file */
function take(file) {
  (isFilm(file) ? useFilm(file) : use(upload(file))).catch(wasShown);
}

/** @param {File} file */
async function useFilm(file) {
  const isLast = newPhoto();
  page.state.textContent = "Copying the film…";
  try {
    const found = await api("me/film?name=" + encodeURIComponent(file.name), file);
    if (isLast()) show({ ...found, faces: [], problem: "", film: true });
  } finally {
    if (isLast()) page.state.textContent = "";
  }
}

/** Uses a photo, as soon as it is in the project. @param {Promise<{path: string, width: number, height: number}>} saved */
async function use(saved) {
  const isLast = newPhoto();
  page.state.textContent = "Looking for a face…";
  try {
    const file = await saved;
    if (isLast()) show({ ...file, faces: [], problem: "" });
    const found = await api("me/faces", { path: file.path });
    if (isLast()) show({ ...file, ...found });
  } finally {
    if (isLast()) page.state.textContent = "";
  }
}

/** Uses the photo or the film of the newest job: the page was read anew. */
async function takeUp() {
  const last = project.jobs.findLast((/** @type {any} */ job) => job.about.room === "me"), isLast = newPhoto();
  if (!last) return;
  const found = await api("me/photo?path=" + encodeURIComponent(last.about.path));
  if (!isLast()) return;
  if (found.film) show({ ...found, faces: [], problem: "" });
  else await use(Promise.resolve(found));
}

/** @param {NonNullable<typeof photo>} found */
function show(found) {
  if (photo?.path !== found.path) {
    shown = { out: null, cartoon: "", path: "" };
    face = 1;
  }
  photo = found;
  draw();
  sync();
}

/** Draws what is known about the photo. */
function draw() {
  page.start.hidden = Boolean(photo);
  page.stage.hidden = !photo;
  allow();
  page.problem.textContent = photo && !aligned ? photo.problem : "";
  if (!photo) return;
  const { path, width, height, faces, film } = photo;
  page.photo.hidden = Boolean(film);
  page.film.hidden = !film;
  setSource(page.photo, film ? "" : url(path));
  setSource(page.film, film ? filmUrl(path) : "");
  Object.assign(page.photo, { width, height });
  page.stage.style.setProperty("width", `min(100%, 34rem, ${60 * width / height}vh)`);
  page.boxes.replaceChildren(...(aligned ? [] : faces.map((box, i) => faceButton(box, i + 1, width, height))));
  page.found.textContent = film ? "A film can be drawn as a cartoon, which takes seconds for each frame." : aligned || !faces.length ? "" : faces.length === 1 ? "One face was found." : `${faces.length} faces were found: click the one to draw.`;
}

const ofPhoto = () => project.jobs.filter((/** @type {any} */ job) => photo && job.about.room === "me" && job.about.path === photo.path);

/** One drawing and one cartoon of a photo at a time. */
function allow() {
  const steps = ofPhoto().filter(isActive).map((/** @type {any} */ job) => job.about.step);
  page.draw.allow(photo && !photo.film && (aligned || photo.faces.length > 0) && !steps.includes("avatar"));
  page.cartoon.allow(photo && !steps.includes("cartoon"));
}

/** @param {number[]} box @param {number} number @param {number} width @param {number} height */
function faceButton([left, top, right, bottom], number, width, height) {
  const button = h("button", { class: "face", id: `face-${number}`, "aria-pressed": String(number === face), "aria-label": `Face ${number}`, title: `Face ${number}`, onclick: () => { face = number; draw(); page.boxes.children[number - 1].focus(); } });
  const sides = { left: left / width, top: top / height, width: (right - left) / width, height: (bottom - top) / height };
  for (const [name, share] of Object.entries(sides)) button.style.setProperty(name, `${share * 100}%`);
  return button;
}

async function chooseModel(/** @type {string} */ name) {
  const found = await api("make/model?name=" + encodeURIComponent(name));
  if (page.model.value !== name) return;
  model = found;
  where = Object.fromEntries(Object.entries(where).filter(([a, v]) => found.attributes[a]?.includes(v)));
  drawChips();
}

function drawChips() {
  const pick = (/** @type {string} */ name, /** @type {string | null} */ value) => {
    if (value === null || where[name] === value) delete where[name];
    else where[name] = value;
    drawChips();
  };
  page.chips.replaceChildren(...chips(model.attributes, where, pick, "as in the photo"));
}

/** Starts the job that draws proposals. */
async function propose() {
  if (!photo) return;
  const child = page.model.value === CHILDREN[how.by][0] ? "" : page.model.value;
  const body = { path: photo.path, face: aligned ? 0 : face, aligned, where, child, ...(how.by === "photo" ? { stays: how.stays, pose: how.pose } : {}) };
  command((await api("me/draw", body)).command);
  await refresh();  // so that the job is known before the button is enabled
}

async function cartoon() {
  if (!photo) return;
  command((await api("me/cartoon", { path: photo.path })).command);
  await refresh();
}

/** Shows the newest results for the photo, and what is running for it. The list of jobs is the truth: it does not matter
 * in which order answers come, or whether the room was closed meanwhile. */
function sync() {
  const mine = ofPhoto();
  page.running.replaceChildren(...mine.filter(isActive).map(jobRow));
  allow();
  const last = (/** @type {string} */ step) => mine.findLast((/** @type {any} */ job) => job.about.step === step);
  const failed = [last("avatar"), last("cartoon")].find((job) => job?.state === "failed");
  page.failed.textContent = failed ? failed.error : "";
  const done = (/** @type {string} */ step) => mine.findLast((/** @type {any} */ job) => job.about.step === step && job.state === "done");
  showProposals(done("avatar")?.about.out ?? "", done("avatar")?.results.at(-1)?.warnings ?? []);
  showCartoon(done("cartoon"));
}

/** @param {string} out @param {string[]} warnings */
async function showProposals(out, warnings) {
  if (out === shown.out) return;
  const isLast = newProposals();
  page.proposals.hidden = !out;
  page.hint.hidden = Boolean(out);
  shown.out = out;
  if (!out) { page.drawings.replaceChildren(); return; }
  const found = await api("me/proposals?path=" + encodeURIComponent(out));
  if (!isLast() || !page.drawings.isConnected) return;
  const button = (/** @type {string} */ path, /** @type {string} */ text) => h("button", { "data-path": path, title: text, "aria-label": text, "aria-pressed": "false", onclick: () => choose(path) }, h("img", { src: url(path), alt: "", width: 64, height: 64 }));
  page.drawings.replaceChildren(...found.drawings.map((/** @type {string} */ path, /** @type {number} */ i) => button(path, i ? `Proposal ${i + 1}` : "Proposal 1, the best")));
  page.read.replaceChildren(...found.read.map(trait));
  page.readBox.hidden = !found.read.length;
  page.crop.src = found.photo ? url(found.photo) : "";
  page.warnings.textContent = warnings.join(" ");
  choose(found.drawings[0]);
}

/** What was read from the photo. @param {{name: string, value: string, certainty: number, note: string}} read */
function trait({ name, value, certainty, note }) {
  const words = (/** @type {string} */ text) => text.replaceAll("_", " ");
  const sure = ["chosen", "measured"].includes(note) ? note : `${Math.round(100 * certainty)} %${note ? `; ${note}` : ""}`;
  return h("tr", {}, h("th", { scope: "row" }, words(name)), h("td", {}, words(value)), h("td", { class: "quiet" }, sure));
}

/** @param {string} path  of a drawing */
function choose(path) {
  shown.path = path;
  page.chosen.src = url(path);
  for (const one of page.proposals.querySelectorAll("[data-path]")) one.setAttribute("aria-pressed", String(one.dataset.path === path));
}

/** @param {any} job  that drew a cartoon, if any */
async function showCartoon(job) {
  const out = job?.about.out ?? "";
  page.cartoonBox.hidden = !out;
  if (!out || shown.cartoon === out) return;
  shown.cartoon = out;
  const [film] = job.results.at(-1)?.films ?? [];
  page.drawn.hidden = Boolean(film);
  page.drawnFilm.hidden = !film;
  if (film) {
    setSource(page.drawnFilm, filmUrl(`${out}/${film}`));
    return;
  }
  const found = await api("gallery?path=" + encodeURIComponent(out));
  if (shown.cartoon === out) page.drawn.src = url(`${out}/${found.rows[0].file_name}`);
}

async function takeOver() {
  await api("make/load", { path: shown.path });
  location.hash = "#make";
}

/** Offers the generators that can draw in the chosen way. */
function fillModels() {
  const own = project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && one.detail === "stylegan2").map((/** @type {any} */ one) => one.path);
  const names = [...CHILDREN[how.by], ...own], now = page.model.value || model?.model;
  fill(page.model, names, "", names.includes(now) ? now : names[0]);
  if (page.model.value !== model?.model) chooseModel(page.model.value);
}

/** Shows the controls of the chosen way to draw. */
function drawHow() {
  page.stays.hidden = how.by !== "photo";
  fillModels();
}

function howBox() {
  const by = h("select", { id: "draw-by", onchange: () => { how.by = by.value; drawHow(); } }, option("traits", "a new character like it"), option("photo", "the face itself, redrawn"));
  by.value = how.by;
  const stays = slider("How much of the photo stays", { min: 0, max: STAYS.length - 1, step: 1, value: how.stays, show: (v) => STAYS[v], oninput: (v) => { how.stays = v; } });
  stays.input.id = "stays";
  const pose = h("input", { type: "checkbox", id: "pose", checked: how.pose, onchange: () => { how.pose = pose.checked; } });
  page.stays = h("div", { class: "field" }, stays.element, h("label", { class: "row check" }, pose, "Turn the head as in the photo"));
  return h("div", { class: "field" }, field("What is drawn", by), page.stays);
}

function leftPanel() {
  const again = h("input", { type: "checkbox", id: "aligned", checked: aligned, onchange: () => { aligned = again.checked; draw(); } });
  const generator = h("select", { id: "me-model", onchange: () => chooseModel(generator.value) });
  const box = h("div", { class: "field", id: "me-chips" });
  const proposeButton = action("Draw characters", propose, { class: "main", id: "propose", disabled: true });
  const cartoonButton = action("Draw a cartoon", cartoon, { id: "cartoon", disabled: true });
  const example = action("Example", () => use(api("me/example", { seed: Math.floor(Math.random() * 100) })), { id: "example" });
  const webcam = action("Webcam", () => takePhoto((picture) => use(upload(picture, "webcam.png"))), { id: "webcam" });
  Object.assign(page, { model: generator, chips: box, draw: proposeButton, cartoon: cartoonButton });
  const options = h("div", { class: "options" }, h("h2", {}, "1. A photo"),
    h("div", { class: "row" }, fileButton("photo-file", "Choose a file", take, "image/*,video/*"), webcam, example),
    h("label", { class: "row check" }, again, "It is cropped to the face already"),
    h("div", { class: "section" }, h("h2", {}, "2. The character"), howBox(), field("Generator", generator), box));
  return h("section", { class: "panel left docked", "aria-label": "Photo and options" }, options, h("div", { class: "dock row" }, proposeButton, cartoonButton));
}

/** @param {HTMLElement} room */
function open(room) {
  page = {};
  const left = leftPanel();
  const start = h("div", { class: "drop-here" }, h("p", {}, "Drop or paste a photo here, choose a file, or use the webcam."), h("p", { class: "quiet" }, "It stays on this machine. The example is a generated person. A film can become a cartoon."));
  const image = h("img", { alt: "the photo", width: 64, height: 64 }), boxes = h("div", { class: "boxes", role: "group", "aria-label": "Faces" });
  const film = h("video", { controls: true, id: "film", hidden: true });
  const stage = h("div", { class: "stage photo", hidden: true }, image, film, boxes);
  const found = h("p", { class: "quiet", role: "status", id: "faces-found" }), problem = h("p", { class: "error-text", id: "no-face", role: "alert" }), state = h("p", { class: "quiet", role: "status" });
  const drawn = h("img", { alt: "the cartoon", width: 64, height: 64 }), drawnFilm = h("video", { controls: true, id: "cartoon-film", hidden: true });
  const cartoonBox = h("section", { class: "section", id: "cartoon-result", hidden: true }, h("h2", {}, "As a cartoon"), drawn, drawnFilm);
  const middle = h("section", { class: "middle scroll", "aria-label": "The photo" }, start, h("div", { class: "easel" }, stage), state, found, problem, cartoonBox);

  const hint = h("p", { class: "quiet" }, "Drawings of the face appear here.");
  const running = h("div", { class: "field" }), failed = h("p", { class: "error-text" }), warnings = h("p", { class: "quiet" });
  const crop = h("img", { alt: "the face in the photo", width: 64, height: 64 }), chosen = h("img", { alt: "the chosen character", width: 64, height: 64, id: "character" });
  const drawings = h("div", { class: "strip wrap", role: "group", "aria-label": "Proposals", id: "proposals" }), read = h("tbody");
  const readBox = h("div", { class: "field" }, h("h3", {}, "Read from the photo"), h("table", { class: "read", id: "read" }, read), h("p", { class: "quiet" }, "Choose other values on the left and draw again."));
  const proposals = h("div", { class: "field", hidden: true }, h("div", { class: "side-by-side" }, figure(crop, "the photo"), figure(chosen, "the character")),
    action("Open it in Make", takeOver, { class: "main", id: "take-over" }), h("p", { class: "quiet" }, "There you change its hair and eyes, vary it and drag it."),
    h("h3", {}, "Proposals, the best first"), drawings, warnings, readBox);
  const right = h("section", { class: "panel right", "aria-label": "Characters" }, h("h2", {}, "3. Proposals"), hint, running, failed, proposals);
  Object.assign(page, { start, stage, photo: image, boxes, found, problem, state, cartoonBox, drawn, film, drawnFilm, readBox, hint, running, failed, proposals, crop, chosen, drawings, read, warnings });
  room.append(left, middle, right);
  receive(room, (data) => { const file = mediaFile(data); if (file) take(file); });
  shown = { out: null, cartoon: "", path: "" };
  drawHow();
  if (model) drawChips();
  draw();
  sync();
  if (!photo) takeUp().catch(wasShown);
}

/** @param {string} kind @param {any} given */
function event(kind, given) {
  if (kind === "job" && given.job.about.room === "me" && given.job.state === "done" && !page?.stage.isConnected) say(`${given.job.title}: done, see the room Me.`);
  if (!page?.stage?.isConnected) return;
  if (kind === "project") fillModels();
  if (kind === "job" || kind === "project") sync();
}

export const room = { id: "me", name: "Me", open, event };
