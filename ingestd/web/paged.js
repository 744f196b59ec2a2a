// Lists whose pages follow each other by `before`: alerts and dead letters. A filter is a part of the address.

import { get } from "/web/api.js";
import { empty, fill, h } from "/web/dom.js";

/**
 * `controls` are form fields; `show(rows, refresh)` makes the table; `actions(filter, refresh)`, if there are any, what
 * stands above it.
 */
export function paged(root, { path, query, title, api, key, controls, show, none, actions = () => null }) {
  const befores = [null];
  const rows = h("div", {}, empty("Loading …"));
  const pager = h("p");
  const go = (event) => {
    event?.preventDefault();
    location.hash = `#/${path}?${new URLSearchParams([...new FormData(form)].filter(([, value]) => value))}`;
  };
  const form = h("form", { onsubmit: go, role: "search" }, controls(go), h("button", {}, "Filter"));
  const filter = () => {
    const { hours, ...others } = Object.fromEntries(query);
    return hours ? { ...others, startTime: new Date(Date.now() - hours * 3600e3).toISOString() } : others;
  };
  const refresh = async () => {
    const before = befores.at(-1);
    let page;
    try {
      page = await get(api, { ...filter(), before, limit: 50 });
    } catch (error) {
      if (error.status !== 403 && error.status !== 400) throw error;
      fill(rows, h("p", { class: "problem" }, error.status === 403 ? "These need a token with the scope admin: log out, and log in with such a token." : error.message));
      return;
    }
    if (before !== befores.at(-1)) return;
    fill(rows, page[key].length ? show(page[key], refresh) : empty(none(query)));
    const turn = (text, able, move) => h("button", { type: "button", disabled: !able, onclick: () => { move(); refresh(); } }, text);
    fill(pager, turn("Newer", befores.length > 1, () => befores.pop()), " ", turn("Older", page.next !== null, () => befores.push(page.next)));
  };
  root.append(...[h("h1", {}, title), form, actions(filter, refresh), rows, pager].filter(Boolean));
  return refresh;
}
