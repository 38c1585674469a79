"use strict";

/* Pictures in, detections out. Every answer holds all detections from LEAST on; slider and classes filter them here. */

const LEAST = 0.05;
const LEGIBLE = 560; // pixels of the longer side on which labels can be read
const CAMERA_PAUSE = 150; // milliseconds between two pictures of the camera
const byId = (id) => document.getElementById(id);
const state = { models: [], pictures: [], chosen: -1, score: 0.5, hidden: new Set(), camera: null, explaining: 0 };

/* --- Talking to the server --- */

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers(), ...options.headers } });
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try { message = (await response.json()).error; } catch { /* not JSON: the status says it */ }
  const error = new Error(message);
  error.status = response.status;
  throw error;
}

async function detect(model, blob) {
  const query = new URLSearchParams({ model, threshold: LEAST });
  for (let attempt = 0; ; attempt++) {
    try {
      const options = { method: "POST", body: blob, headers: { "Content-Type": blob.type || "application/octet-stream" } };
      return await (await ask(`/v1/detect?${query}`, options)).json();
    } catch (error) {
      if (error.status !== 429 || attempt === 4) throw error;
      await new Promise((done) => setTimeout(done, 400 * 2 ** attempt));
    }
  }
}

async function start() {
  try {
    state.models = (await (await ask("/v1/models")).json()).models;
  } catch (error) {
    if (error.status !== 401) { byId("subtitle").textContent = error.message; return; }
    byId("subtitle").textContent = "A token is needed";
    byId("token-error").textContent = sessionStorage.getItem("token") ? "That is not the token." : "";
    byId("token-form").hidden = false;
    byId("token").focus();
    return;
  }
  byId("token-form").hidden = true;
  byId("app").hidden = false;
  byId("subtitle").textContent = state.models.map((model) => model.name).join(" beside ");
  state.score = state.models[0].threshold;
  byId("camera").disabled = !navigator.mediaDevices?.getUserMedia;
  showScore();
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", byId("token").value);
  start();
});

/* --- Pictures --- */

async function add(files) {
  const pictures = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  const others = files.length - pictures.length;
  if (others) say(`${others} of ${files.length} files are no pictures`);
  for (const file of pictures) {
    const picture = { name: file.name || "pasted", blob: file, image: null, answers: {}, errors: {} };
    state.pictures.push(picture);
    decode(picture);
    choose(state.pictures.length - 1);
    run(picture);
  }
}

async function decode(picture) {
  try {
    picture.image = await createImageBitmap(picture.blob, { imageOrientation: "from-image" });
  } catch {
    picture.undrawable = true; // such as TIFF: the server reads it, this browser does not
  }
  if (picture.url) URL.revokeObjectURL(picture.url);
  picture.url = picture.undrawable ? "" : URL.createObjectURL(picture.blob);
  draw();
}

async function run(picture) {
  await Promise.all(state.models.map(async ({ name }) => {
    const began = performance.now();
    try {
      picture.answers[name] = await detect(name, picture.blob);
      picture.answers[name].milliseconds = Math.round(performance.now() - began);
      delete picture.errors[name];
    } catch (error) {
      picture.errors[name] = error.message;
    }
    draw();
  }));
}

function choose(index) {
  state.chosen = index;
  draw();
}

function say(text) { byId("status").textContent = text; }

/* --- Camera --- */

async function openCamera() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    byId("viewer").hidden = false;
    say(`The camera cannot be used (${error.message || error.name}).`);
    return;
  }
  const video = document.createElement("video");
  video.playsInline = video.muted = true;
  video.srcObject = stream;
  await video.play();
  const picture = { name: "camera", blob: null, image: null, answers: {}, errors: {}, live: true };
  state.pictures.push(picture);
  state.camera = { stream, picture };
  byId("stop").hidden = false;
  choose(state.pictures.length - 1);
  while (state.camera?.picture === picture) {
    const frame = document.createElement("canvas");
    [frame.width, frame.height] = [video.videoWidth, video.videoHeight];
    frame.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", 0.9));
    const shot = { name: "camera", blob, image: frame, answers: {}, errors: {} };
    await run(shot);
    Object.assign(picture, shot); // picture and boxes change together
    draw();
    await new Promise((done) => setTimeout(done, CAMERA_PAUSE));
  }
}

function closeCamera() {
  state.camera?.stream.getTracks().forEach((track) => track.stop());
  state.camera = null;
  byId("stop").hidden = true;
  draw();
}

/* --- Drawing --- */

const shown = (answer) => answer.annotations.filter((each) => each.score >= state.score && !state.hidden.has(each.category_name));
const colorOf = (model, name) => {
  const category = model.categories.find((each) => each.name === name);
  return category ? `rgb(${category.color.join(",")})` : "#888";
};

function draw() {
  const picture = state.pictures[state.chosen];
  byId("viewer").hidden = !picture;
  byId("drop").classList.toggle("small", Boolean(picture));
  if (!picture) return;
  byId("views").replaceChildren(...state.models.map((model) => viewOf(model, picture)));
  drawChips(picture);
  drawStrip();
}

function viewOf(model, picture) {
  const view = element("article", { className: "view" });
  const answer = picture.answers[model.name];
  const found = answer ? shown(answer) : [];
  const pace = answer ? `${found.length} found · ${answer.milliseconds} ms` : picture.errors[model.name] ? "" : "looking …";
  view.append(element("h2", {}, model.name, element("span", {}, pace)));
  const canvas = paint(picture, model, found, answer);
  if (canvas) view.append(canvas);
  if (picture.errors[model.name]) view.append(element("p", { className: "failed", role: "alert" }, picture.errors[model.name]));
  if (!answer) return view;
  const row = element("p", { className: "row" });
  row.append(
    button("Save picture", () => canvas.toBlob((blob) => save(blob, `${stem(picture)}-${model.name}.png`)), !canvas),
    button("Save JSON", () => save(new Blob([JSON.stringify({ ...answer, annotations: found, threshold: state.score }, null, 1)], { type: "application/json" }), `${stem(picture)}-${model.name}.json`)),
    button("Explore the attention", (event) => explore(event.target, model, picture)),
  );
  const items = found.map((each) => element("li", {}, `${each.category_name} ${each.score.toFixed(2)}`));
  view.append(row, element("ol", {}, ...items));
  return view;
}

function paint(picture, model, found, answer) {
  const image = picture.image;
  if (!image && !picture.undrawable) return null;
  const canvas = element("canvas", { role: "img" });
  const [width, height] = image ? [image.width, image.height] : answer ? [answer.image.width, answer.image.height] : [1, 1];
  const zoom = Math.max(1, Math.ceil(LEGIBLE / Math.max(width, height))); // small pictures grow, so that labels are legible
  [canvas.width, canvas.height] = [zoom * width, zoom * height];
  canvas.setAttribute("aria-label", `${picture.name}: ${found.map((each) => each.category_name).join(", ") || "nothing found"}`);
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = zoom < 4;
  if (image) pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const unit = Math.max(canvas.width, canvas.height) / 640;
  pen.font = `600 ${14 * unit}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  for (const each of [...found].reverse()) { // the highest score last, on top
    const [x, y, width, height] = each.bbox.map((value) => zoom * value);
    const color = colorOf(model, each.category_name);
    for (const [style, line] of [["#000a", 5], [color, 2.5]]) {
      pen.strokeStyle = style;
      pen.lineWidth = line * unit;
      pen.strokeRect(x, y, width, height);
    }
    const text = `${each.category_name} ${each.score.toFixed(2)}`;
    const [wide, high] = [pen.measureText(text).width + 8 * unit, 19 * unit];
    const [left, top] = [Math.min(Math.max(0, x), canvas.width - wide), y >= high ? y - high : y];
    pen.fillStyle = "#000c";
    pen.fillRect(left, top, wide, high);
    pen.fillStyle = "#fff";
    pen.fillText(text, left + 4 * unit, top + 3 * unit);
  }
  return canvas;
}

function drawChips(picture) {
  const counts = new Map();
  for (const model of state.models) {
    for (const each of picture.answers[model.name]?.annotations ?? []) {
      if (each.score >= state.score) counts.set(each.category_name, (counts.get(each.category_name) ?? 0) + 1);
    }
  }
  const names = [...new Set([...counts.keys(), ...state.hidden])].sort((a, b) => (counts.get(b) ?? 0) - (counts.get(a) ?? 0));
  byId("classes").replaceChildren(...names.map((name) => {
    const dot = element("i");
    dot.style.setProperty("--color", colorOf(state.models.find((model) => model.categories.some((each) => each.name === name)) ?? state.models[0], name));
    const chip = button("", () => { state.hidden.has(name) ? state.hidden.delete(name) : state.hidden.add(name); draw(); });
    chip.className = "chip";
    chip.setAttribute("aria-pressed", String(!state.hidden.has(name)));
    chip.append(dot, name, element("b", {}, String(counts.get(name) ?? 0)));
    return chip;
  }));
}

function drawStrip() {
  const strip = byId("strip");
  strip.hidden = state.pictures.length < 2;
  strip.replaceChildren(...state.pictures.map((picture, index) => {
    const item = button("", () => choose(index));
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", String(index === state.chosen));
    item.setAttribute("aria-label", picture.name);
    if (picture.url) item.append(element("img", { src: picture.url, alt: "" }));
    else item.append(picture.name.slice(0, 8));
    return item;
  }));
}

/* --- The explorer, and files --- */

async function explore(control, model, picture) {
  const tab = window.open("", "_blank"); // at the click, or the browser blocks it
  control.disabled = true;
  say("Computing the attention …");
  try {
    const query = new URLSearchParams({ model: model.name, name: picture.name, link: 1 });
    const { url } = await (await ask(`/v1/explain?${query}`, { method: "POST", body: picture.blob })).json();
    if (tab) tab.location = url; else window.location = url;
    say("");
  } catch (error) {
    tab?.close();
    say(error.message);
  }
  control.disabled = false;
}

const stem = (picture) => picture.name.replace(/\.[^.]*$/, "");

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name.replace(/[\\/:*?"<>|]/g, "_") });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) name === "role" ? made.setAttribute(name, value) : (made[name] = value);
  made.append(...children);
  return made;
}

function button(text, action, disabled = false) {
  const made = element("button", { type: "button", disabled }, text);
  made.addEventListener("click", action);
  return made;
}

function showScore() {
  byId("score").value = state.score;
  byId("score-value").textContent = state.score.toFixed(2);
}

/* --- Events --- */

byId("choose").addEventListener("click", () => byId("files").click());
byId("add").addEventListener("click", () => byId("files").click());
byId("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
byId("camera").addEventListener("click", openCamera);
byId("stop").addEventListener("click", closeCamera);
byId("score").addEventListener("input", (event) => { state.score = Number(event.target.value); showScore(); draw(); });
byId("best").addEventListener("click", () => { state.score = state.models[0].threshold; showScore(); draw(); });
document.addEventListener("paste", (event) => { if (!byId("app").hidden) add(event.clipboardData.files); });
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!byId("app").hidden) add(event.dataTransfer.files);
});
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input")) return;
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = state.chosen + step;
  if (step && state.pictures[next]) choose(next);
});

start();
