// How the site's own search ranks: pages that explain before pages that list, sections by their
// headings, the reference last. It stands at the top of Sphinx's script.
const FIRST = [
  ["learn/algorithm", 6], ["learn/", 5], ["practice/", 5], ["auto_examples/", 4], ["verdicts", 4],
  ["advantages", 3], ["limitations", 3], ["reference", -12], ["contributing/", -6],
];

var Scorer = {
  score: ([page, , , , score]) => score + (FIRST.find(([start]) => page.startsWith(start))?.[1] ?? 0),
  objNameMatch: 11, objPartialMatch: 2,
  objPrio: { 0: 5, 1: 2, 2: -5 }, objPrioDefault: 0,
  title: 20, partialTitle: 10, term: 5, partialTerm: 2,
};

// An excerpt is text: no formula's source, no code that nobody sees.
document.addEventListener("DOMContentLoaded", () => {
  const whole = Search.htmlToText;
  Search.htmlToText = (html, anchor) => {
    const page = new DOMParser().parseFromString(html, "text/html");
    for (const part of page.querySelectorAll(".math, .answer, .highlight, svg, details, .downloads")) part.remove();
    return whole(page.documentElement.outerHTML, anchor);
  };
});

// An excerpt costs its whole page: the best results have one, the others their titles.
{
  const EXCERPTS = 12, whole = window.fetch;
  let asked = 0;
  window.fetch = (...about) => (asked++ < EXCERPTS ? whole(...about) : Promise.resolve(new Response("")));
}
