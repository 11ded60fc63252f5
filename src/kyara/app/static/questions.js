// Questions about pictures, one at a time, answered by clicks or number keys.
import { h } from "./dom.js";

/** Asks. `done` gets the answers, those given so far if one stops, and none if they are discarded. Esc closes the dialog if
 * there are none.
 * @param {{title: string, values: string[], names: string[], picture: (name: string) => string, done: (answers: Record<string, string>) => void}} about */
export function ask({ title, values, names, picture, done }) {
  /** @type {Record<string, string>} */
  const answers = {};
  let i = 0, use = false;
  const image = h("img", { alt: "", width: 160, height: 160 }), where = h("p", { class: "quiet", role: "status" });
  const go = (/** @type {number} */ to) => {
    i = Math.max(0, to);
    if (i >= names.length) { finish(); return; }
    image.src = picture(names[i]);
    image.alt = names[i];
    where.textContent = `${i + 1} of ${names.length}`;
  };
  const finish = () => { use = true; box.close(); };
  const leave = () => {
    if (!Object.keys(answers).length) { box.close(); return; }
    where.textContent = "Use the answers that you gave, or discard them?";
    stop.focus();
  };
  const give = (/** @type {string} */ value) => { answers[names[i]] = value; go(i + 1); };
  const back = () => { go(i - 1); delete answers[names[i]]; };
  const buttons = values.map((value, n) => h("button", { onclick: () => give(value) }, `${n + 1}  ${value}`));
  const stop = h("button", { onclick: finish }, "Stop and use the answers");
  const box = h("dialog", { class: "ask", "aria-label": `Questions about ${title}` }, h("h2", {}, `${title}?`), image, where,
    h("div", { class: "row" }, ...buttons, h("button", { onclick: () => give("?") }, "?  cannot tell"), h("button", { onclick: () => go(i + 1) }, "skip")),
    h("div", { class: "row spread" }, h("button", { onclick: back }, "Back"), h("button", { onclick: () => box.close() }, "Discard"), stop));
  box.addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => {
    if (e.key === "Escape") e.preventDefault();
    if (e.repeat) return;  // a key that is held is one answer
    const n = Number(e.key);
    if (e.key === "Escape") leave();
    else if (n >= 1 && n <= values.length) give(values[n - 1]);
    else if (e.key === "?") give("?");
  });
  box.addEventListener("close", () => {
    box.remove();
    done(use ? answers : {});
  });
  document.body.append(box);
  box.showModal();
  go(0);
}
