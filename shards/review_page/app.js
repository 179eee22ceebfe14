"use strict";
/* The page: only the tiles in sight exist, keys and buttons act on the current pair, and every decision is kept. */

(() => {
  const { Decisions } = globalThis.depthrankDecisions;
  const { ORDERS, DECIDED, verdicts, select } = globalThis.depthrankSelection;
  const TILE_WIDTH_PX = 600;
  const GAP_PX = 12;
  const AROUND_STRIP_PX = 164; // head, figures, buttons and padding, as style.css sets them
  const ROWS_BEYOND = 2;

  const at = (id) => document.getElementById(id);
  const list = at("list");
  const canvas = at("canvas");
  const review = globalThis.depthrankReview;
  if (!review) {
    at("status").textContent = "data.js is missing or damaged: write the page again with depthrank review.";
    at("status").className = "fault";
    return;
  }
  const pairs = review.pairs;
  pairs.forEach((pair, place) => (pair.place = place));

  const decisions = new Decisions(review.dataset, localStorageOrNull(), say);
  const choice = { verdict: "all", decision: "all", order: "doubt", text: "" };
  const tiles = new Map(); // place in `chosen` -> element
  let chosen = [];
  let current = 0;
  const tallness = usualTallness();
  let grid = { columns: 1, width: 0, stripHeight: 0, rowHeight: 1 };

  function localStorageOrNull() {
    try {
      return globalThis.localStorage;
    } catch {
      return null;
    }
  }

  function say(text) {
    at("status").textContent = text;
  }

  /** Height over width below which three quarters of the pictures lie: the room of a strip fits most of them. */
  function usualTallness() {
    const sizes = pairs.filter((pair) => pair.image).map(({ strip_hw: [height, width] }) => (3 * height) / width);
    return sizes.sort((a, b) => a - b)[Math.floor(sizes.length * 0.75)] ?? 0.5;
  }

  // ---- what is in sight

  function measure() {
    const inner = list.clientWidth - 2 * GAP_PX;
    const columns = Math.max(1, Math.floor((inner + GAP_PX) / (TILE_WIDTH_PX + GAP_PX)));
    const width = Math.floor((inner - (columns - 1) * GAP_PX) / columns);
    const stripHeight = Math.round(Math.min(256, Math.max(90, (width / 3) * tallness)));
    grid = { columns, width, stripHeight, rowHeight: stripHeight + AROUND_STRIP_PX + GAP_PX };
  }

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / grid.rowHeight) - ROWS_BEYOND) * grid.columns;
    const rows = Math.ceil(list.clientHeight / grid.rowHeight) + 2 * ROWS_BEYOND + 1;
    const last = Math.min(chosen.length, first + rows * grid.columns);
    for (const [place, tile] of tiles) {
      if (place < first || place >= last) {
        tile.remove();
        tiles.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) if (!tiles.has(place)) drawTile(place);
  }

  function drawTile(place) {
    const pair = chosen[place];
    if (!pair) return;
    const box = { width: grid.width - 2 * GAP_PX, height: grid.stripHeight };
    const tile = globalThis.depthrankTile.make(pair, decisions.of(pair.name), place === current, box);
    const row = Math.floor(place / grid.columns);
    tile.style.width = `${grid.width}px`;
    tile.style.height = `${grid.rowHeight - GAP_PX}px`;
    tile.style.left = `${GAP_PX + (place % grid.columns) * (grid.width + GAP_PX)}px`;
    tile.style.top = `${GAP_PX + row * grid.rowHeight}px`;
    tile.dataset.place = String(place);
    tile.setAttribute("aria-posinset", String(place + 1));
    tile.setAttribute("aria-setsize", String(chosen.length));
    tiles.get(place)?.remove();
    tiles.set(place, tile);
    const next = [...tiles.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
    canvas.insertBefore(tile, next === undefined ? null : tiles.get(next)); // the order that a screen reader reads
  }

  function drawAll() {
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
    measure();
    canvas.style.height = `${Math.ceil(chosen.length / grid.columns) * grid.rowHeight + GAP_PX}px`;
    draw();
    drawCounts();
  }

  function drawCounts() {
    const rejected = pairs.filter((pair) => pair.reason !== null).length;
    at("counts").textContent =
      `${pairs.length} pairs, ${pairs.length - rejected} accepted, ${rejected} rejected; ${decisions.size} decided`;
    const place = chosen.length === 0 ? "none" : `${current + 1} of ${chosen.length}`;
    at("shown").textContent = chosen.length === 0 ? "nothing matches" : `at ${place}`;
    at("undo").disabled = decisions.past.length === 0;
  }

  /** Another filter keeps the current pair where it still shows; another order begins at its beginning. */
  function choose(isNewOrder = false) {
    const kept = chosen[current];
    chosen = select(pairs, decisions, choice);
    current = isNewOrder ? 0 : Math.max(0, chosen.indexOf(kept));
    list.scrollTop = 0;
    drawAll();
    show();
  }

  // ---- the current pair

  function go(place) {
    const before = current;
    current = Math.min(Math.max(place, 0), Math.max(chosen.length - 1, 0));
    for (const changed of new Set([before, current])) if (tiles.has(changed)) drawTile(changed);
    show();
    drawCounts();
  }

  function show() {
    const top = Math.floor(current / grid.columns) * grid.rowHeight;
    const bottom = top + grid.rowHeight + GAP_PX;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = Math.min(top, bottom - list.clientHeight);
    draw();
  }

  function goUndecided() {
    for (let step = 1; step <= chosen.length; step += 1) {
      const place = (current + step) % chosen.length;
      const { keep, eyes } = decisions.of(chosen[place].name);
      if (keep === null && eyes === null) return go(place);
    }
    return say("Every pair that is shown has been decided.");
  }

  function act(action) {
    const pair = chosen[current];
    if (!pair) return;
    at("status").textContent = "";
    decisions.act(action, pair);
    drawTile(current);
    drawCounts();
    if (!decisions.unsaved) say(`${pair.name}: ${spoken(decisions.of(pair.name))}`);
    // A verdict is final, so on to the next; swapped eyes want a second look.
    if (action !== "swap" && decisions.of(pair.name).keep !== null) go(current + 1);
  }

  function spoken({ keep, eyes }) {
    if (keep === null && eyes === null) return "no decision";
    const parts = [];
    if (keep !== null) parts.push(keep ? "kept" : "dropped");
    if (eyes !== null) parts.push(`eyes ${eyes === "swapped" ? "swapped" : "as given"}`);
    return parts.join(", ");
  }

  function undo() {
    const names = decisions.undo();
    if (names.length === 0) return say("There is nothing to undo.");
    const place = chosen.findIndex((pair) => pair.name === names[0]);
    drawAll();
    if (place >= 0) go(place);
    return say(names.length === 1 ? `Undone: ${names[0]}` : `Undone: ${names.length} decisions`);
  }

  // ---- the decisions file

  function download() {
    if (decisions.size === 0) return say("There is nothing to download yet.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([decisions.toText()], { type: "application/json" }));
    link.download = `decisions-${review.title.replaceAll(/[^A-Za-z0-9._-]+/g, "-")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    return say(`${decisions.size} decisions downloaded as ${link.download}`);
  }

  async function load(file) {
    if (!file) return;
    try {
      const count = decisions.addText(await file.text());
      const known = new Set(pairs.map((pair) => pair.name));
      const strangers = [...decisions.byName.keys()].filter((name) => !known.has(name));
      drawAll();
      say(
        `${count} decisions loaded from ${file.name}` +
          (strangers.length > 0 ? `; ${strangers.length} belong to no pair of this page, such as ${strangers[0]}` : ""),
      );
    } catch (fault) {
      say(`${file.name}: ${fault.message}; nothing was loaded.`);
    }
  }

  // ---- keys, buttons, filters

  const KEYS = {
    k: () => act("keep"),
    d: () => act("drop"),
    s: () => act("swap"),
    u: undo,
    n: goUndecided,
    e: download,
    "/": () => at("search").focus(),
    ArrowRight: () => go(current + 1),
    ArrowLeft: () => go(current - 1),
    ArrowDown: () => go(current + grid.columns),
    ArrowUp: () => go(current - grid.columns),
    Home: () => go(0),
    End: () => go(chosen.length - 1),
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    if (typing) {
      if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "search")) list.focus();
      return;
    }
    const undoKeys = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
    if (!undoKeys && (event.ctrlKey || event.metaKey || event.altKey)) return;
    const action = undoKeys ? undo : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });

  canvas.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    go(Number(tile.dataset.place));
    const action = event.target.closest("button")?.dataset.action;
    if (action) act(action);
    list.focus({ preventScroll: true });
  });

  function fill(id, entries) {
    at(id).replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
    at(id).value = choice[id];
    at(id).addEventListener("change", (event) => {
      choice[id] = event.target.value;
      choose(id === "order");
      list.focus();
    });
  }

  fill("verdict", verdicts(pairs).map(([value, text, count]) => [value, `${text} (${count})`]));
  fill("decision", Object.entries(DECIDED).map(([value, [text]]) => [value, text]));
  fill("order", Object.entries(ORDERS).map(([value, [text]]) => [value, text]));
  at("search").addEventListener("input", (event) => {
    choice.text = event.target.value;
    choose();
  });
  at("undo").addEventListener("click", undo);
  at("download").addEventListener("click", download);
  at("load").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", async (event) => {
    await load(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    load(event.dataTransfer.files[0]);
  });
  list.addEventListener("scroll", draw, { passive: true });
  new ResizeObserver(() => {
    drawAll();
    show();
  }).observe(list);
  window.addEventListener("storage", (event) => {
    if (event.key !== decisions.storageKey) return; // another window of the same page decided something
    decisions.restore();
    drawAll();
  });
  window.addEventListener("beforeunload", (event) => {
    if (decisions.unsaved) event.preventDefault();
  });

  at("title").textContent = review.title;
  document.title = `${review.title} – DepthRank review`;
  const restored = decisions.restore();
  if (restored > 0) say(`${restored} decisions of an earlier visit were found in this browser.`);
  choose();
  list.focus();
})();
