// Small helpers: elements, requests to the server, messages.

/**
 * An element. Properties beginning with "on" are listeners, others attributes; text children never become HTML.
 * @param {string} tag
 * @param {Record<string, any>} [properties]
 * @param {...(Node | string | number | null | undefined | false)} children
 * @returns {any}
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") /** @type {any} */ (element)[name] = value;
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children) if (child || child === 0) element.append(child instanceof Node ? child : String(child));
  return element;
}

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** What elements were filled with. @type {WeakMap<any, string>} */
const filled = new WeakMap();

/** Fills `element` with `make()`, but not if it was made from the same `data`: a click on it, its focus or its selection
 * would be lost each time the project changes. @param {any} element @param {any} data @param {() => any[]} make */
export function refill(element, data, make) {
  const now = JSON.stringify(data);
  if (filled.get(element) === now) return;
  filled.set(element, now);
  element.replaceChildren(...make());
}

/** A message at the bottom. @param {string} text @param {"note" | "error"} [kind] */
export function say(text, kind = "note") {
  const toast = h("p", { class: kind }, text);
  const close = h("button", { "aria-label": "Close the message", onclick: () => toast.remove() }, "×");
  toast.append(close);
  $("toasts").append(toast);
  while ($("toasts").children.length > 4) $("toasts").firstChild.remove();
  setTimeout(() => toast.remove(), kind === "error" ? 12000 : 5000);
}

/**
 * A request to the server, answered with JSON. With a body it is a POST; a Blob is sent as it is. An error is shown and
 * thrown.
 * @param {string} path
 * @param {any} [body]
 * @returns {Promise<any>}
 */
export async function api(path, body) {
  const options = body === undefined ? {} : body instanceof Blob ? { method: "POST", body }
    : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch("/api/" + path, options);
  } catch {
    say("The server does not answer. Is kyara studio still running?", "error");
    throw new Error("the server does not respond");
  }
  const answer = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) {
    say(answer.error || `The server answered ${response.status}.`, "error");
    throw new Error(answer.error);
  }
  return answer;
}

/** Shows the command that does the same. @param {string} text */
export function command(text) {
  if (text) $("command").textContent = text;
}

/** Whether a picture can be shown, once it is loaded. `decode` fails at times for one that can.
 * @param {HTMLImageElement} image */
export async function loaded(image) {
  while (!image.complete) {
    await new Promise((done) => {
      for (const kind of ["load", "error"]) image.addEventListener(kind, done, { once: true });
    });
  }
  return image.naturalWidth > 0;
}

/** Guards requests: call the result before a request, and what it returns once with the answer. That is true if no later
 * request was made. */
export function latest() {
  let number = 0;
  return () => {
    const mine = ++number;
    return () => mine === number;
  };
}

/** The same, but true unless a later request was answered before. */
export function inOrder() {
  let asked = 0, answered = 0;
  return () => {
    const mine = ++asked;
    return () => {
      answered = Math.max(answered, mine);
      return mine === answered;
    };
  };
}

/** `run` after `wait` ms in which it was not called again, with the last arguments. @param {(...a: any[]) => void} run @param {number} wait */
export function later(run, wait) {
  /** @type {number | undefined} */
  let timer;
  return (/** @type {any[]} */ ...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...given), wait);
  };
}

/** `run` every `wait` ms while it is called, with the last arguments: also if the calls never pause. @param {(...a: any[]) => void} run @param {number} wait */
export function throttled(run, wait) {
  /** @type {any[] | null} */
  let last = null;
  return (/** @type {any[]} */ ...given) => {
    if (!last) setTimeout(() => { const now = last || []; last = null; run(...now); }, wait);
    last = given;
  };
}

/** The words of an attribute=value mapping, as --where. @param {Record<string, string>} where */
export const whereText = (where) => Object.entries(where).map(([a, v]) => `${a}=${v}`).join(",");

/** A labelled slider with its value. @param {string} label @param {{min: number, max: number, step: number, value: number, show?: (v: number) => string, oninput?: (v: number) => void, onchange?: (v: number) => void}} o */
export function slider(label, o) {
  const show = o.show || String;
  const value = h("span", { class: "value" }, show(o.value));
  const input = h("input", { type: "range", min: o.min, max: o.max, step: o.step, value: o.value,
    oninput: () => { value.textContent = show(Number(input.value)); o.oninput?.(Number(input.value)); },
    onchange: () => o.onchange?.(Number(input.value)) });
  const element = h("label", { class: "slider" }, h("span", {}, label), value, input);
  return { element, input, get value() { return Number(input.value); },
    set value(v) { input.value = String(v); value.textContent = show(Number(v)); } };
}

/** Downloads something. @param {string} url @param {string} name */
export function download(url, name) {
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
