// Exercises that answer back. A page's forms hold what is right; what a reader has answered stays in
// this browser. Without this script questions can be read, with what there is to choose from.
"use strict";

(() => {
  const KEPT = "bn-exercises";
  const SHORT = 1e-9; // what rounding leaves

  const { make, button, recall, keep, say } = interactive;

  /** Return all that numbers can mean as people write them, such as 4,603: a comma stands before decimals, after thousands or between numbers. */
  function readings(text) {
    const plain = text.replace(/[−–]/g, "-").replace(/\s*\/\s*/g, "/");
    const ways = [plain.replace(/,(?=\d)/g, "."), plain.replace(/(\d),(?=\d{3}(?!\d))/g, "$1"), plain];
    const read = ways.map((way) => way.split(/[\s;,]+/).filter(Boolean).map((part) => {
      const [above, below = "1", more] = part.split("/");
      return above === "" || below === "" || more !== undefined ? NaN : Number(above) / Number(below);
    }));
    return read.filter((given) => given.length && given.every(Number.isFinite));
  }

  const close = (given, right, { within, relative }) =>
    given.every((value, i) => Math.abs(value - right[i]) <= within * (relative ? Math.abs(right[i]) : 1) + SHORT);

  const kinds = {
    number(form, told) {
      const count = told.right.length;
      const field = make("input", { type: "text", autocomplete: "off", name: "answer" });
      field.setAttribute("aria-label", count > 1 ? `Your answer, ${count} numbers` : "Your answer, a number");
      if (count > 1) field.placeholder = `${count} numbers, a space between`;
      return {
        shown: [field],
        answer: () => field.value,
        restore: (answer) => { field.value = answer; },
        judge(answer) {
          const read = readings(answer), given = read.filter(({ length }) => length === count);
          if (!read.length) return [null, "Write a number, such as 0.5, −5/3 or 1e-3."];
          if (!given.length) return [null, `${count} ${count > 1 ? "numbers are" : "number is"} asked for.`];
          const meant = (numbers) => given.some((one) => close(one, numbers, told));
          return meant(told.right) ? [true] : [false, told.mistakes.findIndex(meant)];
        },
      };
    },

    choice(form, told) {
      const list = form.querySelector("ul");
      const boxes = [...list.children].map((option, i) => {
        const box = make("input", { type: "radio", name: `${form.id}-choice`, value: i, required: true });
        list.before(make("label", { class: "option" }, box, ...option.querySelector("p").childNodes));
        return box;
      });
      list.remove();
      return {
        shown: [],
        answer: () => told.options[boxes.findIndex((box) => box.checked)] ?? "", // kept as it is written
        restore(answer) { for (const [i, box] of boxes.entries()) box.checked = told.options[i] === answer; },
        judge(answer) {
          const chosen = told.options.indexOf(answer);
          return chosen < 0 ? [null, "Choose one."] : [chosen === told.right, chosen];
        },
      };
    },

    order(form, told) {
      const list = make("ol", { class: "things" }), written = form.querySelector("ul"), rows = [];
      const places = () => [...list.children].map((row) => Number(row.dataset.place));
      /** Move a row; what was said goes if the order is another one then. */
      const moved = (move) => {
        const before = String(places());
        move();
        if (String(places()) !== before) form.dispatchEvent(new Event("input"));
      };
      [...written.children].forEach((thing, i) => {
        const row = make("li", { draggable: true }, make("span", {}, ...thing.querySelector("p").childNodes));
        row.dataset.place = told.right[i];
        rows[told.right[i]] = row;
        const name = row.textContent.trim();
        for (const [sign, way] of [["↑", "up"], ["↓", "down"]]) {
          const mover = button(sign, () => {
            if (way === "up") moved(() => row.previousElementSibling?.before(row));
            else moved(() => row.nextElementSibling?.after(row));
            mover.focus();
            const place = [...list.children].indexOf(row) + 1;
            form.querySelector(".word").textContent = `${place} of ${rows.length}: ${name}`; // for who cannot see it
          });
          mover.setAttribute("aria-label", `${name}: ${way}`);
          row.append(mover);
        }
        row.addEventListener("dragstart", (event) => {
          event.dataTransfer.setData("text/plain", name);
          row.classList.add("dragged");
        });
        row.addEventListener("dragend", () => row.classList.remove("dragged"));
        row.addEventListener("dragover", (event) => {
          event.preventDefault();
          const dragged = list.querySelector(".dragged");
          const { top, height } = row.getBoundingClientRect();
          if (!dragged || dragged === row) return;
          moved(() => row[event.clientY < top + height / 2 ? "before" : "after"](dragged));
        });
      });
      written.replaceWith(list);
      list.addEventListener("drop", (event) => event.preventDefault()); // a browser may go where a text leads
      // mixed so that nothing lies where it belongs, and always alike
      rows.forEach((_, i) => list.append(rows[(i + 1 + (rows.length >> 1)) % rows.length]));
      return {
        shown: [],
        answer: places,
        restore: (answer) => { for (const place of answer) if (rows[place]) list.append(rows[place]); },
        judge(answer) {
          const first = answer.findIndex((place, i) => place !== i);
          return first < 0 ? [true] : [false, first ? `The first ${first} are right.` : "The first one is not right."];
        },
      };
    },
  };

  const forms = [...document.querySelectorAll("form.ask")];
  const names = forms.map((form) => JSON.parse(form.dataset.ask).name);
  const score = make("span", { role: "status" }), again = button("Start again", () => {
    const others = Object.entries(recall(KEPT, {})).filter(([name]) => !names.includes(name));
    keep(KEPT, Object.fromEntries(others));
    location.reload();
  });

  function count() {
    const right = forms.filter((form) => form.classList.contains("right")).length;
    say(score, `${right} of ${forms.length} answered right on this page. Kept in this browser only. `);
    again.hidden = !names.some((name) => name in recall(KEPT, {}));
  }

  for (const form of forms) {
    const told = JSON.parse(form.dataset.ask);
    const reasons = [...form.querySelectorAll(".reason")];
    const said = form.querySelector(".said"), word = make("p", { class: "word" });
    said.append(word, ...reasons); // so that a reason is read out as well
    const { shown, answer, restore, judge } = kinds[told.kind](form, told);
    said.before(make("p", { class: "give" }, ...shown, make("button", { type: "submit" }, "Check")));

    /** Say what an answer is worth; nothing of one that has not been given yet. */
    const show = ([right, found] = [null, ""]) => {
      form.classList.toggle("right", right === true);
      form.classList.toggle("wrong", right === false);
      reasons.forEach((reason, i) => reason.classList.toggle("shown", i === found));
      if (right === null) word.textContent = found;
      else if (right) word.textContent = "✓ Right.";
      else word.textContent = `✗ Not yet. ${typeof found === "string" ? found : ""}`;
      return right;
    };
    const before = recall(KEPT, {})[told.name];
    if (before !== undefined) { restore(before); show(judge(answer())); }
    form.addEventListener("input", () => { show(); count(); });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = answer();
      if (show(judge(given)) !== null) keep(KEPT, { ...recall(KEPT, {}), [told.name]: given });
      count();
    });
  }
  document.documentElement.classList.add("asks");
  (document.querySelector("h1 ~ section") ?? forms[0]).before(make("p", { class: "tally" }, score, again));
  count();
})();
