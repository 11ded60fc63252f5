// The right side of Make: what can be done with the selected picture or pictures.
import { api, command, h, later, say, slider } from "./dom.js";
import { act, chips, modelOf, picture, state, title, toggle } from "./make.js";

/** @type {HTMLElement} */
let panel;
/** @type {number[]} */
let selected = [];
let shown = "";  // what the panel was drawn for
/** @type {any} */
let dragging = null;

const item = (/** @type {number} */ number) => /** @type {import("./make.js").Item} */ (state.items.get(number));

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
    if (selected.length === 1) {
      const number = selected[0];
      api("make/details/" + number).then((found) => { if (panel.isConnected && selected[0] === number && selected.length === 1) command(found.command); }).catch(() => undefined);
    }
  },

  /** Draws the panel anew if something changed. */
  update() {
    selected = selected.filter((number) => state.items.has(number) && state.order.includes(number));
    const model = selected.length ? modelOf(item(selected[0]), inspector.update) : null;
    const key = JSON.stringify(selected.slice(0, 9).map((number) => [{ ...item(number), score: 0 }, number])) + selected.length + model?.hash;
    if (!panel) return;
    const line = panel.querySelector("#about-one");
    if (line && selected.length === 1) line.textContent = about(item(selected[0]));  // its score may have come
    if (key === shown) return;
    shown = key;
    stopDrag();
    if (!selected.length) panel.replaceChildren(h("p", { class: "quiet" }, "Select a picture to vary, change or drag it. Select two to compare or mix them, several to walk between them."), h("p", { class: "quiet" }, "Keys: arrows move, space adds to the selection, s stars, x rejects, Delete removes."));
    else if (selected.length === 1) one(item(selected[0]), model);
    else several(selected.map(item), model);
  },
};

/** @param {import("./make.js").Item} it */
function actions(...it) {
  const numbers = it.map((one) => one.number);
  return h("div", { class: "row" },
    h("button", { "aria-pressed": String(it.every((one) => one.star)), onclick: () => toggle("star", numbers) }, "★ Star"),
    h("button", { "aria-pressed": String(it.every((one) => one.rejected)), onclick: () => toggle("rejected", numbers) }, "Reject"),
    it.length === 1 && h("a", { class: "button", href: `/api/make/picture/${it[0].number}.png?download=true`, download: "" }, "Download"));
}

/** @param {import("./make.js").Item} it */
function about(it) {
  return [title(it), it.origin !== title(it) && it.origin, it.seed !== "" && `truncation ${it.truncation}`, it.score !== null && `${Math.round(it.score * 100)} % undistorted`].filter(Boolean).join(" · ");
}

/** @param {import("./make.js").Item} it @param {any} model */
function one(it, model) {
  const image = h("img", { src: picture(it), alt: title(it), width: model?.width || 64, height: model?.height || 64 });
  const stage = h("div", { class: "stage" }, image);
  const strength = slider("How different", { min: 0.05, max: 1, step: 0.05, value: 0.3, show: (v) => `${Math.round(v * 100)} %` });
  const attributes = model?.attributes || {};
  panel.replaceChildren(stage, h("p", { class: "quiet", id: "about-one" }, about(it)), actions(it), model ? dragSection(it, stage, image, model) : "",
    Object.keys(attributes).length ? h("div", { class: "section", id: "change" }, h("h2", {}, "Change one thing"),
      ...chips(attributes, it.labels, (name, value) => value !== null && value !== it.labels[name] && act("change", { number: it.number, where: { [name]: value } }))) : "",
    h("div", { class: "section" }, h("h2", {}, "Variations"), strength.element,
      h("button", { id: "vary", onclick: () => act("vary", { number: it.number, count: 8, strength: strength.value }) }, "Make 8 variations")));
}

/** @param {import("./make.js").Item} it @param {HTMLElement} stage @param {HTMLImageElement} image @param {any} model */
function dragSection(it, stage, image, { width, height }) {
  const hint = h("p", { class: "quiet" }, "Press on a point of the picture and release at its target. Several points can be set.");
  const start = h("button", { class: "main", disabled: true }, "Move"), clear = h("button", {}, "Clear points");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const section = h("details", { class: "section", id: "drag" }, h("summary", {}, "Drag points"), hint, h("div", { class: "row" }, start, clear));
  /** @type {{from: number[], to: number[]}[]} */
  let points = [];
  svg.setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
  const shape = (/** @type {string} */ tag, /** @type {Record<string, any>} */ values) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
    return made;
  };
  const draw = () => {
    const r = width / 45;
    svg.replaceChildren(...points.flatMap(({ from: [x1, y1], to: [x2, y2] }) => [
      shape("line", { x1, y1, x2, y2, class: "under" }), shape("line", { x1, y1, x2, y2 }),
      shape("circle", { cx: x2, cy: y2, r, class: "target" }), shape("circle", { cx: x1, cy: y1, r, class: "handle" })]));
    start.disabled = !points.length;
  };
  const place = (/** @type {PointerEvent} */ event) => {
    const box = svg.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * width - 0.5, (event.clientY - box.top) / box.height * height - 0.5]
      .map((value, i) => Math.max(0, Math.min(value, (i ? height : width) - 1)));
  };
  svg.addEventListener("pointerdown", (event) => {
    if (dragging) return;
    const from = place(event), point = { from, to: from };
    points.push(point);
    svg.setPointerCapture(event.pointerId);
    const move = (/** @type {PointerEvent} */ e) => { point.to = place(e); draw(); };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerup", () => svg.removeEventListener("pointermove", move), { once: true });
    draw();
  });
  section.addEventListener("toggle", () => { if (section.open) stage.append(svg); else { stopDrag(); svg.remove(); } });
  clear.addEventListener("click", () => { stopDrag(); points = []; image.src = picture(it); draw(); });
  start.addEventListener("click", async () => {
    if (dragging) { stopDrag(); return; }
    const run = { stopped: false, session: 0 };
    dragging = run;
    start.textContent = "Stop";
    try {
      run.session = (await api("make/drag", { number: it.number, handles: points.map((p) => p.from), targets: points.map((p) => p.to) })).session;
      let frames = 0;
      const began = performance.now();
      while (!run.stopped) {
        const frame = await api("make/drag/step", { session: run.session });
        frames++;
        image.src = frame.picture;
        points.forEach((point, i) => { point.from = frame.points[i]; });
        draw();
        hint.textContent = `${frame.steps} steps, ${frame.distance} pixels left, ${(frames / (performance.now() - began) * 1000).toFixed(1)} pictures a second`;
        if (frame.done) break;
      }
      dragging = null;
      await act("drag/keep", { session: run.session });
    } finally {
      dragging = null;
      start.textContent = "Move";
    }
  });
  return section;
}

function stopDrag() {
  if (dragging) dragging.stopped = true;
}

/** @param {import("./make.js").Item[]} items @param {any} model */
function several(items, model) {
  const numbers = items.map((one) => one.number);
  const [a, b] = items;
  const parts = [];
  if (items.length === 2) {
    const image = h("img", { src: picture(a), alt: "mixture", width: 64, height: 64 });
    const preview = later(async (/** @type {number} */ layer) => { image.src = (await api("make/mix", { coarse: a.number, fine: b.number, layer, keep: false })).picture; }, 40);
    const layers = model?.layers || 10;
    const layer = slider("Layers of the second picture: all to none", { min: 0, max: layers, step: 1, value: Math.round(layers * 0.4), oninput: preview });
    if (a.model === b.model) preview(layer.value);
    parts.push(h("div", { class: "stage pairs" }, ...items.map((one) => h("img", { src: picture(one), alt: title(one), width: 64, height: 64 }))),
      h("p", { class: "quiet" }, `${title(a)} and ${title(b)}`), actions(...items));
    if (a.model === b.model) parts.push(h("div", { class: "section" }, h("h2", {}, "Mix"), h("p", { class: "quiet" }, "Pose and shape of the first, colours and details of the second."), h("div", { class: "stage" }, image), layer.element,
      h("div", { class: "row" }, h("button", { id: "mix", class: "main", onclick: () => act("mix", { coarse: a.number, fine: b.number, layer: layer.value }) }, "Keep this mixture"),
        h("button", { onclick: () => inspector.select([b.number, a.number]) }, "Swap"))));
  } else {
    parts.push(h("p", {}, `${items.length.toLocaleString()} pictures selected`), actions(...items));
  }
  if (items.length <= 12 && new Set(items.map((one) => one.model)).size === 1) parts.push(walkSection(numbers));
  panel.replaceChildren(...parts);
}

/** @param {number[]} numbers */
function walkSection(numbers) {
  const frames = slider("Pictures", { min: Math.max(numbers.length, 8), max: 120, step: 1, value: 24 });
  const image = h("img", { alt: "walk", width: 64, height: 64, hidden: true });
  const go = h("button", { id: "walk", onclick: async () => {
    const answer = await act("walk", { numbers, frames: frames.value });
    const urls = answer.rows.map((/** @type {any[]} */ row) => `/api/make/picture/${row[0]}.png?v=${state.id}`);
    const loaded = await Promise.all(urls.map((/** @type {string} */ url) => { const made = new Image(); made.src = url; return made.decode().then(() => url); }));
    say("The walk is selected: Export writes it with an animation.");
    play(loaded);
  } }, "Walk between them");
  return h("div", { class: "section" }, h("h2", {}, "Walk"), frames.element, h("div", { class: "stage" }, image), go);
}

/** Plays pictures on the panel until another one is selected. @param {string[]} urls */
function play(urls) {
  const image = h("img", { alt: "walk", width: 64, height: 64, src: urls[0] });
  const stage = h("div", { class: "stage" }, image);
  panel.prepend(stage);
  let i = 0;
  const timer = setInterval(() => {
    if (!stage.isConnected) { clearInterval(timer); return; }
    i = (i + 1) % (2 * urls.length - 2 || 1);
    image.src = urls[i < urls.length ? i : 2 * urls.length - 2 - i];
  }, 1000 / 12);
}
