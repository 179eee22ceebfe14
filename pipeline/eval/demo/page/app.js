// The page: takes a picture in, asks the server, shows both views, and compares two points.

import { readAnswer } from "./answer.js";
import { compare, inWords, percent } from "./compare.js";
import { View, made } from "./view.js";

const QUIET_MS = 500; // before the place of the cross is told to who cannot see it

const find = (id) => document.getElementById(id);
const state = { facts: null, map: null, points: { A: null, B: null }, cursor: null, asking: null };
const actions = { pick, put, point: moveCross, clear };
const views = [
  new View(find("picture"), "Picture", actions),
  new View(find("depth"), "Depth map: red is near, blue is far", actions),
];
const tags = ["A", "B"].map((name) => made("span", "tag", name));

start();

async function start() {
  find("choose").addEventListener("click", () => find("file").click());
  find("camera").addEventListener("click", () => find("photo").click());
  find("example").addEventListener("click", showExample);
  find("clear").addEventListener("click", clear);
  find("save").addEventListener("click", save);
  for (const id of ["file", "photo"]) {
    find(id).addEventListener("change", (event) => {
      ask(event.target.files[0]);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  document.addEventListener("paste", (event) => ask([...event.clipboardData.files][0]));
  takeDrops();
  document.querySelector(".bar").append(...tags);
  try {
    state.facts = await (await fetch("about")).json();
  } catch {
    tellProblem("the server does not answer");
    return;
  }
  const { about, upload_bytes: bytes, upload_pixels: pixels, heic, equal_share: equal } = state.facts;
  const kinds = `JPEG, PNG, WebP, TIFF, GIF, BMP${heic ? ", HEIC" : ""}`;
  find("bounds").textContent = `${kinds}; up to ${bytes / 2 ** 20} MiB and ${Math.round(pixels / 1e6)} million pixels.`;
  find("equal-text").textContent = `Up to ${percent(equal)}, two points count as equally near.`;
  find("about").replaceChildren(
    ...Object.entries(about).map(([name, value]) => {
      const pair = made("div", "");
      pair.append(made("dt", "", name), " ", made("dd", "", value));
      return pair;
    }),
  );
  drawPalette();
}

function takeDrops() {
  const holdsFiles = (event) => event.dataTransfer.types.includes("Files");
  let inside = 0; // enter and leave come for each element that is crossed
  const show = (change) => {
    inside = Math.max(0, inside + change);
    find("drop").hidden = inside === 0;
  };
  document.addEventListener("dragenter", (event) => holdsFiles(event) && show(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    show(-inside);
    const file = event.dataTransfer.files[0];
    if (file) {
      ask(file);
    } else {
      tellProblem("that was no file; save the picture first and drop the file");
    }
  });
}

async function showExample() {
  tellBusy("Rendering a scene …");
  try {
    const answer = await fetch("example.png");
    if (!answer.ok) {
      throw new Error(`${answer.status}`);
    }
    await ask(await answer.blob());
  } catch {
    tellProblem("the server did not give its scene; try again in a moment");
  }
}

/** Send a picture, show what comes back; a newer picture takes the place of one that is still asked for. */
async function ask(file) {
  if (!file || !state.facts) {
    return;
  }
  state.asking?.abort();
  state.asking = null;
  if (file.size > state.facts.upload_bytes) {
    tellProblem(`the file has more than ${state.facts.upload_bytes / 2 ** 20} MiB; send a smaller one`);
    return;
  }
  const asking = new AbortController();
  state.asking = asking;
  tellBusy("Looking at the picture …");
  try {
    const answer = await fetch("predict", {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: file,
      signal: asking.signal,
    });
    if (!answer.ok) {
      throw new Error(await reasonOf(answer));
    }
    const { head, picture, map } = readAnswer(await answer.arrayBuffer());
    const image = await createImageBitmap(picture);
    if (state.asking === asking) {
      show(head, image, map);
    }
  } catch (error) {
    if (state.asking === asking) {
      tellProblem(error instanceof TypeError ? "the server cannot be reached" : error.message);
    }
  }
}

async function reasonOf(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `the server failed (${answer.status}); its terminal says why`;
  }
}

function show(head, image, map) {
  state.map = map;
  find("result").hidden = false;
  find("result").style.setProperty("--aspect", String(map.width / map.height));
  views[0].show(image, map.width, map.height);
  views[1].show(map.colours(state.facts.palette), map.width, map.height);
  find("picture-caption").textContent = `Picture, ${head.picture_width} × ${head.picture_height} pixels`;
  tellBusy("");
  clear();
  if (matchMedia("(max-width: 700px)").matches) {
    find("verdict").scrollIntoView();
  }
}

/** The next point: A, then B, then A of a new pair. */
function pick(point) {
  const { points } = state;
  state.points = points.A === null || points.B !== null ? { A: point, B: null } : { A: points.A, B: point };
  refresh();
}

function put(name, point) {
  state.points = { ...state.points, [name]: point };
  refresh();
}

function clear() {
  state.points = { A: null, B: null };
  refresh();
}

function moveCross(point, byKeyboard) {
  state.cursor = point;
  views.forEach((view) => view.mark(state.cursor, state.points));
  clearTimeout(state.telling);
  if (byKeyboard && point !== null) {
    state.telling = setTimeout(() => (find("spoken").textContent = placeInWords(point)), QUIET_MS);
  }
}

function placeInWords({ x, y }) {
  const { map } = state;
  const share = (value, length) => `${Math.round((100 * (value + 0.5)) / length)} %`;
  const near = Math.round(100 * map.place(map.at({ x, y })));
  return `Cross ${share(x, map.width)} from the left, ${share(y, map.height)} from the top; ${near} % from far to near.`;
}

function refresh() {
  const { map, points } = state;
  views.forEach((view) => view.mark(state.cursor, points));
  ["A", "B"].forEach((name, index) => {
    tags[index].hidden = points[name] === null;
    if (points[name] !== null) {
      tags[index].style.left = `${100 * map.place(map.at(points[name]))}%`;
    }
  });
  const { equal_share: equal } = state.facts;
  const both = points.A !== null && points.B !== null;
  let words = ["Choose two points", "Click or tap in the picture or in the depth map."];
  if (both) {
    words = inWords(compare(map, points.A, points.B, equal), equal);
  } else if (points.A !== null || points.B !== null) {
    words = [`${points.A !== null ? "A" : "B"} is set`, "Now the other point."];
  }
  find("verdict").replaceChildren(made("strong", "", words[0]), " ", made("span", "", words[1]));
  find("clear").disabled = points.A === null && points.B === null;
}

function drawPalette() {
  const context = find("palette").getContext("2d");
  const image = new ImageData(256, 1);
  state.facts.palette.forEach((colour, index) => image.data.set([...colour, 255], 4 * index));
  context.putImageData(image, 0, 0);
}

function save() {
  views[1].canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "depth.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }, "image/png");
}

function tellProblem(sentence) {
  find("problem").textContent = sentence ? `${sentence[0].toUpperCase()}${sentence.slice(1)}.` : "";
  find("busy").textContent = "";
  document.body.classList.remove("waiting");
}

function tellBusy(sentence) {
  find("problem").textContent = "";
  find("busy").textContent = sentence;
  document.body.classList.toggle("waiting", sentence !== "");
}
