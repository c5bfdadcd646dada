// What the theme leaves out.

// For screen readers and voice control: its navigation and the toggles in it have no name, and its
// search button has another one than it shows.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field"))
    button.setAttribute("aria-label", button.textContent.replace(/\s+/g, " ").trim());
  for (const nav of document.querySelectorAll("nav:not([aria-label], [aria-labelledby])"))
    nav.setAttribute("aria-label", nav.closest("article") ? "Contents" : "Site");
  for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)"))
    summary.setAttribute("aria-label", "Toggle " + summary.closest("li").querySelector("a").textContent.trim());
});

// On a phone a wide table becomes cards, on which each cell says which column it is of.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".bd-content table:is(.builds, :has(thead th:nth-child(4)):not(.ledger, .dataframe))")) {
    const names = [...table.querySelectorAll("thead th")].map((name) => name.textContent.trim());
    table.classList.add("cards");
    for (const row of table.querySelectorAll("tbody tr"))
      [...row.cells].forEach((cell, i) => { cell.dataset.column = names[i] ?? ""; });
  }
});

// A figure that slides in its box can be slid by keyboard.
const reach = () => {
  for (const box of document.querySelectorAll(".figure-box"))
    box.toggleAttribute("tabindex", box.scrollWidth > box.clientWidth) && box.setAttribute("tabindex", "0");
};
for (const event of ["load", "resize"]) addEventListener(event, reach);

// Paper is light, whatever the screen is.
addEventListener("beforeprint", () => {
  const { theme } = document.documentElement.dataset;
  document.documentElement.dataset.theme = "light";
  addEventListener("afterprint", () => { document.documentElement.dataset.theme = theme; }, { once: true });
});
