// The text chunk of a PNG from which `kyara generate --like` makes the picture again. Node can require() this file.

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? 0xEDB88320 ^ (crc >>> 1) : crc >>> 1;
  return crc;
});

function crc32(bytes) {
  return ~bytes.reduce((crc, byte) => CRC[(crc ^ byte) & 255] ^ (crc >>> 8), -1) >>> 0;
}

// `png` (a Uint8Array) with the recipe in a text chunk "kyara" before the pixels, as Kyara writes it.
function withRecipe(png, recipe) {
  const ascii = JSON.stringify(recipe).replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
  const content = new TextEncoder().encode(`tEXtkyara\0${ascii}`), chunk = new Uint8Array(content.length + 8);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length - 4);
  chunk.set(content, 4);
  view.setUint32(chunk.length - 4, crc32(content));
  const start = 33;  // the signature and the chunk IHDR
  const made = new Uint8Array(png.length + chunk.length);
  made.set(png.subarray(0, start));
  made.set(chunk, start);
  made.set(png.subarray(start), start + chunk.length);
  return made;
}

if (typeof module !== "undefined") module.exports = { withRecipe };
