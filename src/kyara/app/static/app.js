// The frame: rooms, the project, jobs, and the events of the server.
import { isActive } from "./controls.js";
import { $, api, command, h, inOrder, refill, say } from "./dom.js";
import * as art from "./art.js";
import * as fill from "./fill.js";
import * as look from "./look.js";
import * as make from "./make.js";
import * as me from "./me.js";
import * as rewrite from "./rewrite.js";

/** @type {{id: string, name: string, open: (room: HTMLElement) => void, event?: (kind: string, data: any) => void}[]} */
const ROOMS = [make.room, me.room, rewrite.room, fill.room, art.room, look.room];

/** What the server knows; the rooms read it. @type {any} */
export const project = { found: [], builtin: [], jobs: [] };
/** @type {any} */
let current = null;
/** @type {EventSource} */
let events;
const projectRequest = inOrder();

function openRoom() {
  const id = location.hash.slice(1).split("/")[0];
  const room = ROOMS.find((one) => one.id === id) || ROOMS[0];
  if (room === current) return;
  current = room;
  $("command").textContent = "";
  for (const image of $("room").querySelectorAll("img:not(.painting img)")) if (!image.complete) image.removeAttribute("src");  // ends requests that run
  const element = $("room").cloneNode(false);  // without the listeners of the last room
  $("room").replaceWith(element);
  element.className = room.id;
  for (const link of $("rooms").children) {
    if (link.hash === "#" + room.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${room.name} · kyara studio`;
  room.open(element);
}

export async function refresh() {
  const inTurn = projectRequest(), found = await api("project");
  if (!inTurn()) return;
  const before = new Map(project.jobs.map((/** @type {any} */ job) => [job.number, job.state]));
  Object.assign(project, found);
  const changed = project.jobs.filter((/** @type {any} */ job) => before.has(job.number) && before.get(job.number) !== job.state);
  $("project-name").textContent = project.name;
  $("project-name").title = project.folder;
  showJobs();
  for (const room of ROOMS) {
    room.event?.("project", project);
    for (const job of changed) room.event?.("job", { job });  // what happened while nobody listened
  }
}

function showJobs() {
  const running = project.jobs.filter(isActive);
  const first = running[0];
  const parts = first ? [first.progress !== null && `${Math.round(first.progress * 100)} %`, first.left && `${first.left} left`, first.title, running.length > 1 && `${running.length - 1} waiting`] : ["nothing running"];
  $("jobs-label").textContent = parts.filter(Boolean).join(" · ");
  $("jobs-button").classList.toggle("active", Boolean(first));
  $("jobs-button").style.setProperty("--share", `${(first?.progress ?? 0) * 100}%`);
  if ($("jobs").open) showJobList();
}

/** Progress changes in place: Cancel stays where it was when one presses it. */
function showJobList() {
  const newest = project.jobs.slice().reverse(), list = $("job-list");
  refill(list, newest.map((/** @type {any} */ { number, state, error, commands }) => [number, state, error, commands]), () => newest.map(jobItem));
  newest.forEach((/** @type {any} */ job, /** @type {number} */ i) => {
    const progress = list.children[i].querySelector("progress");
    list.children[i].querySelector("span").textContent = job.state + (job.seconds ? `, ${job.seconds.toFixed(0)} s` : "");
    if (progress) progress.value = job.progress ?? 0;
  });
}

/** @param {any} job */
function jobItem(job) {
  const active = isActive(job);
  const stop = active && h("button", { onclick: () => api(`jobs/${job.number}/cancel`, {}) }, job.state === "stopping" ? "Stop without waiting" : "Cancel");
  return h("li", { class: job.state },
    h("div", { class: "row spread" }, h("b", {}, job.title), h("span", { class: "quiet" }), stop),
    active && h("progress", { max: 1, value: 0, "aria-label": job.title }),
    job.error && h("p", { class: "error-text" }, job.error),
    ...job.commands.map((/** @type {string} */ text) => h("code", {}, text)));
}

/** @param {string} kind @param {any} data */
function onEvent(kind, data) {
  if (kind === "job") {
    const place = project.jobs.findIndex((/** @type {any} */ job) => job.number === data.job.number);
    const before = place >= 0 ? project.jobs[place].state : "";
    if (place >= 0) project.jobs[place] = data.job;
    else project.jobs.push(data.job);
    if (before !== data.job.state && data.job.state === "failed") say(`${data.job.title}: ${data.job.error}`, "error");
    if (before !== data.job.state && !isActive(data.job)) refresh();
    showJobs();
  } else if (kind === "project") {
    refresh();  // tells the rooms when it knows what changed
    return;
  } else if (kind === "problem") {
    say(data.text, "error");
  }
  for (const room of ROOMS) room.event?.(kind, data);
}

/** Listens to the server while the tab can be seen: browsers allow six connections to a server, and each listener keeps one.
 * @param {boolean} [again]  after a pause, in which something may have happened */
function listen(again = false) {
  events = new EventSource("/api/events");
  let lost = again;
  events.addEventListener("hello", () => {
    $("lost").hidden = true;
    refresh();  // what changed before the connection was announced to nobody
    if (lost) for (const room of ROOMS) { room.event?.("made", { version: -1 }); room.event?.("ticks", {}); }
    lost = false;
  });
  events.onerror = () => {
    lost = true;
    $("lost").hidden = false;
  };
  for (const kind of ["job", "project", "problem", "made", "scores", "export", "ticks"]) {
    events.addEventListener(kind, (event) => onEvent(kind, JSON.parse(/** @type {MessageEvent} */ (event).data)));
  }
}

function watchTab() {
  if (document.hidden) events.close();
  else if (events.readyState === EventSource.CLOSED) listen(true);
}

/** Follows the system, or what was chosen in this browser. @param {string} [scheme] */
function theme(scheme = localStorage.getItem("theme") || "") {
  document.documentElement.style.colorScheme = scheme;
  if (scheme) localStorage.setItem("theme", scheme);
}

function start() {
  $("rooms").append(...ROOMS.map((room) => h("a", { href: "#" + room.id }, room.name)));
  $("jobs-button").addEventListener("click", () => { $("jobs").showModal(); showJobs(); });
  document.querySelectorAll("[data-close]").forEach((button) => button.addEventListener("click", () => /** @type {any} */ (button.closest("dialog")).close()));
  $("theme").addEventListener("click", () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const now = document.documentElement.style.colorScheme || (dark ? "dark" : "light");
    theme(now === "dark" ? "light" : "dark");
  });
  $("copy-command").addEventListener("click", async () => {
    await navigator.clipboard.writeText($("command").textContent).catch(() => getSelection()?.selectAllChildren($("command")));
    say("The command is copied.");
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => event.preventDefault());
  theme();
  listen();
  document.addEventListener("visibilitychange", watchTab);
  refresh().then(() => {
    addEventListener("hashchange", openRoom);
    openRoom();
  });
}

command("");
start();
