// The lab's arithmetic: a dense network with or without batch normalisation, trained by SGD or Adam.
//
// It equals bn_tutorial/scratch/dense.py, which the tests hold it against. A matrix is a Float64Array, row
// after row. All of it is one function, so that a worker can be made from its text, also on a page that
// was opened from disk, where a worker's file could not be loaded.
"use strict";

const labNetwork = () => {
  // --- products of matrices

  /**
   * y[m × n] = a · b + bias, where a(i, p) lies at a[i · down + p · right], b is [k × n] and bias may be null.
   * Two rows and four columns at a time: the eight sums stay in the processor's registers.
   */
  function product(a, down, right, b, bias, y, m, k, n) {
    const rows = m - (m % 2);
    const columns = n - (n % 4);
    for (let j = 0; j < columns; j += 4) {
      const z0 = bias ? bias[j] : 0, z1 = bias ? bias[j + 1] : 0;
      const z2 = bias ? bias[j + 2] : 0, z3 = bias ? bias[j + 3] : 0;
      for (let i = 0; i < rows; i += 2) {
        let s0 = z0, s1 = z1, s2 = z2, s3 = z3, t0 = z0, t1 = z1, t2 = z2, t3 = z3;
        for (let p = 0, of = i * down, at = j; p < k; p++, of += right, at += n) {
          const u = a[of], v = a[of + down];
          const b0 = b[at], b1 = b[at + 1], b2 = b[at + 2], b3 = b[at + 3];
          s0 += u * b0; s1 += u * b1; s2 += u * b2; s3 += u * b3;
          t0 += v * b0; t1 += v * b1; t2 += v * b2; t3 += v * b3;
        }
        const at = i * n + j;
        y[at] = s0; y[at + 1] = s1; y[at + 2] = s2; y[at + 3] = s3;
        y[at + n] = t0; y[at + n + 1] = t1; y[at + n + 2] = t2; y[at + n + 3] = t3;
      }
    }
    for (let i = 0; i < m; i++)
      for (let j = i < rows ? columns : 0; j < n; j++) {
        let sum = bias ? bias[j] : 0;
        for (let p = 0; p < k; p++) sum += a[i * down + p * right] * b[p * n + j];
        y[i * n + j] = sum;
      }
  }

  /** y = wᵀ, where w is [k × n]. */
  function transpose(w, y, k, n) {
    for (let p = 0; p < k; p++) for (let j = 0; j < n; j++) y[j * k + p] = w[p * n + j];
  }

  // --- batch normalisation: bn_tutorial/scratch/numpy_bn.py

  /** Return mean and biased variance of each of n features over m rows. */
  function moments(h, m, n) {
    const mean = new Float64Array(n);
    const variance = new Float64Array(n);
    for (let at = 0; at < m * n; ) for (let j = 0; j < n; j++) mean[j] += h[at++];
    for (let j = 0; j < n; j++) mean[j] /= m;
    for (let at = 0; at < m * n; )
      for (let j = 0; j < n; j++) {
        const d = h[at++] - mean[j];
        variance[j] += d * d;
      }
    for (let j = 0; j < n; j++) variance[j] /= m;
    return { mean, variance };
  }

  /** Normalise h into normalised, and scale and shift that into y. */
  function normalise(h, { mean, variance }, gamma, beta, epsilon, normalised, y, m, n) {
    const inverse = variance.map((value) => 1 / Math.sqrt(value + epsilon));
    for (let at = 0; at < m * n; )
      for (let j = 0; j < n; j++, at++) {
        normalised[at] = (h[at] - mean[j]) * inverse[j];
        y[at] = gamma[j] * normalised[at] + beta[j];
      }
    return inverse;
  }

  /** Carry the gradient d back to h, in place, and to γ and β; frozen statistics do not depend on h. */
  function normaliseBack(d, normalised, gamma, inverse, frozen, forGamma, forBeta, m, n) {
    forGamma.fill(0);
    forBeta.fill(0);
    for (let at = 0; at < m * n; )
      for (let j = 0; j < n; j++, at++) {
        forGamma[j] += d[at] * normalised[at];
        forBeta[j] += d[at];
      }
    for (let at = 0; at < m * n; )
      for (let j = 0; j < n; j++, at++) {
        const through = frozen ? 0 : (forBeta[j] + normalised[at] * forGamma[j]) / m;
        d[at] = gamma[j] * inverse[j] * (d[at] - through);
      }
  }

  // --- the network

  class Network {
    /** Make a network from its kernels, [{ values, inputs, outputs }, …]; the last gives the scores. */
    constructor(kernels, { norm = true, scale = true, center = true, momentum = 0.99, epsilon = 1e-3 } = {}) {
      Object.assign(this, { norm, momentum, epsilon, depth: kernels.length - 1, weights: {}, room: 0 });
      this.layers = kernels.map(({ values, inputs, outputs }, i) => {
        const normed = norm && i < this.depth;
        const layer = {
          inputs, outputs, normed,
          gamma: new Float64Array(outputs).fill(1), beta: new Float64Array(outputs),
          forGamma: new Float64Array(outputs), forBeta: new Float64Array(outputs), bias: null,
          mean: new Float64Array(outputs), variance: new Float64Array(outputs).fill(1), // moving
        };
        const weight = (name, value, gradient = new Float64Array(value.length)) => {
          layer[name] = value;
          this.weights[`${name} ${i}`] = { value, gradient };
        };
        weight("kernel", Float64Array.from(values));
        layer.transposed = new Float64Array(values.length);
        if (!normed) weight("bias", new Float64Array(outputs), layer.forBeta);
        if (normed && scale) weight("gamma", layer.gamma, layer.forGamma);
        if (normed && center) weight("beta", layer.beta, layer.forBeta);
        return layer;
      });
    }

    /** Make room for m rows. */
    reserve(m) {
      if (m <= this.room) return;
      this.room = m;
      for (const layer of this.layers) {
        const size = m * layer.outputs;
        for (const name of ["h", "normalised", "y", "out", "delta"]) layer[name] = new Float64Array(size);
      }
    }

    /**
     * Return the scores of m rows, which the next call overwrites. What normalises them: "batch", "moving",
     * or a list of { mean, variance } for the layers.
     */
    forward(x, m, statistics) {
      this.reserve(m);
      let inputs = x;
      this.layers.forEach((layer, i) => {
        const { outputs: n, h, y, out } = layer;
        layer.x = inputs;
        product(inputs, layer.inputs, 1, layer.kernel, layer.bias, h, m, layer.inputs, n);
        if (i === this.depth) return;
        layer.pre = h; // what ReLU is given
        if (layer.normed) {
          layer.pre = y;
          if (statistics === "batch") layer.used = moments(h, m, n);
          else layer.used = statistics === "moving" ? layer : statistics[i];
          layer.inverse = normalise(h, layer.used, layer.gamma, layer.beta, this.epsilon, layer.normalised, y, m, n);
        }
        for (let at = 0; at < m * n; at++) out[at] = layer.pre[at] > 0 ? layer.pre[at] : 0;
        inputs = out;
      });
      return this.layers[this.depth].h;
    }

    /** Return the mean cross-entropy of m rows, and put gradients beside all weights. */
    gradients(x, labels, m, frozen = false) {
      const scores = this.forward(x, m, frozen ? "moving" : "batch");
      const last = this.layers[this.depth];
      let loss = 0;
      for (let i = 0; i < m; i++) {
        const row = i * last.outputs;
        let [highest, sum] = [-Infinity, 0];
        for (let j = 0; j < last.outputs; j++) if (!(scores[row + j] <= highest)) highest = scores[row + j];
        for (let j = 0; j < last.outputs; j++) sum += last.delta[row + j] = Math.exp(scores[row + j] - highest);
        for (let j = 0; j < last.outputs; j++) last.delta[row + j] /= sum * m;
        last.delta[row + labels[i]] -= 1 / m;
        loss += Math.log(sum) - (scores[row + labels[i]] - highest);
      }
      for (let i = this.depth; i >= 0; i--) this.back(i, m, frozen);
      return loss / m;
    }

    /** Carry the gradient of layer i's output to its weights and to the layer before. */
    back(i, m, frozen) {
      const layer = this.layers[i];
      const { delta, inputs: k, outputs: n } = layer;
      if (i < this.depth) {
        for (let at = 0; at < m * n; at++) if (!(layer.pre[at] > 0)) delta[at] = 0;
        if (layer.normed)
          normaliseBack(delta, layer.normalised, layer.gamma, layer.inverse, frozen, layer.forGamma, layer.forBeta, m, n);
      }
      if (layer.bias) {
        layer.forBeta.fill(0);
        for (let at = 0; at < m * n; ) for (let j = 0; j < n; j++) layer.forBeta[j] += delta[at++];
      }
      product(layer.x, 1, k, delta, null, this.weights[`kernel ${i}`].gradient, k, m, n);
      if (i === 0) return;
      transpose(layer.kernel, layer.transposed, k, n);
      product(delta, n, 1, layer.transposed, null, this.layers[i - 1].delta, m, n, k);
    }

    /** Train on m rows; return the loss before the step. */
    step(x, labels, m, optimiser, frozen = false) {
      const loss = this.gradients(x, labels, m, frozen);
      optimiser.update(this.weights);
      if (!frozen)
        for (const layer of this.layers)
          if (layer.normed)
            for (const name of ["mean", "variance"])
              for (let j = 0; j < layer.outputs; j++)
                layer[name][j] = layer[name][j] * this.momentum + layer.used[name][j] * (1 - this.momentum);
      return loss;
    }

    /** Return the statistics that each normalised layer has on m rows: those of the population, if these are it. */
    statistics(x, m) {
      this.forward(x, m, "batch");
      return this.layers.map((layer) => layer.used);
    }
  }

  // --- optimisers, with Keras's constants

  class SGD {
    constructor(rate) { this.rate = rate; }

    update(weights) {
      for (const { value, gradient } of Object.values(weights))
        for (let i = 0; i < value.length; i++) value[i] -= this.rate * gradient[i];
    }
  }

  class Adam {
    constructor(rate, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7) {
      Object.assign(this, { rate, beta1, beta2, epsilon, steps: 0, averages: new Map() });
    }

    update(weights) {
      const { beta1, beta2, epsilon, averages } = this;
      this.steps++;
      const rate = (this.rate * Math.sqrt(1 - beta2 ** this.steps)) / (1 - beta1 ** this.steps);
      for (const { value, gradient } of Object.values(weights)) {
        const size = value.length;
        if (!averages.has(value)) averages.set(value, [new Float64Array(size), new Float64Array(size)]);
        const [first, second] = averages.get(value);
        for (let i = 0; i < size; i++) {
          const g = gradient[i];
          first[i] += (1 - beta1) * (g - first[i]);
          second[i] += (1 - beta2) * (g * g - second[i]);
          value[i] -= (rate * first[i]) / (Math.sqrt(second[i]) + epsilon);
        }
      }
    }
  }

  // --- chance: the same numbers from the same seed, in every browser

  /** Return a function that draws numbers from 0 to 1: the generator "mulberry32". */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** Draw kernels for layers of these widths: Keras's Glorot uniform, times a scale. */
  function kernels(widths, scale, draw) {
    return widths.slice(1).map((outputs, i) => {
      const inputs = widths[i];
      const limit = scale * Math.sqrt(6 / (inputs + outputs));
      return { inputs, outputs, values: Float64Array.from({ length: inputs * outputs }, () => limit * (2 * draw() - 1)) };
    });
  }

  /** Shuffle a list in place. */
  function shuffle(list, draw) {
    for (let i = list.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [list[i], list[j]] = [list[j], list[i]];
    }
    return list;
  }

  return { Network, SGD, Adam, random, kernels, shuffle };
};

if (typeof module !== "undefined") module.exports = labNetwork();
