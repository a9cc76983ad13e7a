// Runs before the first paint: "system" follows the machine, now and when it changes.
(() => {
  const html = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    if (html.dataset.theme === "system") html.classList.toggle("dark", dark.matches);
  };
  html.classList.add("js");
  apply();
  dark.addEventListener("change", apply);
})();
