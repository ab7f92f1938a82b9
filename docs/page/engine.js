/* The networks, as functions that return promises. They run in worker.js. */

const ISOLATION_TRIED = "isolation-tried";
const PATIENCE = 3000; // milliseconds until the page starts without a service worker

/**
 * Makes the page cross-origin isolated, which threads need, by reloading it once through the service worker. The promise
 * does not resolve if the page is about to be reloaded. Where there are no service workers, one thread has to do.
 */
export async function isolate() {
  if (crossOriginIsolated) return sessionStorage.removeItem(ISOLATION_TRIED);
  if (!navigator.serviceWorker || sessionStorage.getItem(ISOLATION_TRIED)) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    const timeout = new Promise((resolve) => setTimeout(resolve, PATIENCE));
    if (!(await Promise.race([navigator.serviceWorker.ready, timeout]))) return;
  } catch {
    return; // for example in private windows
  }
  sessionStorage.setItem(ISOLATION_TRIED, "yes"); // a forced reload bypasses the service worker: never reload twice
  location.reload();
  await new Promise(() => {});
}

export class Engine {
  #worker;
  #waiting = new Map(); // by id: the functions that settle a request
  #lastId = 0;

  /** @param onProgress called with { loaded, total } in bytes, while the networks are loaded */
  constructor(onProgress) {
    // A worker that is made from a blob has the content security policy of the page, unlike one that is made from a file.
    const code = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
    this.#worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
    this.#worker.onmessage = ({ data }) => {
      if (data.progress) return onProgress(data.progress);
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      if (data.error === undefined) resolve(data.answer);
      else reject(new Error(data.error));
    };
    this.#worker.onerror = () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the worker does not start in this browser"));
      this.#waiting.clear();
    };
  }

  /** Loads the networks. Resolves to { provider: "wasm" or "webgpu", threads }. */
  start(provider) {
    return this.#ask("start", { provider });
  }

  /** Resolves to the style code of an ImageData. */
  async encode(style) {
    return (await this.#ask("encode", { style: plain(style) })).code;
  }

  /** Resolves to the stylized ImageData. */
  async stylize(content, code, alpha) {
    const { data, width, height } = await this.#ask("stylize", { content: plain(content), code, alpha });
    return new ImageData(data, width, height);
  }

  #ask(task, request) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, task, ...request });
    });
  }
}

const plain = ({ data, width, height }) => ({ data, width, height });
