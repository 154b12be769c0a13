// Names and roles that the theme leaves out, for keyboards and screen readers.
new MutationObserver(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    box.tabIndex = 0; // a wide table scrolls in this box, so the keyboard must reach it
  }
  for (const code of document.querySelectorAll("pre > code:not([tabindex])")) {
    // the theme lets the keyboard reach long lines only where there is a mouse
    if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
  }
  for (const bar of document.querySelectorAll(".md-code__nav:not([role])")) {
    bar.setAttribute("role", "none"); // a copy button does not navigate the page
  }
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
}).observe(document, { childList: true, subtree: true, attributeFilter: ["tabindex"] });
