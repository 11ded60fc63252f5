// A grid of pictures of which only the visible cells are in the document: 100,000 scroll as well as 100.
import { h } from "./dom.js";

const OVERSCAN = 2;  // rows
const GAP = 8;

/**
 * @typedef {object} GridOptions
 * @property {string} label  name for screen readers
 * @property {() => number} size  least width of a cell, in pixels
 * @property {number} text  height of the text below a picture
 * @property {() => HTMLElement} make  an empty cell
 * @property {(cell: any, key: any) => void} fill  shows an item in a cell
 * @property {(keys: any[], current: any) => void} [select]  the selection changed
 * @property {(key: any) => void} [open]  double click or Enter
 * @property {(event: KeyboardEvent) => void} [key]  any other key
 */

export class Grid {
  /** @param {GridOptions} options */
  constructor(options) {
    this.options = options;
    /** @type {any[]} */
    this.items = [];
    this.selected = new Set();
    this.cursor = 0;
    this.anchor = 0;
    this.columns = 1;
    this.width = 100;
    this.shape = "";
    /** @type {Map<number, any>} */
    this.cells = new Map();
    /** @type {any[]} */
    this.spare = [];
    this.inner = h("div", { class: "grid-inner" });
    this.element = h("div", { class: "grid", tabindex: "0", role: "region", "aria-label": options.label }, this.inner);
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => this.onkey(e));
    this.element.addEventListener("click", (/** @type {MouseEvent} */ e) => this.onclick(e));
    this.element.addEventListener("dblclick", (/** @type {MouseEvent} */ e) => { const i = this.at(e); if (i >= 0) options.open?.(this.items[i]); });
    new ResizeObserver(() => this.layout()).observe(this.element);
  }

  /** @param {any[]} items */
  setItems(items) {
    const current = this.items[this.cursor];
    this.items = items;
    const place = items.indexOf(current);
    this.cursor = place >= 0 ? place : Math.min(this.cursor, Math.max(items.length - 1, 0));
    const there = new Set(items);
    for (const key of this.selected) if (!there.has(key)) this.selected.delete(key);
    this.layout();
  }

  layout() {
    const wide = this.element.clientWidth - 2 * GAP;
    if (wide <= 0) return;
    this.columns = Math.max(1, Math.floor((wide + GAP) / (this.options.size() + GAP)));
    this.width = Math.floor((wide + GAP) / this.columns) - GAP;
    this.row = this.width + this.options.text + GAP;
    this.inner.style.height = `${Math.ceil(this.items.length / this.columns) * this.row + GAP}px`;
    const shape = `${this.columns} ${this.row}`;
    if (shape === this.shape) {  // cells stay in their places, so that a click is not lost while pictures arrive
      for (const [i, cell] of this.cells) if (i < this.items.length) this.fill(i, cell);
    } else {
      for (const cell of this.cells.values()) this.free(cell);
      this.cells.clear();
      this.shape = shape;
    }
    this.draw();
  }

  /** @param {any} cell */
  free(cell) {
    cell.remove();
    this.spare.push(cell);
  }

  draw() {
    const row = this.row || 1;
    const first = Math.max(0, Math.floor(this.element.scrollTop / row) - OVERSCAN) * this.columns;
    const last = Math.min(this.items.length, (Math.ceil((this.element.scrollTop + this.element.clientHeight) / row) + OVERSCAN) * this.columns);
    for (const [i, cell] of this.cells) {
      if (i < first || i >= last) {
        this.cells.delete(i);
        this.free(cell);
      }
    }
    for (let i = first; i < last; i++) {
      let cell = this.cells.get(i);
      if (!cell) {
        cell = this.spare.pop() || this.options.make();
        cell.setAttribute("role", "option");
        cell.style.width = `${this.width}px`;
        cell.style.height = `${row - GAP}px`;
        cell.style.transform = `translate(${GAP + (i % this.columns) * (this.width + GAP)}px, ${GAP + Math.floor(i / this.columns) * row}px)`;
        cell.dataset.i = String(i);
        cell.id = `cell-${i}`;
        this.cells.set(i, cell);
        this.inner.append(cell);
        this.fill(i, cell);
      }
    }
    this.marks();
  }

  /** @param {number} i @param {any} cell */
  fill(i, cell) {
    this.options.fill(cell, this.items[i]);
  }

  /** Shows the items anew, such as after a star. */
  refresh() {
    for (const [i, cell] of this.cells) this.fill(i, cell);
    this.marks();
  }

  marks() {
    for (const [i, cell] of this.cells) {
      cell.setAttribute("aria-selected", String(this.selected.has(this.items[i])));
      cell.classList.toggle("cursor", i === this.cursor);
    }
    this.element.setAttribute("role", this.items.length ? "listbox" : "region");  // a list box has options
    if (this.items.length) this.element.setAttribute("aria-multiselectable", "true");
    else this.element.removeAttribute("aria-multiselectable");
    if (this.cells.has(this.cursor)) this.element.setAttribute("aria-activedescendant", `cell-${this.cursor}`);
    else this.element.removeAttribute("aria-activedescendant");  // it is scrolled out of view, and not in the document
  }

  /** @param {MouseEvent} event */
  at(event) {
    const cell = /** @type {HTMLElement} */ (event.target).closest("[role=option]");
    return cell ? Number(/** @type {any} */ (cell).dataset.i) : -1;
  }

  /** @param {MouseEvent} event */
  onclick(event) {
    const i = this.at(event);
    if (i >= 0) this.go(i, { range: event.shiftKey, add: event.ctrlKey || event.metaKey });
    else if (event.target === this.element || event.target === this.inner) this.choose([]);
  }

  /** Moves the cursor. @param {number} i @param {{range?: boolean, add?: boolean, quiet?: boolean}} [how] */
  go(i, { range = false, add = false } = {}) {
    if (!this.items.length) return;
    i = Math.max(0, Math.min(i, this.items.length - 1));
    if (!add) this.selected.clear();
    if (range) {
      for (let j = Math.min(i, this.anchor); j <= Math.max(i, this.anchor); j++) this.selected.add(this.items[j]);
    } else {
      if (add && this.selected.has(this.items[i])) this.selected.delete(this.items[i]);
      else this.selected.add(this.items[i]);
      this.anchor = i;
    }
    this.cursor = i;
    this.reveal(i);
    this.marks();
    this.options.select?.([...this.selected], this.items[i]);
  }

  /** Selects an item by its key. @param {any} key */
  show(key) {
    const i = this.items.indexOf(key);
    if (i >= 0) this.go(i);
  }

  /** Selects all items of these keys. @param {any[]} keys */
  choose(keys) {
    const places = keys.map((key) => this.items.indexOf(key)).filter((i) => i >= 0);
    if (keys.length && !places.length) return;  // the filter hides them
    this.selected = new Set(places.map((i) => this.items[i]));
    if (places.length) {
      this.cursor = this.anchor = Math.min(...places);
      this.reveal(this.cursor);
    }
    this.marks();
    this.options.select?.([...this.selected], this.items[this.cursor]);
  }

  /** @param {number} i */
  reveal(i) {
    const row = this.row || 1, top = Math.floor(i / this.columns) * row, view = this.element;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + row + GAP > view.scrollTop + view.clientHeight) view.scrollTop = top + row + GAP - view.clientHeight;
    this.draw();
  }

  /** @param {KeyboardEvent} event */
  onkey(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / (this.row || 1))) * this.columns;
    const moves = /** @type {Record<string, number>} */ ({ ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, PageUp: -page, PageDown: page, Home: -this.cursor, End: this.items.length });
    if (event.key in moves && !event.altKey) {
      this.go(this.cursor + moves[event.key], { range: event.shiftKey });
    } else if (event.key === " ") {
      this.go(this.cursor, { add: true });
    } else if (event.key === "Enter") {
      this.options.open?.(this.items[this.cursor]);
    } else if ((event.ctrlKey || event.metaKey) && event.key === "a") {
      this.items.forEach((key) => this.selected.add(key));
      this.marks();
      this.options.select?.([...this.selected], this.items[this.cursor]);
    } else if (event.key === "Escape") {
      this.choose([]);
    } else {
      this.options.key?.(event);
      return;
    }
    event.preventDefault();
  }
}
