// The room My art: a folder becomes a dataset, is weeded and labelled, and trains a generator.
import { project } from "./app.js";
import { api, command, h, later, say } from "./dom.js";
import { curve } from "./curve.js";
import { Grid } from "./grid.js";

/** @type {any} */
let page;
/** @type {Grid} */
let grid;
/** The dataset that is shown, and its report. @type {any} */
let data = { path: "", report: null, labels: null };
/** Indices of the files to leave out. @type {Set<number>} */
let dropped = new Set();
/** The questions that wait for an answer. @type {any} */
let asking = null;

const datasets = () => project.found.filter((/** @type {any} */ one) => one.kind === "dataset").map((/** @type {any} */ one) => one.path);
const runs = () => project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && one.detail === "stylegan2").map((/** @type {any} */ one) => one.path);

/** @param {any} select @param {string[]} names @param {string} [chosen] @param {string} [empty] */
function options(select, names, chosen, empty) {
  const now = chosen ?? select.value;
  select.replaceChildren(...(empty !== undefined ? [h("option", { value: "" }, empty)] : []), ...names.map((name) => h("option", { value: name, selected: name === now }, name)));
}

async function lists() {
  options(page.source, await api("mine/sources"));
  options(page.data, datasets(), data.path);
  options(page.run, runs());
  page.none.hidden = page.source.options.length > 0;
}

/** All files below a dropped entry. @param {any} entry @returns {Promise<[string, File][]>} */
async function files(entry) {
  if (entry.isFile) return [[entry.fullPath.replace(/^\//, ""), await new Promise((done, fail) => entry.file(done, fail))]];
  const reader = entry.createReader(), found = [];
  for (;;) {  // a reader returns at most 100 entries at a time
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    for (const one of some) found.push(...await files(one));
  }
  return found;
}

/** @param {[string, File][]} list */
async function upload(list) {
  if (!list.length) return;
  let done = 0, kept = 0;
  const loose = list.some(([name]) => !name.includes("/"));
  for (const [name, file] of list) {
    page.progress.hidden = false;
    page.progress.value = done++ / list.length;
    const answer = await api("art?name=" + encodeURIComponent(loose ? `dropped/${name}` : name), file).catch(() => null);
    if (answer?.path) kept++;
  }
  page.progress.hidden = true;
  say(`${kept.toLocaleString()} of ${list.length.toLocaleString()} files were copied into the project.`);
  await lists();
  const folder = `art/${loose ? "dropped" : list[0][0].split("/")[0]}`;
  if ([...page.source.options].some((option) => option.value === folder)) page.source.value = folder;
}

async function prepare(/** @type {boolean} */ again) {
  const body = again ? { sources: data.report.sources, out: data.path, size: data.report.size.join("x"), drop: [...dropped].map((i) => data.report.rows[i][0]) }
    : { sources: [page.source.value], size: page.size.value };
  command((await api("mine/prepare", body)).command);
}

/** @param {string} path @param {boolean} [fresh]  whether it was prepared anew */
async function show(path, fresh = false) {
  if (!path) { page.weed.hidden = page.label.hidden = page.train.hidden = true; return; }
  const same = path === data.path && !fresh;
  data = { path, report: await api("mine/report?path=" + encodeURIComponent(path)), labels: await api("mine/labels?path=" + encodeURIComponent(path)) };
  if (!same) dropped = new Set(data.report.rows.flatMap((/** @type {any[]} */ row, /** @type {number} */ i) => row[1] === "dropped" ? [i] : []));
  page.weed.hidden = page.label.hidden = page.train.hidden = false;
  options(page.data, datasets(), path);
  order();
  drawLabels();
  page.attributes.value = Object.keys(data.labels.attributes).join(",");
}

function order() {
  const rows = data.report.rows, sort = page.sort.value, indices = rows.map((/** @type {any} */ _, /** @type {number} */ i) => i);
  const key = sort === "sharpness" ? 5 : sort === "copy" ? 7 : -1;
  if (key > 0) indices.sort((/** @type {number} */ a, /** @type {number} */ b) => (rows[a][key] ?? Infinity) - (rows[b][key] ?? Infinity));
  const filter = page.filter.value;
  grid.setItems(indices.filter((/** @type {number} */ i) => filter === "all" || (filter === "kept" ? rows[i][2] !== null : filter === "ticked" ? dropped.has(i) : rows[i][2] === null)));
  count();
}

function count() {
  page.count.textContent = `${data.report.kept.toLocaleString()} of ${data.report.rows.length.toLocaleString()} kept, ${dropped.size.toLocaleString()} ticked to leave out`;
  grid.refresh();
}

function makeCell() {
  return h("div", { class: "cell" }, h("img", { alt: "", loading: "lazy" }), h("div", { class: "caption" }, h("span", {}), h("i", { class: "star" })));
}

/** @param {any} cell @param {number} i */
function fillCell(cell, i) {
  const [file, reason, kept, detail] = data.report.rows[i], [image, caption] = cell.children;
  const source = `/api/mine/thumbnail?path=${encodeURIComponent(data.path)}&i=${i}`;
  if (image.getAttribute("src") !== source) image.src = source;
  image.alt = file;
  caption.children[0].textContent = reason || file;
  caption.children[1].textContent = dropped.has(i) ? "leave out" : "";
  cell.title = [file, reason, detail].filter(Boolean).join(" · ");
  cell.classList.toggle("rejected", dropped.has(i) || kept === null);
}

/** @param {number[]} indices */
function tick(indices) {
  const all = indices.every((i) => dropped.has(i));
  for (const i of indices) {
    if (all) dropped.delete(i);
    else dropped.add(i);
  }
  count();
}

function drawLabels() {
  const rows = Object.entries(data.labels.attributes).map(([name, counts]) => {
    const total = data.labels.pictures, known = total - (/** @type {any} */ (counts)[""] || 0);
    const values = Object.entries(/** @type {any} */ (counts)).filter(([value]) => value).slice(0, 12).map(([value, n]) => `${value} ${n}`).join(", ");
    return h("div", {}, h("div", { class: "row spread" }, h("b", {}, name.replaceAll("_", " ")), h("span", { class: "quiet" }, `${known.toLocaleString()} of ${total.toLocaleString()} known`)),
      h("progress", { max: total, value: known, "aria-label": `${name}: known` }), h("p", { class: "quiet" }, values));
  });
  page.labels.replaceChildren(...(rows.length ? rows : [h("p", { class: "quiet" }, "Nothing is labelled yet.")]));
}

async function ask() {
  const attribute = page.attribute.value.trim();
  if (!attribute) { say("Name what to ask about, such as gender."); return; }
  asking = { attribute, values: page.values.value.trim() };
  command((await api("mine/ask", { path: data.path, ...asking })).command);
}

/** @param {string[]} names */
function questions(names) {
  const values = asking.values.split(",").map((/** @type {string} */ value) => value.trim()).filter(Boolean);
  /** @type {Record<string, string>} */
  const answers = {};
  let i = 0;
  const image = h("img", { alt: "", width: 160, height: 160 }), where = h("p", { class: "quiet" });
  const give = (/** @type {string | null} */ value) => {
    if (value !== null) answers[names[i]] = value;
    i++;
    next();
  };
  const finish = async () => {
    box.close();
    box.remove();
    if (Object.keys(answers).length) command((await api("mine/answers", { path: data.path, ...asking, answers })).command);
  };
  const next = () => {
    if (i >= names.length) { finish(); return; }
    image.src = `/api/mine/picture?path=${encodeURIComponent(data.path)}&name=${encodeURIComponent(names[i])}`;
    image.alt = names[i];
    where.textContent = `${i + 1} of ${names.length}`;
  };
  const buttons = values.map((/** @type {string} */ value, /** @type {number} */ n) => h("button", { onclick: () => give(value) }, `${n + 1}  ${value}`));
  const box = h("dialog", { class: "ask", "aria-label": `Questions about ${asking.attribute}` }, h("h2", {}, `${asking.attribute}?`), image, where,
    h("div", { class: "row" }, ...buttons, h("button", { onclick: () => give("?") }, "?  cannot tell"), h("button", { onclick: () => give(null) }, "skip")),
    h("div", { class: "row spread" }, h("button", { onclick: () => { i = Math.max(0, i - 1); delete answers[names[i]]; next(); } }, "Back"), h("button", { onclick: finish }, "Stop and use the answers")));
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => {
    const n = Number(e.key);
    if (n >= 1 && n <= values.length) give(values[n - 1]);
    else if (e.key === "?") give("?");
  });
  document.body.append(box);
  box.showModal();
  next();
}

const choices = () => ({ path: data.path, init: page.init.value, attributes: page.attributes.value.trim(), kimg: Number(page.kimg.value) || 0, out: "" });

async function forecast() {
  command((await api("mine/forecast", choices())).command);
  page.state.textContent = "measuring the speed";
}

async function train(/** @type {boolean} */ resume) {
  const started = await api("mine/train", { ...choices(), out: resume ? page.run.value : "" });
  command(started.command);
  watch(started.out);
}

const watch = later(async (/** @type {string} */ path) => {
  if (!path || !page.curves.isConnected) return;
  const found = await api("mine/run?path=" + encodeURIComponent(path)).catch(() => null);
  if (!found) return;
  if (![...page.run.options].some((option) => option.value === path)) page.run.append(h("option", { value: path }, path));
  page.run.value = path;
  const shown = Object.entries(found.curves).filter(([, points]) => points.length > 1).sort(([a], [b]) => Number(b === "frechet") - Number(a === "frechet")).slice(0, 6);
  page.curves.replaceChildren(...shown.map(([name, points]) => curve(name, points)));
  const sheet = found.sheets.at(-1);
  page.sheet.hidden = !sheet;
  if (sheet) {
    page.sheet.src = `/api/file?path=${encodeURIComponent(sheet)}&v=${found.sheets.length}`;
    page.sheet.alt = sheet;
  }
}, 300);

/** @param {HTMLElement} room */
function open(room) {
  const source = h("select", { "aria-label": "Folder of pictures" }), size = h("select", {}, h("option", { value: "64" }, "64 pixels"), h("option", { value: "96" }, "96 pixels"), h("option", { value: "128" }, "128 pixels"), h("option", { value: "" }, "as large as possible"));
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "sr-only", id: "art-folder", onchange: () => upload([...folder.files].map((file) => [file.webkitRelativePath || file.name, file])) });
  const progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Copying" });
  const none = h("p", { class: "quiet" }, "Drop a folder of drawings anywhere on this page. Kyara finds the faces in them and cuts them out.");
  const start = (/** @type {any} */ chosen) => h("section", { class: "card" }, h("h2", {}, "1. Pictures"), none, h("label", { class: "button file" }, "Choose a folder", folder), progress, source, h("label", { class: "field" }, h("span", { class: "caption" }, "Size"), size), h("button", { class: "main", id: "prepare", onclick: () => prepare(false) }, "Prepare"), h("label", { class: "field" }, h("span", { class: "caption" }, "Datasets of this project"), chosen));

  const select = h("select", { "aria-label": "Dataset", onchange: () => show(select.value) });
  const option = (/** @type {string} */ value, /** @type {string} */ text) => h("option", { value }, text);
  const sort = h("select", { "aria-label": "Order", onchange: order }, option("", "source order"), option("sharpness", "least sharp first"), option("copy", "nearest copy first"));
  const filter = h("select", { "aria-label": "Filter", onchange: order }, option("all", "all files"), option("kept", "kept"), option("left", "left out"), option("ticked", "ticked"));
  const total = h("span", { class: "count", role: "status" });
  grid = new Grid({ label: "Pictures of the dataset", size: () => 104, text: 26, make: makeCell, fill: fillCell, open: (i) => tick([i]), key: (e) => { if (e.key === "x" || e.key === "Delete") tick([...grid.selected]); } });
  const weed = h("section", { class: "card", hidden: true }, h("div", { class: "row spread" }, h("h2", {}, "2. Weed"), h("div", { class: "row" }, sort, filter)), h("p", { class: "quiet" }, "Select what does not belong, and press x (or double click). Then prepare again."), grid.element,
    h("div", { class: "row spread" }, total, h("div", { class: "row" }, h("button", { onclick: () => tick([...grid.selected]) }, "Tick the selected"), h("button", { id: "prepare-again", onclick: () => prepare(true) }, "Prepare again without the ticked"))));

  const labels = h("div", { class: "field" }), attribute = h("input", { type: "text", placeholder: "gender", autocomplete: "off" }), values = h("input", { type: "text", placeholder: "female,male", autocomplete: "off" });
  const label = h("section", { class: "card", hidden: true }, h("h2", {}, "3. Label"), labels, h("button", { id: "tag", onclick: async () => command((await api("mine/tag", { path: data.path })).command) }, "Fill in hair and eyes"),
    h("h3", {}, "Or answer questions, and Kyara fills in the rest"), h("div", { class: "two" }, h("label", { class: "field" }, "Attribute", attribute), h("label", { class: "field" }, "Values", values)), h("button", { id: "ask", onclick: ask }, "Ask me"));

  const init = h("select", {}, option("builtin:character", "builtin:character (for few pictures)"), option("", "nothing (thousands of pictures)")), attributes = h("input", { type: "text", autocomplete: "off" }), kimg = h("input", { type: "number", min: 0, step: 10, value: 100 });
  const run = h("select", { "aria-label": "Run", onchange: () => watch(run.value) }), state = h("span", { class: "quiet", id: "train-state", role: "status" }), curves = h("div", { class: "curves" }), sheet = h("img", { class: "sheet", alt: "", hidden: true });
  const trainBox = h("section", { class: "card wide", hidden: true }, h("h2", {}, "4. Train"), h("div", { class: "four" }, h("label", { class: "field" }, "Start from", init), h("label", { class: "field" }, "Attributes", attributes), h("label", { class: "field" }, "Thousands of pictures", kimg), h("label", { class: "field" }, "Runs", run)),
    h("div", { class: "row" }, h("button", { class: "main", id: "train", onclick: () => train(false) }, "Start a run"), h("button", { onclick: () => train(true) }, "Continue the chosen run"), h("button", { id: "forecast", onclick: forecast }, "How long will it take?"), state), curves, sheet);
  page = { source, size, progress, none, data: select, sort, filter, count: total, weed, labels, attribute, values, label, train: trainBox, init, attributes, kimg, run, state, curves, sheet };
  room.append(h("div", { class: "cards" }, h("div", { class: "column" }, start(select), label), weed, trainBox));
  room.addEventListener("drop", async (event) => {
    const entries = [...(event.dataTransfer?.items || [])].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    upload((await Promise.all(entries.map(files))).flat());
  });
  lists().then(() => show(page.data.value));
}

/** @param {string} kind @param {any} given */
function event(kind, given) {
  if (!page?.data.isConnected) return;
  if (kind === "project") lists();
  if (kind !== "job" || given.job.about.room !== "art") return;
  const { job } = given, { step, out } = job.about;
  if (step === "train") {
    page.state.textContent = job.state === "running" ? `${job.left ? `${job.left} left` : "starting"}${job.lines.length ? ` · ${job.lines.at(-1)}` : ""}` : job.state;
    if (job.state === "running" || job.state === "done") watch(out);
  }
  if (job.state !== "done") return;
  if (step === "forecast") page.state.textContent = job.results.at(-1)?.forecast ?? "";
  if (step === "prepare" || step === "tag") show(out, step === "prepare");
  if (step === "ask") {
    const result = job.results.at(-1), table = result?.questions?.[1];
    const inside = table && project.folder && table.startsWith(project.folder) ? table.slice(project.folder.length + 1) : table;
    show(out);
    if (inside && asking) api("mine/questions?path=" + encodeURIComponent(inside)).then(questions);
    else if (result) say(`${asking?.attribute || "It"} is filled in: ${(result.unknown ?? 0).toLocaleString()} stay unknown.`);
  }
}

export const room = { id: "art", name: "My art", open, event };
