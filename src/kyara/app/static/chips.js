// Chips: a button for each value of each attribute.
import { h } from "./dom.js";

const OPEN = 3;  // attributes whose chips are always shown; the others unfold
/** Attributes that were unfolded. @type {Set<string>} */
const unfolded = new Set();

/** Chips for each attribute, of which one or none is on. @param {Record<string, string[]>} attributes @param {Record<string, string>} where @param {(name: string, value: string | null) => void} pick @param {string} [none]  text of the chip for no value */
export function chips(attributes, where, pick, none) {
  return Object.entries(attributes).map(([name, values], i) => {
    const buttons = values.map((value) => h("button", { type: "button", "aria-pressed": String(where[name] === value), onclick: () => pick(name, value) }, value));
    if (none) buttons.unshift(h("button", { type: "button", "aria-pressed": String(!(name in where)), onclick: () => pick(name, null) }, none));
    const title = name.replaceAll("_", " "), row = h("div", { class: "chips" }, ...buttons);
    if (i < OPEN) return h("fieldset", {}, h("legend", {}, title), row);
    const details = h("details", { class: "attribute", open: unfolded.has(name), ontoggle: () => unfolded[details.open ? "add" : "delete"](name) },
      h("summary", {}, title, h("span", { class: "quiet" }, where[name] ?? none ?? "")), h("fieldset", { "aria-label": title }, row));
    return details;
  });
}
