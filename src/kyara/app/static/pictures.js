// Pictures of Make for the grid: fetched several at a time, what is in view first, and kept for a while.
import { api, say } from "./dom.js";

const TOGETHER = 8;  // what the generator computes at once
const KEPT = 192 * 2 ** 20;  // bytes
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/** @typedef {{number: number, large: boolean}} Wanted */

/** Key of a picture -> its address in this browser. @type {Map<string, string>} */
const urls = new Map();
/** Key of a picture -> its bytes. @type {Map<string, number>} */
const sizes = new Map();
let kept = 0;
/** The images that wait for a picture, the newest last. @type {Map<any, Wanted>} */
const waiting = new Map();
/** @param {Wanted} wanted */
const key = ({ number, large }) => `${number}${large ? " large" : ""}`;
/** Messages that were shown: those about a generator that is gone are the same for all of its pictures. @type {Set<string>} */
const said = new Set();
let busy = false;

/** Shows a picture, now or when it is there. @param {any} image @param {Wanted} wanted */
export function showPicture(image, wanted) {
  waiting.delete(image);
  const url = urls.get(key(wanted));
  image.src = url || BLANK;
  if (url) return;
  waiting.set(image, wanted);
  if (!busy) {
    busy = true;
    setTimeout(fetchSome);
  }
}

/** Forgets all pictures: the numbers mean others now. */
export function forget() {
  for (const url of urls.values()) URL.revokeObjectURL(url);
  urls.clear();
  sizes.clear();
  said.clear();
  kept = 0;
}

async function fetchSome() {
  for (const image of waiting.keys()) if (!image.isConnected) waiting.delete(image);
  const newest = new Map();
  for (const one of [...waiting.values()].reverse()) if (!newest.has(one.number)) newest.set(one.number, one);
  const wanted = [...newest.values()].slice(0, TOGETHER);
  if (!wanted.length) {
    busy = false;
    return;
  }
  try {
    const numbers = wanted.map((one) => one.number), large = wanted.filter((one) => one.large).map((one) => one.number);
    const { pictures, errors } = await api("make/pictures", { numbers, large });
    for (const one of wanted) if (pictures[one.number]) keep(key(one), pictures[one.number]);
    for (const [image, { number }] of waiting) if (errors[number]) image.title = errors[number];
    for (const text of new Set(Object.values(errors))) complain(text);
  } catch { /* the message is shown; what is still in view is asked for again when it is drawn anew */ }
  for (const [image, one] of waiting) {
    const url = urls.get(key(one));
    if (url) image.src = url;
    if (url || wanted.some((asked) => key(asked) === key(one))) waiting.delete(image);
  }
  fetchSome();
}

/** Shows a message, once. @param {string} text */
function complain(text) {
  if (!said.has(text)) say(text, "error");
  said.add(text);
}

/** @param {string} name @param {string} base64 */
function keep(name, base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  urls.set(name, URL.createObjectURL(new Blob([bytes], { type: "image/png" })));
  kept += bytes.length - (sizes.get(name) || 0);
  sizes.set(name, bytes.length);
  for (const [old, url] of urls) {
    if (kept <= KEPT) break;
    urls.delete(old);
    kept -= sizes.get(old) || 0;
    sizes.delete(old);
    URL.revokeObjectURL(url);
  }
}
