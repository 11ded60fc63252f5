"use strict";
// Latents and labels of seeds, the same as those of `kyara generate`: NumPy's RandomState (Matsumoto, Nishimura 1998,
// "Mersenne Twister"; the polar method of Marsaglia and Bray 1964 for normal numbers) and LabelTable.draw.

const UNKNOWN = -1, STREAM = 1, STATE = 624, MIDDLE = 397;

class RandomState {
  // `seed` is a number or an array of numbers, each from 0 to 2^32 - 1.
  constructor(seed) {
    this.key = new Uint32Array(STATE);
    this.position = STATE;
    this.waiting = null;  // the second normal number of a pair
    this.fill(Array.isArray(seed) ? 19650218 : seed);
    if (Array.isArray(seed)) this.mix(seed);
  }

  fill(seed) {
    this.key[0] = seed;
    for (let i = 1; i < STATE; i++) this.key[i] = Math.imul(1812433253, this.spread(i - 1)) + i;
  }

  spread(i) {
    return this.key[i] ^ (this.key[i] >>> 30);
  }

  mix(seed) {
    const { key } = this;
    let i = 1;
    const step = () => {
      i += 1;
      if (i === STATE) {
        key[0] = key[STATE - 1];
        i = 1;
      }
    };
    for (let n = 0; n < Math.max(STATE, seed.length); n++, step()) {
      const j = n % seed.length;
      key[i] = (key[i] ^ Math.imul(this.spread(i - 1), 1664525)) + seed[j] + j;
    }
    for (let n = 1; n < STATE; n++, step()) key[i] = (key[i] ^ Math.imul(this.spread(i - 1), 1566083941)) - i;
    key[0] = 0x80000000;
  }

  integer() {
    const { key } = this;
    if (this.position === STATE) {
      for (let i = 0; i < STATE; i++) {
        const both = (key[i] & 0x80000000) | (key[(i + 1) % STATE] & 0x7fffffff);
        key[i] = key[(i + MIDDLE) % STATE] ^ (both >>> 1) ^ (both & 1 ? 0x9908b0df : 0);
      }
      this.position = 0;
    }
    let y = key[this.position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  double() {
    const high = this.integer() >>> 5, low = this.integer() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  normal() {
    if (this.waiting !== null) {
      const second = this.waiting;
      this.waiting = null;
      return second;
    }
    let x, y, square;
    do {
      x = 2 * this.double() - 1;
      y = 2 * this.double() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    this.waiting = factor * x;
    return factor * y;
  }
}

// z of a seed.
function latent(seed, size) {
  const random = new RandomState(seed);
  return Float32Array.from({ length: size }, () => random.normal());
}

// The label of every attribute: those in `fixed`, where it is not null, and the others by the seed. `table` has `rows`,
// each with a label for every attribute and a count, and `exclusions` [a, b, v]: a is unknown where b has the label v.
function drawLabels(table, fixed, seed) {
  if (!table.rows.length) return fixed.map((label) => label ?? UNKNOWN);
  const drawn = drawRow(table.rows, fixed, seed), changed = drawn.map((label, i) => fixed[i] ?? label);
  const before = excluded(table, drawn), after = excluded(table, changed);
  const open = changed.map((_, i) => i).filter((i) => fixed[i] === null);
  for (const i of open) if (after.has(i)) changed[i] = UNKNOWN;
  for (const i of open) {
    if (!before.has(i) || after.has(i)) continue;
    const known = table.rows.filter((row) => row[i] !== UNKNOWN);
    changed[i] = drawRow(known, changed.map((label) => (label === UNKNOWN ? null : label)), seed)[i];
  }
  return changed;
}

function excluded(table, labels) {
  return new Set(table.exclusions.filter(([, b, value]) => labels[b] === value).map(([a]) => a));
}

// One of the rows that agree with most of `given`, as often as it occurs.
function drawRow(rows, given, seed) {
  const agreement = rows.map((row) => given.filter((label, i) => label !== null && row[i] === label).length);
  const most = agreement.reduce((a, b) => Math.max(a, b)), best = rows.filter((_, i) => agreement[i] === most);
  const total = best.reduce((sum, row) => sum + row.at(-1), 0);
  const place = new RandomState([seed, STREAM]).double() * total;
  let until = 0;
  const found = best.find((row) => (until += row.at(-1)) > place) ?? best.at(-1);
  return found.slice(0, -1);
}

if (typeof module !== "undefined") module.exports = { RandomState, latent, drawLabels };
