// The page of the HTTP API: shows /openapi.json to people, and lets them try what only reads.

import { empty, h, labelled, section } from "/web/dom.js";
import { OpenApi } from "/web/openapi.js";
import { tryForm } from "/web/docs_try.js";

const MAX_DEPTH = 6;
const COLOURS = { 2: "good", 4: "bad", 5: "bad" };
const main = document.querySelector("#main");

async function open() {
  const answer = await fetch("/openapi.json", { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`/openapi.json is answered with status ${answer.status}.`);
  const api = new OpenApi(await answer.json());
  const operations = api.operations();
  const groups = Map.groupBy(operations, (one) => one.group);
  const count = h("p", { class: "soft", role: "status" });
  const find = h("input", { type: "search", name: "find", placeholder: "path or word", oninput: () => narrow(find.value, count) });
  main.replaceChildren(
    h("h1", {}, api.document.info.title, " ", h("small", { class: "soft" }, api.document.info.version)),
    ...prose(api.document.info.description),
    h("form", { role: "search", onsubmit: (event) => event.preventDefault() }, labelled("Find", find), count),
    ...[...groups].map(([name, ones]) => section(name, ones.map((one) => operation(api, one)))),
  );
  narrow("", count);
  follow();
  addEventListener("hashchange", follow);
}

/** Show only the operations in which each of the words is found. */
function narrow(text, count) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = [...main.querySelectorAll(".operation")];
  for (const one of all) one.hidden = !words.every((word) => one.firstChild.textContent.toLowerCase().includes(word));
  for (const one of main.querySelectorAll("section")) one.hidden = !one.querySelector(".operation:not([hidden])");
  const shown = all.filter((one) => !one.hidden).length;
  count.textContent = shown === all.length ? `${shown} operations` : `${shown} of ${all.length} operations`;
}

/** An address such as /docs#get-v1-vehicles leads to this operation. */
function follow() {
  const wanted = document.getElementById(location.hash.slice(1));
  if (!wanted?.classList.contains("operation")) return;
  wanted.open = true;
  wanted.scrollIntoView();
}

function operation(api, one) {
  const details = h(
    "details",
    { class: "operation", id: one.id },
    h("summary", {}, h("span", { class: `method ${one.method}` }, one.method.toUpperCase()), " ", h("code", {}, breakable(one.path)), " ", h("span", { class: "soft" }, one.summary ?? "")),
  );
  // Made when it is opened for the first time: all of them at once are thousands of elements.
  details.addEventListener("toggle", () => details.append(h("div", {}, contents(api, one))), { once: true });
  return details;
}

function contents(api, one) {
  return [
    ...prose(one.description),
    h("p", { class: "scope" }, accessOf(api, one), " ", h("a", { href: `#${one.id}` }, "Link to this")),
    one.parameters.length ? part("Parameters", parameters(api, one.parameters)) : null,
    one.body ? part("Body", Object.entries(one.body.content).map(([type, media]) => content(api, type, media))) : null,
    one.method === "get" ? part("Try it", tryForm(api, one)) : part("By curl", h("pre", {}, curl(api, one))),
    part("Answers", one.answers.map(([status, answer]) => answerOf(api, status, answer))),
  ];
}

function accessOf(api, one) {
  const scope = one["x-scope"];
  if (scope === "open") return "Open: no token is needed.";
  if (scope === "partly-open") return "Partly open: it says less without a token.";
  return api.needsToken(one) ? `Needs a token with the scope ${scope}.` : `For the scope ${scope}; no tokens are used here.`;
}

/** A path that a narrow screen breaks after a slash, not within a word. */
function breakable(path) {
  return path.split(/(?<=\/)/).flatMap((one) => [one, h("wbr")]);
}

function part(title, ...children) {
  return h("div", { class: "part" }, h("h3", {}, title), children);
}

function parameters(api, all) {
  return h("ul", { class: "members" }, all.map((one) =>
    member(api, { name: one.name, schema: one.schema, required: one.required }, ` in the ${one.in}`, one.description, MAX_DEPTH)));
}

function answerOf(api, status, answer) {
  const contents = Object.entries(answer.content ?? {});
  return h(
    "details",
    { class: "answer" },
    h("summary", {}, h("strong", { class: COLOURS[status[0]] ?? "soft" }, status), " ", answer.description ?? ""),
    contents.length ? contents.map(([type, media]) => content(api, type, media)) : empty("without a body"),
  );
}

/** A body or an answer of one media type: its members, and an example. */
function content(api, type, media) {
  const example = media.schema || media.example !== undefined || media.examples ? api.example(media) : null;
  const text = typeof example === "string" ? example : JSON.stringify(example, null, 2);
  return [
    h("p", {}, h("code", {}, type), media.schema ? `: ${api.type(media.schema)}` : ""),
    media.schema ? members(api, media.schema, 0, new Set()) : null,
    example === null ? null : h("details", { class: "example" }, h("summary", {}, "Example"), h("pre", { tabindex: "0" }, text)),
  ];
}

function members(api, schema, depth, seen) {
  const objects = depth < MAX_DEPTH ? api.objects(schema).filter((one) => !seen.has(one.$ref)) : [];
  return objects.map((one) => {
    const within = one.$ref ? new Set([...seen, one.$ref]) : seen;
    const title = objects.length > 1 ? h("li", { class: "soft" }, `${api.type(one)}:`) : null;
    return h("ul", { class: "members" }, title, api.members(one).map((inner) => member(api, inner, "", null, depth, within)));
  });
}

function member(api, { name, schema, required }, place, description, depth, seen = new Set()) {
  const limits = api.limits(schema);
  const words = description ?? api.resolved(schema).description;
  return h(
    "li",
    {},
    h("code", { class: "name" }, name), " ",
    h("span", { class: "type" }, api.type(schema)),
    h("span", { class: "soft" }, place, required ? ", required" : "", limits ? `, ${limits}` : ""),
    words ? h("div", {}, inline(words)) : null,
    members(api, schema, depth + 1, seen),
  );
}

function curl(api, one) {
  const [type, media] = Object.entries(one.body?.content ?? {})[0] ?? [];
  return [
    `curl -X ${one.method.toUpperCase()} '${location.origin}${one.path}'`,
    !api.needsToken(one) ? null : "-H 'Authorization: Bearer ing_…'",
    type ? `-H 'Content-Type: ${type}'` : null,
    type ? `-d '${JSON.stringify(api.example(media))}'` : null,
  ].filter(Boolean).join(" \\\n  ");
}

/** Paragraphs and lists, as descriptions have them. */
function prose(text) {
  return (text ?? "").split(/\n\s*\n/).filter((one) => one.trim()).map((block) => {
    const items = block.trim().split(/\n(?=- )/);
    return items.every((one) => one.startsWith("- "))
      ? h("ul", {}, items.map((one) => h("li", {}, inline(one.slice(2)))))
      : h("p", {}, inline(block));
  });
}

/** `code` in a text. */
function inline(text) {
  return text.split(/`([^`]+)`/).map((one, index) => (index % 2 ? h("code", {}, one) : one));
}

open().catch((error) => main.replaceChildren(h("h1", {}, "The HTTP API"), h("p", { class: "problem", role: "alert" }, error.message)));
