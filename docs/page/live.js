/* The live camera: stylizes frame after frame, at the largest size that holds the frame rate. */

export const FRAME_RATE = 15; // frames per second, at least
export const SIZES = [128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768]; // longer side in pixels; below 128 little is recognizable

const FRAMES = 5; // so many frames are measured before the size changes
const HEADROOM = 0.9; // a larger size is tried if its expected time is below this share of the limit

/** Chooses the size from the measured times: the time of a frame is about proportional to its area. */
export class SizeController {
  #index;
  #times = [];

  constructor(size = 192) {
    this.#index = SIZES.indexOf(size);
  }

  get size() {
    return SIZES[this.#index];
  }

  /** Takes the time of one frame at the present size in milliseconds, and perhaps changes the size. */
  add(milliseconds) {
    this.#times.push(milliseconds);
    if (this.#times.length <= FRAMES) return;
    const [, ...times] = this.#times; // the first frame of a size includes preparations
    const median = times.sort((a, b) => a - b)[Math.floor(FRAMES / 2)];
    this.#times.length = 1;
    const limit = 1000 / FRAME_RATE;
    const expected = (index) => median * (SIZES[index] / this.size) ** 2;
    let index = this.#index;
    if (median > limit) {
      while (index > 0 && expected(index) > limit) index--;
    } else {
      while (index + 1 < SIZES.length && expected(index + 1) < HEADROOM * limit) index++;
    }
    if (index !== this.#index) this.#times.length = 0;
    this.#index = index;
  }
}

const REASONS = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser's settings for this page.",
  NotFoundError: "No camera was found. Connect one, or choose a photo.",
  NotReadableError: "The camera is in use by another program. Close that program, and try again.",
};

export class Live {
  #video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  #canvas = document.createElement("canvas");
  #stream = null;
  #wanted = false;
  #onStop;

  /** @param onStop called with a reason, or nothing if `stop` was called without one */
  constructor(onStop) {
    this.#onStop = onStop;
    // The camera's light must not stay on for a page that nobody sees.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.stop("The camera was stopped, because the page was hidden.");
    });
    addEventListener("pagehide", () => this.stop());
  }

  get running() {
    return this.#wanted;
  }

  /**
   * Opens the camera and stylizes its frames until `stop` is called.
   *
   * @param stylize takes an ImageData and resolves to a stylized one
   * @param show called with { original, stylized, rate }, the images and the frames per second, for each frame
   * @param mirrored returns whether frames are mirrored
   */
  async start(stylize, show, mirrored) {
    this.#wanted = true;
    try {
      await this.#open();
      if (this.#wanted) await this.#loop(stylize, show, mirrored);
    } catch (error) {
      this.stop(REASONS[error.name] ?? `The camera mode failed: ${error.message}`);
    }
  }

  stop(reason) {
    if (!this.#wanted) return;
    this.#wanted = false;
    this.#release();
    this.#onStop(reason);
  }

  async #open() {
    if (!navigator.mediaDevices) throw new Error("cameras need a page that is served over HTTPS or from this computer");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
    this.#stream = stream;
    if (!this.#wanted) return this.#release(); // stopped while the browser was asking for permission
    stream.getVideoTracks()[0].onended = () => this.stop("The camera was disconnected.");
    this.#video.srcObject = stream;
    await this.#video.play();
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = this.#video.srcObject = null;
  }

  async #loop(stylize, show, mirrored) {
    const stream = this.#stream;
    const sizes = new SizeController();
    const ends = []; // when the last frames were finished
    while (this.#stream === stream) {
      const started = performance.now();
      const original = this.#frame(sizes.size, mirrored());
      const stylized = await stylize(original);
      if (this.#stream !== stream) return;
      const ended = performance.now();
      sizes.add(ended - started);
      ends.push(ended);
      if (ends.length > 2 * FRAME_RATE) ends.shift();
      const rate = ends.length > 1 ? (1000 * (ends.length - 1)) / (ended - ends[0]) : 0;
      show({ original, stylized, rate });
      await nextFrame();
    }
  }

  #frame(size, mirrored) {
    const { videoWidth, videoHeight } = this.#video;
    const scale = size / Math.max(videoWidth, videoHeight);
    const [width, height] = [videoWidth, videoHeight].map((side) => Math.max(1, Math.round(side * scale)));
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    const context = this.#canvas.getContext("2d", { willReadFrequently: true });
    context.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? width : 0, 0);
    context.imageSmoothingQuality = "medium";
    context.drawImage(this.#video, 0, 0, width, height);
    return context.getImageData(0, 0, width, height);
  }
}

/** Resolves when the browser draws next, so that each result is seen. */
const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));
