// screen readers and voice control: the theme's navigation toggles have no name, and its search
// button has another one than it shows
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".search-button-field"))
    button.setAttribute("aria-label", button.textContent.replace(/\s+/g, " ").trim());
  for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)"))
    summary.setAttribute("aria-label", "Toggle " + summary.closest("li").querySelector("a").textContent.trim());
});
