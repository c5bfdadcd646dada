// Runs before anything is painted: to readers who predict first, what came out is not shown even for a moment.
"use strict";

try {
  const kept = Object.values(JSON.parse(localStorage.getItem("bn-predictions")) ?? {});
  const here = location.pathname.replace(/\.html$|\/$/, ""); // some hosts leave the ending out
  const asked = !kept.some(({ page }) => here.endsWith(`/${page}`));
  if (asked && JSON.parse(localStorage.getItem("bn-predict-first"))) {
    document.documentElement.classList.add("predicting");
    addEventListener("load", () => { // without the other script nobody could have it shown
      if (!document.querySelector(".predict button")) document.documentElement.classList.remove("predicting");
    });
  }
} catch { /* this browser keeps nothing */ }
