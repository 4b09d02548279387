// The gateway's log and its engines', followed.

import { fill, h, text } from "../dom.js";
import { clock } from "../format.js";
import { ask } from "../gateway.js";

const MOST = 2000;

export function logs(root) {
  const source = h("select", { "aria-label": "Log", onchange: () => begin() }, h("option", { value: "gateway" }, "gateway"));
  const level = h("select", { "aria-label": "Least level", onchange: () => begin() }, ["info", "warning", "error"].map((each) => h("option", { value: each }, each)));
  const follow = h("input", { type: "checkbox", id: "follow", checked: true });
  const search = h("input", { type: "search", placeholder: "Only lines with  ( / )", "aria-label": "Only lines with", oninput: () => sift() });
  const lines = h("div", { class: "log lines", tabindex: "0", role: "log", "aria-label": "Lines", "aria-live": "off" });
  const problem = h("p", { class: "note bad", hidden: true });
  root.append(h("div", { class: "toolbar" }, source, level, search, h("label", { for: "follow" }, follow, " Follow")), problem, lines);
  let after = 0, gone = false, timer = 0, turn = 0;

  const sift = () => { for (const line of lines.children) line.hidden = !line.textContent.toLowerCase().includes(search.value.toLowerCase()); };

  function begin() { clearTimeout(timer); after = 0; turn += 1; fill(lines); read(turn); }

  async function read(mine) {
    try {
      const told = await ask(`/v1/coe/logs?source=${encodeURIComponent(source.value)}&level=${level.value}&after=${after}`);
      if (gone || mine !== turn) return;
      problem.hidden = true;
      if (told.sources.join() !== [...source.options].map((each) => each.value).join()) {
        fill(source, told.sources.map((each) => h("option", { value: each }, each)));
        source.value = told.source;
      }
      if (told.anew) fill(lines);
      after = told.next;
      const asked = search.value.toLowerCase();
      for (const line of told.lines) {
        const row = h("p", { data: { level: line.level.toLowerCase() } }, line.at ? h("time", null, `${clock(line.at)} `) : null, line.at ? h("span", { class: "muted" }, `${line.level.toLowerCase()} ${line.logger} `) : null, line.text);
        row.hidden = !row.textContent.toLowerCase().includes(asked);
        lines.append(row);
      }
      while (lines.childElementCount > MOST) lines.firstChild.remove();
      if (told.lines.length && follow.checked) lines.scrollTop = lines.scrollHeight;
      if (!lines.childElementCount) fill(lines, h("p", { class: "muted" }, "No line yet."));
      else if (told.lines.length && lines.firstChild.classList.contains("muted")) lines.firstChild.remove();
    } catch (error) {
      if (gone || mine !== turn) return;
      problem.hidden = false;
      text(problem, error.message);
    }
    timer = setTimeout(() => read(mine), 1000);
  }
  begin();
  return { leave() { gone = true; clearTimeout(timer); } };
}
