// One of the two pictures: a canvas with the cross of the keyboard and the marks A and B above it.

const NAMES = ["A", "B"];
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const STEPS = 100; // key presses across the long side
const FAR = 10; // times as far with Shift

export class View {
  /**
   * @param {HTMLElement} element the frame
   * @param {string} label for who cannot see it
   * @param actions `pick(point)`, `put(name, point)`, `point(point, byKeyboard)`, `clear()`
   */
  constructor(element, label, actions) {
    this.element = element;
    this.actions = actions;
    this.canvas = document.createElement("canvas");
    this.cross = made("span", "cross");
    this.marks = NAMES.map((name) => made("span", `mark mark-${name.toLowerCase()}`));
    element.replaceChildren(this.canvas, this.cross, ...this.marks);
    element.tabIndex = 0;
    element.setAttribute("role", "application");
    element.setAttribute("aria-label", `${label}. Arrow keys move a cross, Enter sets a point, Escape clears both`);
    element.addEventListener("click", (event) => actions.pick(this.#point(event)));
    element.addEventListener("keydown", (event) => this.#press(event));
    element.addEventListener("pointermove", (event) => this.#hover(event));
    element.addEventListener("pointerleave", () => actions.point(null, false));
    element.addEventListener("blur", () => actions.point(null, false));
    this.marks.forEach((mark, index) => this.#makeMovable(mark, NAMES[index]));
    this.cursor = null;
  }

  /** Show an image (anything that a canvas draws, or ImageData) of a size in pixels. */
  show(image, width, height) {
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d");
    if (image instanceof ImageData) {
      context.putImageData(image, 0, 0);
    } else {
      context.drawImage(image, 0, 0, width, height);
    }
  }

  /** Show the cross and the marks; each a point or null. */
  mark(cursor, points) {
    this.cursor = cursor;
    this.#place(this.cross, cursor);
    this.marks.forEach((mark, index) => this.#place(mark, points[NAMES[index]]));
  }

  #place(element, point) {
    element.hidden = point === null;
    if (point !== null) {
      element.style.left = `${(100 * (point.x + 0.5)) / this.canvas.width}%`;
      element.style.top = `${(100 * (point.y + 0.5)) / this.canvas.height}%`;
      element.classList.toggle("low", point.y < 0.2 * this.canvas.height); // its letter goes below
    }
  }

  #point(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.#inside(
      Math.floor(((event.clientX - box.left) / box.width) * this.canvas.width),
      Math.floor(((event.clientY - box.top) / box.height) * this.canvas.height),
    );
  }

  #inside(x, y) {
    const clamp = (value, length) => Math.min(length - 1, Math.max(0, value));
    return { x: clamp(x, this.canvas.width), y: clamp(y, this.canvas.height) };
  }

  #hover(event) {
    if (event.pointerType === "mouse" && event.buttons === 0) {
      this.actions.point(this.#point(event), false);
    }
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const middle = this.#inside(this.canvas.width >> 1, this.canvas.height >> 1);
    const at = this.cursor ?? middle;
    const letter = event.key.toUpperCase();
    if (event.key in KEYS) {
      const long = Math.max(this.canvas.width, this.canvas.height);
      const step = Math.max(1, Math.round(long / STEPS)) * (event.shiftKey ? FAR : 1);
      const [right, down] = KEYS[event.key];
      this.actions.point(this.#inside(at.x + right * step, at.y + down * step), true);
    } else if (event.key === "Enter" || event.key === " ") {
      this.actions.point(at, true);
      this.actions.pick(at);
    } else if (NAMES.includes(letter)) {
      this.actions.point(at, true);
      this.actions.put(letter, at);
    } else if (event.key === "Escape") {
      this.actions.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #makeMovable(mark, name) {
    mark.addEventListener("pointerdown", (event) => {
      mark.setPointerCapture(event.pointerId);
      event.preventDefault();
    });
    mark.addEventListener("pointermove", (event) => {
      if (mark.hasPointerCapture(event.pointerId)) {
        this.actions.put(name, this.#point(event));
      }
    });
    mark.addEventListener("click", (event) => event.stopPropagation()); // the end of a drag is no new point
  }
}

export function made(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
