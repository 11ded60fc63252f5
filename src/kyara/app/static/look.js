// The room Look: galleries, ranking, scores of generators.
import { project, refresh } from "./app.js";
import { action, field, fill, isActive, jobRow } from "./controls.js";
import { api, command, h, inOrder, later, latest, refill, say } from "./dom.js";
import { Grid } from "./grid.js";
import { showLarge } from "./large.js";

const NOT_SHOWN = ["file_name", "source", "position"], MARK = 0.5;  // copies score at least this
const BUILTIN = ["builtin:character", "builtin:anime"];
const COUNT = 1024, LEAST = 4;  // pictures of each generator that are scored
/** @type {any} */
let page;
/** @type {Grid} */
let grid;
/** @type {{path: string, rows: Record<string, string>[]}} */
let shown = { path: "", rows: [] };
/** When the gallery that is shown was changed, as far as was known when it was read. */
let stamp = "";
/** Galleries of the project when it was last read. @type {string[]} */
let known = [];
/** Paths of the results that are unfolded. @type {Set<string>} */
const unfolded = new Set();
const galleryRequest = latest(), resultsRequest = inOrder();

const of = (/** @type {string[]} */ ...kinds) => project.found.filter((/** @type {any} */ one) => kinds.includes(one.kind));
const paths = (/** @type {string[]} */ ...kinds) => of(...kinds).map((/** @type {any} */ one) => one.path);
/** @param {Record<string, string>} row */
const url = (row) => `/api/file?path=${encodeURIComponent(`${shown.path}/${row.file_name}`)}`;

function lists() {
  const galleries = of("gallery"), own = of("checkpoint").filter((/** @type {any} */ one) => one.detail === "stylegan2").map((/** @type {any} */ one) => one.path);
  refill(page.list, [galleries, shown.path], () => galleries.map((/** @type {any} */ one) => h("button", { "aria-pressed": String(one.path === shown.path), onclick: () => show(one.path) }, one.path.replace(/^galleries\//, ""), h("span", { class: "quiet" }, ` ${one.detail}`))));
  page.none.hidden = galleries.length > 0;
  fill(page.source, paths("gallery", "dataset", "art"), "no pictures yet");
  fill(page.like, [["", "known drawing styles"], ...paths("dataset", "art")], "");
  fill(page.copies, [["", "no search for copies"], ...paths("dataset")], "");
  fill(page.data, paths("dataset"), "no dataset yet");
  fill(page.model, [...own, ...BUILTIN], "");
  allowRank();
  allowEvaluate();
  results();
}

/** Shows no gallery any more if the one that is shown was deleted. A new one may not be known yet. */
function forget() {
  const before = known;
  known = paths("gallery");
  if (!before.includes(shown.path) || known.includes(shown.path)) return;
  shown = { path: "", rows: [] };
  draw();
  page.details.replaceChildren();
}

const stampOf = (/** @type {string} */ path) => JSON.stringify(of("gallery").find((/** @type {any} */ one) => one.path === path) ?? "");

/** @param {string} path @param {boolean} [again]  because it changed: the place in it is kept */
async function show(path, again = false) {
  const newest = galleryRequest(), now = stampOf(path), found = await api("gallery?path=" + encodeURIComponent(path)).catch(() => ({ path: "", rows: [] }));
  if (!newest() || !page.list.isConnected || (again && !found.path)) return;
  shown = found;
  stamp = now;
  lists();
  if (shown.path && !again) page.source.value = path;  // what is looked at is what is ranked
  allowRank();
  draw();
  if (again) details(grid.items[grid.cursor]);
  else if (grid.items.length) grid.go(0);
}

function draw() {
  const words = page.search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const indices = shown.rows.map((_, i) => i).filter((i) => words.every((/** @type {string} */ word) => Object.values(shown.rows[i]).some((value) => value.toLowerCase().includes(word))));
  grid.setItems(indices);
  grid.refresh();
  page.count.textContent = shown.path ? `${indices.length.toLocaleString()} of ${shown.rows.length.toLocaleString()}` : "";
  page.empty.hidden = indices.length > 0;
  page.hint.textContent = shown.rows.length ? "Nothing matches the search." : of("gallery").length ? "Choose a gallery on the left." : "There is no gallery yet. Export pictures in Make, and they appear here.";
}

function makeCell() {
  return h("div", { class: "cell" }, h("img", { alt: "", loading: "lazy" }), h("div", { class: "caption" }, h("span", {}), h("b", {})));
}

/** @param {any} cell @param {number} i */
function fillCell(cell, i) {
  const row = shown.rows[i], [image, caption] = cell.children, source = `${url(row)}&side=256`;
  if (image.getAttribute("src") !== source) image.src = source;
  image.alt = row.seed ? `seed ${row.seed}` : row.file_name;
  caption.children[0].textContent = image.alt;
  const score = row.score && !row.unfamiliar ? `${Math.round(Number(row.score) * 100)} %` : "";
  caption.children[1].textContent = [Number(row.copy) >= MARK && "copy", score].filter(Boolean).join(" · ");
  cell.title = Object.values(row).filter(Boolean).join(" · ");
}

/** The most similar picture of the dataset in which copies were searched. @param {Record<string, string>} row */
function original(row) {
  const words = new URLSearchParams({ path: shown.path, name: row.copy_of });
  return h("img", { src: `/api/look/original?${words}`, alt: `${Number(row.copy) >= MARK ? "copied from" : "most similar:"} ${row.copy_of}`, title: row.copy_of, width: 64, height: 64 });
}

/** @param {number} i */
function details(i) {
  const row = shown.rows[i];
  if (!row) { page.details.replaceChildren(); return; }
  const cells = Object.entries(row).filter(([name, value]) => value && !NOT_SHOWN.includes(name));
  const image = h("img", { src: url(row), alt: row.file_name, width: 64, height: 64 });
  const openInMake = async () => { await api("make/load", { path: `${shown.path}/${row.file_name}` }); location.hash = "#make"; };
  page.details.replaceChildren(row.copy_of ? h("div", { class: "stage pairs" }, image, original(row)) : h("div", { class: "stage" }, image),
    table(cells.map(([name, value]) => [name.replace(/^score_(.*)/, "$1, score").replaceAll("_", " "), value])),
    h("div", { class: "row" }, h("a", { class: "button", href: url(row), download: row.file_name }, "Download"), action("Open in Make", openInMake)));
}

/** Shows the picture at the cursor large; the arrow keys go on. */
function enlarge() {
  const now = () => shown.rows[grid.items[grid.cursor]];
  showLarge(() => (now() ? [{ src: url(now()), text: now().seed ? `seed ${now().seed}` : now().file_name }] : []), (event) => {
    const move = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 })[event.key];
    if (move) grid.go(grid.cursor + move);
    return Boolean(move);
  });
}

/** @param {string[][]} rows */
const table = (rows) => h("table", {}, ...rows.map((cells) => h("tr", {}, ...cells.map((text) => h("td", {}, text)))));

/** Lists the comparisons and evaluations of the project. */
async function results() {
  const inTurn = resultsRequest(), found = await api("look/results");
  if (!inTurn()) return;
  refill(page.results, found, () => found.map((/** @type {any} */ one) => (one.kind === "comparison" ? comparison(one) : evaluation(one))));
  page.noResults.hidden = found.length > 0;
}

/** @param {any} one */
const comparison = (one) => h("a", { class: "button", target: "_blank", href: `/api/look/page?path=${encodeURIComponent(one.page)}`, title: one.path }, `Comparison: ${one.title}`);

/** @param {any} one */
function evaluation(one) {
  const number = (/** @type {any} */ value) => (value === null ? "–" : value.toPrecision(4));
  const rows = one.scores.map((/** @type {any} */ { name, value, better }) => [name + ({ "near 1": " (1 is best)", neither: "" }[better] ?? ` (${better} is better)`), number(value)]);
  const element = h("details", { open: unfolded.has(one.path), title: one.path, ontoggle: () => unfolded[element.open ? "add" : "delete"](one.path) }, h("summary", {}, one.title), table(rows));
  return element;
}

function ranking() {
  const source = h("select", { "aria-label": "What to rank", onchange: allowRank }), running = h("div", { class: "field" }), like = h("select"), copies = h("select");
  const rank = action("Rank", async () => {
    command((await api("look/rank", { path: source.value, like: like.value, copies_of: copies.value })).command);
    await refresh();  // so that the job is known before the button is enabled
  }, { id: "rank" });
  Object.assign(page, { source, like, copies, rank, running });
  return h("div", { class: "section" }, h("h2", {}, "Rank"), h("p", { class: "quiet" }, "Sorts pictures by quality, and by whether eyes, mouth and face look as in clean pictures."),
    source, field("Compare with", like), field("Copies of", copies), rank, running);
}

/** One ranking of a source at a time. */
function allowRank() {
  const now = project.jobs.filter((/** @type {any} */ job) => isActive(job) && job.about.step === "rank" && job.about.path === page.source.value);
  page.rank.allow(page.source.value && !now.length);
  page.running.replaceChildren(...now.map(jobRow));
}

function scoring() {
  const model = h("select", { multiple: true, size: 5, "aria-label": "Generators", onchange: allowEvaluate }), data = h("select");
  const number = h("input", { type: "number", id: "score-count", min: LEAST, value: COUNT }), found = h("div", { class: "list results", id: "results" });
  const button = action("Evaluate", evaluate, { id: "evaluate", disabled: true }), none = h("p", { class: "quiet" }, "No comparison and no evaluation yet.");
  Object.assign(page, { model, data, number, results: found, noResults: none, evaluate: button });
  return h("div", { class: "section" }, h("h2", {}, "Scores"), h("p", { class: "quiet" }, "Choose one generator to evaluate it against real pictures, several (Ctrl and click) to compare them."),
    model, field("Real pictures", data), field("Pictures of each generator", number), button, h("h3", {}, "Comparisons and evaluations"), none, found);
}

const allowEvaluate = () => page.evaluate.allow(page.model.selectedOptions.length && page.data.value);

async function evaluate() {
  const models = [...page.model.selectedOptions].map((option) => option.value), about = { data: page.data.value, count: Number(page.number.value) };
  if (!(about.count >= LEAST)) { say(`Pictures of each generator: give ${LEAST} or more.`, "error"); return; }
  const started = models.length > 1 ? await api("look/compare", { models, ...about }) : await api("look/evaluate", { model: models[0], ...about });
  command(started.command);
}

/** @param {HTMLElement} room */
function open(room) {
  page = {};
  const list = h("div", { class: "list" }), none = h("p", { class: "quiet" }, "No gallery yet: export pictures in Make.");
  const left = h("section", { class: "panel left", "aria-label": "Galleries" }, h("h2", {}, "Galleries"), none, list, ranking());
  const search = h("input", { type: "search", placeholder: "search", "aria-label": "Search", oninput: later(draw, 120) }), count = h("span", { class: "count", role: "status" });
  grid = new Grid({ label: "Pictures of the gallery", size: () => 128, text: 26, make: makeCell, fill: fillCell, select: (_, i) => details(i), open: enlarge });
  const hint = h("p"), empty = h("div", { class: "empty" }, hint);
  grid.element.append(empty);
  const middle = h("section", { class: "middle", "aria-label": "Pictures" }, h("div", { class: "bar" }, search, count), grid.element);
  const box = h("div", { class: "field" });
  const right = h("section", { class: "panel right", "aria-label": "Details and scores" }, box, scoring());
  Object.assign(page, { list, none, search, count, empty, hint, details: box });
  room.append(left, middle, right);
  forget();
  lists();
  const first = shown.path || of("gallery")[0]?.path;
  if (first) show(first);
  else draw();
}

/** @param {string} kind @param {any} given */
function event(kind, given) {
  if (!page?.list.isConnected) return;
  if (kind === "project") {
    forget();
    lists();
    if (shown.path && stampOf(shown.path) !== stamp) show(shown.path, true);
  }
  if (kind === "job") allowRank();
  if (kind !== "job" || given.job.about.room !== "look" || given.job.state !== "done") return;
  const { step, out } = given.job.about;
  if (step === "rank") show(out);
  if (step === "evaluate") unfolded.add(out);
  if (step === "evaluate" || step === "compare") results();
}

export const room = { id: "look", name: "Look", open, event };
