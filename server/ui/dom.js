// Elements, made without markup in texts: what a client or a log wrote stays a text.

const SVG = "http://www.w3.org/2000/svg";

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Makes an element: h("p", {class: "note"}, "text", h("b", null, "bold")). */
export const h = (tag, attributes, ...children) => put(document.createElement(tag), attributes, children);

/** The same of SVG. */
export const s = (tag, attributes, ...children) => put(document.createElementNS(SVG, tag), attributes, children);

/** Replaces all that an element holds. */
export function fill(element, ...children) {
  element.replaceChildren();
  return add(element, children);
}

/** Sets a text only where it is another, so that nothing flickers and no selection is lost. */
export function text(element, value) {
  const written = value === null || value === undefined ? "" : String(value);
  if (element.textContent !== written) element.textContent = written;
}

/** Keeps one child for each item, in their order, and touches only what changed. */
export function keyed(parent, items, keyOf, make, update) {
  const known = (parent.keyed ??= new Map());
  const left = new Set(known.keys());
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    left.delete(key);
    let child = known.get(key);
    if (!child) known.set(key, (child = make(item)));
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const key of left) {
    known.get(key).remove();
    known.delete(key);
  }
}

/** A table with a caption for those who cannot see it. */
export function table(caption, heads, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", null,
      h("caption", { class: "hidden" }, caption),
      h("thead", null, h("tr", null, heads.map((head) => h("th", { scope: "col" }, head || h("span", { class: "hidden" }, "As a bar"))))),
      h("tbody", null, rows.map((row) => h("tr", null, row.map((cell, at) =>
        at ? h("td", null, cell) : h("th", { scope: "row" }, cell)))))));
}

/** Pairs of a name and a value. */
export const facts = (pairs) => h("dl", { class: "facts" },
  pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) =>
    h("div", null, h("dt", null, name), h("dd", null, value))));

export function toast(message, bad = false) {
  const shown = h("p", { class: bad ? "toast bad" : "toast" }, message);
  document.getElementById("toasts").append(shown);
  setTimeout(() => shown.remove(), bad ? 9000 : 4000);
}
