// Runs before anything is painted: to readers who predict first, what came out is not shown even for a moment.
"use strict";

try {
  const kept = Object.values(JSON.parse(localStorage.getItem("bn-predictions")) ?? {});
  const asked = !kept.some(({ page }) => location.pathname.includes(`/${page}.`));
  if (asked && JSON.parse(localStorage.getItem("bn-predict-first"))) document.documentElement.classList.add("predicting");
} catch { /* this browser keeps nothing */ }
