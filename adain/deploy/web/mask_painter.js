// Paint on a photo. Gradio calls this file with `element`, `props` (photo, value), `trigger`, and `watch`.
// The value is a PNG image as a data URL: opaque where it was painted, and empty if nothing was.
const COLOR = "#6366f1";
const [photo] = element.getElementsByTagName("img");
const [canvas] = element.getElementsByTagName("canvas");
const [size] = element.querySelectorAll("input[type=range]");
const [eraser] = element.querySelectorAll("input[type=checkbox]");
const [clear] = element.getElementsByTagName("button");
const pen = canvas.getContext("2d");
let drawing = false;

function reset() {
  canvas.width = photo.naturalWidth || 1; // which also clears the canvas
  canvas.height = photo.naturalHeight || 1;
  element.firstElementChild.hidden = !props.photo;
}

function showPhoto() {
  photo.src = props.photo || "data:,";
}

function send(value) {
  props.value = value;
  trigger("input");
}

function lineTo(event) {
  const scale = canvas.width / canvas.clientWidth;
  pen.lineTo(event.offsetX * scale, event.offsetY * scale);
  pen.stroke();
}

canvas.addEventListener("pointerdown", (event) => {
  drawing = true;
  canvas.setPointerCapture(event.pointerId);
  pen.globalCompositeOperation = eraser.checked ? "destination-out" : "source-over";
  pen.strokeStyle = COLOR;
  pen.lineWidth = (Number(size.value) / 100) * canvas.width;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  lineTo(event); // the end of a path is its start, too: a click paints a dot
  lineTo(event);
});

canvas.addEventListener("pointermove", (event) => {
  if (drawing) lineTo(event);
});

for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, () => {
    if (drawing) send(canvas.toDataURL());
    drawing = false;
  });
}

clear.addEventListener("click", () => {
  reset();
  send("");
});

photo.addEventListener("load", reset);
photo.addEventListener("error", reset);
watch("photo", showPhoto);
showPhoto();
