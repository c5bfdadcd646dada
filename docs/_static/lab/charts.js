// The lab's drawings, on canvas: curves, gradients and histograms, in the colours that they are given.
"use strict";

const labCharts = (() => {
  const NAMES = { plain: "without", norm: "with" };

  const clipped = (value, low, high) => Math.min(Math.max(value, low), high);
  const minus = (value) => String(value).replace("-", "−");

  /** Return a number in a few digits. */
  function number(value, digits = 2) {
    if (value === undefined || value === null) return "–";
    if (!Number.isFinite(value)) return "no number";
    const large = Math.abs(value) >= 1000;
    const small = value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits;
    return large || small ? minus(value.toExponential(0)).replace("+", "") : interactive.format(value, digits);
  }

  /** Return a pen whose unit is a CSS pixel, on a clean canvas, with its width and height. */
  function paper(canvas, ink) {
    const { clientWidth: width, clientHeight: height } = canvas;
    const dots = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * dots)) canvas.width = Math.round(width * dots);
    if (canvas.height !== Math.round(height * dots)) canvas.height = Math.round(height * dots);
    const pen = canvas.getContext("2d");
    pen.setTransform(dots, 0, 0, dots, 0, 0);
    pen.clearRect(0, 0, width, height);
    Object.assign(pen, { font: ink.font, fillStyle: ink.text, lineJoin: "round", lineWidth: 1, textAlign: "left", textBaseline: "alphabetic" });
    return { pen, width, height };
  }

  /** Draw the lines of a vertical axis; return the pen, the edges, and where a value lies. */
  function grid(canvas, ink, left, ticks, label) {
    const { pen, width, height } = paper(canvas, ink);
    const [right, top, bottom] = [width - 8, 12, height - 22];
    const [low, high] = [ticks[0], ticks.at(-1)];
    const y = (value) => bottom - ((bottom - top) * (clipped(value, low, high) - low)) / (high - low);
    Object.assign(pen, { strokeStyle: ink.line, textAlign: "right", textBaseline: "middle" });
    for (const tick of ticks) {
      line(pen, left, right, y(tick));
      pen.fillText(label(tick), left - 4, y(tick));
    }
    pen.textBaseline = "alphabetic";
    return { pen, right, top, bottom, y, words: height - 6 };
  }

  function line(pen, left, right, y) {
    pen.beginPath();
    pen.moveTo(left, y);
    pen.lineTo(right, y);
    pen.stroke();
  }

  /** Draw curves, [{ colour, dash, width, points }, …], from step 0 to `end`, and where a network diverged. */
  function curves(canvas, ink, { ticks, label = String }, all, end, nets) {
    const left = 34;
    const { pen, right, top, y, words } = grid(canvas, ink, left, ticks, label);
    const x = (step) => left + ((right - left) * step) / end;
    pen.fillText(`step ${end}`, right, words);
    pen.textAlign = "left";
    pen.fillText("0", left, words);
    for (const { colour, dash, width, points } of all) {
      Object.assign(pen, { strokeStyle: ink[colour], lineWidth: width });
      pen.setLineDash(dash);
      pen.beginPath();
      for (const [step, value] of points) {
        if (!Number.isFinite(value)) break;
        pen.lineTo(x(step), y(value)); // of which the first moves the pen
      }
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.lineWidth = 2;
    for (const [kind, name] of Object.entries(NAMES)) {
      const { diverged } = nets[kind];
      if (diverged === null) continue;
      const at = clipped(x(diverged), left + 5, right - 5);
      const middle = top + (kind === "plain" ? 8 : 22);
      pen.strokeStyle = ink[kind];
      pen.beginPath();
      for (const side of [-5, 5]) {
        pen.moveTo(at - 5, middle - side);
        pen.lineTo(at + 5, middle + side);
      }
      pen.stroke();
      const late = at > (left + right) / 2;
      pen.textAlign = late ? "right" : "left";
      pen.fillText(`${name}: diverged`, at + (late ? -9 : 9), middle + 4);
    }
  }

  /** Draw the gradient at each layer, a pair of bars on an axis of powers of ten. */
  function gradients(canvas, ink, nets) {
    const left = 44;
    const { pen, right, bottom, y, words } = grid(canvas, ink, left, [-8, -6, -4, -2, 0, 2], (power) => `1e${minus(power)}`);
    const depth = nets.plain.layers.length;
    const x = (layer) => left + ((right - left) * (layer + 0.5)) / depth;
    pen.textAlign = "center";
    for (let layer = 0; layer < depth; layer++) pen.fillText(depth > 6 ? layer + 1 : `layer ${layer + 1}`, x(layer), words);
    for (const [side, kind] of [[-6, "plain"], [6, "norm"]]) {
      const { layers, diverged } = nets[kind];
      if (diverged !== null) continue;
      layers.forEach(({ gradient }, layer) => {
        const at = x(layer) + side;
        pen.fillStyle = gradient === 0 ? ink.text : ink[kind];
        if (gradient === 0) pen.fillText("0", at, bottom - 4);
        else pen.fillRect(at - 4, y(Math.log10(gradient)), 8, bottom - y(Math.log10(gradient)));
      });
    }
  }

  /** Draw a histogram for each layer of a network, the first at the top, from −edge to edge. */
  function histograms(canvas, ink, kind, { layers, diverged }, edge) {
    const { pen, width, height } = paper(canvas, ink);
    if (diverged !== null) {
      pen.fillText(`diverged at step ${diverged}`, 8, height / 2);
      return;
    }
    const [left, right, bottom] = [8, width - 8, height - 22];
    const row = (bottom - 4) / layers.length;
    const tall = row - 6;
    pen.strokeStyle = ink.muted;
    layers.forEach(({ counts, std }, layer) => {
      const floor = 1 + row * (layer + 1);
      const total = counts.reduce((sum, count) => sum + count, 0);
      const wide = (right - left) / counts.length;
      pen.fillStyle = ink[kind];
      counts.forEach((count, i) => {
        const share = Math.min(1, (count / total) * 6); // a normal distribution fills half of the height
        pen.fillRect(left + i * wide, floor - tall * share, wide - 0.5, tall * share);
      });
      line(pen, left, right, floor + 0.5);
      pen.fillStyle = ink.text;
      pen.textAlign = "left";
      pen.fillText(layer + 1, left, floor - tall / 2 + 2);
      pen.textAlign = "right";
      pen.fillText(`σ ${number(std)}`, right, floor - tall / 2 + 2);
    });
    pen.textAlign = "center";
    for (const tick of [-3, 0, 3]) pen.fillText(minus(tick), left + ((right - left) * (tick + edge)) / (2 * edge), height - 6);
  }

  return { NAMES, number, paper, curves, gradients, histograms };
})();
