// Dragging points of a picture of Make to other places.
import { api, h } from "./dom.js";
import { act, finished } from "./make.js";

/** The drag that runs. @type {any} */
let dragging = null;
let unfolded = false;  // also for the picture that a drag makes

/** @param {import("./make.js").Item} it @param {HTMLElement} stage @param {HTMLImageElement} image @param {any} model */
export function dragSection(it, stage, image, { width, height }) {
  const hint = h("p", { class: "quiet" }, "Press on a point of the picture and release at its target. Several points can be set.");
  const start = h("button", { class: "main", disabled: true }, "Move"), clear = h("button", {}, "Clear points");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const section = h("details", { class: "section", id: "drag", open: unfolded }, h("summary", {}, "Drag points"), hint, h("div", { class: "row" }, start, clear));
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
  section.addEventListener("toggle", () => {
    unfolded = section.open;
    if (unfolded) stage.append(svg);
    else { stopDrag(); svg.remove(); }
  });
  clear.addEventListener("click", () => { stopDrag(); points = []; image.src = finished(it); draw(); });
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
    } catch { /* the message is shown */ } finally {
      dragging = null;
      start.textContent = "Move";
    }
  });
  return section;
}

/** Ends the drag that runs. */
export function stopDrag() {
  if (dragging) dragging.stopped = true;
}
