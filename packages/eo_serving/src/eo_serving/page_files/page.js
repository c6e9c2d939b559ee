"use strict";
// Sends the chosen GeoTIFF to /invocations and shows what comes back. Nothing from a file or a server is ever markup:
// text goes in as text.

const $ = (id) => document.getElementById(id);
const most = Number(document.body.dataset.maxBytes);
let chosen = null;
let turn = 0;
const urls = [];

class Refused extends Error {
  constructor(what, where, fix) {
    super(what);
    this.where = where;
    this.fix = fix;
  }
}

async function ask(file, accept) {
  const headers = { "Content-Type": "image/tiff", Accept: accept };
  const token = $("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch("/invocations", { method: "POST", body: file, headers });
  } catch {
    throw new Refused("The server does not answer.", "", "Check that it is running, then try again.");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) document.querySelector(".token").hidden = false;
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* something between us and the server answered */ }
  throw new Refused(
    String(problem.detail ?? `The server answered ${answer.status}.`), String(problem.where ?? ""),
    String(problem.fix ?? ""),
  );
}

async function show(file) {
  const mine = ++turn;
  chosen = file;
  $("problem").hidden = true;
  $("result").hidden = true;
  $("status").textContent = `Reading ${file.name} …`;
  try {
    if (file.size > most) {
      throw new Refused(
        `This file has ${bytes(file.size)}; at most ${bytes(most)} may be sent.`, file.name,
        "Cut it into smaller rasters, or use eo-serving predict.",
      );
    }
    const began = performance.now();
    const answer = await ask(file, "application/json");
    const statistics = await answer.json();
    const seconds = (performance.now() - began) / 1000;
    const [scene, mask] = await Promise.all(["scene", "mask"].map(async (layer) => {
      const picture = await ask(file, `image/png; layer=${layer}`);
      return picture.blob();
    }));
    if (mine !== turn) return;  // another file was chosen meanwhile
    urls.splice(0).forEach((url) => URL.revokeObjectURL(url));
    await Promise.all([place($("scene"), scene), place($("mask"), mask)]);
    if (mine !== turn) return;  // or while these were drawn
    describe(file, statistics, answer.headers, seconds);
    $("status").textContent = `Answered in ${seconds.toFixed(2)} s.`;
    $("result").hidden = false;
  } catch (error) {
    if (mine === turn) tell(error);
  }
}

function place(image, blob) {
  const url = URL.createObjectURL(blob);
  urls.push(url);
  image.src = url;
  return image.decode();
}

function describe(file, statistics, headers, seconds) {
  $("file-name").textContent = file.name;
  $("classes").replaceChildren(...statistics.classes.map((one) => {
    const row = document.createElement("tr");
    const name = cell("th", one.name);
    name.scope = "row";
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = colors()[one.value] ?? "transparent";
    name.prepend(swatch);
    const area = one.hectares === null ? "–" : one.hectares.toLocaleString("en", { maximumFractionDigits: 2 });
    row.append(name, cell("td", `${(100 * one.fraction).toFixed(2)} %`), cell("td", area));
    return row;
  }));
  $("area-note").textContent = statistics.classes.some((one) => one.hectares === null)
    ? "No areas: this raster has no CRS, so nobody knows how large a pixel is."
    : "Areas on the WGS 84 ellipsoid.";
  const [height, width] = statistics.shape;
  const stages = (headers.get("Server-Timing") ?? "").split(",").map((part) => part.trim().split(";dur="))
    .filter(([, spent]) => spent).map(([stage, spent]) => `${stage} ${Math.round(Number(spent))}`);
  const facts = {
    Size: `${height} × ${width} pixels`,
    CRS: statistics.crs ?? "none",
    "With data": `${(100 * statistics.valid_fraction).toFixed(2)} %`,
    Time: `${seconds.toFixed(2)} s` + (stages.length ? `; in the server, ms: ${stages.join(", ")}` : ""),
    Model: statistics.model,
    Digest: statistics.digest.slice(0, 16),
    Radiometry: statistics.radiometry,
  };
  const warning = headers.get("Terraloop-Warning");
  $("warning").textContent = warning === null ? "" : `Doubtful: ${warning}.`;
  $("warning").hidden = warning === null;
  $("details").replaceChildren(...Object.entries(facts).flatMap(([key, text]) => [cell("dt", key), cell("dd", text)]));
  const step = Math.ceil(Math.max(height, width) / 1024);
  $("thinned").textContent = step > 1 ? `every ${step}th pixel is shown` : "";
  document.querySelector('[data-accept="application/geo+json"]').disabled = statistics.crs === null;
}

async function save(button) {
  const file = chosen;
  button.disabled = true;
  $("problem").hidden = true;
  try {
    const blob = await (await ask(file, button.dataset.accept)).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${file.name.replace(/\.tiff?$/i, "")}-${button.dataset.suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    tell(error);
  }
  button.disabled = false;
}

function tell(error) {
  $("status").textContent = "";
  $("problem-what").textContent = error.message;
  $("problem-where").textContent = error.where ? `Where: ${error.where}` : "";
  $("problem-fix").textContent = error.fix ?? "";
  $("problem").hidden = false;
}

function cell(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}

function colors() {
  return Object.fromEntries([...document.querySelectorAll("[data-class]")].map(
    (mark) => [mark.dataset.class, mark.getAttribute("fill")],
  ));
}

function bytes(count) {
  return count < 2 ** 20 ? `${Math.ceil(count / 1024)} KiB` : `${(count / 2 ** 20).toFixed(1)} MiB`;
}

function opacity() {
  $("mask").style.opacity = $("opacity").value / 100;
}

const drop = $("drop");
$("file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) show(file);
  event.target.value = "";  // the same file may be chosen again
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    const file = kind === "drop" ? event.dataTransfer.files[0] : null;
    if (file) show(file);
  });
}
document.querySelectorAll("[data-accept]").forEach((button) => button.addEventListener("click", () => save(button)));
$("opacity").addEventListener("input", opacity);
$("token").value = sessionStorage.getItem("token") ?? "";
$("token").addEventListener("input", () => sessionStorage.setItem("token", $("token").value.trim()));
opacity();
