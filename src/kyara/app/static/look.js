// The room Look: galleries, ranking, scores of models.
import { project } from "./app.js";
import { api, command, h, later, say } from "./dom.js";
import { Grid } from "./grid.js";

const NOT_SHOWN = ["file_name", "source", "position"], MARK = 0.5;  // copies score at least this
/** @type {any} */
let page;
/** @type {Grid} */
let grid;
/** @type {{path: string, rows: Record<string, string>[]}} */
let shown = { path: "", rows: [] };

const of = (/** @type {string[]} */ ...kinds) => project.found.filter((/** @type {any} */ one) => kinds.includes(one.kind));
/** @param {Record<string, string>} row */
const url = (row) => `/api/file?path=${encodeURIComponent(`${shown.path}/${row.file_name}`)}`;

function lists() {
  const galleries = of("gallery");
  page.list.replaceChildren(...galleries.map((/** @type {any} */ one) => h("button", { "aria-pressed": String(one.path === shown.path), onclick: () => show(one.path) }, one.path.replace(/^galleries\//, ""), h("span", { class: "quiet" }, ` ${one.detail}`))));
  page.none.hidden = galleries.length > 0;
  const fill = (/** @type {any} */ select, /** @type {string[]} */ names) => select.replaceChildren(...names.map((name) => h("option", { value: name, selected: name === select.value }, name)));
  fill(page.source, of("gallery", "dataset", "art").map((/** @type {any} */ one) => one.path));
  const own = page.like.value, art = of("dataset", "art").map((/** @type {any} */ one) => h("option", { value: one.path, selected: one.path === own }, one.path));
  page.like.replaceChildren(h("option", { value: "", selected: !own }, "drawn faces in known styles"), ...art);
  const known = page.copies.value, data = of("dataset").map((/** @type {any} */ one) => h("option", { value: one.path, selected: one.path === known }, one.path));
  page.copies.replaceChildren(h("option", { value: "", selected: !known }, "no search for copies"), ...data);
  fill(page.data, of("dataset").map((/** @type {any} */ one) => one.path));
  fill(page.model, [...of("checkpoint").filter((/** @type {any} */ one) => one.detail === "stylegan2").map((/** @type {any} */ one) => one.path), "builtin:character", "builtin:anime"]);
}

/** @param {string} path */
async function show(path) {
  shown = await api("gallery?path=" + encodeURIComponent(path));
  command(`kyara rank ${path}`);
  lists();
  draw();
  if (grid.items.length) grid.go(0);
}

function draw() {
  const words = page.search.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const indices = shown.rows.map((_, i) => i).filter((i) => words.every((/** @type {string} */ word) => Object.values(shown.rows[i]).some((value) => value.toLowerCase().includes(word))));
  grid.setItems(indices);
  grid.refresh();
  page.count.textContent = shown.path ? `${indices.length.toLocaleString()} of ${shown.rows.length.toLocaleString()}` : "";
  page.empty.hidden = indices.length > 0;
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
  page.details.replaceChildren(row.copy_of ? h("div", { class: "stage pairs" }, image, original(row)) : h("div", { class: "stage" }, image),
    h("table", {}, ...cells.map(([name, value]) => h("tr", {}, h("td", {}, name.replace(/^score_(.*)/, "$1, score").replaceAll("_", " ")), h("td", {}, value)))),
    h("div", { class: "row" }, h("a", { class: "button", href: url(row), download: row.file_name }, "Download"),
      h("button", { onclick: async () => { await api("make/load", { path: `${shown.path}/${row.file_name}` }); location.hash = "#make"; } }, "Open in Make")));
}

/** @param {HTMLElement} room */
function open(room) {
  const list = h("div", { class: "list" }), none = h("p", { class: "quiet" }, "No gallery yet: export pictures in Make, or run kyara generate.");
  const source = h("select", { "aria-label": "What to rank" }), like = h("select", { "aria-label": "Clean pictures to compare with" }), copies = h("select", { "aria-label": "Pictures of which there may be copies" });
  const left = h("section", { class: "panel left", "aria-label": "Galleries" }, h("h2", {}, "Galleries"), none, list,
    h("div", { class: "section" }, h("h2", {}, "Rank"), h("p", { class: "quiet" }, "Sorts pictures by quality, and by whether eyes, mouth and face look as in clean pictures."), source, h("label", { class: "field" }, h("span", { class: "caption" }, "Compare with"), like), h("label", { class: "field" }, h("span", { class: "caption" }, "Copies of"), copies), h("button", { id: "rank", onclick: async () => command((await api("look/rank", { path: source.value, like: like.value, copies_of: copies.value })).command) }, "Rank")));
  const search = h("input", { type: "search", placeholder: "search", "aria-label": "Search", oninput: later(draw, 120) }), count = h("span", { class: "count", role: "status" });
  grid = new Grid({ label: "Pictures of the gallery", size: () => 128, text: 26, make: makeCell, fill: fillCell, select: (_, i) => details(i) });
  const empty = h("div", { class: "empty" }, h("p", {}, "Choose a gallery on the left."));
  grid.element.append(empty);
  const middle = h("section", { class: "middle", "aria-label": "Pictures" }, h("div", { class: "bar" }, search, count), grid.element);
  const box = h("div", { class: "field" });
  const model = h("select", { multiple: true, size: 5, "aria-label": "Models" }), data = h("select", { "aria-label": "Real pictures" }), scores = h("div", {});
  const right = h("section", { class: "panel right", "aria-label": "Details and scores" }, box,
    h("div", { class: "section" }, h("h2", {}, "Scores"), h("p", { class: "quiet" }, "Choose one model to evaluate it against real pictures, several to compare them."), model, h("label", { class: "field" }, h("span", { class: "caption" }, "Real pictures"), data), h("button", { id: "evaluate", onclick: evaluate }, "Evaluate"), scores));
  page = { list, none, source, like, copies, search, count, empty, details: box, model, data, scores };
  room.append(left, middle, right);
  lists();
  const first = shown.path || of("gallery")[0]?.path;
  if (first) show(first);
}

async function evaluate() {
  const models = [...page.model.selectedOptions].map((option) => option.value);
  if (!models.length || !page.data.value) { say("Choose a model and a dataset."); return; }
  const body = models.length > 1 ? ["look/compare", { models, data: page.data.value, count: 1024 }] : ["look/evaluate", { model: models[0], data: page.data.value, count: 1024 }];
  command((await api(/** @type {string} */ (body[0]), body[1])).command);
}

/** @param {string} kind @param {any} given */
function event(kind, given) {
  if (!page?.list.isConnected) return;
  if (kind === "project") lists();
  if (kind !== "job" || given.job.about.room !== "look" || given.job.state !== "done") return;
  const { step, out } = given.job.about, result = given.job.results.at(-1) || {};
  if (step === "rank") show(out);
  if (step === "evaluate") {
    const rows = (result.scores || []).map((/** @type {any} */ score) => [score.name.replaceAll("_", " "), score.value === null ? "–" : score.value.toPrecision(4)]);
    page.scores.replaceChildren(h("table", {}, ...rows.map((/** @type {string[]} */ [name, value]) => h("tr", {}, h("td", {}, name), h("td", {}, value)))));
  }
  if (step === "compare") page.scores.replaceChildren(h("a", { class: "button", target: "_blank", href: `/api/look/page?path=${encodeURIComponent(`${out}/index.html`)}` }, "Open the comparison"));
}

export const room = { id: "look", name: "Look", open, event };
