// Pictures of Make for the grid: fetched several at a time, what is in view first, and kept for a while.
import { api } from "./dom.js";

const TOGETHER = 8;  // what the generator computes at once
const KEPT = 3000;
const BLANK = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

/** Number -> address of the picture in this browser. @type {Map<number, string>} */
const urls = new Map();
/** The images that wait for a picture, the newest last. @type {Map<any, number>} */
const waiting = new Map();
let busy = false;

/** Shows a picture, now or when it is there. @param {any} image @param {number} number */
export function showPicture(image, number) {
  waiting.delete(image);
  const url = urls.get(number);
  image.src = url || BLANK;
  if (url) return;
  waiting.set(image, number);
  if (!busy) {
    busy = true;
    setTimeout(fetchSome);
  }
}

/** Forgets all pictures: the numbers mean others now. */
export function forget() {
  for (const url of urls.values()) URL.revokeObjectURL(url);
  urls.clear();
}

async function fetchSome() {
  for (const image of waiting.keys()) if (!image.isConnected) waiting.delete(image);
  const numbers = [...new Set([...waiting.values()].reverse())].slice(0, TOGETHER);
  if (!numbers.length) {
    busy = false;
    return;
  }
  try {
    const found = await api("make/pictures", { numbers });
    for (const number of numbers) if (found[number]) keep(number, found[number]);
  } catch { /* the message is shown; what is still in view is asked for again when it is drawn anew */ }
  for (const [image, number] of waiting) {
    const url = urls.get(number);
    if (url) image.src = url;
    if (url || numbers.includes(number)) waiting.delete(image);
  }
  fetchSome();
}

/** @param {number} number @param {string} base64 */
function keep(number, base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  urls.set(number, URL.createObjectURL(new Blob([bytes], { type: "image/png" })));
  for (const [old, url] of urls) {
    if (urls.size <= KEPT) break;
    urls.delete(old);
    URL.revokeObjectURL(url);
  }
}
