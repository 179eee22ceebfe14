"use strict";
/* One pair as an element. Names and figures are set as text, never as markup. */

globalThis.depthrankTile = (() => {
  const { turnsEyes } = globalThis.depthrankDecisions;
  const { words } = globalThis.depthrankSelection;
  const FIRST = ["eyes_z", "known_share", "consistent_share", "vertical_share", "range_share"];

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  /** The element of a pair; `box` is the room of its strip: width and height in CSS pixels. */
  function make(pair, decision, isCurrent, box) {
    const tile = element("article", "tile");
    const turned = turnsEyes(pair, decision);
    tile.setAttribute("role", "listitem");
    tile.classList.toggle("current", isCurrent);
    tile.classList.toggle("kept", decision.keep === true);
    tile.classList.toggle("dropped", decision.keep === false);
    if (isCurrent) tile.setAttribute("aria-current", "true");
    tile.append(head(pair, decision, turned), strip(pair, turned, box), figures(pair), buttons(pair, decision, turned));
    return tile;
  }

  function head(pair, decision, turned) {
    const line = element("div", "head");
    const rejected = pair.reason !== null;
    line.append(element("span", rejected ? "verdict rejected" : "verdict", words(pair.reason ?? pair.split ?? "accepted")));
    const name = element("span", "name", pair.name);
    name.title = pair.name;
    name.dir = "ltr";
    line.append(name);
    const said = [];
    if (decision.keep === true) said.push("kept");
    if (decision.keep === false) said.push("dropped");
    if (turned) said.push("eyes swapped");
    else if (decision.eyes !== null && decision.keep === null) said.push(`eyes ${words(decision.eyes)}`);
    if (said.length > 0 && decision.by !== null && decision.by !== "person") said.push(`by ${decision.by}`);
    if (said.length > 0) line.append(element("span", "said", said.join(", ")));
    return line;
  }

  function strip(pair, turned, box) {
    const row = element("div", "strip");
    if (!pair.image) {
      row.append(element("p", "empty", "no picture"));
      return row;
    }
    const [height, width] = pair.strip_hw;
    const scale = Math.min(box.width / width, box.height / height, 1.5);
    const pane = { width: Math.floor((width / 3) * scale), height: Math.floor(height * scale) };
    const labels = turned ? ["right eye, was left", "left eye, was right"] : ["left eye", "right eye"];
    if (!turned && pair.eyes === null) labels.splice(0, 2, "picture", "partner");
    else if (!turned && pair.eyes === "undecided") labels.splice(0, 2, "first", "second");
    labels.push(turned ? "disparity, near and far change places" : "disparity");
    const panes = labels.map((label, place) => paneOf(pair, place, label, pane, row));
    row.append(...(turned ? [panes[1], panes[0], panes[2]] : panes));
    row.classList.toggle("turned", turned);
    return row;
  }

  function paneOf(pair, place, label, size, row) {
    const figure = element("figure");
    const picture = element("img");
    figure.style.width = `${size.width}px`;
    figure.style.height = `${size.height}px`;
    picture.style.width = `${3 * size.width}px`;
    picture.style.height = `${size.height}px`;
    picture.style.marginLeft = `${-place * size.width}px`;
    picture.decoding = "async";
    picture.draggable = false;
    picture.alt = `${label} of ${pair.name}`;
    picture.addEventListener("error", () => row.replaceChildren(element("p", "empty", "its picture is missing")));
    picture.src = pair.image;
    figure.append(picture, element("figcaption", "", label));
    return figure;
  }

  function figures(pair) {
    const list = element("ul", "figures");
    list.setAttribute("aria-label", "Figures");
    const add = (name, value, className) => list.append(element("li", className, `${words(name)} ${value}`));
    add("doubt", pair.doubt.toFixed(2) + (pair.why ? ` (${pair.why})` : ""), "doubt");
    if (pair.eyes !== null) add("eyes", words(pair.eyes));
    const names = [...FIRST.filter((name) => name in pair.figures), ...Object.keys(pair.figures).filter((n) => !FIRST.includes(n))];
    for (const name of names) add(name, shown(pair.figures[name]));
    return list;
  }

  function shown(value) {
    return typeof value === "number" && !Number.isInteger(value) ? String(Number(value.toPrecision(3))) : String(value);
  }

  function buttons(pair, decision, turned) {
    const row = element("div", "buttons");
    for (const [action, text, pressed] of [
      ["keep", "Keep", decision.keep === true],
      ["drop", "Drop", decision.keep === false],
      ["swap", "Swap eyes", turned],
    ]) {
      const button = element("button", action, text);
      button.type = "button";
      button.dataset.action = action;
      button.tabIndex = -1; // by keyboard the letters do it; a Tab through thousands of buttons helps nobody
      button.setAttribute("aria-pressed", String(pressed));
      button.setAttribute("aria-label", `${text}: ${pair.name}`);
      row.append(button);
    }
    return row;
  }

  return { make };
})();
