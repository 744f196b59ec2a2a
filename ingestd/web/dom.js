// Elements, tables, and sections that are filled again and again without taking the focus away.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/**
 * Replace what is in an element, if it is different. The focus stays at the link or button of the same name, details
 * stay open, and tables stay where they were scrolled to.
 */
export function fill(element, ...children) {
  const fresh = document.createElement("div");
  fresh.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  const open = new Set([...element.querySelectorAll("details[open]")].map((one) => one.dataset.name));
  for (const one of fresh.querySelectorAll("details")) one.open = open.has(one.dataset.name);
  if (fresh.innerHTML === element.innerHTML) return;
  const held = element.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  const scrolled = new Map([...element.querySelectorAll(".scroll")].map((one) => [nameOf(one), [one.scrollLeft, one.scrollTop]]));
  element.replaceChildren(...fresh.childNodes);
  for (const one of element.querySelectorAll(".scroll")) [one.scrollLeft, one.scrollTop] = scrolled.get(nameOf(one)) ?? [0, 0];
  if (held) [...element.querySelectorAll("a, button, input, select, [tabindex]")].find((one) => nameOf(one) === held)?.focus();
}

function nameOf(element) {
  return element.id || element.getAttribute("href") || element.getAttribute("aria-label") || element.textContent;
}

/**
 * A table. Columns are {title, value(row), number, wrap}. The caption is seen if it says more than the heading above.
 * On a narrow screen the cells of a wide table stand below each other, so it names the roles that it has anyway.
 */
export function table(caption, columns, rows, { isSeen = false } = {}) {
  const cell = (column, row, index) => h(index === 0 ? "th" : "td", {
    class: classes(column), scope: index === 0 ? "row" : null, role: index === 0 ? "rowheader" : "cell", "data-title": column.title,
  }, h("span", {}, column.value(row) ?? "–"));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      { role: "table", class: columns.length > 3 ? "wide" : null },
      h("caption", { class: isSeen ? null : "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((column) =>
        h("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, column.title)))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row" }, columns.map((column, index) => cell(column, row, index))))),
    ),
  );
}

function classes(column) {
  return [column.number && "number", column.wrap && "wrap"].filter(Boolean).join(" ") || null;
}

export function section(title, ...children) {
  return h("section", { "aria-label": title }, h("h2", {}, title), children);
}

export function empty(...children) {
  return h("p", { class: "empty" }, children);
}

export function problem(error) {
  return h("p", { class: "problem", role: "alert" }, error.message);
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value ?? "–")]));
}

export function labelled(text, control) {
  return h("label", {}, text, control);
}

export function select(name, options, chosen, onchange) {
  return h("select", { name, onchange }, options.map(([value, text]) =>
    h("option", { value, selected: String(value) === String(chosen) }, text)));
}
