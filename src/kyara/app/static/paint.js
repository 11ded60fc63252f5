// A picture with a painted mask and a pattern that can be moved, scaled and turned in place.
import { Brush } from "./brush.js";

const PLACED = 0.35;  // of the picture's width and height that a dropped pattern covers at most

export class Painting extends Brush {
  /** @param {() => void} changed  called after every change */
  constructor(changed) {
    super(changed, "paint with the pointer, or move the pattern with the arrow keys; without one they move the brush, and Space paints");
    /** @type {HTMLImageElement | null} */
    this.pattern = null;
    this.whole = false;  // the pattern is another picture, of which the mask shows a part
    this.at = { x: 0, y: 0, size: 1, turn: 0 };
    this.element.addEventListener("wheel", (/** @type {WheelEvent} */ e) => this.wheel(e), { passive: false });
  }

  /** Shows a picture, without mask and pattern. @param {string} url @param {number} width @param {number} height */
  show(url, width, height) {
    Object.assign(this, { pattern: null, whole: false });
    super.show(url, width, height);
  }

  /** Lays a pattern over the middle, or, if it is a `whole` picture, over everything. @param {HTMLImageElement} pattern @param {boolean} [whole] */
  setPattern(pattern, whole = false) {
    Object.assign(this, { pattern, whole });
    const share = whole ? 1 : PLACED, fit = Math.min(share * this.width / pattern.naturalWidth, share * this.height / pattern.naturalHeight);
    this.at = { x: this.width / 2, y: this.height / 2, size: whole ? fit : Math.min(1, fit), turn: 0 };
    this.tool = whole ? "brush" : "move";
    this.draw();
  }

  /** Draws pattern and mask. */
  draw() {
    super.draw((context) => this.drawPattern(context));
  }

  /** Where another picture shows through, the mask is not coloured. */
  tinted() {
    const tint = super.tinted();
    if (this.whole && this.pattern) tint.getContext("2d")?.clearRect(0, 0, tint.width, tint.height);
    return tint;
  }

  /** Draws the pattern, of another picture the part in the mask. @param {CanvasRenderingContext2D} context */
  drawPattern(context) {
    if (!this.whole) return this.drawLaid(context);
    const part = document.createElement("canvas");
    Object.assign(part, { width: this.mask.width, height: this.mask.height });
    const drawn = /** @type {CanvasRenderingContext2D} */ (part.getContext("2d"));
    this.drawLaid(drawn);
    drawn.globalCompositeOperation = "destination-in";
    drawn.drawImage(this.mask, 0, 0);
    context.drawImage(part, 0, 0);
  }

  /** @param {CanvasRenderingContext2D} context */
  drawLaid(context) {
    if (!this.pattern) return;
    const { x, y, size, turn } = this.at;
    const w = this.pattern.naturalWidth * size, tall = this.pattern.naturalHeight * size;
    context.save();
    context.scale(this.scale, this.scale);
    context.translate(x, y);
    context.rotate(turn * Math.PI / 180);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.pattern, -w / 2, -tall / 2, w, tall);
    context.restore();
  }

  /** A stroke, or a move of the pattern. @param {number} x @param {number} y @returns {(x1: number, y1: number, x2: number, y2: number) => void} */
  begin(x, y) {
    if (this.tool !== "move" || !this.pattern) return super.begin(x, y);
    return (x1, y1, x2, y2) => {
      this.at.x += x2 - x1;
      this.at.y += y2 - y1;
      this.draw();
    };
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    if (!this.pattern || this.tool !== "move") return;
    event.preventDefault();
    if (event.shiftKey) this.at.turn += Math.sign(event.deltaY || event.deltaX) * 5;
    else this.at.size *= event.deltaY > 0 ? 0.95 : 1 / 0.95;
    this.draw();
  }

  /** @param {KeyboardEvent} event @returns {boolean} */
  key(event) {
    const moves = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    if (!this.pattern || this.tool !== "move") return super.key(event);
    if (event.key in moves) {
      this.at.x += moves[event.key][0];
      this.at.y += moves[event.key][1];
    } else if (event.key === "+" || event.key === "-") this.at.size *= event.key === "+" ? 1.05 : 1 / 1.05;
    else if (event.key === "[" || event.key === "]") this.at.turn += event.key === "]" ? 5 : -5;
    else return super.key(event);
    event.preventDefault();
    this.draw();
    return true;
  }

  /** What is laid over the picture: the pattern, or the painted area. */
  above() {
    const above = document.createElement("canvas");
    Object.assign(above, { width: this.layer.width, height: this.layer.height });
    const context = /** @type {CanvasRenderingContext2D} */ (above.getContext("2d"));
    if (this.pattern) this.drawPattern(context);
    else context.drawImage(this.layer, 0, 0);
    return above;
  }

  /** Whether there is neither a mask nor a pattern that needs none. */
  get empty() {
    return (!this.pattern || this.whole) && !this.painted();
  }

  /** The example: the mask at the picture's size, white on black, and the pattern's layer. Without a painted mask, it is
   * where the pattern is. */
  example() {
    const layer = document.createElement("canvas");
    layer.width = this.mask.width;
    layer.height = this.mask.height;
    this.drawPattern(/** @type {CanvasRenderingContext2D} */ (layer.getContext("2d")));
    const mask = this.painted() ? this.result() : this.result(layer, 15);
    return { mask, pattern: this.pattern ? layer.toDataURL() : null };
  }
}
