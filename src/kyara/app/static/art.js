// The room My art: a folder becomes a dataset, is weeded and labelled, and trains a generator.
import { project, refresh } from "./app.js";
import { action, field, fill, isActive, jobRow, option, wasShown } from "./controls.js";
import { api, command, h, inOrder, say } from "./dom.js";
import { copy, filesOf } from "./drop.js";
import { ask } from "./questions.js";
import { trainCard } from "./training.js";
import { weedCard } from "./weed.js";

/** @type {any} */
let page;
/** The dataset that is shown, which a reload does not change, and its report. @type {any} */
let data = { path: sessionStorage.getItem("dataset") ?? "", report: null };
/** Datasets of the project when it was last read. @type {string[]} */
let known = [];
/** Numbers of the jobs that were started in this tab. @type {Set<number>} */
const mine = new Set();
/** Pictures that jobs ask about, by the numbers of the jobs. @type {Map<number, Promise<string[]>>} */
const asked = new Map();
const listsRequest = inOrder();

const found = (/** @type {(one: any) => boolean} */ test) => project.found.filter(test).map((/** @type {any} */ one) => one.path);
const datasets = () => found((one) => one.kind === "dataset");
const runs = () => found((one) => one.kind === "checkpoint" && one.detail === "stylegan2");

/** Starts a job. @param {string} step @param {any} body */
async function start(step, body) {
  const started = await api(`mine/${step}`, body);
  mine.add(started.job);
  command(started.command);
  await refresh();  // so that the job is known before the button is enabled
}

/** Jobs of this room that do a step. @param {string} step @param {(about: any) => boolean} test */
const jobsOf = (step, test) => project.jobs.filter((/** @type {any} */ { about }) => about.room === "art" && about.step === step && test(about));

/** One dataset of a source at a time. */
function allowPrepare() {
  const source = page.source.value, now = jobsOf("prepare", (about) => about.sources?.includes(source) || about.out === data.path).filter(isActive);
  const preparing = now.some((/** @type {any} */ job) => job.about.sources?.includes(source));
  page.prepare.allow(source && !preparing);
  page.weed.allow(data.report && !now.some((/** @type {any} */ job) => job.about.out === data.path));
  page.preparing.replaceChildren(...now.map(jobRow));
  page.first.textContent = preparing ? "The pictures are being prepared. What becomes of them appears here." : source ? "The pictures are in the project: press Prepare." : "Drop a folder of drawings here, or anywhere on this page.";
}

/** Shows another dataset if the one that is shown was deleted, or the first of the project. One that was just made may
 * not be known yet. */
function follow() {
  const before = known;
  known = datasets();
  const gone = before.includes(data.path) && !known.includes(data.path);
  if (gone || (!data.path && known.length)) show(known[0] || "").catch(wasShown);
}

async function lists() {
  const inTurn = listsRequest(), sources = await api("mine/sources");
  if (!inTurn()) return;
  fill(page.source, sources, "no pictures yet");
  fill(page.data, datasets(), "no dataset yet", data.path);
  page.train.list(runs());
  allowPrepare();
}

/** @param {import("./drop.js").Dropped[]} files */
async function receive(files) {
  const source = await copy(files, (share) => {
    page.progress.hidden = share === null;
    page.progress.value = share ?? 0;
  });
  await lists();
  if (source) page.source.value = source;
  allowPrepare();
}

const prepare = () => start("prepare", { sources: [page.source.value], size: page.size.value });
const prepareAgain = (/** @type {string[]} */ drop) => start("prepare", { sources: data.report.sources, out: data.path, size: data.report.size.join("x"), drop });

/** Shows the cards of a dataset with this report, or, without one, why there is none. @param {any} report @param {string} [why] */
function setReport(report, why = "") {
  data.report = report;
  for (const card of [page.weed.element, page.label, page.train.element]) card.hidden = !report;
  page.why.hidden = !why;
  page.why.textContent = why;
  allowPrepare();
}

/** Shows a dataset, its labels and its training. @param {string} path */
async function show(path) {
  const at = "?path=" + encodeURIComponent(path), before = path === data.path ? data.report : null;  // not that of another one
  page.drop.hidden = Boolean(path);
  data = { path, report: null };
  sessionStorage.setItem("dataset", path);
  setReport(before);
  if (!path) return;
  try {
    const [report, labels] = await Promise.all([api("mine/report" + at), api("mine/labels" + at)]);
    if (data.path === path) showCards(report, labels);
  } catch (error) {
    wasShown(error);
    if (data.path === path) setReport(null, /** @type {Error} */ (error).message);
  }
}

/** @param {any} report @param {any} labels */
function showCards(report, labels) {
  setReport(report);
  fill(page.data, datasets(), "no dataset yet", data.path);
  page.weed.show(report);
  drawLabels(labels);
  page.train.show(Object.keys(labels.attributes));
  offer();
}

/** @param {{pictures: number, attributes: Record<string, Record<string, number>>}} labels */
function drawLabels({ pictures, attributes }) {
  const rows = Object.entries(attributes).map(([name, counts]) => {
    const known = pictures - (counts[""] || 0), values = Object.entries(counts).filter(([value]) => value).slice(0, 12).map(([value, n]) => `${value} ${n}`).join(", ");
    return h("div", {}, h("div", { class: "row spread" }, h("b", {}, name.replaceAll("_", " ")), h("span", { class: "quiet" }, `${known.toLocaleString()} of ${pictures.toLocaleString()} known`)),
      h("progress", { max: pictures, value: known, "aria-label": `${name}: known` }), h("p", { class: "quiet" }, values));
  });
  page.labels.replaceChildren(...(rows.length ? rows : [h("p", { class: "quiet" }, "Nothing is labelled yet.")]));
}

async function askAbout() {
  const attribute = page.attribute.value.trim();
  if (attribute) await start("ask", { path: data.path, attribute, values: page.values.value.trim() });
  else say("Name what to ask about, such as gender.");
}

/** The file of the questions that a job wrote, if any. @param {any} job @returns {string} */
function tableOf(job) {
  const table = job.results.at(-1)?.questions?.[1] ?? "";
  return table.startsWith(`${project.folder}/`) ? table.slice(project.folder.length + 1) : table;
}

/** The pictures that a job asks about, read once. @param {any} job @returns {Promise<string[]>} */
function questionsOf(job) {
  const names = asked.get(job.number) ?? api("mine/questions?path=" + encodeURIComponent(tableOf(job)));
  asked.set(job.number, names);
  return names;
}

/** Offers the questions about the dataset that nobody has answered: the room was left while they were written, or the page
 * was read anew. Answers begin another job. */
async function offer() {
  const [path, last] = [data.path, jobsOf("ask", (about) => about.out === data.path).at(-1)];
  const names = last?.state === "done" && tableOf(last) ? await questionsOf(last).catch(() => []) : [];
  if (path !== data.path) return;
  page.offer.hidden = !names.length;
  page.offer.textContent = `Answer the ${names.length === 1 ? "question" : `${names.length} questions`} about ${last?.about.attribute}`;
  page.offer.onclick = () => answer(last).catch(wasShown);
}

/** Asks the questions that a job wrote, or says that there are none left. @param {any} job */
async function answer(job) {
  const { out, attribute, values } = job.about;
  if (!tableOf(job)) {
    say(`${attribute} is filled in: ${(job.results.at(-1)?.unknown ?? 0).toLocaleString()} stay unknown.`);
    return;
  }
  const typed = values.split(",").map((/** @type {string} */ value) => value.trim()).filter(Boolean);
  const offered = typed.length ? typed : job.results.at(-1).values ?? [];  // without any, the command takes those of the data
  if (!offered.length) {
    say(`The pictures have no values of ${attribute} yet: write some, such as a,b, and press Ask me again.`, "error");
    return;
  }
  const names = await questionsOf(job), changed = project.found.find((/** @type {any} */ one) => one.path === out)?.changed ?? "";
  ask({
    title: attribute, names, values: offered,
    picture: (name) => `/api/mine/picture?path=${encodeURIComponent(out)}&name=${encodeURIComponent(name)}&version=${changed}`,
    done: (answers) => { if (Object.keys(answers).length) start("answers", { path: out, attribute, values, answers }).catch(wasShown); },
  });
}

function pictures() {
  const source = h("select", { "aria-label": "Folder of pictures", onchange: allowPrepare }), preparing = h("div", { class: "field" }), size = h("select", {}, ...["64", "96", "128"].map((side) => option(side, `${side} pixels`)), option("", "as large as possible"));
  const folder = h("input", { type: "file", webkitdirectory: true, multiple: true, class: "sr-only", id: "art-folder", onchange: () => { receive([...folder.files].map((file) => [file.webkitRelativePath || file.name, file])).catch(wasShown); folder.value = ""; } });
  const files = h("input", { type: "file", accept: ".zip,image/*", multiple: true, class: "sr-only", id: "art-files", onchange: () => { receive([...files.files].map((file) => [file.name, file])).catch(wasShown); files.value = ""; } });
  const progress = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Copying" });
  const button = action("Prepare", prepare, { class: "main", id: "prepare", disabled: true });
  const chosen = h("select", { "aria-label": "Dataset", onchange: () => show(chosen.value).catch(wasShown) });
  Object.assign(page, { source, size, progress, prepare: button, preparing, data: chosen });
  return h("section", { class: "card" }, h("h2", {}, "1. Pictures"), h("p", { class: "quiet" }, "Kyara finds the faces in your drawings and cuts them out."), h("div", { class: "row" }, h("label", { class: "button file" }, "Choose a folder", folder), h("label", { class: "button file" }, "Choose pictures or a .zip", files)), progress,
    field("Pictures of this project", source), field("Size of the faces", size), button, preparing, field("Datasets of this project", chosen));
}

function labelling() {
  const labels = h("div", { class: "field" }), attribute = h("input", { type: "text", placeholder: "gender", autocomplete: "off" }), values = h("input", { type: "text", placeholder: "female,male", autocomplete: "off" });
  const questions = h("button", { id: "answer", hidden: true });
  const element = h("section", { class: "card label", hidden: true }, h("h2", {}, "3. Label"), labels, action("Fill in hair and eyes", () => start("tag", { path: data.path }), { id: "tag" }),
    h("h3", {}, "Or answer questions, and Kyara fills in the rest"), h("div", { class: "two" }, field("Attribute", attribute), field("Values", values)), action("Ask me", askAbout, { id: "ask" }), questions);
  Object.assign(page, { labels, attribute, values, label: element, offer: questions });
  return element;
}

/** @param {HTMLElement} room */
function open(room) {
  page = { weed: weedCard(prepareAgain), train: trainCard(() => data.path) };
  page.first = h("p", {}, "Drop a folder of drawings here, or anywhere on this page.");
  page.drop = h("section", { class: "drop-here", "aria-label": "Drop pictures here", hidden: true }, page.first, h("p", { class: "quiet" }, "Pictures and a .zip of them work too. They are copied into the project and stay on this machine."));
  page.why = h("p", { class: "card weed error-text", id: "no-report", role: "alert", hidden: true });
  room.append(h("div", { class: "cards" }, pictures(), page.drop, page.why, page.weed.element, labelling(), page.train.element));
  room.addEventListener("drop", async (event) => {
    const entries = [...(event.dataTransfer?.items || [])].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    receive((await Promise.all(entries.map(filesOf))).flat()).catch(wasShown);
  });
  known = datasets();
  lists().catch(wasShown);
  show(known.includes(data.path) ? data.path : known[0] || "").catch(wasShown);
}

/** @param {string} kind @param {any} given */
function event(kind, given) {
  if (!page?.data.isConnected) return;
  if (kind === "project") {
    follow();
    lists().catch(wasShown);
    offer();
  }
  if (kind === "ticks") page.weed.follow(given).catch(wasShown);
  if (kind !== "job" || given.job.about.room !== "art") return;
  const { job } = given, { step, out } = job.about, here = mine.has(job.number);
  page.train.event(job);
  allowPrepare();
  if (job.state !== "done" || !["prepare", "tag", "ask"].includes(step)) return;
  if (here || !data.path || out === data.path) show(out).catch(wasShown);
  if (here && step === "ask") answer(job).catch(wasShown);
}

export const room = { id: "art", name: "My art", open, event };
