// The lab's worker: it trains two networks side by side and reports what it sees, up to 25 times a second.
//
// Both get the same kernels and the same batches. All of it is one function, as in network.js.
"use strict";

const labWorker = (library, scope) => {
  const { Network, SGD, Adam, random, kernels, shuffle } = library;
  const BINS = 40; // of a histogram
  const EDGE = 4; // it reaches from −EDGE to EDGE; what lies beyond is counted in the outer bins
  const SLICE = 12; // milliseconds of training between two looks at the messages
  const REPORT = 40; // … between two reports
  const MEASURE = 250; // … between two rounds of the clinic's measurements
  const KINDS = ["plain", "norm"];

  let settings, images, data, nets, order, at, draw, step, losses, scores, running, measures;
  let reported = 0;
  let measured = 0;
  let started = 0; // when the training went on, and from which step: for its speed
  let since = 0;

  /** Return the inputs of the networks, and which images they are trained on. */
  function prepare() {
    const { train, test, pixels, labels } = images;
    const features = pixels.length / (train + test);
    const mean = new Float64Array(features);
    const std = new Float64Array(features);
    for (let i = 0; i < train; i++) for (let j = 0; j < features; j++) mean[j] += pixels[i * features + j] / train;
    for (let i = 0; i < train; i++)
      for (let j = 0; j < features; j++) std[j] += (pixels[i * features + j] - mean[j]) ** 2 / train;
    const unit = { pixels: 1 / 255, standard: 1, hundredth: 0.01 }[settings.inputs];
    const x = Float64Array.from(pixels, (value, i) => {
      const j = i % features;
      return settings.inputs === "pixels" ? value * unit : (unit * (value - mean[j])) / Math.sqrt(std[j]);
    });
    const count = Math.min(settings.images, train);
    return {
      features, count, tested: test,
      x: x.subarray(0, count * features), y: labels.subarray(0, count),
      testX: x.subarray(train * features), testY: labels.subarray(train),
    };
  }

  function begin() {
    const { depth, scale, seed, gamma, beta, momentum, epsilon } = settings;
    data = prepare();
    const widths = [data.features, ...Array(depth).fill(64), images.classes];
    const first = kernels(widths, scale, random(seed));
    const options = { scale: gamma, center: beta, momentum, epsilon };
    nets = {};
    for (const kind of KINDS)
      nets[kind] = { network: new Network(first, { ...options, norm: kind === "norm" }), optimiser: optimiser(), diverged: null };
    draw = random(seed + 1e6); // the batches', whatever the kernels have drawn
    order = [];
    at = step = 0;
    losses = { plain: [], norm: [] };
    scores = [];
    measures = null;
    watch();
    for (const kind of KINDS) nets[kind].loss = nets[kind].network.gradients(...next(true), false);
    look();
  }

  const optimiser = () => new { sgd: SGD, adam: Adam }[settings.optimiser](settings.rate);

  /** Return the next batch, without taking it if it is only to be looked at. */
  function next(only = false) {
    const size = Math.min(settings.batch, data.count);
    const left = order.length - at;
    if (left < size && (left <= 0 || settings.remainder === "drop")) {
      order = shuffle([...Array(data.count).keys()], draw);
      at = 0;
    }
    const chosen = order.slice(at, at + size);
    if (!only) at += chosen.length;
    const x = new Float64Array(chosen.length * data.features);
    chosen.forEach((image, i) => x.set(data.x.subarray(image * data.features, (image + 1) * data.features), i * data.features));
    return [x, chosen.map((image) => data.y[image]), chosen.length];
  }

  function train() {
    const [x, y, m] = next();
    step++;
    for (const kind of KINDS) {
      const net = nets[kind];
      if (net.diverged !== null) {
        losses[kind].push(NaN);
        continue;
      }
      net.network.momentum = settings.momentum;
      net.optimiser.rate = settings.rate;
      net.loss = net.network.step(x, y, m, net.optimiser, kind === "norm" && settings.training === "moving");
      losses[kind].push(net.loss);
      if (!Number.isFinite(net.loss)) net.diverged = step;
    }
    if (step % Math.ceil(settings.steps / 40) === 0) look();
  }

  // --- what is looked at

  /** Return the scores of rows in requests of some size, in the way that the settings say. */
  function ask(network, x, rows, statistics, request) {
    const all = [];
    for (let from = 0; from < rows; from += request) {
      const count = Math.min(request, rows - from);
      const part = x.subarray(from * data.features, (from + count) * data.features);
      const answers = network.forward(part, count, statistics);
      for (let i = 0; i < count * images.classes; i++) all.push(answers[i]);
    }
    return all;
  }

  function accuracy(answers, labels) {
    let hits = 0;
    for (let i = 0; i < labels.length; i++) {
      const row = answers.slice(i * images.classes, (i + 1) * images.classes);
      hits += row.indexOf(Math.max(...row)) === labels[i];
    }
    return hits / labels.length;
  }

  const inUse = (population) => ({ moving: "moving", batch: "batch", population })[settings.use];
  const request = () => (settings.use === "batch" ? settings.request : data.tested);

  /** Note how often both networks are right on the test images. */
  function look() {
    const { plain, norm } = nets;
    const seen = { step };
    if (plain.diverged === null)
      seen.plain = accuracy(ask(plain.network, data.testX, data.tested, null, data.tested), data.testY);
    if (norm.diverged === null) {
      const population = norm.network.statistics(data.x, data.count);
      seen.norm = accuracy(ask(norm.network, data.testX, data.tested, inUse(population), request()), data.testY);
      seen.population = accuracy(ask(norm.network, data.testX, data.tested, population, data.tested), data.testY);
    }
    if (scores.length && scores[scores.length - 1].step === step) scores.pop();
    scores.push(seen);
  }

  /** Make the clinic's measurements on the normalised network. */
  function measure() {
    const { network, diverged } = nets.norm;
    measures = null;
    if (diverged !== null) return;
    const answers = ask(network, data.x, data.count, "batch", data.count);
    const population = network.layers.map((layer) => layer.used);
    const normed = network.layers.filter((layer) => layer.normed);
    const average = (layer, value) => {
      let sum = 0;
      for (let j = 0; j < layer.outputs; j++) sum += value(j);
      return sum / layer.outputs;
    };
    const gap = accuracy(answers, data.y) - accuracy(ask(network, data.x, data.count, "moving", data.count), data.y);
    const off = normed.map((layer, i) => average(layer, (j) => Math.abs(layer.mean[j] - population[i].mean[j]) / Math.sqrt(population[i].variance[j])));
    const ratio = normed.map((layer, i) => average(layer, (j) => layer.variance[j] / population[i].variance[j]));
    const spread = normed.map((layer, i) => Math.sqrt(average(layer, (j) => population[i].variance[j] / (population[i].variance[j] + network.epsilon))));
    const [asked, together] = [request(), data.tested].map((size) => ask(network, data.testX, data.tested, inUse(population), size));
    const apart = asked.reduce((most, value, i) => Math.max(most, Math.abs(value - together[i])), 0);
    measures = { gap, off, ratio, spread, apart };
  }

  /** Note what the next batch will do within both networks. */
  function watch() {
    const batch = next(true);
    for (const kind of KINDS) {
      const net = nets[kind];
      if (net.diverged !== null) continue;
      const frozen = kind === "norm" && settings.training === "moving";
      net.network.gradients(...batch, frozen);
      const m = batch[2];
      net.layers = net.network.layers.slice(0, -1).map(({ pre, delta, outputs }) => {
        const counts = new Array(BINS).fill(0);
        let [sum, squares, gradient] = [0, 0, 0];
        for (let i = 0; i < m * outputs; i++) {
          const value = pre[i];
          const bin = Math.floor(((value + EDGE) / (2 * EDGE)) * BINS);
          counts[Math.max(0, Math.min(BINS - 1, bin))]++;
          sum += value;
          squares += value * value;
          gradient += delta[i] * delta[i];
        }
        const mean = sum / (m * outputs);
        const std = Math.sqrt(Math.max(0, squares / (m * outputs) - mean * mean));
        return { counts, mean, std, gradient: Math.sqrt(gradient * m) };
      });
    }
  }

  function report(kind) {
    const now = performance.now();
    if (kind !== "report" || now - measured > MEASURE) {
      measure();
      measured = now;
    }
    watch();
    scope.postMessage({
      kind, step, losses, scores, measures, edge: EDGE,
      speed: running && step > since ? (1000 * (step - since)) / (now - started) : null,
      nets: Object.fromEntries(KINDS.map((name) => [name, { layers: nets[name].layers, loss: nets[name].loss, diverged: nets[name].diverged }])),
    });
    losses = { plain: [], norm: [] };
    scores = [];
    reported = now;
  }

  // --- the loop, which leaves room for messages

  const channel = new MessageChannel();
  channel.port1.onmessage = slice;
  let waiting = false; // for the next slice

  function later(pause) {
    if (waiting) return;
    waiting = true;
    if (pause) setTimeout(slice, pause);
    else channel.port2.postMessage(null);
  }

  function slice() {
    waiting = false;
    if (!running) return;
    const from = performance.now();
    const due = settings.pace ? since + ((from - started) * settings.pace) / 1000 : Infinity;
    const ended = () => step >= settings.steps || KINDS.every((kind) => nets[kind].diverged !== null);
    while (!ended() && step < due && performance.now() - from < SLICE) train();
    if (ended()) {
      look();
      running = false;
      report("ended");
    } else {
      if (performance.now() - reported > REPORT) report("report");
      later(step < due ? 0 : 8);
    }
  }

  const orders = {
    begin() {
      running = false;
      begin();
      report("begun");
    },
    set() {
      for (const kind of KINDS) nets[kind].network.epsilon = settings.epsilon;
      [started, since] = [performance.now(), step];
      if (running) return;
      look();
      report("seen");
    },
    run() {
      if (running) return;
      running = true;
      [started, since] = [performance.now(), step];
      later(0);
    },
    pause() {
      running = false;
      look();
      report("paused");
    },
    one() {
      running = false;
      train();
      look();
      report("paused");
    },
  };

  scope.onmessage = ({ data: order }) => {
    if (order.images) images = order.images;
    if (order.settings) settings = order.settings;
    orders[order.do]();
  };
};

if (typeof module !== "undefined") module.exports = labWorker;
