"use strict";
// Every page works without this file; it makes some of them quicker to use.

const html = document.documentElement;

const make = (tag, className, text) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text != null) element.textContent = text;
  return element;
};

const announce = (text) => {
  const place = document.getElementById("announce");
  if (place) place.textContent = text;
};

// Theme: the same cookie that POST /theme sets.
const setTheme = (theme) => {
  html.dataset.theme = theme;
  html.classList.toggle("dark", theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches));
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `theme=${theme}; path=/; max-age=31536000; samesite=lax${secure}`;
  for (const button of document.querySelectorAll('button[name="theme"][aria-pressed]')) {
    button.setAttribute("aria-pressed", String(button.value === theme));
  }
};

document.addEventListener("submit", (event) => {
  const form = event.target;
  const button = event.submitter;
  if (form.matches("[data-theme-form]")) {
    event.preventDefault();
    setTheme("toggle" in button.dataset ? (html.classList.contains("dark") ? "light" : "dark") : button.value);
    return;
  }
  if (form.method !== "post" || event.defaultPrevented) return;
  // Conversations stay with whoever had them, also where the next one signs in in the same tab.
  if (form.getAttribute("action") === "/sign-out") sessionStorage.clear();
  // A second click sends nothing. The button keeps its name and value in the form: only later submits are stopped.
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "true";
  if (button) {
    button.dataset.busy = "true";
    button.setAttribute("aria-disabled", "true");
  }
});

// Coming back by the browser's back button finds the form as it was: let it be sent again.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of document.querySelectorAll("[data-busy]")) {
    delete button.dataset.busy;
    button.removeAttribute("aria-disabled");
  }
});

const copy = async (button) => {
  const code = button.closest(".b-copy, .b-id").querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // Plain HTTP has no clipboard: select the text, so that Ctrl+C copies it.
    getSelection().selectAllChildren(code);
    announce("Press Ctrl+C to copy the selected text");
    return;
  }
  const label = button.querySelector("span");
  button.dataset.label ??= label.textContent;
  label.textContent = "Copied";
  button.dataset.copied = "true";
  announce("Copied");
  clearTimeout(button.timer);
  button.timer = setTimeout(() => {
    label.textContent = button.dataset.label;
    delete button.dataset.copied;
  }, 2000);
};

// A link with data-dialog opens that dialog instead of the page it leads to, and fills in what the dialog is about.
const openDialog = (link) => {
  const dialog = document.getElementById(link.dataset.dialog);
  dialog.querySelector("form[method=post]").setAttribute("action", link.dataset.action);
  for (const place of dialog.querySelectorAll("[data-name]")) place.textContent = link.dataset.name;
  dialog.showModal();
};

const closeMenus = (except) => {
  for (const menu of document.querySelectorAll("details.b-menu[open]")) if (menu !== except) menu.open = false;
};

document.addEventListener("click", (event) => {
  const target = event.target;
  closeMenus(target.closest("details.b-menu"));
  const copier = target.closest("[data-copy]");
  if (copier) copy(copier);
  const opener = target.closest("a[data-dialog]");
  if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    openDialog(opener);
  }
  if (target.matches("dialog.b-dialog") || target.closest("[data-close]")) target.closest("dialog")?.close();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hideTip();
  const menu = document.querySelector("details.b-menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("focusin", (event) => closeMenus(event.target.closest("details.b-menu")));

// The navigation is a popover on a phone only.
matchMedia("(min-width: 768px)").addEventListener("change", () => {
  const nav = document.getElementById("nav");
  if (nav?.matches(":popover-open")) nav.hidePopover();
});

// A chart is one stop for the Tab key; the arrows move along its bars.
const tip = document.getElementById("tip");

const hideTip = () => {
  if (tip) tip.hidden = true;
};

const showTip = (bar, x, y) => {
  if (tip.shown !== bar) {
    const content = JSON.parse(bar.dataset.tip);
    const header = make("div");
    header.append(make("span", "", content.title), make("span", "", content.total));
    const list = make("ul");
    for (const [color, name, text] of content.rows) {
      const row = make("li");
      row.append(make("i", `b-swatch series-${color}`), make("span", "name", name), make("span", "value", text));
      list.append(row);
    }
    tip.replaceChildren(header, list);
    tip.shown = bar;
  }
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 18 + width > innerWidth ? Math.max(8, x - width - 18) : x + 18;
  const top = Math.min(Math.max(8, y - height / 2), innerHeight - height - 8);
  tip.style.transform = `translate(${left}px, ${top}px)`;
};

document.addEventListener("pointermove", (event) => {
  const bar = event.target.closest?.(".b-bar");
  if (bar) showTip(bar, event.clientX, event.clientY);
  else if (!document.activeElement?.matches(".b-bar:focus-visible")) hideTip();
});

document.addEventListener("focusin", (event) => {
  if (!event.target.matches(".b-bar")) return hideTip();
  const box = event.target.getBoundingClientRect();
  showTip(event.target, box.right - 8, box.top + box.height / 2);
});

document.addEventListener("keydown", (event) => {
  const bar = event.target.closest?.(".b-bar");
  if (!bar) return;
  const bars = [...bar.parentNode.querySelectorAll(".b-bar")];
  const index = bars.indexOf(bar);
  const next = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: bars.length - 1 }[event.key];
  if (next == null) return;
  event.preventDefault();
  if (!bars[next]) return;
  bar.setAttribute("tabindex", "-1");
  bars[next].setAttribute("tabindex", "0");
  bars[next].focus();
});

// The switcher opens where one is; with many organizations one of them is found by typing.
document.addEventListener(
  "toggle",
  ({ target }) => {
    if (!target.matches("details.b-switch[open]")) return;
    const [pop, current] = [target.querySelector(".b-pop"), target.querySelector("[aria-current]")];
    if (current) pop.scrollTop = current.offsetTop - (pop.clientHeight - current.offsetHeight) / 2;
    target.querySelector("[data-find]")?.focus({ preventScroll: true });
  },
  true,
);

document.addEventListener("input", ({ target }) => {
  if (!target.matches("[data-find]")) return;
  const wanted = target.value.trim().toLowerCase();
  const entries = [...target.closest(".b-pop").querySelectorAll("ul > li")];
  for (const entry of entries) entry.hidden = !entry.querySelector("b").textContent.toLowerCase().includes(wanted);
  target.closest(".b-pop").querySelector("[data-none]").hidden = entries.some((entry) => !entry.hidden);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("[data-find]")) return;
  event.preventDefault();
  event.target.closest(".b-pop").querySelector("ul > li:not([hidden]) > a")?.click();
});

// The slug of a new organization follows its name until someone edits it.
const slugOf = (name) =>
  name
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[\u0300-\u036f]/g, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 40);

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-slug-form]");
  if (!form) return;
  const { name, slug } = form.elements;
  if (event.target === slug) slug.dataset.edited = slug.value ? "true" : "";
  else if (event.target === name && !slug.dataset.edited) slug.value = slugOf(name.value);
  for (const place of form.querySelectorAll("[data-slug-preview]")) place.textContent = slug.value || "…";
});

// Times read in UTC on hover; add the reader's own.
const addLocalTimes = () => {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of document.querySelectorAll("time[title]:not([data-local])")) {
    time.title += `\n${format.format(new Date(time.dateTime))} here`;
    time.dataset.local = "true";
  }
};

addLocalTimes();
document.addEventListener("htmx:after:swap", () => {
  hideTip();
  addLocalTimes();
});
