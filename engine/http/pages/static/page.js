// What a page does beyond links and forms. Everything here is also to be had without it.

// "/" goes to the search field.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  document.getElementById("go")?.focus();
});

// Escape closes an open form of an action, and goes back to its button.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest(".actions details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// One action's form at a time; its first field gets the focus.
for (const details of document.querySelectorAll(".actions details")) {
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    for (const other of document.querySelectorAll(".actions details[open]")) {
      if (other !== details) other.open = false;
    }
    details.querySelector("input:not([type=hidden])")?.focus();
  });
}

// What was left empty needs no place in the address.
for (const form of document.querySelectorAll("form.filters")) {
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value) formData.delete(name);
  });
}

const badge = document.querySelector("[data-live]");
if (badge) follow(badge);

// Only a page that is looked at listens: a browser has few connections to a server, and they are
// shared by all of its tabs.
function follow(badge) {
  const words = badge.querySelector("span");
  const show = (state, text) => {
    badge.dataset.state = state;
    words.textContent = text;
  };
  const address = new URL(badge.dataset.live, location.href);
  let source = null;
  const heard = (event) => {
    if (event.lastEventId) address.searchParams.set("after", event.lastEventId);
  };
  const listen = () => {
    if (source || document.hidden) return;
    source = new EventSource(address);
    source.addEventListener("hello", () => show("on", "live"));
    source.addEventListener("error", () =>
      show("off", source?.readyState === EventSource.CLOSED
        ? "disconnected: load the page again" : "not live: reconnecting…"));
    source.addEventListener("missed", () => location.reload());
    source.addEventListener("row", (event) => {
      heard(event);
      prepend(badge.dataset.rows, event.data);
    });
    source.addEventListener("news", (event) => {
      heard(event);
      refresh(badge.dataset.region, show);
    });
  };
  const rest = () => {
    source?.close();
    source = null;
    show("none", "not live");
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : listen()));
  addEventListener("pagehide", rest);
  addEventListener("pageshow", listen);
  listen();
}

// A new row of the timeline: rendered and escaped by the server.
function prepend(list, html) {
  const place = document.getElementById(list);
  const row = new DOMParser().parseFromString(html, "text/html").querySelector("li");
  if (!row || document.getElementById(row.id)) return;
  row.classList.add("new");
  place.prepend(row);
  document.querySelector("main > .empty")?.remove();
  while (place.children.length > 500) place.lastElementChild.remove();
}

// News for a region that htmx loads afresh: a little later, for news come in bursts; and not
// under the hands of somebody who is in it, who is told instead.
let waiting = false;
function refresh(id, show) {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    const region = document.getElementById(id);
    if (!region || !window.htmx) return;
    if (region.contains(document.activeElement) || region.dataset.touched) {
      show("on", "live: there is news, load the page to see it");
      return;
    }
    window.htmx.trigger(region, "trueup:news");
  }, 700);
}

// Somebody who opened or closed something in a region is in the middle of reading it.
document.addEventListener("click", (event) => {
  const region = event.target.closest("summary")?.closest("[hx-get]");
  if (region) region.dataset.touched = "yes";
});

// A request of htmx that was refused (the session may have ended) becomes a page like any other.
document.addEventListener("htmx:responseError", (event) => {
  if (event.detail.xhr.status === 401) location.reload();
});
