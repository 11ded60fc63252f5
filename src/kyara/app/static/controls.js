// Controls of the rooms: buttons that start something, and lists to choose from.
import { h, refill } from "./dom.js";

/** Ignores an error whose message `api` has shown; a mistake of the page is thrown on. @param {any} error */
export function wasShown(error) {
  if (error.constructor !== Error) throw error;
}

/** A button that is disabled while the request runs that it starts. `allow` enables it at all.
 * @param {string} text @param {() => any} run @param {Record<string, any>} [properties] */
export function action(text, run, properties = {}) {
  let running = false, allowed = !properties.disabled;
  const show = () => { element.disabled = running || !allowed; };
  const element = h("button", { ...properties, onclick: async () => {
    running = true;
    show();
    try {
      await run();
    } catch (error) {
      wasShown(error);
    } finally {
      running = false;
      show();
    }
  } }, text);
  element.allow = (/** @type {any} */ yes) => { allowed = Boolean(yes); show(); };
  return element;
}

/** Whether a job has not ended yet. @param {any} job */
export const isActive = (job) => ["running", "stopping", "waiting"].includes(job.state);

/** How far a job is. @param {any} job */
export const jobRow = (job) => h("label", { class: "field" }, h("span", { class: "quiet" }, `${job.title}: ${job.state}${job.left ? `, ${job.left} left` : ""}`), h("progress", { max: 1, value: job.progress ?? 0 }));

/** Fills a select, and keeps what is chosen in it. Without entries it says `none` and is disabled.
 * @param {any} select @param {(string | [string, string])[]} entries  values, or values and their texts @param {string} none @param {string} [chosen] */
export function fill(select, entries, none, chosen) {
  const before = new Set(chosen === undefined ? [...select.selectedOptions].map((option) => option.value) : [chosen]);
  const options = entries.map((one) => (typeof one === "string" ? [one, one] : one));
  refill(select, [options, none], () => (options.length ? options.map(([value, text]) => option(value, text)) : [h("option", { value: "", disabled: true, selected: !select.multiple }, none)]));
  if (options.length) for (const one of select.options) one.selected = before.has(one.value);
  select.disabled = !options.length;
}

/** @param {string} value @param {string} text */
export const option = (value, text) => h("option", { value }, text);

/** A control below its name. @param {string} text @param {any} control */
export const field = (text, control) => h("label", { class: "field" }, h("span", { class: "caption" }, text), control);

/** A picture above its name. @param {any} image @param {...any} text */
export const figure = (image, ...text) => h("figure", {}, image, h("figcaption", {}, ...text));
