// A picture with a painted mask and a pattern that can be moved, scaled and turned in place.
import { h } from "./dom.js";

const SCALE = 4;  // pixels of the pattern for each of the picture

export class Painting {
  /** @param {() => void} changed  called after every change */
  constructor(changed) {
    this.changed = changed;
    this.width = this.height = 64;
    this.tool = "brush";
    this.brush = 5;
    /** @type {HTMLImageElement | null} */
    this.pattern = null;
    this.at = { x: 0, y: 0, size: 1, turn: 0 };
    /** @type {ImageData[]} */
    this.before = [];
    this.image = h("img", { alt: "the picture to change", width: 64, height: 64, draggable: "false" });
    this.layer = h("canvas", { "aria-hidden": "true" });
    this.mask = document.createElement("canvas");
    this.element = h("div", { class: "stage painting", tabindex: "0", role: "application", "aria-label": "The picture: paint with the pointer, or move the pattern with the arrow keys" }, this.image, this.layer);
    this.element.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => this.press(e));
    this.element.addEventListener("wheel", (/** @type {WheelEvent} */ e) => this.wheel(e), { passive: false });
    this.element.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this.key(e));
  }

  /** Shows a picture, without mask and pattern. @param {string} url @param {number} width @param {number} height */
  show(url, width, height) {
    Object.assign(this, { width, height, pattern: null, before: [] });
    this.image.src = url;
    for (const canvas of [this.layer, this.mask]) {
      canvas.width = width * SCALE;
      canvas.height = height * SCALE;
    }
    this.draw();
  }

  /** @param {HTMLImageElement} pattern */
  setPattern(pattern) {
    this.pattern = pattern;
    const fit = Math.min(1, 0.6 * this.width / pattern.naturalWidth, 0.6 * this.height / pattern.naturalHeight);
    this.at = { x: this.width / 2, y: this.height / 2, size: fit, turn: 0 };
    this.tool = "move";
    this.draw();
  }

  /** Draws pattern and mask. */
  draw() {
    const context = this.layer.getContext("2d");
    context.clearRect(0, 0, this.layer.width, this.layer.height);
    if (this.pattern) this.drawPattern(context);
    context.globalAlpha = 0.45;
    context.drawImage(this.tinted(), 0, 0);
    context.globalAlpha = 1;
    this.changed();
  }

  /** @param {CanvasRenderingContext2D} context */
  drawPattern(context) {
    const { x, y, size, turn } = this.at, pattern = /** @type {HTMLImageElement} */ (this.pattern);
    const w = pattern.naturalWidth * size, tall = pattern.naturalHeight * size;
    context.save();
    context.scale(SCALE, SCALE);
    context.translate(x, y);
    context.rotate(turn * Math.PI / 180);
    context.imageSmoothingQuality = "high";
    context.drawImage(pattern, -w / 2, -tall / 2, w, tall);
    context.restore();
  }

  /** The mask as a coloured layer. */
  tinted() {
    const tint = document.createElement("canvas");
    tint.width = this.mask.width;
    tint.height = this.mask.height;
    const context = /** @type {CanvasRenderingContext2D} */ (tint.getContext("2d"));
    context.drawImage(this.mask, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#ff5c93";
    context.fillRect(0, 0, tint.width, tint.height);
    return tint;
  }

  /** @param {PointerEvent} event */
  place(event) {
    const box = this.element.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * this.width, (event.clientY - box.top) / box.height * this.height];
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button) return;
    this.element.setPointerCapture(event.pointerId);
    let [x, y] = this.place(event);
    const painting = this.tool !== "move" || !this.pattern;
    if (painting) {
      this.remember();
      this.stroke(x, y, x, y);
    }
    const move = (/** @type {PointerEvent} */ e) => {
      const [nx, ny] = this.place(e);
      if (painting) this.stroke(x, y, nx, ny);
      else {
        this.at.x += nx - x;
        this.at.y += ny - y;
        this.draw();
      }
      [x, y] = [nx, ny];
    };
    this.element.addEventListener("pointermove", move);
    this.element.addEventListener("pointerup", () => this.element.removeEventListener("pointermove", move), { once: true });
    event.preventDefault();
    this.element.focus({ preventScroll: true });
  }

  /** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
  stroke(x1, y1, x2, y2) {
    const context = /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true }));
    context.globalCompositeOperation = this.tool === "rubber" ? "destination-out" : "source-over";
    Object.assign(context, { strokeStyle: "#fff", lineCap: "round", lineJoin: "round", lineWidth: this.brush * SCALE });
    context.beginPath();
    context.moveTo(x1 * SCALE, y1 * SCALE);
    context.lineTo(x2 * SCALE, y2 * SCALE);
    context.stroke();
    this.draw();
  }

  remember() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true }));
    this.before.push(context.getImageData(0, 0, this.mask.width, this.mask.height));
    this.before = this.before.slice(-30);
  }

  undo() {
    const last = this.before.pop();
    if (last) /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true })).putImageData(last, 0, 0);
    this.draw();
  }

  clear() {
    this.remember();
    /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true })).clearRect(0, 0, this.mask.width, this.mask.height);
    this.draw();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (!this.pattern || this.tool !== "move") return;
    event.preventDefault();
    if (event.shiftKey) this.at.turn += Math.sign(event.deltaY || event.deltaX) * 5;
    else this.at.size *= event.deltaY > 0 ? 0.95 : 1 / 0.95;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if ((event.ctrlKey || event.metaKey) && event.key === "z") {
      event.preventDefault();
      event.stopPropagation();
      this.undo();
    }
    const moves = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    if (!this.pattern) return;
    if (event.key in moves) {
      this.at.x += moves[event.key][0];
      this.at.y += moves[event.key][1];
    } else if (event.key === "+" || event.key === "-") this.at.size *= event.key === "+" ? 1.05 : 1 / 1.05;
    else if (event.key === "[" || event.key === "]") this.at.turn += event.key === "]" ? 5 : -5;
    else return;
    event.preventDefault();
    this.draw();
  }

  /** Whether there is a mask or a pattern. */
  get empty() {
    return !this.pattern && !this.painted();
  }

  painted() {
    const data = /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true })).getImageData(0, 0, this.mask.width, this.mask.height).data;
    for (let i = 3; i < data.length; i += 4) if (data[i] > 127) return true;
    return false;
  }

  /** The example: the mask at the picture's size, white on black, and the pattern's layer. Without a painted mask, it is
   * where the pattern is. */
  result() {
    const layer = document.createElement("canvas"), small = document.createElement("canvas");
    layer.width = this.mask.width;
    layer.height = this.mask.height;
    if (this.pattern) this.drawPattern(/** @type {CanvasRenderingContext2D} */ (layer.getContext("2d")));
    small.width = this.width;
    small.height = this.height;
    const context = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(this.painted() ? this.mask : layer, 0, 0, this.width, this.height);
    const data = context.getImageData(0, 0, this.width, this.height);
    const least = this.painted() ? 127 : 15;
    for (let i = 0; i < data.data.length; i += 4) {
      const value = data.data[i + 3] > least ? 255 : 0;
      data.data.set([value, value, value, 255], i);
    }
    context.putImageData(data, 0, 0);
    return { mask: small.toDataURL(), pattern: this.pattern ? layer.toDataURL() : null };
  }
}
