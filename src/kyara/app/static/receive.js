// Pictures from outside: chosen, dropped or pasted.
import { api, h, say } from "./dom.js";

/**
 * @typedef {object} Upload
 * @property {string} path  in the project
 * @property {number} width
 * @property {number} height
 */

/** Saves a picture in the project. @param {Blob} file @param {string} [name] @returns {Promise<Upload>} */
export const upload = (file, name) => api("upload?name=" + encodeURIComponent(name || (file instanceof File && file.name) || "pasted.png"), file);

/** The first picture file of a drop or a paste. @param {DataTransfer | null} data @returns {File | undefined} */
export function pictureFile(data) {
  const files = [...(data?.files || [])];
  const file = files.find((one) => one.type.startsWith("image/"));
  if (!file && files.length) say(`${files[0].name}: not a picture.`, "error");
  return file;
}

const FILM = /\.(mp4|m4v|mov|mkv|webm|avi|mpe?g|wmv|flv)$/i;

/** Whether a file is a film. @param {File} file */
export const isFilm = (file) => file.type.startsWith("video/") || FILM.test(file.name);

/** The first picture or film of a drop or a paste. @param {DataTransfer | null} data @returns {File | undefined} */
export const mediaFile = (data) => [...(data?.files || [])].find(isFilm) || pictureFile(data);

/** The number of a picture of Make that is dropped. @param {DataTransfer | null} data */
export const madeNumber = (data) => Number(data?.getData("text/kyara-picture")) || null;

/** A button that opens a file. @param {string} id @param {string} text @param {(file: File) => void} take @param {string} [accept] */
export function fileButton(id, text, take, accept = "image/*") {
  const input = h("input", { type: "file", accept, id, class: "sr-only", onchange: () => { if (input.files[0]) take(input.files[0]); input.value = ""; } });
  return h("label", { class: "button file" }, text, input);
}

/** Calls `take` with what is dropped on or pasted into a room while it is open. @param {HTMLElement} element  of the room @param {(data: DataTransfer | null) => void} take */
export function receive(element, take) {
  element.addEventListener("drop", (event) => take(event.dataTransfer));
  const paste = (/** @type {ClipboardEvent} */ event) => {
    if (element.isConnected) take(event.clipboardData);
    else removeEventListener("paste", paste);
  };
  addEventListener("paste", paste);
}
