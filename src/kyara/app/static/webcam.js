// A photo by the webcam.
import { h, say } from "./dom.js";

/** @type {Record<string, string>} */
const REASONS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address of this page, or choose a file.",
  NotFoundError: "There is no camera. Choose a file, or drop a photo on the page.",
  NotReadableError: "The camera is in use by another program. Close it there, or choose a file.",
};

/** Shows the picture of the webcam until a photo is taken or the dialog is closed. @param {(photo: Blob) => void} take */
export async function takePhoto(take) {
  let stream;
  try {
    if (!navigator.mediaDevices) throw new Error("only on 127.0.0.1 or with https");
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    say(REASONS[name] || `The camera cannot be used (${message}). Choose a file instead.`, "error");
    return;
  }
  const video = h("video", { muted: true, playsinline: true });
  const shoot = h("button", { class: "main", id: "shoot", disabled: true, onclick: () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    canvas.toBlob((picture) => picture && take(picture));
    box.close();
  } }, "Take the photo");
  const box = h("dialog", { class: "webcam", "aria-label": "Webcam" }, video, h("div", { class: "row spread" }, shoot, h("button", { onclick: () => box.close() }, "Close")));
  box.addEventListener("close", () => {
    for (const track of stream.getTracks()) track.stop();
    box.remove();
  });
  document.body.append(box);
  box.showModal();
  video.srcObject = stream;
  video.addEventListener("loadeddata", () => { shoot.disabled = false; });
  await video.play().catch(() => undefined);
}
