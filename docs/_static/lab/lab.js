// "A lab in the browser": what the reader sets and sees. A worker trains; nothing is fetched.
"use strict";

(() => {
  const place = document.getElementById("lab");
  if (!place) return;
  const { make, button } = interactive;
  const { NAMES, number, paper, curves, gradients, histograms } = labCharts;

  // --- what can be set; the values of a slider are those of the list

  const slider = (label, values, value, restarts = false, unit = "") => ({ label, values, value, restarts, unit });
  const choice = (label, options, value, restarts = false) => ({ label, options, value, restarts });
  const onOff = { on: "learned", off: "off" };
  const SETTINGS = {
    rate: slider("Learning rate", [1e-4, 3e-4, 0.001, 0.002, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10], 0.1),
    scale: slider("Initial scale", [0.01, 0.03, 0.1, 0.3, 1, 2, 3, 10], 1, true, "×"),
    depth: slider("Depth", [1, 2, 3, 4, 5, 6, 8, 10], 3, true),
    batch: slider("Batch size", [1, 2, 4, 8, 16, 32, 64, 100, 128], 32),
    momentum: slider("Momentum", [0, 0.5, 0.9, 0.95, 0.99, 0.999], 0.9),
    gamma: choice("γ", onOff, "on", true),
    beta: choice("β", onOff, "on", true),
    training: choice("Statistics in training", { batch: "the batch's", moving: "frozen" }, "batch"),
    use: choice("Statistics in use", { moving: "inference: moving", batch: "training: request's", population: "recomputed" }, "moving"),
    request: choice("Images in a request", { 1: "1", 10: "10", 50: "50", 250: "250" }, "250"),
    optimiser: choice("Optimiser", { sgd: "SGD", adam: "Adam" }, "sgd", true),
    inputs: choice("Inputs", { standard: "standardised", pixels: "pixels, 0 to 1", hundredth: "standardised, ÷ 100" }, "standard", true),
    images: choice("Training images", { 129: "129", 500: "500" }, "500", true),
    remainder: choice("Last, smaller batch", { drop: "left out", keep: "kept" }, "drop"),
    epsilon: choice("ε", { 0.001: "0.001 (Keras)", 0.00001: "0.00001 (PyTorch)", 1e-7: "0.0000001" }, "0.001"),
    seed: slider("Seed", [...Array(21).keys()], 0, true),
    pace: choice("Steps a second", { 0: "as many as possible", 10: "10", 30: "30", 100: "100" }, "0"),
    steps: choice("Stop after", { 60: "60 steps", 200: "200 steps", 1000: "1000 steps", 5000: "5000 steps" }, "1000"),
  };
  const FIRST = ["rate", "scale", "depth", "batch", "momentum", "gamma", "beta", "training", "use"];
  const NUMBERS = ["request", "images", "epsilon", "pace", "steps"]; // choices that are numbers

  // --- the clinic's measurements: what it says, and when it is healthy

  const TELLS = {
    gap: { label: "accuracy on the training images, training mode minus inference mode", of: (seen) => seen.measures?.gap, healthy: (value) => value < 0.1, digits: 2 },
    gradient: { label: "gradient below the first batch normalisation", of: (seen) => seen.nets.norm.layers[0].gradient, healthy: (value) => value > 1e-3, digits: 3 },
    ratio: { label: "moving variance over that of the population, first layer", of: (seen) => seen.measures?.ratio[0], healthy: (value) => value > 0.9 && value < 1.1, digits: 2 },
    apart: { label: "scores of the same images, asked for like this and all at once, differ by up to", of: (seen) => seen.measures?.apart, healthy: (value) => value < 0.01, digits: 3 },
    spread: { label: "standard deviation after the first normalisation, before γ", of: (seen) => seen.measures?.spread[0], healthy: (value) => value > 0.95 && value < 1.05, digits: 2 },
  };

  // --- state

  const start = Object.fromEntries(Object.entries(SETTINGS).map(([key, { value }]) => [key, value]));
  let settings = { ...start };
  let worker = null;
  let running = false;
  let seen = null; // the latest report
  let history = { plain: [], norm: [], scores: [] }; // losses and scores since the start
  let stale = 0; // how many starts have been asked for, and not begun
  let before = null; // … and those before the cure
  let ill = null; // the case that the lab was started from
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  // --- the controls

  const controls = Object.fromEntries(Object.entries(SETTINGS).map(([key, one]) => [key, control(key, one)]));

  function control(key, { label, values, options, unit }) {
    if (options) {
      const select = make("select", { name: key }, ...Object.entries(options).map(([value, text]) => make("option", { value }, text)));
      select.addEventListener("change", () => change(key, select.value));
      return { element: make("label", {}, make("span", {}, label), select), show: (value) => { select.value = String(value); } };
    }
    const input = make("input", { type: "range", name: key, "aria-label": label, min: 0, max: values.length - 1, step: 1 });
    const shown = make("span", { class: "value" });
    input.addEventListener("input", () => change(key, values[input.valueAsNumber]));
    const show = (value) => {
      input.value = values.indexOf(value);
      shown.textContent = (unit ?? "") + value;
      input.setAttribute("aria-valuetext", shown.textContent);
    };
    return { element: make("label", {}, make("span", {}, label), input, shown), show };
  }

  const group = (name, keys) => make("fieldset", {}, make("legend", {}, name), ...keys.map((key) => controls[key].element));

  // --- what is shown

  const swatch = (kind, text) => make("span", { class: `key ${kind}` }, text);
  const chart = (name, title, height, ...keys) => {
    const canvas = make("canvas", { role: "img", "aria-label": `${title}; the numbers are in the table below` });
    canvas.style.height = `${height}px`;
    return { canvas, element: make("div", { class: `panel ${name}` }, make("p", {}, make("strong", {}, title)), make("p", { class: "keys" }, ...keys), canvas) };
  };
  const both = () => [swatch("plain", "without"), swatch("norm", "with"), swatch("norm ghost", "before the cure")];
  const charts = {
    loss: chart("loss", "Training loss", 170, ...both()),
    accuracy: chart("accuracy", "Right on test images", 170, swatch("plain", "without"), swatch("norm use", "with"), swatch("norm", "recomputed"), swatch("norm ghost", "before the cure")),
    gradient: chart("gradient", "Gradient at each layer", 170, ...both().slice(0, 2)),
    plain: chart("histogram", "What ReLU is given, without", 200),
    norm: chart("histogram", "What ReLU is given, with", 200),
  };
  const status = make("output", { class: "status", "aria-live": "off" });
  const spoken = make("p", { class: "spoken", role: "status" });
  const complaint = make("p", { class: "complaint", role: "alert" });
  const table = make("table", {});
  const note = make("div", { class: "note", hidden: "" });
  const go = button("Train", () => (running ? send("pause") : train()));
  const buttons = make("div", { class: "buttons" }, go, button("One step", () => { wake(); send("one"); }), button("Start again", () => begin()), status);
  const cases = new Map([...document.querySelectorAll(".lab-case")].map((element) => [element.dataset.name, element]));
  const heading = (element) => element.closest("section").querySelector("h2, h3").firstChild.textContent.trim();
  const presets = make(
    "div", { class: "presets", role: "group", "aria-label": "Start from" },
    button("Healthy", () => adopt(null)), ...[...cases].map(([name, element]) => button(heading(element), () => adopt(name))),
  );
  const more = make("details", {}, make("summary", {}, "More settings"), group("The rest", Object.keys(SETTINGS).filter((key) => !FIRST.includes(key))));
  const form = make(
    "form", { autocomplete: "off", class: "lab" },
    presets, note, complaint,
    make("details", { class: "settings", open: "" }, make("summary", {}, "Settings"),
      make("div", { class: "groups" }, group("Both networks", FIRST.slice(0, 4)), group("Batch normalisation", FIRST.slice(4))), more),
    buttons, spoken,
    make("div", { class: "panels" }, ...Object.values(charts).map((one) => one.element)),
    make("details", { class: "numbers" }, make("summary", {}, "The same in numbers"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The same in numbers" }, table)),
  );
  form.addEventListener("submit", (event) => event.preventDefault());

  // --- the worker

  function wake() {
    if (worker) return;
    const text = `"use strict"; (${labWorker})((${labNetwork})(), self);`;
    const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    worker = new Worker(address);
    worker.onmessage = ({ data }) => hear(data);
    worker.onerror = () => { complaint.textContent = "The lab has stopped by mistake: load the page again."; };
    const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const images = { ...labImages, pixels: bytes(labImages.pixels), labels: Uint8Array.from(labImages.labels) };
    worker.postMessage({ do: "begin", images, settings: forWorker() });
    stale++;
  }

  const fresh = () => ({ plain: [], norm: [], scores: [] });
  const forWorker = () => ({ ...settings, ...Object.fromEntries(NUMBERS.map((key) => [key, Number(settings[key])])), gamma: settings.gamma === "on", beta: settings.beta === "on" });
  const send = (order) => worker?.postMessage({ do: order, settings: forWorker() });

  function train() {
    wake();
    if (seen && seen.step >= Number(settings.steps)) begin();
    state(true);
    say(`Training: ${settings.steps} steps at most.`);
    send("run");
  }

  function begin() {
    if (!worker) return;
    stale++;
    state(false);
    send("begin");
  }

  function state(trains) {
    running = trains;
    go.textContent = trains ? "Pause" : "Train";
  }

  function change(key, value) {
    complaint.textContent = "";
    settings[key] = value;
    before = null;
    apply([key]);
  }

  /** Make the settings true: show them, link to them, and hand them on. */
  function apply(keys) {
    for (const [key, one] of Object.entries(controls)) one.show(settings[key]);
    if (worker) hand(keys);
    link();
  }

  /** Hand settings on to the networks; some of them need new ones. */
  function hand(keys) {
    const trains = running;
    if (!keys.some((key) => SETTINGS[key].restarts)) return send("set");
    begin();
    if (trains) train();
  }

  function hear(report) {
    if (report.kind === "begun") stale--;
    if (stale) return; // it is of networks that are gone
    if (report.kind === "begun") history = fresh();
    for (const kind of Object.keys(NAMES)) history[kind].push(...report.losses[kind]);
    for (const score of report.scores) {
      if (history.scores.at(-1)?.step === score.step) history.scores.pop();
      history.scores.push(score);
    }
    seen = report;
    const halted = { ended: "Ended", paused: "Paused" }[report.kind];
    if (halted || report.kind === "report") state(!halted);
    if (halted) say(`${halted} after ${report.step} steps. ${summary()}`);
    else if (report.kind === "report" && performance.now() - said > 10000) say(`Step ${report.step}. ${summary()}`);
    ask(report.kind !== "report");
  }

  // --- words

  let said = 0;
  function say(text) {
    said = performance.now();
    interactive.say(spoken, text);
  }

  const percent = (value) => (value === undefined ? "–" : `${Math.round(100 * value)} %`);
  function word(kind) {
    const { diverged, layers } = seen.nets[kind];
    if (diverged !== null) return `diverged at step ${diverged}: its loss is no number any more`;
    if (layers[0].gradient === 0) return "no gradient reaches its first layer";
    return "";
  }
  function summary() {
    const last = history.scores.at(-1) ?? {};
    return Object.keys(NAMES).map((kind) => word(kind) ? `${NAMES[kind]}: ${word(kind)}` : `${NAMES[kind]}: loss ${number(seen.nets[kind].loss)}, ${percent(last[kind])} right on test images`).join("; ") + ".";
  }

  // --- drawing

  let asked = false;
  let drawn = 0;
  let tabled = 0;
  const SLOW = 2000; // milliseconds between two drawings, for readers who asked for less motion

  function ask(now = false) {
    if (asked || (still.matches && !now && performance.now() - drawn < SLOW)) return;
    asked = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    asked = false;
    if (!seen) return Object.values(charts).forEach(({ canvas }) => paper(canvas, colours()).pen.fillText("Press “Train”.", 8, canvas.clientHeight / 2));
    drawn = performance.now();
    form.dataset.drawn = Number(form.dataset.drawn ?? 0) + 1;
    form.classList.toggle("cured", before !== null);
    const ink = colours();
    const end = Math.max(Number(settings.steps), seen.step);
    curves(charts.loss.canvas, ink, { ticks: [0, 1, 2, 3] }, lossLines(end), end, seen.nets);
    curves(charts.accuracy.canvas, ink, { ticks: [0, 0.2, 0.4, 0.6], label: percent }, scoreLines(), end, seen.nets);
    gradients(charts.gradient.canvas, ink, seen.nets);
    for (const kind of Object.keys(NAMES)) histograms(charts[kind].canvas, ink, kind, seen.nets[kind], seen.edge);
    const speed = seen.speed && running ? `, ${Math.round(seen.speed)} a second` : "";
    status.textContent = `step ${seen.step}${speed}`;
    tell();
    if (!running || drawn - tabled > 500) fillTable();
  }

  function colours() {
    const style = getComputedStyle(form);
    const of = (name) => style.getPropertyValue(name).trim();
    return { text: of("--pst-color-text-base"), muted: of("--pst-color-text-muted"), line: of("--pst-color-border"), plain: of("--plain"), norm: of("--batch"), font: `12px ${style.fontFamily}` };
  }

  /** Put losses into some 160 bins, and average each. */
  function lossLines(end) {
    const size = Math.ceil(end / 160);
    const line = (values) => {
      const points = [];
      for (let i = 0; i < values.length; i += size) {
        const part = values.slice(i, i + size);
        points.push([i + (part.length + 1) / 2, part.reduce((sum, value) => sum + value, 0) / part.length]);
      }
      return points;
    };
    return lines((data, kind) => line(data[kind]), ["plain", "norm"]);
  }

  function scoreLines() {
    const points = (data, key) => data.scores.filter((score) => score[key] !== undefined).map((score) => [score.step, score[key]]);
    return lines(points, ["plain", "population", "norm"]);
  }

  function lines(points, keys) {
    const dashes = { norm: keys.length > 2 ? [5, 3] : [] };
    const now = keys.map((key) => ({ colour: key === "plain" ? "plain" : "norm", dash: dashes[key] ?? [], width: key === "population" ? 1.2 : 2, points: points(history, key) }));
    if (!before) return now;
    return [{ colour: "norm", dash: [1, 3], width: 1.5, points: points(before, "norm") }, ...now];
  }

  function fillTable() {
    tabled = performance.now();
    const last = history.scores.at(-1) ?? {};
    const row = (name, ...cells) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell)));
    const kinds = Object.keys(NAMES);
    const nets = kinds.map((kind) => seen.nets[kind]);
    const of = (layer, name) => nets.map((net) => (net.diverged !== null ? "–" : number(net.layers[layer][name], 3)));
    const rows = [row("State", ...kinds.map((kind) => word(kind) || (running ? "training" : "at rest"))), row("Loss of the latest batch", ...nets.map((net) => number(net.loss, 3))), row("Right on test images", percent(last.plain), percent(last.norm)), row("… with statistics recomputed", "", percent(last.population))];
    const { measures } = seen;
    for (let layer = 0; layer < nets[0].layers.length; layer++) {
      rows.push(row(`Layer ${layer + 1}: mean that ReLU is given`, ...of(layer, "mean")), row(`Layer ${layer + 1}: standard deviation`, ...of(layer, "std")), row(`Layer ${layer + 1}: gradient`, ...of(layer, "gradient")));
      if (measures) rows.push(row(`Layer ${layer + 1}: moving mean off by, in deviations`, "", number(measures.off[layer], 3)), row(`Layer ${layer + 1}: moving variance over the population's`, "", number(measures.ratio[layer], 3)));
    }
    table.replaceChildren(make("thead", {}, make("tr", {}, make("th", { scope: "col" }, `Step ${seen.step}`), make("th", { scope: "col" }, "without"), make("th", { scope: "col" }, "with"))), make("tbody", {}, ...rows));
  }

  // --- the clinic's cases

  const parse = (text) => Object.fromEntries(text.split(/\s+/).map((pair) => pair.split("=")));
  const told = make("p");
  const verdict = make("p", { class: "verdict-line" });
  const cure = button("Cure it", heal);

  function adopt(name, goes = true, others = {}) {
    complaint.textContent = "";
    ill = cases.get(name) ?? null;
    settings = { ...start, ...typed(ill ? parse(ill.dataset.settings) : others) };
    before = null;
    note.hidden = !ill;
    [...presets.children].forEach((one, i) => one.setAttribute("aria-pressed", String([null, ...cases.keys()][i] === name)));
    if (ill) {
      const [key, value] = Object.entries(parse(ill.dataset.cure))[0];
      cure.textContent = `Cure it: ${describe(key, value)}`;
      cure.disabled = false;
      told.replaceChildren(make("strong", {}, "Ill: "), ill.querySelector("p").textContent);
      verdict.textContent = "Train, and look at the measurement.";
      note.replaceChildren(told, verdict, cure);
    }
    apply(Object.keys(settings));
    if (goes) train();
  }

  function describe(key, value) {
    const { label, options } = SETTINGS[key];
    return `${label.toLowerCase()} → ${options ? options[value] : value}`;
  }

  function heal() {
    const changed = typed(parse(ill.dataset.cure));
    const kept = history;
    Object.assign(settings, changed);
    cure.disabled = true;
    apply([]);
    begin();
    before = kept;
    train();
    go.focus({ preventScroll: true });
  }

  function tell() {
    if (!ill) return;
    const one = TELLS[ill.dataset.tell];
    const value = seen.nets.norm.diverged === null && seen.step > 0 ? one.of(seen) : undefined;
    if (value === undefined) return;
    verdict.textContent = `Measured: ${one.label}: ${number(value, one.digits)}, ${one.healthy(value) ? "healthy" : "ill"}.`;
    verdict.dataset.healthy = one.healthy(value);
  }

  // --- the address keeps the settings

  let linking;
  function link() {
    clearTimeout(linking); // a slider changes often, and Safari takes only 100 addresses in half a minute
    linking = setTimeout(() => {
      const changed = Object.keys(settings).filter((key) => settings[key] !== start[key]);
      const text = changed.map((key) => `${key}=${settings[key]}`).join("&");
      window.history.replaceState(null, "", text ? `#${text}` : window.location.pathname + window.location.search);
    }, 300);
  }

  /** Return settings as they should be, of texts; and complain of what the lab does not have. */
  function typed(texts) {
    const found = {};
    for (const [key, text] of Object.entries(texts)) {
      const one = Object.hasOwn(SETTINGS, key) ? SETTINGS[key] : { values: [] };
      const value = one.values ? one.values.find((each) => each === Number(text)) : Object.keys(one.options).find((each) => each === text);
      if (value === undefined) complaint.textContent += `The address asks for ${key}=${text}, which the lab does not have. `;
      else found[key] = value;
    }
    return found;
  }

  function follow() {
    const text = window.location.hash.slice(1);
    const label = text.match(/^lab-case-(.+)$/);
    if (label && cases.has(label[1])) {
      adopt(label[1], false);
      form.scrollIntoView();
    } else if (text.includes("=")) {
      adopt("", false, Object.fromEntries(text.split("&").map((pair) => pair.split("="))));
    }
  }

  // --- begin

  place.append(form);
  if (matchMedia("(max-width: 576px)").matches) form.querySelector(".settings").open = false;
  for (const [key, one] of Object.entries(controls)) one.show(settings[key]);
  for (const [name, element] of cases) {
    const show = button("Make it ill in the lab", () => { adopt(name); form.scrollIntoView({ behavior: still.matches ? "auto" : "smooth" }); });
    element.append(make("div", { class: "interactive" }, show));
  }
  addEventListener("hashchange", follow);
  new ResizeObserver(() => ask(true)).observe(form);
  new MutationObserver(() => ask(true)).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  follow();
})();
