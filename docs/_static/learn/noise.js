// "Noise": many random batches of one size from a real population, and how their statistics, and
// the output of one image, scatter. The page has computed the population and what theory says.
"use strict";

interactive.fill("noise-figure", (data) => {
  const { make, slider, labelled, panel, say, format, scale, axis } = interactive;
  const BATCHES = 1000;
  const BINS = 50;
  const HEIGHT = 120; // of the axis under a histogram
  const { mean: center, std: unit } = data.population;

  /** Return a function that draws from the population: Marsaglia's xorshift, always alike for a seed. */
  function dealer(seed) {
    let state = seed;
    return () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return data.values[Math.floor(((state >>> 0) / 2 ** 32) * data.values.length)];
    };
  }

  function statistics(values) {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return { mean, variance: squares / values.length };
  }

  /** Draw batches of m and return their means, their standard deviations, and what becomes of an average image. */
  function experiment(m, seed) {
    const deal = dealer(seed);
    const found = { mean: [], std: [], output: [] };
    for (let i = 0; i < BATCHES; i++) {
      const batch = Array.from({ length: m }, deal);
      const { mean, variance } = statistics(batch);
      found.mean.push((mean - center) / unit);
      found.std.push(Math.sqrt(variance) / unit);
      batch[0] = center; // an average image takes the first place
      const company = statistics(batch);
      found.output.push((center - company.mean) / Math.sqrt(company.variance + data.epsilon));
    }
    return found;
  }

  const around = (truth, low, ticks, title, name) =>
    ({ ...panel(title, name, HEIGHT + 28), truth, low, high: ticks.at(-1), ticks });
  const panels = {
    mean: around(0, -2, [-2, -1, 0, 1, 2], "Batch mean", "Histogram of the batch means"),
    std: around(1, 0, [0, 0.5, 1, 1.5, 2], "Batch standard deviation", "Histogram of the batches' standard deviations"),
    output: around(0, -2, [-2, -1, 0, 1, 2], "Average image’s output", "Histogram of the outputs"),
  };
  const size = slider("batch size", [1, data.laws.length, 1], 3); // as a power of two
  const again = make("button", { type: "button" }, "Draw again");
  let seed = 1;

  function update() {
    const m = 2 ** size.valueAsNumber;
    const law = data.laws[size.valueAsNumber - 1];
    const found = experiment(m, seed);
    size.setAttribute("aria-valuetext", `${m} images`);
    say(size.nextSibling, String(m));
    for (const [name, { drawing, numbers, low, high, ticks, truth }] of Object.entries(panels)) {
      const { mean, variance } = statistics(found[name]);
      const at = scale(low, high);
      const rule = (type, value) => make("line", { class: type, x1: at(value), x2: at(value), y1: 4, y2: HEIGHT });
      drawing.replaceChildren(
        ...bars(found[name], low, high), ...axis(low, high, ticks, HEIGHT), rule("truth", truth),
        ...[-1, 1].map((side) => rule(m < data.holds[name] ? "law early" : "law", truth + side * law[name])),
      );
      const early = m < data.holds[name] ? ` (from ${data.holds[name]} on)` : "";
      say(numbers, `average ${format(mean)}\nscatter ${format(Math.sqrt(variance), 3)}\nlaw ${format(law[name], 3)}${early}`);
    }
  }

  function bars(values, low, high) {
    const counts = new Array(BINS).fill(0);
    for (const value of values) {
      const bin = Math.floor(((value - low) / (high - low)) * BINS);
      if (bin >= 0 && bin < BINS) counts[bin] += 1;
    }
    const most = Math.max(...counts);
    return counts.map((count, bin) => {
      const height = ((HEIGHT - 8) * count) / most;
      return make("rect", { class: "bar", x: `${4 + (92 * bin) / BINS}%`, width: `${92 / BINS}%`, y: HEIGHT - height, height });
    });
  }

  const form = make(
    "form", { autocomplete: "off" },
    make("div", { class: "buttons" }, labelled(size), again),
    make("div", { class: "panels" }, ...Object.values(panels).map(({ element }) => element)),
  );
  size.addEventListener("input", update);
  again.addEventListener("click", () => { seed += 1; update(); });
  update();
  return form;
});
