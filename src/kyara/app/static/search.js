// The search and the orders of Make. Nothing here touches the page.

/** @typedef {import("./make.js").Item} Item */
/** @typedef {(item: Item) => boolean} Test */

/** The words of a text; the signs = < > and the comma are words too. @param {string} text */
const split = (text) => text.toLowerCase().replaceAll("_", " ").replaceAll("%", " ").replace(/(\d)\s*[-–]\s*(?=\d)/g, "$1-")
  .replace(/([<>]=?|[=,])/g, " $1 ").split(/\s+/).filter(Boolean);

/**
 * What is searched, as a test of pictures: seeds (100, seed 100, 100-103), scores (score > 90), labels as a value, as
 * attribute=value or in plain words (long hair), and words of how a picture was made. All must fit.
 * @param {string} text
 * @param {Map<string, Set<string>>} attributes  the values of each attribute
 * @returns {Test}
 */
export function search(text, attributes) {
  const words = split(text), tests = /** @type {Test[]} */ ([]);
  for (let i = 0; i < words.length;) {
    const rest = words.slice(i);
    const [used, test] = ofNumber(rest) || ofScore(rest) || ofLabel(rest, attributes) || ofWord(rest[0]);
    if (test) tests.push(test);
    i += used;
  }
  return (item) => tests.every((test) => test(item));
}

/** How many words were used, and the test; none for what is still being typed. @typedef {[number, Test | null]} Found */

/** @param {string[]} words @returns {Found | null} */
function ofNumber(words) {
  const named = /^(seed|picture)s?$/.exec(words[0]);
  const place = (named ? 1 : 0) + (words[1] === "=" ? 1 : 0);
  const range = /^(\d+)(?:-(\d+))?$/.exec(words[place] || "");
  if (!range) return named && place >= words.length ? [place, null] : null;
  const first = Number(range[1]), last = Number(range[2] ?? first);
  const numbers = (/** @type {Item} */ item) => named?.[1] === "picture" ? [item.number] : String(item.seed).split("–").filter(Boolean).map(Number);
  return [place + 1, (item) => numbers(item).some((number) => number >= first && number <= last)];
}

/** @param {string[]} words @returns {Found | null} */
function ofScore([word, sign, text]) {
  if (word !== "score") return null;
  if (!/^[<>]=?$/.test(sign || "") || !(Number(text) >= 0)) return [sign ? 2 : 1, null];
  const limit = Number(text) > 1 ? Number(text) / 100 : Number(text);
  const compare = (/** @type {number} */ score) => sign[0] === ">" ? score > limit || (score === limit && sign[1] === "=") : score < limit || (score === limit && sign[1] === "=");
  return [3, (item) => item.score !== null && compare(item.score)];
}

/** Labels: the longest phrase counts, so that "red hair" is not any red. @param {string[]} words @param {Map<string, Set<string>>} attributes @returns {Found | null} */
function ofLabel(words, attributes) {
  let longest = 0;
  /** @type {[string, string][]} */
  let pairs = [];
  const begins = (/** @type {string[]} */ phrase) => phrase.every((word, i) => words[i] === word);
  for (const [name, values] of attributes) {
    for (const value of values) {
      for (const phrase of phrases(split(name), split(value))) {
        if (phrase.length < longest || !begins(phrase)) continue;
        if (phrase.length > longest) pairs = [];
        longest = phrase.length;
        pairs.push([name, value]);
      }
    }
  }
  if (longest) return [longest, (item) => pairs.some(([name, value]) => item.labels[name] === value)];
  const end = words.includes(",") ? words.indexOf(",") : words.length, typed = words.slice(0, end).filter((word) => word !== "=").join(" ");
  return typed && [...attributes.keys()].some((name) => split(name).join(" ").startsWith(typed)) ? [end, null] : null;
}

/** The ways to write a label. @param {string[]} name @param {string[]} value */
const phrases = (name, value) => [value, [...name, ...value], [...name, "=", ...value], ...name.map((_, i) => [...value, ...name.slice(0, i + 1)])];

/** @param {string} word @returns {Found} */
function ofWord(word) {
  if (word === "," || word === "=") return [1, null];
  return [1, (item) => [item.origin, item.model].some((text) => text.toLowerCase().includes(word))
    || Object.values(item.labels).some((value) => value.toLowerCase().startsWith(word))];
}

/** Pictures in an order; `items` are the oldest first. @param {Item[]} items @param {string} order */
export function sort(items, order) {
  const by = (/** @type {(item: Item) => number} */ key) => items.slice().sort((a, b) => key(a) - key(b));
  if (order === "score") return by((item) => -(item.score ?? -1));
  if (order === "seed") return by((item) => (typeof item.seed === "number" ? item.seed : Number.MAX_SAFE_INTEGER));
  return order === "newest" ? items.slice().reverse() : items;
}
