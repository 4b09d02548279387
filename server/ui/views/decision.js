// A router's decision: category, probabilities, the row of the map, and who was ruled out.

import { h, table } from "../dom.js";
import { number, percent, seconds, width } from "../format.js";

export function bar(share, label) {
  const fillElement = h("i");
  fillElement.style.setProperty("width", width(share));
  return h("span", { class: "share", title: label }, fillElement);
}

export function decided(told, expert) {
  const likely = Object.entries(told.probabilities).filter(([, each]) => each >= 0.005).slice(0, 8);
  return h("div", null,
    h("p", null, "Category ", h("b", null, told.category), told.cluster !== told.category ? ` (${told.cluster})` : "", `, confidence ${percent(told.confidence)}`,
      told.uncertain ? h("span", { class: "tag", data: { kind: "bad" } }, "doubtful") : "", told.sticky ? ", kept from an earlier turn" : "",
      told.alone !== told.category ? `; the last turn by itself is ${told.alone}` : "", ` · decided in ${seconds(told.seconds)}`),
    table("Probabilities", ["Category", "Probability", ""], likely.map(([name, each]) => [name, percent(each, 1), bar(each, name)])),
    told.expected ? [h("h3", null, "What is expected of this prompt"),
      table("Scores expected of experts", ["Expert", "Score", "Price of its size", "Left"], told.expected.map((each) =>
        [each.expert === expert ? h("b", null, each.expert) : each.expert, number(each.score), number(each.price), number(each.score - each.price)]))] : null,
    told.row ? [h("h3", null, "The row of the map"), told.fixed ? h("p", null, "The expert of this row was fixed by hand, whatever the scores are.") : null,
      table("Scores of experts here", ["Expert", "Score", "± error", "Parameters", "Prompts"], told.row.map((each) =>
        [each.expert === expert ? h("b", null, each.expert) : each.expert, number(each.score), number(each.standard_error), `${number(each.parameters_billion)} B`, number(each.prompts)]))]
      : h("p", { class: "muted" }, "The map was given by hand here: there are no scores to show."));
}

export const ruledOut = (list) => list?.length
  ? [h("h3", null, "Ruled out"), h("ul", null, list.map((each) => h("li", null, each.message)))] : null;
