// Folders and files that are dropped on My art, copied into the project.
import { api, say } from "./dom.js";

const GIVE_UP = 10;  // refusals in a row, such as by a full disk

/** A file with its path in what was dropped. @typedef {[string, File]} Dropped */

/** All files below a dropped entry. @param {any} entry @returns {Promise<Dropped[]>} */
export async function filesOf(entry) {
  if (entry.isFile) return [[entry.fullPath.replace(/^\//, ""), await new Promise((done, fail) => entry.file(done, fail))]];
  const reader = entry.createReader(), found = [];
  for (;;) {  // a reader returns at most 100 entries at a time
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) break;
    for (const one of some) found.push(...await filesOf(one));
  }
  return found;
}

/** Sends one file. Returns why it was refused, or "". @param {string} path  below art/ @param {File} file */
async function send(path, file) {
  const response = await fetch("/api/art?name=" + encodeURIComponent(path), { method: "POST", body: file }).catch(() => null);
  if (!response) return "the server does not answer; is kyara studio still running?";
  const answer = await response.json().catch(() => ({}));
  return response.ok && answer.path ? "" : answer.error || `the server answered ${response.status}`;
}

/** Copies files to a new folder of the project, and says once what became of them. Returns the folder, or null.
 * @param {Dropped[]} list @param {(share: number | null) => void} progress  between 0 and 1, null at the end */
export async function copy(list, progress) {
  if (!list.length) return null;
  const plan = await api("mine/drop", { names: list.map(([name]) => name) });
  const refused = [];
  let copied = 0, row = 0;
  for (const [i, [name, file]] of list.entries()) {
    if (!plan.files[i]) continue;
    progress(i / list.length);
    const reason = file.size > plan.limit ? `larger than ${plan.limit / 2 ** 30} GiB; copy it into the folder art of the project instead` : await send(plan.files[i], file);
    if (reason) refused.push(`${name}: ${reason}`);
    else copied++;
    row = reason ? row + 1 : 0;
    if (row === GIVE_UP) break;
  }
  progress(null);
  const sentences = [`${copied.toLocaleString()} of ${list.length.toLocaleString()} files were copied to ${plan.source}.`, plan.left_out];
  if (refused.length) sentences.push(`${row === GIVE_UP ? "It was given up after" : "Refused:"} ${refused.length.toLocaleString()}. ${refused[0]}`);
  say(sentences.filter(Boolean).join(" "), refused.length ? "error" : "note");
  return copied ? plan.source : null;
}
