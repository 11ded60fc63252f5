// The card Weed of My art: what became of every source picture, and what is ticked to be left out.
import { action, figure, option } from "./controls.js";
import { api, h } from "./dom.js";
import { Grid } from "./grid.js";

const LARGE = 512;  // side of the picture that is selected, in pixels

/**
 * @typedef {object} Face
 * @property {string} name
 * @property {number[]} box  left, top, width and height in pixels of the source
 * @property {boolean} kept
 * @property {string} reason
 *
 * @typedef {object} Row
 * @property {string} file
 * @property {boolean} kept
 * @property {string} reason
 * @property {string} detail
 * @property {[number, number] | null} size  height and width; null if it could not be read
 * @property {number | null} sharpness
 * @property {number | null} nearest  the row of the most similar picture
 * @property {number | null} distance
 * @property {boolean} cut  whether it was cut to its faces
 * @property {Face[]} faces
 *
 * @typedef {{added: string[], removed: string[]}} Change  of what is ticked
 */

const TAB = String(Math.random());  // whose ticks these are

/** @param {(names: string[]) => any} again  prepares the dataset again without these pictures and faces */
export function weedCard(again) {
  /** @type {{path: string, version: string, kept: number, rows: Row[]}} */
  let report = { path: "", version: "", kept: 0, rows: [] };
  /** Names of pictures and faces. @type {Set<string>} */
  let ticked = new Set();
  /** What was changed. @type {Change[]} */
  let before = [];
  let saving = Promise.resolve(), unsaved = 0;

  const source = (/** @type {number} */ i, side = 160) => `/api/mine/source?path=${encodeURIComponent(report.path)}&i=${i}&side=${side}&version=${report.version}`;

  const fillCell = (/** @type {any} */ cell, /** @type {number} */ i) => {
    const row = report.rows[i], [image, caption] = cell.children;
    if (row.size && image.getAttribute("src") !== source(i)) image.src = source(i);
    image.alt = row.file;
    caption.children[0].textContent = row.reason || (row.cut ? faces(row) : row.file.split("/").at(-1));
    caption.children[1].textContent = ticked.has(row.file) ? "leave out" : "";
    cell.title = [row.file, row.reason, row.detail].filter(Boolean).join(" · ");
    cell.classList.toggle("rejected", ticked.has(row.file) || !row.kept);
    cell.classList.toggle("blank", !row.size);
  };
  const faces = (/** @type {Row} */ row) => `${row.faces.filter((face) => face.kept).length} of ${row.faces.length} faces`;
  const makeCell = () => h("div", { class: "cell" }, h("img", { alt: "", loading: "lazy" }), h("div", { class: "caption" }, h("span", {}), h("i", { class: "star" })));

  /** Only what changed is sent: another tab may have ticked something else. @param {Change} change */
  function set({ added, removed }) {
    ticked = new Set([...ticked, ...added].filter((name) => !removed.includes(name)));
    const body = { path: report.path, added, removed, by: TAB };
    unsaved++;
    saving = saving.then(() => api("mine/ticks", body)).catch(() => undefined).then(() => { unsaved--; });  // in this order
    count();
    details();
  }

  /** Shows what another tab has ticked. @param {{path?: string, by?: string}} change  of any dataset if it names none */
  async function follow({ path = report.path, by }) {
    if (path !== report.path || !path || by === TAB) return;
    await saving;
    const names = await api("mine/ticks?path=" + encodeURIComponent(path));
    if (path !== report.path) return;
    if (unsaved) { await follow({ path }); return; }  // it was asked before the last ticks were saved
    ticked = new Set(names);
    count();
    details();
  }

  /** Ticks all, or unticks them if all are ticked. @param {string[]} names */
  function tick(names) {
    if (!names.length) return;
    const missing = names.filter((name) => !ticked.has(name)), change = { added: missing, removed: missing.length ? [] : names };
    before.push(change);
    set(change);
  }

  function undo() {
    const last = before.pop();
    if (last) set({ added: last.removed, removed: last.added });
  }

  const files = () => [...grid.selected].map((i) => report.rows[i].file);
  const grid = new Grid({ label: "Pictures of the dataset", size: () => 104, text: 26, make: makeCell, fill: fillCell, select: details, open: (i) => tick([report.rows[i].file]), key: onkey });

  /** @param {KeyboardEvent} event */
  function onkey(event) {
    if (event.key === "x" || event.key === "Delete") tick(files());
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  }

  function order() {
    const key = /** @type {"sharpness" | "distance" | ""} */ (sort.value), indices = report.rows.map((_, i) => i);
    if (key) indices.sort((a, b) => (report.rows[a][key] ?? Infinity) - (report.rows[b][key] ?? Infinity) || a - b);
    const shown = /** @type {Record<string, (row: Row) => boolean>} */ ({ all: () => true, kept: (row) => row.kept, left: (row) => !row.kept, ticked: isTicked });
    grid.setItems(indices.filter((i) => shown[filter.value](report.rows[i])));
    count();
    details();
  }

  const isTicked = (/** @type {Row} */ row) => ticked.has(row.file) || row.faces.some((face) => ticked.has(face.name));

  function count() {
    const number = ticked.size.toLocaleString();
    total.textContent = `${report.rows.filter((row) => row.kept).length.toLocaleString()} of ${report.rows.length.toLocaleString()} kept, ${number} ticked to leave out`;
    undoButton.allow(before.length);
    tickButton.allow(grid.selected.size);
    grid.refresh();
  }

  /** Shows the picture that is selected, its faces, and the one that is most like it. */
  function details() {
    tickButton.allow(grid.selected.size);
    const [i] = grid.selected, row = grid.selected.size === 1 ? report.rows[i] : null;
    if (!row) { about.replaceChildren(h("p", { class: "quiet" }, "Select one picture to see the faces found in it, and what is most like it.")); return; }
    const near = row.nearest === null ? null : report.rows[row.nearest];
    const state = ticked.has(row.file) ? "ticked to leave out" : row.reason || "kept";
    about.replaceChildren(figure(framed(row, i), row.file, h("br"), [state, row.detail].filter(Boolean).join(": ")));
    if (row.cut && row.faces.length) about.append(h("p", { class: "quiet" }, "Click a frame to leave out that face."));
    if (near && row.nearest !== null) about.append(figure(h("img", { src: source(row.nearest, LARGE), alt: `most like it: ${near.file}` }), "Most like it: ", near.file, h("br"), `difference ${row.distance?.toFixed(2)} (0 is the same, 1 is unrelated)`));
  }

  /** @param {Row} row @param {number} i */
  function framed(row, i) {
    if (!row.size) return h("p", { class: "quiet" }, "This file cannot be read.");
    const [height, width] = row.size;
    const frames = row.faces.map((face, n) => {
      const [left, top, wide, high] = face.box, text = `Face ${n + 1}: ${ticked.has(face.name) ? "ticked to leave out" : face.reason || (face.kept || !row.cut ? "kept" : "left out")}`;
      const frame = row.cut ? h("button", { class: "face", title: text, "aria-label": text, "aria-pressed": String(ticked.has(face.name)), onclick: () => tick([face.name]) }) : h("span", { class: "face", title: text });
      for (const [name, share] of Object.entries({ left: left / width, top: top / height, width: wide / width, height: high / height })) frame.style.setProperty(name, `${share * 100}%`);
      return frame;
    });
    return h("div", { class: "stage" }, h("img", { src: source(i, LARGE), alt: row.file, width, height }), ...frames);
  }

  const sort = h("select", { "aria-label": "Order", onchange: order }, option("", "source order"), option("sharpness", "least sharp first"), option("distance", "nearest copy first"));
  const filter = h("select", { "aria-label": "Filter", onchange: order }, option("all", "all files"), option("kept", "kept"), option("left", "left out"), option("ticked", "ticked"));
  const total = h("span", { class: "count", role: "status" }), about = h("div", { class: "field", id: "weed-one" });
  const tickButton = action("Tick the selected", () => tick(files()), { disabled: true }), undoButton = action("Undo", undo, { id: "undo-tick", disabled: true });
  const againButton = action("Prepare again without the ticked", () => again([...ticked]), { id: "prepare-again" });
  const element = h("section", { class: "card weed", hidden: true }, h("div", { class: "row spread" }, h("h2", {}, "2. Weed"), h("div", { class: "row" }, sort, filter)),
    h("p", { class: "quiet" }, "Select what does not belong, and press x (or double click). Then prepare again."), h("div", { class: "weeding" }, grid.element, about),
    h("div", { class: "row spread" }, total, h("div", { class: "row" }, tickButton, undoButton, againButton)));

  /** @param {any} found  a report */
  function show(found) {
    const same = found.path === report.path && found.version === report.version;
    if (found.path !== report.path) grid.selected.clear();
    report = found;
    if (!same || !before.length) {  // otherwise it may have been read before the last ticks were saved
      ticked = new Set(found.ticked);
      before = [];
    }
    order();
  }
  return { element, show, follow, allow: againButton.allow };
}
