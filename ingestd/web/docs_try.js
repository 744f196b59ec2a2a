// A form for a GET request: it is sent with the login of this browser, and the beginning of its answer is shown.

import { h, labelled } from "/web/dom.js";

const MAX_SHOWN = 64 * 1024; // characters; an export may have gigabytes
const MAX_SECONDS = 10; // a stream has no end

export function tryForm(api, operation) {
  const shown = h("div", { role: "status" });
  const fields = operation.parameters.filter((one) => one.in === "path" || one.in === "query");
  const send = async (event) => {
    event.preventDefault();
    const address = addressOf(operation.path, fields, new FormData(form));
    const text = h("pre", { tabindex: "0" });
    const said = h("p", {}, "…");
    shown.replaceChildren(h("p", {}, h("code", {}, `GET ${address}`)), said, text);
    try {
      await show(address, said, text);
    } catch (error) {
      said.textContent = error.name === "TimeoutError" ? `${said.textContent} The answer goes on: this is what came in ${MAX_SECONDS} s.` : "The server does not answer.";
    }
  };
  const form = h("form", { onsubmit: send }, fields.map((one) => labelled(one.name, field(api, one))), h("button", { class: "main" }, "Send"));
  return [form, shown];
}

function field(api, parameter) {
  const schema = api.resolved(parameter.schema);
  const choices = schema.enum ?? schema.anyOf?.map((one) => api.resolved(one)).find((one) => one.enum)?.enum;
  const required = parameter.in === "path";
  if (choices) return h("select", { name: parameter.name }, required ? null : h("option", { value: "" }, ""), choices.map((one) => h("option", {}, one)));
  return h("input", { name: parameter.name, required, autocomplete: "off", spellcheck: "false" });
}

function addressOf(path, fields, values) {
  const query = new URLSearchParams();
  let filled = path;
  for (const { name, in: place } of fields) {
    if (place === "path") filled = filled.replace(`{${name}}`, encodeURIComponent(values.get(name)));
    else if (values.get(name)) query.append(name, values.get(name));
  }
  return query.size ? `${filled}?${query}` : filled;
}

async function show(address, said, text) {
  const begun = performance.now();
  const answer = await fetch(address, { headers: { Accept: "application/json, */*;q=0.5" }, signal: AbortSignal.timeout(MAX_SECONDS * 1000) });
  const type = answer.headers.get("Content-Type") ?? "no body";
  said.replaceChildren(
    h("strong", { class: answer.ok ? "good" : "bad" }, `${answer.status} ${answer.statusText}`),
    `, ${type}, after ${Math.round(performance.now() - begun)} ms.`,
    ...(answer.status === 401 ? [" ", h("a", { href: "/login" }, "Log in")] : []),
  );
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader?.read(); piece && !piece.done; piece = await reader.read()) {
    text.append(piece.value);
    if (text.textContent.length > MAX_SHOWN) {
      await reader.cancel();
      text.append("\n…");
      return;
    }
  }
  if (type.includes("json")) text.textContent = pretty(text.textContent);
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
