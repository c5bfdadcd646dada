// "Move the batch": six numbers, and what batch normalisation makes of them with three kinds of
// statistics. The formulas are those of bn_tutorial/scratch/numpy_bn.py; the tests compare the two.
"use strict";

interactive.fill("move-figure", (data) => {
  const { make, slider, labelled, panel, say, format, scale, axis } = interactive;
  const [low, high] = data.range;
  const TOP = 30; // heights of the two axes of a panel
  const BOTTOM = 104;
  const LIMIT = 4; // both axes run from here to there, so that what keeps its value keeps its place
  const LAST = data.x.length - 1;

  // --- the arithmetic

  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function batchStatistics(x) {
    const mean = average(x);
    return { mean, variance: average(x.map((value) => (value - mean) ** 2)) };
  }

  function oneStep(moving, batch) {
    const step = (old, now) => data.momentum * old + (1 - data.momentum) * now;
    return { mean: step(moving.mean, batch.mean), variance: step(moving.variance, batch.variance) };
  }

  function normalise(value, { mean, variance }, gamma, beta) {
    return (gamma * (value - mean)) / Math.sqrt(variance + data.epsilon) + beta;
  }

  // --- the controls

  const start = { mean: 0, variance: 1 };
  const titles = { batch: "This batch", moving: "Moving", population: "Population" };
  const kinds = Object.keys(titles);
  let moving = start;
  let steps = 0;
  let chosen = LAST; // the example that was moved last; at first the one that the text moves

  const examples = data.x.map((value, i) => slider(`example ${i + 1}`, [low, high, data.step], value));
  const gamma = slider("γ", [0, 3, 0.1], 1);
  const beta = slider("β", [-3, 3, 0.1], 0);
  const controls = [...examples, gamma, beta].map(labelled);

  const panels = {};
  for (const kind of kinds)
    panels[kind] = panel(titles[kind], `From inputs to outputs: ${titles[kind].toLowerCase()}`, BOTTOM + 24);

  const trained = make("output", { "aria-live": "polite" });
  const buttons = make(
    "div", { class: "buttons" },
    button("Update the moving statistics", () => train(1)), button("… 100 times", () => train(100)),
    button("Start again", () => { form.reset(); moving = start; steps = 0; chosen = LAST; }),
    trained,
  );
  function button(text, act) {
    return interactive.button(text, () => { act(); update(); });
  }
  function train(count) {
    const batch = batchStatistics(inputs());
    for (let i = 0; i < count; i++) moving = oneStep(moving, batch);
    steps += count;
  }

  const cells = {}; // of the table, by the name of the row
  for (const row of ["Input", ...kinds]) cells[row] = data.x.map(() => make("td"));
  const table = make(
    "table", {},
    make("caption", {}, "Outputs by the statistics used"),
    make("tr", {}, make("th", { scope: "col" }, "Example"), ...data.x.map((_, i) => make("th", { scope: "col" }, String(i + 1)))),
    ...Object.keys(cells).map((row) => make("tr", {}, make("th", { scope: "row" }, titles[row] ?? row), ...cells[row])),
  );

  const form = make(
    "form", { autocomplete: "off" },
    make("div", { class: "panels" }, ...kinds.map((kind) => panels[kind].element)),
    make("div", { class: "sliders" }, ...controls),
    buttons,
    table,
  );

  // --- what is shown

  const inputs = () => examples.map((control) => control.valueAsNumber);
  const at = { batch: batchStatistics(data.x), moving: start, population: data.population };
  const outputsAtStart = (kind) => data.x.map((value) => normalise(value, at[kind], 1, 0));

  function update() {
    const x = inputs();
    const [scaling, shift] = [gamma.valueAsNumber, beta.valueAsNumber];
    const used = { batch: batchStatistics(x), moving, population: data.population };
    const outputs = (kind) => x.map((value) => normalise(value, used[kind], scaling, shift));

    for (const kind of kinds) {
      const y = outputs(kind);
      const { mean, variance } = used[kind];
      const ruler = [mean - Math.sqrt(variance), mean + Math.sqrt(variance)];
      const image = ruler.map((value) => normalise(value, used[kind], scaling, shift));
      draw(panels[kind].drawing, kind, x, y, ruler, image);
      say(panels[kind].numbers, `mean ${format(mean)}, variance ${format(variance)}`);
      cells[kind].forEach((cell, i) => say(cell, format(y[i])));
    }
    cells.Input.forEach((cell, i) => say(cell, format(x[i])));
    for (const control of examples) say(control.nextSibling, format(control.valueAsNumber));
    for (const control of [gamma, beta]) say(control.nextSibling, format(control.valueAsNumber, 1));
    say(trained, steps === 1 ? "1 update so far" : `${steps} updates so far`);
  }

  /** Draw the inputs above, the outputs below, and the ruler (mean ± standard deviation) on both. */
  function draw(drawing, kind, x, y, ruler, image) {
    const inside = (value) => Math.max(-LIMIT, Math.min(LIMIT, value));
    const at = (value) => scale(-LIMIT, LIMIT)(inside(value));
    const line = (type, from, to) =>
      make("line", { class: type, x1: at(from), y1: TOP, x2: at(to), y2: BOTTOM });
    const bar = ([from, to], height) => {
      const width = `${parseFloat(at(to)) - parseFloat(at(from))}%`;
      return make("rect", { class: `ruler ${kind}`, x: at(from), width, y: height - 8, height: 16 });
    };
    const dot = (type, value, height, r) => make("circle", { class: type, cx: at(value), cy: height, r });
    const order = [...data.x.keys()].sort((i, j) => (i === chosen) - (j === chosen)); // it lies on top
    const dots = (values, height) =>
      order.flatMap((i) => [
        dot(i === chosen ? "dot chosen" : "dot", values[i], height, 7),
        make("text", { class: "number", x: at(values[i]), y: height }, String(i + 1)),
      ]);
    const beyond = [-1, 1].flatMap((side) => {
      const out = y.filter((value) => side * value > LIMIT).length; // what the axis has no room for
      const place = { class: "name", x: at(side * LIMIT), y: BOTTOM - 13, style: `text-anchor: ${side < 0 ? "start" : "end"}` };
      return out ? [make("text", place, side < 0 ? `◂ ${out} beyond` : `${out} beyond ▸`)] : [];
    });
    const ticks = [-4, -3, -2, -1, 0, 1, 2, 3, 4];
    drawing.replaceChildren(
      make("text", { class: "name", x: 0, y: TOP + 22 }, "input"),
      make("text", { class: "name", x: 0, y: BOTTOM - 26 }, "output"),
      ...axis(-LIMIT, LIMIT, ticks, TOP, TOP - 14),
      ...axis(-LIMIT, LIMIT, ticks, BOTTOM),
      bar(ruler, TOP), bar(image, BOTTOM),
      ...ruler.map((end, i) => line(`edge ${kind}`, end, image[i])),
      ...x.map((value, i) => line(i === chosen ? "path chosen" : "path", value, y[i])),
      ...dots(x, TOP), ...dots(y, BOTTOM),
      ...outputsAtStart(kind).map((value) => dot("ring", value, BOTTOM, 9)),
      make("text", { x: at(x[chosen]), y: TOP + 20 }, `example ${chosen + 1}`),
      ...beyond,
    );
  }

  // --- what the reader does

  examples.forEach((control, i) => {
    for (const event of ["input", "focus"])
      control.addEventListener(event, () => { chosen = i; update(); });
  });
  for (const control of [gamma, beta]) control.addEventListener("input", update);

  // a dot on an upper axis can be dragged, too; the sliders do the same for the keyboard
  for (const { drawing } of Object.values(panels)) {
    const valueAt = (event) => {
      const box = drawing.getBoundingClientRect();
      return LIMIT * (2 * (((event.clientX - box.left) / box.width - 0.04) / 0.92) - 1);
    };
    drawing.addEventListener("pointerdown", (event) => {
      if (event.clientY - drawing.getBoundingClientRect().top > (TOP + BOTTOM) / 2) return;
      const distances = inputs().map((value) => Math.abs(value - valueAt(event)));
      const nearest = Math.min(...distances);
      if (nearest > 0.1 * (high - low)) return;
      chosen = distances.indexOf(nearest);
      drawing.setPointerCapture(event.pointerId);
    });
    drawing.addEventListener("pointermove", (event) => {
      if (!drawing.hasPointerCapture(event.pointerId)) return;
      examples[chosen].value = valueAt(event); // the slider rounds it to its steps and its ends
      update();
    });
  }

  update();
  return form;
});
