// What the theme leaves out for those who use the keyboard or hear the page.
function complete() {
  document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((nav, at) => {
    nav.setAttribute("aria-label", `Code ${at + 1}`)
  })
  document.querySelectorAll("pre > code, .md-typeset__scrollwrap, .md-typeset p:has(> img)").forEach((part) => {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0
  })
  // A heading may be called as a section of the navigation is.
  document.querySelectorAll(".md-nav--secondary nav[aria-label]:not([data-named])").forEach((nav) => {
    nav.dataset.named = ""
    nav.setAttribute("aria-label", `On this page: ${nav.getAttribute("aria-label")}`)
  })
}

// The theme adds its buttons after the page is there.
new MutationObserver(complete).observe(document.body, { childList: true, subtree: true })
complete()
