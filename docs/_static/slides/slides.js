// Slides: the sections of this page, shown one by one. Without this script they are a page to read,
// and to print. A second window can follow the first, with the notes.
"use strict";

(() => {
  const { make, button } = interactive;
  const root = document.documentElement;
  const place = document.querySelector(".deck");
  const plans = { all: "All slides", ...JSON.parse(place.dataset.plans) };
  const every = [...document.querySelectorAll("section.slide")];
  const details = document.querySelectorAll("details.speaker");
  const follower = window.name === "bn-speaker";
  let shown = every, now = 0, second = null;

  /** Make a button that shows a sign, and is called by a word. */
  const signed = (sign, name, act) => {
    const made = button(sign, act);
    made.setAttribute("aria-label", name);
    return made;
  };

  // --- which slides
  const count = make("span", { class: "count", role: "status" });
  const choice = make("select", { id: "which-slides" }, ...Object.entries(plans).map(([value, text]) => make("option", { value }, text)));
  function choose(plan) {
    const here = shown[now];
    shown = every.filter((slide) => plan === "all" || slide.classList.contains(`in-${plan}`));
    for (const slide of every) {
      slide.hidden = !shown.includes(slide);
      slide.classList.toggle("last", slide === shown.at(-1)); // no empty sheet behind it
    }
    choice.value = plan;
    count.textContent = `${shown.length} slides`;
    now = Math.max(0, shown.indexOf(here));
  }
  choice.addEventListener("change", () => choose(choice.value));

  // --- how a slide is laid out: beside a figure that is not wide there is room for its text
  for (const figure of document.querySelectorAll("section.slide .figure-box img")) {
    const fit = () => {
      const slide = figure.closest("section.slide");
      const told = slide.querySelector(":scope > :is(p, ul):not(.slide-ask, .slide-foot, .figure-data)");
      slide.classList.toggle("beside", Boolean(told) && figure.naturalWidth < 1.7 * figure.naturalHeight);
    };
    if (figure.complete) fit();
    else figure.addEventListener("load", fit);
  }

  /** Let a slide's words be smaller, if they would not all be seen; on a phone one scrolls instead. */
  function shrink() {
    const slide = shown[now];
    for (let fit = 1; fit > 0.6; fit -= 0.05) {
      slide.style.setProperty("--fit", fit);
      if (innerWidth <= 700 || slide.scrollHeight <= slide.clientHeight) return;
    }
  }
  addEventListener("resize", () => { if (presenting()) shrink(); });

  // --- one by one
  const number = make("span", {});
  function go(to, { veil = false } = {}) {
    now = Math.max(0, Math.min(shown.length - 1, to));
    for (const slide of every) slide.classList.remove("now", "veiled");
    const slide = shown[now], title = slide.querySelector("h2");
    slide.classList.add("now");
    slide.classList.toggle("veiled", veil && slide.classList.contains("predict"));
    shrink();
    slide.scrollTop = 0;
    number.textContent = `${now + 1} / ${shown.length}`;
    history.replaceState(null, "", `#${slide.id}`);
    title.tabIndex = -1;
    title.focus({ preventScroll: true }); // a screen reader says it
    second?.postMessage({ slide: slide.id }, "*");
  }
  function next() {
    const slide = shown[now];
    if (slide.classList.contains("veiled")) slide.classList.remove("veiled");
    else if (now < shown.length - 1) go(now + 1, { veil: true });
  }
  const back = () => { if (now) go(now - 1); };

  /** Take what lies behind the slides out of reach, or give it back. */
  function aside(away) {
    for (let part = place.closest("section"); part !== document.body; part = part.parentElement)
      for (const other of part.parentElement.children)
        if (other !== part && other !== wall) other.inert = away;
    for (const other of place.parentElement.children)
      if (!other.matches("section.slide")) other.inert = away;
  }
  function start() {
    const first = shown.findIndex((slide) => `#${slide.id}` === location.hash);
    root.classList.add("presenting");
    aside(true);
    go(Math.max(0, first), { veil: true });
    root.requestFullscreen?.().catch(() => {}); // some do not let us, and all goes on without
  }
  function stop() {
    root.classList.remove("presenting");
    aside(false);
    if (document.fullscreenElement) document.exitFullscreen();
    shown[now].classList.remove("veiled");
    shown[now].scrollIntoView();
  }
  const presenting = () => root.classList.contains("presenting");
  function notes() {
    const open = root.classList.toggle("with-notes");
    for (const one of details) one.open = open;
    showing.setAttribute("aria-pressed", open);
    if (presenting()) shrink();
  }

  document.addEventListener("fullscreenchange", () => { if (!document.fullscreenElement && presenting()) stop(); });
  const keys = {
    ArrowRight: next, PageDown: next, " ": next, ArrowLeft: back, PageUp: back,
    Home: () => go(0), End: () => go(shown.length - 1), Escape: stop, n: notes,
  };
  document.addEventListener("keydown", (event) => {
    if (!presenting() || event.ctrlKey || event.altKey || event.metaKey) return;
    const own = event.key === " " ? "input, select, textarea, button, summary, a" : "input, select, textarea"; // have a use for it
    if (!keys[event.key] || (event.target.closest(own) && !event.key.startsWith("Page") && event.key !== "Escape")) return;
    event.preventDefault();
    if (event.key === " " && event.shiftKey) back();
    else keys[event.key]();
  });

  // --- a second window, which follows this one
  function speaker() {
    second = window.open(`${location.pathname}#${shown[now].id}`, "bn-speaker", "width=700,height=900");
  }
  function follow(name) {
    const slide = every.find(({ id }) => id === name);
    for (const one of every) one.classList.toggle("now", one === slide);
    slide?.scrollIntoView();
  }
  addEventListener("message", ({ source, data }) => {
    if (follower && source === window.opener) follow(data.slide);
  });

  const showing = button("Notes", notes);
  showing.setAttribute("aria-pressed", "false");
  const wall = make("nav", { class: "on-the-wall", "aria-label": "Slides" },
    signed("‹", "Back", back), number, signed("›", "On", next), signed("×", "Leave", stop));
  place.append(
    make("label", { for: choice.id }, "Show"), choice, button("Present", start), button("Notes in a second window", speaker),
    showing, button("Print, or save as PDF", () => print()), count);
  document.body.append(wall);
  const asked = () => {
    const plan = location.hash.replace("#plan-", "");
    if (plan in plans) choose(plan);
  };
  choose("all");
  asked();
  addEventListener("hashchange", asked);
  if (follower) {
    root.classList.add("following");
    notes();
    follow(location.hash.slice(1));
  }
})();
