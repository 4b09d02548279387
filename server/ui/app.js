// The frame around the views: where one is, whether the gateway is heard, theme and keys.

import { fill, h, text } from "./dom.js";
import { connection, follow, keys, watch } from "./gateway.js";
import { api } from "./views/api.js";
import { configuration } from "./views/configuration.js";
import { experts } from "./views/experts.js";
import { logs } from "./views/logs.js";
import { metrics } from "./views/metrics.js";
import { playground } from "./views/playground.js";
import { requests } from "./views/requests.js";
import { routers } from "./views/routers.js";
import { story } from "./views/story.js";
import { tiers } from "./views/tiers.js";
import { usage } from "./views/usage.js";

const VIEWS = [
  ["tiers", "Tiers", tiers], ["requests", "Requests", requests], ["playground", "Playground", playground],
  ["router", "Router", routers], ["metrics", "Metrics", metrics], ["experts", "Experts", experts],
  ["usage", "Keys and usage", usage], ["logs", "Logs", logs], ["configuration", "Configuration", configuration],
  ["api", "API", api],
];
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const status = document.getElementById("status");

fill(nav, h("ul", null, VIEWS.map(([name, title]) => h("li", null, h("a", { href: `#/${name}` }, title)))));

let current = null;

function show() {
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  const found = VIEWS.find(([each]) => each === name) ?? VIEWS[0];
  const id = decodeURIComponent(rest.join("/"));
  const view = found[0] === "requests" && id ? story : found[2];
  current?.leave?.();
  for (const link of nav.querySelectorAll("a")) {
    if (link.getAttribute("href") === `#/${found[0]}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  nav.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  document.title = `${found[1]} · Composition of Experts`;
  const root = h("div", { class: `view view-${found[0]}` }, h("h1", null, view === story ? "Request" : found[1]));
  fill(main, root);
  current = view(root, id) ?? {};
  current.update?.(new Set(["all"]));
}

addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); scrollTo(0, 0); });

watch((sections) => {
  if (sections.has("connection")) paint();
  current?.update?.(sections);
});

function paint() {
  const said = connection.kind === "key" ? (keys.operator ? "Key refused" : "Key needed") : connection.text;
  status.dataset.kind = connection.kind;
  text(status, said);
  document.body.dataset.connection = connection.kind;
  document.getElementById("barrier")?.remove();
  if (connection.kind === "key") {
    main.before(h("section", { id: "barrier", class: "note bad", "aria-label": "Key" },
      h("p", null, connection.text),
      h("button", { type: "button", onclick: askForKeys }, "Enter keys")));
  }
}

function askForKeys() {
  const operator = h("input", { type: "password", id: "operator-key", autocomplete: "off", value: keys.operator });
  const client = h("input", { type: "password", id: "client-key", autocomplete: "off", value: keys.client });
  const dialog = h("dialog", { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("p", null, "Kept in this tab alone, until it is closed."),
    h("label", { for: "operator-key" }, "Operator's key (server.admin_key)"), operator,
    h("label", { for: "client-key" }, "API key, for the playground and the router"), client,
    h("div", { class: "row end" },
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel"),
      h("button", { type: "button", class: "primary", onclick: use }, "Use")));
  function use() {
    keys.set(operator.value.trim(), client.value.trim());
    dialog.close();
    show(); // what was refused is asked again
  }
  dialog.addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target !== dialog.querySelector(".quiet")) { event.preventDefault(); use(); } });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
document.getElementById("keys").addEventListener("click", askForKeys);

const THEMES = ["auto", "light", "dark"];
const theme = document.getElementById("theme");
function dress(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  text(theme, `Theme: ${name}`);
}
theme.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(localStorage.getItem("coe.theme") ?? "auto") + 1) % THEMES.length];
  localStorage.setItem("coe.theme", next);
  dress(next);
});
dress(localStorage.getItem("coe.theme") ?? "auto");

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
  const view = VIEWS[event.key === "0" ? 9 : Number(event.key) - 1];
  if (view && /^[0-9]$/.test(event.key)) location.hash = `#/${view[0]}`;
  if (event.key === "/") {
    const search = main.querySelector("input[type=search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
});

show();
paint();
follow();
