// the theme's navigation toggles have no name for screen readers: give them one
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)"))
    summary.setAttribute("aria-label", "Toggle " + summary.closest("li").querySelector("a").textContent.trim());
});
