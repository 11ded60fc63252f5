// One or two pictures as large as the window allows, each pixel a whole number of pixels of the screen.
import { h } from "./dom.js";

/**
 * @typedef {object} Shown
 * @property {string} src
 * @property {string} text
 */

/** Opens the view; Esc or a click closes it. @param {() => Shown[]} shown  what to show now @param {(event: KeyboardEvent) => boolean} key  whether it may have changed that */
export function showLarge(shown, key) {
  const box = h("div", { class: "large-pictures" }), text = h("p", { role: "status" });
  const close = h("button", { "aria-label": "Close", onclick: () => dialog.close() }, "×");
  const dialog = h("dialog", { class: "large", "aria-label": "Large view", onclick: (/** @type {Event} */ e) => e.target === box && dialog.close() },
    box, h("div", { class: "row spread" }, text, close));
  const draw = () => {
    const all = shown();
    if (!all.length) { dialog.close(); return; }
    if (JSON.stringify(all.map((one) => one.src)) !== box.dataset.shown) {
      box.dataset.shown = JSON.stringify(all.map((one) => one.src));
      box.replaceChildren(...all.map((one) => h("img", { src: one.src, alt: one.text, onload: () => fit(box) })));
    }
    text.textContent = all.map((one) => one.text).join("   |   ");
  };
  const resized = () => fit(box);
  addEventListener("resize", resized);
  dialog.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    if (!key(event)) return;
    event.preventDefault();
    draw();
  });
  dialog.addEventListener("close", () => { removeEventListener("resize", resized); dialog.remove(); });
  document.body.append(dialog);
  dialog.showModal();
  draw();
}

/** Sizes the pictures, side by side or one above the other, whichever is larger. @param {HTMLElement} box */
function fit(box) {
  const images = /** @type {HTMLImageElement[]} */ ([...box.children]), count = images.length;
  const width = Math.max(...images.map((image) => image.naturalWidth)), height = Math.max(...images.map((image) => image.naturalHeight));
  if (!width) return;
  const scale = devicePixelRatio, gap = 8 * (count - 1);
  const beside = Math.min((box.clientWidth - gap) / count / width, box.clientHeight / height) * scale;
  const above = Math.min(box.clientWidth / width, (box.clientHeight - gap) / count / height) * scale;
  const factor = Math.max(beside, above);
  box.classList.toggle("above", above > beside);
  for (const image of images) image.style.width = `${image.naturalWidth * (factor >= 1 ? Math.floor(factor) : factor) / scale}px`;
}
