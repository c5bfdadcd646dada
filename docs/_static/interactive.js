// What the interactive parts of pages share: their numbers, small makers of elements, axes, and what a
// browser keeps.
//
// A figure is SVG whose horizontal positions are percentages, so that it fits any width while its
// text and dots keep their size; a page's own script, `learn/<page>.js`, draws it. Nothing is fetched.
"use strict";

const interactive = {
  /** What a browser would not keep: it lasts as long as the page. */
  unkept: new Map(),

  /** Hand the place that the page keeps for a figure, and the numbers that lie there, to `draw`. */
  fill(name, draw) {
    const place = document.getElementById(name);
    if (place) place.append(draw(JSON.parse(place.querySelector("script").textContent)));
  },

  /** Make an element, of SVG or of HTML, with attributes and children (elements or text). */
  make(tag, attributes = {}, ...children) {
    const drawn = ["svg", "line", "rect", "circle", "text"].includes(tag);
    const element = drawn
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  },

  /** Make a button that does something. */
  button(text, act) {
    const made = interactive.make("button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  },

  /** Return what this browser has kept by that name, or something else if it has kept nothing. */
  recall(name, otherwise) {
    if (interactive.unkept.has(name)) return interactive.unkept.get(name);
    try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
  },

  /** Keep something in this browser, by a name; on this page alone if the browser is full or keeps nothing. */
  keep(name, value) {
    interactive.unkept.delete(name);
    try { localStorage.setItem(name, JSON.stringify(value)); } catch { interactive.unkept.set(name, value); }
  },

  /** Make a slider from a name, [min, max, step] and a value. */
  slider(name, [min, max, step], value) {
    return interactive.make("input", { type: "range", "aria-label": name, min, max, step, value });
  },

  /** Put a slider between its name and a place for its value. */
  labelled(slider) {
    const { make } = interactive;
    return make("label", {}, make("span", {}, slider.getAttribute("aria-label")), slider, make("span", { class: "value" }));
  },

  /** Make a panel: a title, numbers that are read out when they change, and a drawing with a name. */
  panel(title, name, height) {
    const { make } = interactive;
    const numbers = make("output", { "aria-live": "polite" });
    const drawing = make("svg", { role: "img", "aria-label": name, height });
    const heading = make("p", {}, make("strong", {}, title), " ", numbers);
    return { element: make("div", { class: "panel" }, heading, drawing), drawing, numbers };
  },

  /** Show a text, unless it is shown already: screen readers read out what changes. */
  say(output, text) {
    if (output.textContent !== text) output.textContent = text;
  },

  /** Return a number with a fixed count of decimals and a proper minus sign. */
  format(value, decimals = 2) {
    const text = value.toFixed(decimals);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  },

  /** Return where a value lies between the ends of an axis, as a percentage of the drawing. */
  scale(low, high) {
    return (value) => `${4 + (92 * (value - low)) / (high - low)}%`;
  },

  /** Return the line of an axis at height y, its ticks, and their labels above or below. */
  axis(low, high, ticks, y, labels = y + 22) {
    const { make, scale } = interactive;
    const at = scale(low, high);
    const marks = ticks.flatMap((tick) => [
      make("line", { class: "axis", x1: at(tick), x2: at(tick), y1: y - 3, y2: y + 3 }),
      make("text", { x: at(tick), y: labels }, String(tick).replace("-", "−")),
    ]);
    return [make("line", { class: "axis", x1: at(low), x2: at(high), y1: y, y2: y }), ...marks];
  },
};
