/* The page: choosing images, showing results, comparing, saving. The networks are in engine.js, the camera in live.js. */

import { Engine, isolate } from "./engine.js";
import { EXAMPLES } from "./examples.js";
import { Live } from "./live.js";

const STYLE_SIZE = 512; // longer side at which a style is encoded, whatever the size of the result
const PREVIEW_SIZE = 660;

const $ = (query) => document.querySelector(query);
const images = {}; // by kind, "content" or "style": { name, bitmap }, and for the style the promise of its code
let ready = false;
let busy = false;
let stale = false; // something was changed while busy
let resultName = "";

const engine = new Engine(({ loaded, total }) => {
  if (document.body.dataset.state !== "loading") return; // one file failed, and others are still being loaded
  $("progress").value = Math.min(0.99, loaded / total);
  const [done, all] = [loaded, total].map((bytes) => (bytes / 1e6).toFixed(0));
  say("loading", `Loading the network (only once): ${done} of about ${all} MB`);
});
const live = new Live(onLiveStop);

async function start() {
  say("loading", "Loading the network…");
  await isolate();
  addExamples();
  try {
    // The address can end in ?provider=wasm or ?provider=webgpu; by default, a GPU is used if there is one.
    const { provider, threads } = await engine.start(new URLSearchParams(location.search).get("provider") ?? undefined);
    Object.assign(document.body.dataset, { provider, threads });
  } catch (error) {
    fail(`The network could not be loaded (${error.message}). Check the connection and reload. The page must be opened
      from a web server, after “make page” has built it.`);
    return;
  }
  ready = true;
  $("#camera").disabled = false;
  restylize();
}

/** Sets the state of the page, which style.css refers to, and the text that screen readers announce. */
function say(state, text) {
  document.body.dataset.state = state;
  $("#status").textContent = text;
  if (state !== "live") $("#rate").textContent = "";
  if (state === "stylizing") $("progress").removeAttribute("value");
}

function fail(text) {
  busy = false;
  say("failed", text);
}

/* Stylizing */

/** Returns the image's pixels with a longer side of at most `side`; transparency is blended with white. */
function pixels({ bitmap }, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((length) => Math.max(1, Math.round(length * scale)));
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The code of the chosen style, which is computed once for each style. */
function styleCode() {
  images.style.code ??= engine.encode(pixels(images.style, STYLE_SIZE));
  return images.style.code;
}

const alpha = () => $("#alpha").value / 100;

/** Stylizes the chosen photo. While the networks are busy, only the latest request is remembered. */
async function restylize() {
  if (!ready || live.running || !images.content || !images.style) return;
  stale = busy;
  if (busy) return;
  busy = true;
  say("stylizing", "Stylizing…");
  const started = performance.now();
  const original = pixels(images.content, +$("#size").value);
  const name = `${images.content.name}__${images.style.name}`;
  try {
    const stylized = await engine.stylize(original, await styleCode(), alpha());
    busy = false;
    if (live.running) return; // the camera was started in the meantime
    show({ original, stylized, name });
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    say("done", `${stylized.width} × ${stylized.height} px, stylized in ${seconds} s`);
  } catch (error) {
    console.warn(error);
    if (live.running) busy = false;
    else fail("The browser is out of memory. Choose a smaller size.");
  }
  if (stale) restylize();
}

function show({ original, stylized, name }) {
  draw($("#photo"), original);
  draw($("#result"), stylized);
  $("#stage").style.setProperty("--ratio", stylized.width / stylized.height);
  resultName = name;
  for (const control of document.querySelectorAll(".save, #compare")) control.disabled = false;
}

function draw(canvas, image) {
  if (canvas.width !== image.width || canvas.height !== image.height) {
    Object.assign(canvas, { width: image.width, height: image.height });
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/* The camera */

function toggleCamera() {
  if (live.running) return live.stop();
  $("#camera").textContent = "Stop the camera";
  $("#mirror-row").hidden = false;
  say("live", "Starting the camera…");
  for (const button of document.querySelectorAll(".examples[data-kind=content] button")) {
    button.setAttribute("aria-pressed", "false");
  }
  const stylize = async (frame) => engine.stylize(frame, await styleCode(), alpha());
  live.start(stylize, showFrame, () => $("#mirror").checked);
}

function showFrame({ original, stylized, rate }) {
  show({ original, stylized, name: `camera__${images.style.name}` });
  if ($("#status").textContent !== "Live.") say("live", "Live.");
  $("#rate").textContent = `${stylized.width} × ${stylized.height} px, ${rate.toFixed(1)} frames per second`;
}

function onLiveStop(reason) {
  $("#camera").textContent = "Use the camera";
  $("#mirror-row").hidden = true;
  say(reason ? "failed" : "done", reason ?? "The camera is off. The last frame can be saved.");
}

/* Choosing images */

async function choose(kind, blob, name, example = null) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    fail(`${name} is not an image that this browser can read. Try JPEG, PNG, or WebP.`);
    return;
  }
  if (kind === "content") live.stop();
  images[kind] = { name: name.replace(/\.[^.]*$/, ""), bitmap };
  draw($(`.drop[data-kind=${kind}] canvas`), pixels(images[kind], PREVIEW_SIZE));
  for (const button of document.querySelectorAll(`.examples[data-kind=${kind}] button`)) {
    button.setAttribute("aria-pressed", String(button.dataset.name === example));
  }
  restylize();
}

async function chooseExample(kind, name) {
  const response = await fetch(`examples/${name}.jpg`).catch(() => null);
  if (response?.ok) await choose(kind, await response.blob(), name, name);
  else fail("The examples could not be loaded. Choose your own images.");
}

function addExamples() {
  for (const [kind, examples] of Object.entries(EXAMPLES)) {
    for (const example of examples) $(`.examples[data-kind=${kind}]`).append(exampleButton(kind, example));
    chooseExample(kind, examples[0].name);
  }
}

function exampleButton(kind, { name, title, painter }) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: painter ? `${title}, by ${painter}` : title });
  button.dataset.name = name;
  button.onclick = () => chooseExample(kind, name);
  button.append(Object.assign(new Image(), { src: `examples/${name}.jpg`, alt: painter ? "" : title }));
  if (painter) {
    const caption = { b: title, i: painter };
    for (const [tag, text] of Object.entries(caption)) {
      button.append(Object.assign(document.createElement(tag), { textContent: text }));
    }
  }
  return button;
}

for (const kind of Object.keys(EXAMPLES)) {
  const drop = $(`.drop[data-kind=${kind}]`);
  const input = drop.querySelector("input");
  const take = ([file]) => file && choose(kind, file, file.name);
  input.onchange = () => {
    take(input.files);
    input.value = ""; // so that the same file can be chosen again
  };
  drop.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    take(event.dataTransfer.files);
  };
}
window.ondragover = window.ondrop = (event) => event.preventDefault(); // a file dropped elsewhere must not replace the page
window.onpaste = ({ clipboardData: { files } }) => {
  if (files.length) choose("content", files[0], files[0].name);
};

/* Settings, comparing, saving */

$("#alpha").oninput = ({ target }) => {
  $("output").textContent = `${target.value}%`;
  restylize();
};
$("#size").onchange = restylize;
$("#camera").onclick = toggleCamera;

const compare = $("#compare");
compare.oninput = () => {
  const stage = $("#stage");
  stage.style.setProperty("--split", `${compare.value}%`);
  // The handle stays within the picture where the line is at its border.
  const position = (compare.value / 100) * stage.clientWidth;
  const inside = Math.min(Math.max(position, 24), stage.clientWidth - 24);
  stage.style.setProperty("--shift", `${inside - position}px`);
  compare.setAttribute("aria-valuetext", `${compare.value}% of the photo`);
};
compare.oninput();

for (const button of document.querySelectorAll(".save")) {
  button.onclick = () => {
    const { type } = button.dataset;
    const suffix = type === "image/jpeg" ? "jpg" : "png";
    const name = `${resultName}.${suffix}`;
    const save = (blob) => {
      const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    };
    $("#result").toBlob(save, type, 0.92);
  };
}

start();
