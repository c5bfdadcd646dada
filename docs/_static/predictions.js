// "Predict, then see": on an experiment's page a reader may hide what came out, write down what to
// expect, and then see both. What was predicted stays in this browser; one page sums it up.
"use strict";

(() => {
  const KEPT = "bn-predictions", MODE = "bn-predict-first";
  const WISHED = 0.8; // so often should the measured value lie in the range
  const UNITS = {
    points: { name: "percentage points", times: 100, digits: 1, none: 0 },
    ratio: { name: "as a factor (1: no difference)", times: 1, digits: 2, none: 1 },
    number: { name: "", times: 1, digits: 2, none: 0 },
  };

  const { make, button, recall, keep } = interactive;
  const shown = (value, unit) => interactive.format(value * UNITS[unit].times, UNITS[unit].digits);
  const inside = ({ low, high, measured }) => low <= measured && measured <= high;
  const side = (value, unit) => Math.sign(value - UNITS[unit].none);
  /** Whether the range lies on the side of the measured value; null if it reaches to both. */
  const sided = ({ low, high, measured, unit }) =>
    side(low, unit) === side(high, unit) && side(low, unit) ? side(low, unit) === side(measured, unit) : null;

  function compared(one) {
    const range = `You: ${shown(one.low, one.unit)} to ${shown(one.high, one.unit)}. Measured: ${shown(one.measured, one.unit)}. `;
    return range + (inside(one) ? "✓ Inside your range." : `✗ Outside${sided(one) ? ", but on your side" : ""}.`);
  }

  function experiment(box) {
    const told = JSON.parse(box.dataset.predict);
    const unit = UNITS[told.unit];
    const page = document.documentElement;
    const title = document.querySelector("h1").firstChild.textContent.trim();
    const now = { unit: told.unit, measured: told.mean, effect: told.effect, title, page: told.page };
    const place = make("section", { class: "predict" });
    place.setAttribute("aria-label", "Predict, then see");
    box.before(place);

    function toggle(text, first) {
      return button(text, () => { keep(MODE, first); show(); place.querySelector("input, button")?.focus(); });
    }

    function form() {
      const field = (name) => {
        const input = make("input", { type: "number", step: "any", required: true, name });
        input.setAttribute("aria-label", `${name === "low" ? "At least" : "At most"}, ${unit.name}`);
        return input;
      };
      const low = field("low"), high = field("high");
      const asked = make("form", {},
        make("p", { class: "question" }, `What do you expect? ${told.effect}`),
        make("p", {}, "From ", low, " to ", high, ` ${unit.name} `, make("button", { type: "submit" }, "Predict, then see"), " ", toggle("Just show me", false)),
        make("p", {}, make("small", {}, "Choose the range so that you would bet four to one that the measured value lies in it.")));
      asked.addEventListener("submit", (event) => {
        event.preventDefault();
        const ends = [low, high].map((input) => Number(input.value) / unit.times).sort((a, b) => a - b);
        keep(KEPT, { ...recall(KEPT, {}), [told.name]: { low: ends[0], high: ends[1], ...now } });
        show();
        place.querySelector("a").focus();
      });
      return asked;
    }

    function show() {
      const all = recall(KEPT, {}), first = recall(MODE, false);
      const before = all[told.name]?.unit === told.unit && all[told.name]; // a range in another unit says nothing
      page.classList.toggle("predicting", !(told.name in all) && first); // as before anything was painted
      if (before) {
        Object.assign(before, now); // by this build, perhaps not by the one that it was made in
        keep(KEPT, all);
        const link = make("a", { href: `${page.dataset.content_root}learn/predictions.html` }, "All your predictions");
        place.replaceChildren(make("p", {}, compared(before), " ", link));
      } else if (first) place.replaceChildren(form());
      else place.replaceChildren(make("p", {}, toggle("Predict first: hide what came out", true)));
    }
    show();
  }

  function summary(place) {
    const all = Object.entries(recall(KEPT, {}));
    const root = document.documentElement.dataset.content_root;
    const first = make("input", { type: "checkbox" });
    first.checked = recall(MODE, false);
    first.addEventListener("change", () => keep(MODE, first.checked));
    place.replaceChildren(make("p", {}, make("label", {}, first, " Hide what came out on every experiment's page until I have predicted it")));
    if (!all.length) { place.append(make("p", {}, "You have not predicted anything yet.")); return; }

    const hits = all.filter(([, one]) => inside(one)).length;
    const sides = all.map(([, one]) => sided(one)).filter((one) => one !== null);
    const right = sides.filter(Boolean).length;
    // the chance of so few, or of so many, if each range were right with the wished probability
    const chance = (of) => of.reduce((sum, k) => sum + binomial(all.length, k) * WISHED ** k * (1 - WISHED) ** (all.length - k), 0);
    const upTo = [...Array(hits + 1).keys()], from = [...Array(all.length - hits + 1).keys()].map((k) => k + hits);
    let judged = "That fits ranges that are right four times of five.";
    if (chance(upTo) < 0.05) judged = "That is fewer than four of five, and hardly by chance: your ranges are too narrow.";
    else if (chance(from) < 0.05) judged = "That is more than four of five, and hardly by chance: your ranges could be narrower.";
    place.append(
      make("p", { class: "calibration" }, `The measured value was inside your range ${hits} of ${all.length} times. ${judged}`),
      make("p", {}, sides.length ? `Of ${sides.length} ranges that lay on one side, ${right} lay on the right one.` : ""));
    const rows = all.map(([, one]) => make("tr", {},
      make("td", {}, make("a", { href: `${root}${one.page}.html` }, one.title), make("br"), make("small", {}, one.effect)),
      make("td", {}, `${shown(one.low, one.unit)} to ${shown(one.high, one.unit)}`),
      make("td", {}, shown(one.measured, one.unit)),
      make("td", {}, inside(one) ? "✓ inside" : "✗ outside")));
    const names = ["Experiment", "You", "Measured", ""].map((name) => make("th", { scope: "col" }, name));
    const forget = button("Forget all of them", () => { if (confirm("Forget all your predictions?")) { keep(KEPT, {}); summary(place); } });
    place.append(make("table", { class: "table" }, make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...rows)), make("p", {}, forget));
  }

  function binomial(n, k) {
    let value = 1;
    for (let i = 1; i <= k; i++) value *= (n - k + i) / i;
    return value;
  }

  const box = document.querySelector("[data-predict]"), place = document.getElementById("what-i-predicted");
  if (box) experiment(box);
  if (place) summary(place);
})();
