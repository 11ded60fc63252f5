// The examples of a rule in Rewrite.
import { h, loaded, say } from "./dom.js";

/** @typedef {{seed?: number, number?: number, model: string, mask: string, pattern: string | null, shown: string}} Example */
/** The examples of a rule, its name if none is given, the generator that has learned it, or "", and whether an example was
 * added since. @typedef {{examples: Example[], name: string, from: string, added: boolean}} Lesson */

/** @returns {Lesson} */
export const newLesson = () => ({ examples: [], name: "", from: "", added: false });

/** The list of examples, and the button that adds one. @param {(lesson: Lesson) => void} changed  called after every change
 * @param {() => void} another  begins another rule */
export function exampleList(changed, another) {
  let lesson = newLesson();
  const list = h("div", { class: "examples", id: "examples" }), none = h("p", { class: "quiet" }, "No example yet. One to three are enough.");
  const said = h("p", { class: "quiet" });
  const again = h("div", { class: "field", id: "again", hidden: true }, said, h("div", {}, h("button", { id: "another-rule", onclick: another }, "Begin another rule")));

  /** @param {Lesson} next */
  function show(next) {
    lesson = next;
    list.replaceChildren(...lesson.examples.map((one, i) => h("figure", {}, h("img", { src: one.shown, alt: `example ${i + 1}`, width: 64, height: 64 }),
      h("button", { "aria-label": `Remove example ${i + 1}`, onclick: () => remove(lesson, one) }, "×"))));
    none.hidden = lesson.examples.length > 0;
    again.hidden = !lesson.from || !lesson.examples.length;
    said.textContent = `A rule was learned from these. Add an example and learn it again from ${lesson.from}, or`;
    changed(lesson);
  }

  /** @param {Lesson} of @param {Example} one */
  function remove(of, one) {
    of.examples = of.examples.filter((other) => other !== one);
    if (!of.examples.length) Object.assign(of, { from: "", added: false });  // what is added now is another rule
    show(lesson);
  }

  /** Adds what is painted. The picture below it may still be on its way, and another one be shown when it is there.
   * @param {import("./paint.js").Painting} painting @param {{seed?: number, number?: number, model: string}} about */
  async function add(painting, about) {
    const above = painting.above(), to = lesson, image = new Image();
    const one = { ...about, ...painting.example(), shown: above.toDataURL() };
    to.examples.push(one);
    to.added = true;
    show(lesson);
    const next = to.examples.length < 3 ? " One or two more, on other pictures, make the rule work better." : "";
    say(`Example ${to.examples.length} is added.${next}`);
    image.src = painting.image.src;
    if (!await loaded(image)) {
      say("This picture cannot be shown.", "error");
      remove(to, one);
      return;
    }
    const context = /** @type {CanvasRenderingContext2D} */ (above.getContext("2d"));
    context.globalCompositeOperation = "destination-over";
    context.drawImage(image, 0, 0, above.width, above.height);
    one.shown = above.toDataURL();
    show(lesson);
  }

  return { elements: [none, list, again], show, add };
}
