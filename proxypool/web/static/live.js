// Renews the parts of the page that changed, without losing what the reader opened, selected or is looking at. Without
// this script the page is the same and loads itself again.
"use strict";
(() => {
  const everyMs = 1000 * Number(document.body.dataset.refresh);
  const patienceMs = 10000;
  let lastAnswer = Date.now();

  const isInUse = (part) =>
    part.contains(document.activeElement) || (!getSelection().isCollapsed && getSelection().containsNode(part, true));

  function keepOpen(part, fresh) {
    for (const old of part.querySelectorAll("details[id]")) {
      const now = fresh.querySelector(`#${CSS.escape(old.id)}`);
      if (now) now.open = old.open;
    }
    const [from, to] = [part.querySelector(".picture"), fresh.querySelector(".picture")];
    return () => { if (from && to) to.scrollLeft = from.scrollLeft; };
  }

  function renew(page) {
    const main = document.getElementById("main");
    const now = page.getElementById("main");
    const names = (root) => [...root.querySelectorAll("[data-live]")].map((part) => part.id).join();
    if (names(main) !== names(now)) {
      main.replaceChildren(...now.childNodes);
    }
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (!fresh || isInUse(part)) continue;
      const restore = keepOpen(part, fresh);
      if (part.outerHTML === fresh.outerHTML) continue;
      part.replaceWith(fresh);
      restore();
    }
    document.title = page.title;
    document.querySelector("link[rel=icon]").href = page.querySelector("link[rel=icon]").getAttribute("href");
  }

  function complain() {
    const seconds = Math.round((Date.now() - lastAnswer) / 1000);
    const warning = document.getElementById("warning");
    warning.className = "warning";
    warning.textContent = `The daemon has not answered for ${seconds} s: what you see may no longer be so.`;
  }

  async function look() {
    if (!document.hidden) {
      try {
        const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(patienceMs) });
        if (!answer.ok) throw new Error(answer.statusText);
        renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
        lastAnswer = Date.now();
      } catch {
        complain();
      }
    }
    setTimeout(look, everyMs);
  }

  document.addEventListener("visibilitychange", () => { lastAnswer = Math.max(lastAnswer, Date.now() - everyMs); });
  setTimeout(look, everyMs);
})();
