// The card Train of My art: a generator is trained, and its curves and pictures are shown.
import { action, field, fill } from "./controls.js";
import { curve } from "./curve.js";
import { api, command, h, latest, say, throttled } from "./dom.js";

/** Numbers that a run writes and that are shown, the most telling first, in words. */
const CURVES = /** @type {Record<string, string>} */ ({
  "score/frechet": "Fréchet distance to real pictures (lower is better)", "score/kid": "KID, distance to real pictures (lower is better)",
  "score/diversity": "Diversity (1: as in real pictures)", "loss/g": "Generator loss", "loss/d": "Discriminator loss",
  "label_accuracy": "Labels that the discriminator recognises (share)", "augment/p": "Augmentation (probability)", "img/s": "Pictures a second",
});
const FEW = "builtin:character";

/** @param {() => string} dataset  the path of the dataset that is shown */
export function trainCard(dataset) {
  const init = h("select", { id: "train-init" }), attributes = h("input", { type: "text", autocomplete: "off" });
  const kimg = h("input", { type: "number", id: "kimg", min: 1, step: "any", value: 100, oninput: () => { written = true; } });
  let written = false;  // whether the length is meant for the chosen run too, which has its own
  let chosen = false;  // whether another run was chosen, whose length is not shown yet
  const run = h("select", { "aria-label": "Run", id: "train-run", onchange: () => { chosen = true; watch(run.value); } });
  const state = h("span", { class: "quiet", id: "train-state", role: "status" }), curves = h("div", { class: "curves" });
  const sheet = h("img", { class: "sheet", alt: "", hidden: true });

  /** Whether the length is a number above 0. */
  function valid() {
    const good = kimg.value !== "" && Number(kimg.value) > 0;
    if (!good) {
      say("Length of training: give a number above 0.", "error");
      kimg.focus();
    }
    return good;
  }

  const choices = () => ({ path: dataset(), init: init.value, attributes: attributes.value.trim(), kimg: Number(kimg.value) });

  async function forecast() {
    if (!valid()) return;
    command((await api("mine/forecast", choices())).command);
    state.textContent = "measuring the speed";
  }

  /** @param {string} verb  train or resume
   *  @param {any} body */
  async function train(verb, body) {
    const started = await api(`mine/${verb}`, body);
    written = false;
    command(started.command);
    watch(started.out);
  }

  const request = latest();
  const watch = throttled(async (/** @type {string} */ path) => {
    if (!path || !curves.isConnected) return;
    const newest = request(), found = await api("mine/run?path=" + encodeURIComponent(path)).catch(() => null);
    if (!found || !newest()) return;
    if (![...run.options].some((one) => one.value === path)) fill(run, [path, ...[...run.options].map((one) => one.value).filter(Boolean)], "", path);
    run.value = path;
    if (chosen && found.kimg) [kimg.value, written] = [found.kimg, false];
    chosen = false;
    resume.allow(true);
    const shown = Object.keys(CURVES).filter((name) => found.curves[name]?.length > 1).slice(0, 6);
    curves.replaceChildren(...shown.map((name) => curve(CURVES[name], found.curves[name])));
    const last = found.sheets.at(-1);
    sheet.hidden = !last;
    if (last) {
      sheet.src = `/api/file?path=${encodeURIComponent(last)}&v=${found.sheets.length}`;
      sheet.alt = `pictures of the run: ${last}`;
    }
  }, 300);

  const resume = action("Continue the chosen run", () => (!written || valid()) && train("resume", { path: run.value, kimg: written ? Number(kimg.value) : null }), { id: "resume", disabled: true });
  const element = h("section", { class: "card wide", hidden: true }, h("h2", {}, "4. Train"),
    h("div", { class: "four" }, field("Start from", init), field("Attributes to learn", attributes), field("Length of training, in thousands of pictures shown", kimg), field("Runs", run)),
    h("div", { class: "row" }, action("Start a run", () => valid() && train("train", choices()), { class: "main", id: "train" }), resume, action("How long will it take?", forecast, { id: "forecast" }), state), curves, sheet);

  return {
    element,
    /** @param {string[]} names  of attributes that the dataset has */
    show(names) {
      attributes.value = names.join(",");
    },
    /** @param {string[]} runs  of the project */
    list(runs) {
      fill(init, [[FEW, `${FEW} (for few pictures)`], ...runs, ["", "nothing (needs thousands of pictures)"]], "", init.options.length ? undefined : FEW);
      fill(run, runs, "no run yet");
      resume.allow(runs.length);
      watch(run.value);
    },
    /** @param {any} job */
    event(job) {
      const { step, out } = job.about;
      if (step === "forecast" && job.state === "done") state.textContent = job.results.at(-1)?.forecast ?? "";
      if (step !== "train") return;
      const last = job.lines.at(-1);
      state.textContent = ["running", "stopping"].includes(job.state) ? [job.state === "stopping" ? "saving the run" : job.left ? `${job.left} left` : "starting", last].filter(Boolean).join(" · ") : [job.state, job.state !== "failed" && last].filter(Boolean).join(" · ");
      if (job.state === "running" || job.state === "done") watch(out);
    },
  };
}
