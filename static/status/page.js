// Follows the box: shows the page anew when something changed, and says so when the box does not answer.
"use strict";
(() => {
  const EVERY_MS = 10_000, PATIENCE_MS = 8_000;
  const lost = document.getElementById("lost"), said = document.getElementById("said");
  let source, busy = false, again = false;

  const isBare = (element) => [...element.childNodes].every((node) => node.nodeType === Node.ELEMENT_NODE || !node.data?.trim());
  const sameTag = (one, other) => one.cloneNode(false).isEqualNode(other.cloneNode(false));

  // Replaces only what differs: what has the focus, and lamps that blink, stay as they are.
  function renew(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    const inner = old.children.length;
    if (inner && inner === fresh.children.length && sameTag(old, fresh) && isBare(old) && isBare(fresh)) {
      const pieces = [...fresh.children];
      [...old.children].forEach((child, index) => renew(child, pieces[index]));
    } else {
      old.replaceWith(fresh);
    }
  }

  function show(page) {
    const focused = document.activeElement?.id;
    if (document.title !== page.title) {
      document.title = page.title;
      document.querySelector("link[rel=icon]").replaceWith(page.querySelector("link[rel=icon]"));
      said.textContent = page.getElementById("headline").textContent;
    }
    for (const part of ["header", "main", "footer"]) renew(document.querySelector(part), page.querySelector(part));
    if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus({ preventScroll: true });
  }

  function answered(yes) {
    lost.hidden = yes;
    document.body.classList.toggle("stale", !yes);
  }

  // One at a time; what comes meanwhile asks once more.
  async function refresh() {
    again = busy;
    if (busy) return;
    busy = true;
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!answer.ok) throw new Error(answer.statusText);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      answered(true);
    } catch {
      answered(false);
    }
    busy = false;
    if (again) refresh();
  }

  // A hidden page holds no connection: a browser has few of them for one host, and the box few event streams.
  function follow() {
    if (document.hidden) {
      source?.close();
      source = undefined;
    } else if (!source || source.readyState === EventSource.CLOSED) {
      source = new EventSource("/api/events");
      source.onmessage = refresh;
      source.onerror = refresh;
    }
  }

  document.addEventListener("visibilitychange", () => { follow(); if (!document.hidden) refresh(); });
  setInterval(() => { if (!document.hidden) { follow(); refresh(); } }, EVERY_MS);
  follow();
})();
