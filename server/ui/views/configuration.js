// The settings in force, and what a reload would change.

import { fill, h, table, toast } from "../dom.js";
import { ask, order } from "../gateway.js";

export function configuration(root) {
  const body = h("div", { "aria-live": "polite" }, h("p", { class: "muted" }, "Loading"));
  const reload = h("button", { type: "button", class: "primary", onclick: now }, "Reload");
  root.append(h("div", { class: "toolbar" }, reload, h("button", { type: "button", onclick: () => load() }, "Look at the file again")), body);
  async function now() {
    reload.disabled = true;
    try {
      const told = await order("/v1/coe/reload");
      const changes = ["added", "removed", "changed"].filter((each) => told[each].length).map((each) => `${each} ${told[each].join(", ")}`);
      toast(`Reloaded: ${changes.join("; ") || "the same experts"}`);
    } catch (error) { toast(error.message, true); }
    reload.disabled = false;
    load();
  }
  async function load() {
    try {
      const told = await ask("/v1/coe/configuration");
      fill(body, h("h2", null, "The file now"),
        told.problem ? h("p", { class: "note bad" }, told.problem) : told.changes.length
          ? table("What differs in the file", ["Setting", "In force", "In the file"], told.changes.map((each) => [h("code", null, each.setting), each.in_force ?? "–", each.in_file ?? "–"]))
          : h("p", { class: "muted" }, "It says what is in force."),
        h("h2", null, "In force"), h("p", { class: "muted small" }, "With all defaults and what was chosen at the start. Secrets are hidden."), h("pre", { tabindex: "0", "aria-label": "Settings in force" }, told.in_force));
    } catch (error) { fill(body, h("p", { class: "note bad" }, error.message)); }
  }
  load();
}
