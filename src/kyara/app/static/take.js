// How pictures come into Make and leave it: files, drops, the clipboard, and the search in a generator.
import { api, h, say } from "./dom.js";
import { act, finished, showCommand, state, title } from "./make.js";
import { showReading } from "./new.js";
import { madeNumber } from "./receive.js";
import { project } from "./app.js";

/** Loads what was dropped or pasted. @param {DataTransfer | null} data */
export async function take(data) {
  if (!data || madeNumber(data)) return;  // a picture of Make itself
  const copied = copiedPicture(data.getData("text/html"));
  await takeFiles(copied ? [copied] : [...data.files]);
}

/** Loads pictures by their recipes; offers to search those without one. @param {File[]} files */
export async function takeFiles(files) {
  const missing = [];
  state.reading.push(...files.map((file) => file.name));
  showReading();
  for (const file of files) {
    const answer = await act("drop?name=" + encodeURIComponent(file.name), file).catch(() => null);
    state.reading.splice(state.reading.indexOf(file.name), 1);
    showReading();
    if (answer?.searchable) missing.push({ name: file.name, path: answer.searchable });
  }
  if (missing.length) askToFind(missing);
}

/** The models in which a picture can be searched: those with styles. */
function styled() {
  const found = project.found.filter((/** @type {any} */ one) => one.kind === "checkpoint" && one.detail === "stylegan2").map((/** @type {any} */ one) => one.path);
  return [...project.builtin.filter((/** @type {any} */ one) => one.model === "stylegan2").map((/** @type {any} */ one) => one.name), ...found];
}

/** @param {{name: string, path: string}[]} pictures */
function askToFind(pictures) {
  const names = styled();
  const model = h("select", { "aria-label": "Generator" }, ...names.map((name) => h("option", { value: name, selected: name === "builtin:character" }, name)));
  const many = pictures.length > 1, what = many ? `${pictures.length} pictures have` : `${pictures[0].name} has`;
  const dialog = h("dialog", { id: "find", "aria-labelledby": "find-title", onclose: () => dialog.remove() },
    h("h2", { id: "find-title" }, `${what} no recipe`),
    h("p", {}, `So Kyara cannot tell how ${many ? "they were" : "it was"} made. It can search for the most similar picture that a generator makes. That one can be changed, varied and dragged. The picture should show one face, as those of the generator do.`),
    h("label", { class: "field" }, h("span", { class: "caption" }, "Generator"), model),
    h("div", { class: "row" }, h("button", { class: "main", id: "find-it", onclick: () => { dialog.close(); for (const one of pictures) find(one.path, model.value); } }, `Find ${many ? "them" : "it"} in the generator`),
      h("button", { onclick: () => dialog.close() }, "Cancel")));
  document.body.append(dialog);
  dialog.showModal();
}

/** @param {string} path @param {string} model */
async function find(path, model) {
  const started = await api("make/find", { path, model }).catch(() => null);
  if (!started) return;
  showCommand(started.command);
  say("The search has begun. What it finds appears here.");
}

/** Copies a picture. Browsers remove the recipe from a PNG on the clipboard, so it is also in a page beside it. @param {import("./make.js").Item} item */
export async function copy(item) {
  try {
    const png = fetch(finished(item)).then((answer) => answer.blob());
    const page = png.then(dataUrl).then((url) => new Blob([`<img src="${url}">`], { type: "text/html" }));
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png, "text/html": page })]);
    say(`${title(item)} is copied. Pasted into Make, it keeps its recipe.`);
  } catch {
    say("This browser does not copy pictures here; use Download.", "error");
  }
}

/** @param {Blob} blob @returns {Promise<string>} */
const dataUrl = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => resolve(String(reader.result)));
  reader.addEventListener("error", reject);
  reader.readAsDataURL(blob);
});

/** The PNG inside the page that `copy` writes. @param {string} page */
function copiedPicture(page) {
  const found = /<img[^>]*src="data:image\/png;base64,([A-Za-z0-9+/=]+)"/.exec(page);
  return found && new File([Uint8Array.from(atob(found[1]), (letter) => letter.charCodeAt(0))], "copied.png", { type: "image/png" });
}
