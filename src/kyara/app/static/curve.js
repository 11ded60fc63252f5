// A small line chart, as SVG.
import { h } from "./dom.js";

const WIDTH = 240, HEIGHT = 90, EDGE = 4;

/** @param {string} name @param {[number, number][]} points */
export function curve(name, points) {
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]).filter(Number.isFinite);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const at = ([x, y]) => `${(EDGE + (x - x0) / (x1 - x0 || 1) * (WIDTH - 2 * EDGE)).toFixed(1)},${(HEIGHT - EDGE - (y - y0) / (y1 - y0 || 1) * (HEIGHT - 2 * EDGE)).toFixed(1)}`;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}: from ${y0.toPrecision(3)} to ${y1.toPrecision(3)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.filter((p) => Number.isFinite(p[1])).map(at).join(" "));
  svg.append(line);
  return h("figure", { class: "curve" }, h("figcaption", { class: "row spread" }, h("b", {}, name), h("span", { class: "quiet" }, points[points.length - 1][1].toPrecision(3))), svg);
}
