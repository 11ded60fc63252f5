(() => {
const LAST_SEED = 2 ** 32 - 1;
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent), form = $("bar"), grid = $("grid"), status = $("status");
let ort, session, waiting = Promise.resolve(), request = 0;

// The files inside this page

function bytes(id) {
  const text = atob($(id).textContent), found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  $(id).remove();
  return found;
}

async function unpacked(id) {
  const stream = new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function load() {
  const script = new Blob([await unpacked("runtime-script")], { type: "text/javascript" });
  const address = URL.createObjectURL(script);
  ort = await import(address);
  URL.revokeObjectURL(address);
  ort.env.wasm.numThreads = 1;  // more need headers that a file does not have
  ort.env.wasm.wasmBinary = await unpacked("runtime-wasm");
  session = await ort.InferenceSession.create(await unpacked("model"), { executionProviders: ["wasm"] });
}

// Pictures

// The picture of a seed as numbers in [-1, 1]: (3, height, width).
function compute(seed, labels, truncation) {
  const inputs = { z: new ort.Tensor("float32", latent(seed, data.z_dim), [1, data.z_dim]) };
  inputs.truncation = new ort.Tensor("float32", [truncation], []);
  if (labels.length) inputs.labels = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [1, labels.length]);
  const next = waiting.then(() => session.run(inputs));  // a session runs one at a time
  waiting = next.catch(() => {});
  return next.then((made) => made.pictures.data);
}

// The labels chosen in the menus, null for "any".
function chosen() {
  const texts = data.attributes.map((_, i) => form["attribute" + i].value);
  return texts.map((text) => (text === "" ? null : Number(text)));
}

function paint(canvas, values) {
  const { width, height } = data, area = width * height, image = new ImageData(width, height);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = (values[c * area + i] + 1) * 127.5;  // rounds and clamps
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function make() {
  const mine = ++request, fixed = chosen(), truncation = Number($("truncation").value);
  $("psi").textContent = truncation.toFixed(2);
  const count = Number($("count").value), wanted = Math.trunc(Number($("seed").value)) || 0;
  const first = Math.min(Math.max(wanted, 0), LAST_SEED - count + 1);
  $("seed").value = first;
  while (grid.children.length > count) grid.lastChild.remove();
  while (grid.children.length < count) grid.append(cell());
  const began = performance.now();
  grid.ariaBusy = "true";
  for (const [i, item] of [...grid.children].entries()) {
    const labels = drawLabels(data.table, fixed, first + i), values = await compute(first + i, labels, truncation);
    if (mine !== request) return;
    paint(item.querySelector("canvas"), values);
    describe(item, first + i, labels, truncation);
    await new Promise((done) => setTimeout(done));  // lets the browser show it
    if (mine !== request) return;
  }
  grid.ariaBusy = "false";
  status.textContent = `${count} pictures, ${Math.round((performance.now() - began) / count)} ms each`;
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function cell() {
  const item = element("li", ""), figure = element("figure", "");
  const canvas = element("canvas", ""), save = element("button", "save", "save");
  Object.assign(canvas, { width: data.width, height: data.height, role: "img" });
  save.type = "button";
  save.addEventListener("click", () => canvas.toBlob((blob) => download(blob, item)));
  const caption = element("figcaption", "");
  caption.append(element("b", ""), save, element("p", ""));
  figure.append(canvas, caption);
  item.append(figure);
  return item;
}

function describe(item, seed, labels, truncation) {
  const known = data.attributes.flatMap(([name, values], i) => labels[i] === UNKNOWN ? [] : [[name, values[labels[i]]]]);
  const texts = known.map((pair) => pair.join(" ").replaceAll("_", " "));
  item.dataset.seed = seed;
  item.recipe = { ...data.recipe, seed, truncation, mirror: false, labels: Object.fromEntries(known) };
  item.querySelector("b").textContent = `seed ${seed}`;
  item.querySelector("p").replaceChildren(...texts.flatMap((text) => [element("span", "", text), " "]));
  item.querySelector("canvas").ariaLabel = [`seed ${seed}`, ...texts].join(", ");
  item.querySelector(".save").ariaLabel = `save seed ${seed} as PNG`;
}

async function download(blob, item) {
  const link = element("a", ""), seed = item.dataset.seed.padStart(4, "0");
  const png = withRecipe(new Uint8Array(await blob.arrayBuffer()), item.recipe);
  const href = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  Object.assign(link, { href, download: `${data.name}-seed${seed}.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// The form

for (const [i, [name, values]] of data.attributes.entries()) {
  const label = element("label", "", name.replaceAll("_", " ") + " "), select = element("select", "");
  select.name = "attribute" + i;
  select.append(new Option("any", ""), ...values.map((value, j) => new Option(value.replaceAll("_", " "), j)));
  label.append(select);
  $("attributes").append(label);
}

function move(step) {
  $("seed").value = Math.max(0, Number($("seed").value) + step * Number($("count").value));
  make();
}

async function start() {
  try {
    await load();
    form.addEventListener("change", (event) => event.target.id !== "crisp" && make());
    $("truncation").addEventListener("input", make);
    form.addEventListener("submit", (event) => event.preventDefault());
    $("before").addEventListener("click", () => move(-1));
    $("after").addEventListener("click", () => move(1));
    $("random").addEventListener("click", () => {
      $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;
      make();
    });
    $("fields").disabled = false;
    await make();
    document.body.dataset.ready = "true";
  } catch (error) {
    const hint = "Open the page in a current version of Chrome, Edge, Firefox or Safari.";
    status.textContent = `This browser cannot run the model (${error.message}). ${hint}`;
    throw error;
  }
}

window.kyara = { compute, drawLabels: (fixed, seed) => drawLabels(data.table, fixed, seed), latent };
status.textContent = "The model is loading.";
setTimeout(start);
})();
