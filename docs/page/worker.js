/* Runs the two networks, so that the page stays responsive. Started by engine.js. */

const MAX_THREADS = 4; // more threads rarely help, and phones have slow cores besides the fast ones

const PROVIDERS = {
  // Processors compute fastest in 8 bits, and GPUs in float32. `bytes` is approximate, for the progress bar.
  wasm: {
    library: "ort.wasm.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.wasm",
    models: { encoder: "style_encoder.onnx", stylizer: "stylizer_int8.onnx" }, bytes: 16e6,
  },
  webgpu: {
    library: "ort.webgpu.bundle.min.mjs", wasm: "ort-wasm-simd-threaded.asyncify.wasm",
    models: { encoder: "style_encoder.onnx", stylizer: "stylizer.onnx" }, bytes: 30e6,
  },
};

let ort, sessions;

/** Loads the runtime and the networks. Returns how they run: on the GPU if there is one, unless `provider` is given. */
async function start({ provider }) {
  provider ??= (await hasGpu()) ? "webgpu" : "wasm";
  try {
    return await load(provider);
  } catch (error) {
    if (provider === "wasm") throw error;
    console.warn(`WebGPU is not used: ${error}`);
    return load("wasm");
  }
}

async function load(provider) {
  const { library, wasm, models, bytes } = PROVIDERS[provider];
  const [wasmBinary, ...modelFiles] = await fetchAll([`runtime/${wasm}`, ...Object.values(models)], bytes);
  ort = await import(new URL(`runtime/${library}`, import.meta.url));
  ort.env.wasm.wasmBinary = wasmBinary;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
  sessions = {};
  for (const [i, name] of Object.keys(models).entries()) {
    sessions[name] = await ort.InferenceSession.create(modelFiles[i], { executionProviders: [provider] });
  }
  // Run them once: a GPU may fail only then, and the first run includes preparations.
  const image = { data: new Uint8ClampedArray(4 * 64 * 64), width: 64, height: 64 };
  await stylize({ content: image, code: (await encode({ style: image })).code, alpha: 1 });
  return { provider, threads: ort.env.wasm.numThreads };
}

/** True if there is a GPU. A software adapter is slower than WebAssembly. */
async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

async function fetchAll(paths, total) {
  let loaded = 0;
  const fetchOne = async (path) => {
    const response = await fetch(new URL(path, import.meta.url));
    if (!response.ok) throw new Error(`${path} returned status ${response.status}`);
    const parts = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      parts.push(value);
      loaded += value.length;
      postMessage({ progress: { loaded, total } });
    }
    return new Blob(parts).arrayBuffer();
  };
  return Promise.all(paths.map(fetchOne));
}

/** Returns the style code of an image: a few numbers, which serve for all photos. */
async function encode({ style }) {
  return { code: await codeOf(toTensor(style)) };
}

async function codeOf(image) {
  const { code } = await sessions.encoder.run({ style: image });
  return code.data;
}

/**
 * Stylizes one image, like `adain.stylize`: below alpha 1, the style code is blended with that of the photo, and what the
 * network loses of the photo is added back, so that alpha 0 is the photo itself.
 */
async function stylize({ content, code, alpha }) {
  const image = toTensor(content);
  if (alpha === 1) return toImage(await decode(image, code), image.dims);
  const ownCode = await codeOf(image);
  const stylized = await decode(image, ownCode.map((own, i) => own + alpha * (code[i] - own)));
  const reconstructed = await decode(image, ownCode);
  const blended = stylized.map((value, i) => value + (1 - alpha) * (image.data[i] - reconstructed[i]));
  return toImage(blended, image.dims);
}

async function decode(content, code) {
  const feed = { content, code: new ort.Tensor("float32", code, [1, code.length]) };
  const { stylized } = await sessions.stylizer.run(feed);
  return stylized.data;
}

/** Converts RGBA bytes to a tensor (1, 3, H, W) in [0, 1]. */
function toTensor({ data, width, height }) {
  const area = width * height;
  const values = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) values[channel * area + i] = data[4 * i + channel] / 255;
  }
  return new ort.Tensor("float32", values, [1, 3, height, width]);
}

/** Converts values (1, 3, H, W) in [0, 1] to RGBA bytes. */
function toImage(values, [, , height, width]) {
  const area = width * height;
  const data = new Uint8ClampedArray(4 * area).fill(255);
  for (let i = 0; i < area; i++) {
    for (let channel = 0; channel < 3; channel++) data[4 * i + channel] = 255 * values[channel * area + i];
  }
  return { data, width, height };
}

const TASKS = { start, encode, stylize };

onmessage = async ({ data: { id, task, ...request } }) => {
  try {
    postMessage({ id, answer: await TASKS[task](request) });
  } catch (error) {
    postMessage({ id, error: String(error.message ?? error) });
  }
};
