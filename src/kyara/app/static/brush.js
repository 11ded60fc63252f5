// A picture on which a mask is painted, with the pointer or the keyboard.
import { h, slider } from "./dom.js";

const FINEST = 4, LONGEST = 1024;  // pixels of the mask for each of the picture, and of its longer side
const KEPT = 30;  // strokes that can be undone
const HELP = "paint with the pointer; or move with the arrow keys, paint with Space, and with Shift and the arrow keys";

export class Brush {
  /** @param {() => void} changed  called after every change @param {string} [help]  for screen readers */
  constructor(changed, help = HELP) {
    this.changed = changed;
    this.width = this.height = 64;
    this.scale = FINEST;
    this.tool = "brush";
    this.size = 5;  // of the brush, in pixels of the picture
    this.cursor = { x: 32, y: 32 };  // of the keyboard
    this.keyboard = false;
    /** Masks before and after the present one. @type {ImageData[]} */
    this.before = [];
    /** @type {ImageData[]} */
    this.after = [];
    this.image = h("img", { alt: "the picture to change", width: 64, height: 64, draggable: "false" });
    this.layer = h("canvas", { "aria-hidden": "true" });
    this.mask = document.createElement("canvas");
    this.element = h("div", { class: "stage painting", tabindex: "0", role: "application", "aria-label": `The picture: ${help}` }, this.image, this.layer);
    this.element.addEventListener("pointerdown", (/** @type {PointerEvent} */ e) => this.press(e));
    this.element.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this.key(e));
    this.element.addEventListener("blur", () => { this.keyboard = false; this.draw(); });
  }

  /** @returns {CanvasRenderingContext2D} */
  get context() {
    return /** @type {CanvasRenderingContext2D} */ (this.mask.getContext("2d", { willReadFrequently: true }));
  }

  /** Shows a picture, without a mask. @param {string} url @param {number} width @param {number} height */
  show(url, width, height) {
    Object.assign(this, { width, height, before: [], after: [], cursor: { x: width / 2, y: height / 2 } });
    this.scale = Math.min(FINEST, LONGEST / Math.max(width, height));
    this.image.src = url;
    Object.assign(this.image, { width, height });
    this.element.style.setProperty("--shape", String(width / height));  // the height is limited as well
    for (const canvas of [this.layer, this.mask]) {
      canvas.width = Math.max(1, Math.round(width * this.scale));
      canvas.height = Math.max(1, Math.round(height * this.scale));
    }
    this.draw();
  }

  /** Draws the mask, and below it what `under` draws. @param {(context: CanvasRenderingContext2D) => void} [under] */
  draw(under) {
    const context = this.layer.getContext("2d");
    context.clearRect(0, 0, this.layer.width, this.layer.height);
    under?.(context);
    context.globalAlpha = 0.45;
    context.drawImage(this.tinted(), 0, 0);
    context.globalAlpha = 1;
    if (this.keyboard) this.drawCursor(context);
    this.changed();
  }

  /** @param {CanvasRenderingContext2D} context */
  drawCursor(context) {
    for (const [style, wide] of /** @type {[string, number][]} */ ([["#fff", 4], ["#2a2530", 2]])) {
      Object.assign(context, { strokeStyle: style, lineWidth: wide });
      context.beginPath();
      context.arc(this.cursor.x * this.scale, this.cursor.y * this.scale, Math.max(this.size * this.scale / 2, 3), 0, 7);
      context.stroke();
    }
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

  /** @param {PointerEvent} event @returns {number[]} */
  place(event) {
    const box = this.element.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * this.width, (event.clientY - box.top) / box.height * this.height];
  }

  /** @param {PointerEvent} event */
  press(event) {
    if (event.button) return;
    this.element.setPointerCapture(event.pointerId);
    let [x, y] = this.place(event);
    const drag = this.begin(x, y);
    const move = (/** @type {PointerEvent} */ e) => {
      const [nx, ny] = this.place(e);
      drag(x, y, nx, ny);
      [x, y] = [nx, ny];
    };
    const end = () => this.element.removeEventListener("pointermove", move);
    this.element.addEventListener("pointermove", move);
    for (const kind of ["pointerup", "pointercancel"]) this.element.addEventListener(kind, end, { once: true });
    event.preventDefault();
    this.keyboard = false;
    this.element.focus({ preventScroll: true });
  }

  /** Begins a stroke. @param {number} x @param {number} y @returns {(x1: number, y1: number, x2: number, y2: number) => void} what continues it */
  begin(x, y) {
    this.remember();
    this.stroke(x, y, x, y);
    return (x1, y1, x2, y2) => this.stroke(x1, y1, x2, y2);
  }

  /** @param {number} x1 @param {number} y1 @param {number} x2 @param {number} y2 */
  stroke(x1, y1, x2, y2) {
    const { context, scale } = this;
    context.globalCompositeOperation = this.tool === "rubber" ? "destination-out" : "source-over";
    Object.assign(context, { strokeStyle: "#fff", lineCap: "round", lineJoin: "round", lineWidth: this.size * scale });
    context.beginPath();
    context.moveTo(x1 * scale, y1 * scale);
    context.lineTo(x2 * scale + 0.01, y2 * scale);  // a line without length is not drawn
    context.stroke();
    this.draw();
  }

  get now() {
    return this.context.getImageData(0, 0, this.mask.width, this.mask.height);
  }

  remember() {
    this.before = [...this.before, this.now].slice(-KEPT);
    this.after = [];
  }

  undo() {
    this.swap(this.before, this.after);
  }

  redo() {
    this.swap(this.after, this.before);
  }

  /** Takes a mask from one list, and puts the present one on the other. @param {ImageData[]} from @param {ImageData[]} to */
  swap(from, to) {
    const last = from.pop();
    if (!last) return;
    to.push(this.now);
    this.context.putImageData(last, 0, 0);
    this.draw();
  }

  clear() {
    this.remember();
    this.context.clearRect(0, 0, this.mask.width, this.mask.height);
    this.draw();
  }

  /** @param {KeyboardEvent} event @returns {boolean} whether the key was used */
  key(event) {
    const moves = /** @type {Record<string, number[]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] });
    const { x, y } = this.cursor;
    const control = event.ctrlKey || event.metaKey, letter = event.key.toLowerCase();
    if (control && (letter === "y" || (letter === "z" && event.shiftKey))) this.redo();
    else if (control && letter === "z") this.undo();
    else if (event.key in moves) {
      const far = Math.max(1, this.size / 2), [right, down] = moves[event.key];
      this.keyboard = true;
      this.cursor = { x: Math.max(0, Math.min(this.width, x + right * far)), y: Math.max(0, Math.min(this.height, y + down * far)) };
      if (event.shiftKey) this.begin(x, y)(x, y, this.cursor.x, this.cursor.y);
      else this.draw();
    } else if (event.key === " ") {
      this.keyboard = true;
      this.begin(x, y);
    } else return false;
    event.preventDefault();
    event.stopPropagation();
    return true;
  }

  /** Whether a mask is painted. */
  painted() {
    const { data } = this.context.getImageData(0, 0, this.mask.width, this.mask.height);
    for (let i = 3; i < data.length; i += 4) if (data[i] > 127) return true;
    return false;
  }

  /** A layer of the mask's shape at the picture's size, white on black, as the data URL of a PNG. @param {HTMLCanvasElement} [layer] @param {number} [least]  the alpha above which a pixel belongs to it */
  result(layer = this.mask, least = 127) {
    const small = document.createElement("canvas");
    small.width = this.width;
    small.height = this.height;
    const context = /** @type {CanvasRenderingContext2D} */ (small.getContext("2d"));
    context.imageSmoothingQuality = "high";
    context.drawImage(layer, 0, 0, this.width, this.height);
    const data = context.getImageData(0, 0, this.width, this.height);
    for (let i = 0; i < data.data.length; i += 4) {
      const value = data.data[i + 3] > least ? 255 : 0;
      data.data.set([value, value, value, 255], i);
    }
    context.putImageData(data, 0, 0);
    return small.toDataURL();
  }
}

/** The controls of a brush: tools, of which `more` are further ones, its size, undo and clear.
 * @param {Brush} painting @param {...[string, string]} more  name and text */
export function brushTools(painting, ...more) {
  const choose = (/** @type {string} */ name) => {
    painting.tool = name;
    for (const button of Object.values(buttons)) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  };
  const all = /** @type {[string, string][]} */ ([["brush", "Brush"], ["rubber", "Eraser"], ...more]);
  /** @type {Record<string, any>} */
  const buttons = Object.fromEntries(all.map(([name, text]) => [name, h("button", { "data-tool": name, "aria-pressed": String(name === painting.tool), onclick: () => choose(name) }, text)]));
  const size = slider("Brush", { min: 1, max: 40, step: 1, value: 8, show: (v) => `${v} % of the picture`, oninput: resize });
  /** Makes the brush as large as the slider says, for the picture that is shown. */
  function resize() {
    painting.size = Math.max(1, size.value / 100 * Math.max(painting.width, painting.height));
    painting.draw();
  }
  const elements = [h("div", { class: "chips", role: "group", "aria-label": "Tools" }, ...Object.values(buttons)), size.element,
    h("div", { class: "row" }, h("button", { id: "undo-stroke", onclick: () => painting.undo() }, "Undo stroke"), h("button", { id: "redo-stroke", onclick: () => painting.redo() }, "Redo"), h("button", { onclick: () => painting.clear() }, "Clear"))];
  return { elements, buttons, choose, resize };
}
