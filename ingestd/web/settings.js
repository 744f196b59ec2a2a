// The settings of one device. An empty field: the same as for all other devices.

import { change, get } from "/web/api.js";
import { fill, h, labelled } from "/web/dom.js";

const FIELDS = {
  threshold: { text: "Threshold of efficiency (0 to 1)", kinds: ["vehicle"], type: "number", step: "0.01", min: "0", max: "1" },
  offlineAfter: { text: "Offline after (such as 2h)", kinds: ["vehicle", "meter"], type: "text" },
  maxKw: { text: "Most power that is plausible (kW)", kinds: ["vehicle", "meter"], type: "number", step: "any", min: "0" },
};

export function settings(kind, id) {
  const path = `/v1/devices/${kind}/${encodeURIComponent(id)}/settings`;
  const said = h("div", { role: "status", "aria-live": "polite" });
  const names = Object.keys(FIELDS).filter((name) => FIELDS[name].kinds.includes(kind));
  const inputs = Object.fromEntries(names.map((name) => {
    const { type, step, min, max } = FIELDS[name];
    return [name, h("input", { name, type, step, min, max, placeholder: "same as all devices" })];
  }));
  let known = null;
  const show = (value) => {
    known = value;
    for (const name of names) inputs[name].value = value[name] ?? "";
  };
  const act = async (does, text) => {
    fill(said);
    try {
      show((await does()) ?? {});
      fill(said, h("p", { class: "good" }, text));
    } catch (error) {
      fill(said, h("p", { class: "problem" }, error.status === 403 ? "This needs a token with the scope admin." : error.message));
    }
  };
  const send = (event) => {
    event.preventDefault();
    const wrong = names.filter((name) => !inputs[name].checkValidity());
    if (wrong.length) {
      fill(said, h("p", { class: "problem" }, wrong.map((name) => `${FIELDS[name].text}: ${inputs[name].validationMessage} `), "Nothing was saved."));
      inputs[wrong[0]].focus();
      return;
    }
    const value = Object.fromEntries(names.filter((name) => inputs[name].value !== "").map((name) =>
      [name, FIELDS[name].type === "number" ? Number(inputs[name].value) : inputs[name].value]));
    if (Object.keys(value).length) act(() => change("PUT", path, value), "Saved.");
    else clear();
  };
  /** Where nothing is set, there is nothing to delete. */
  const clear = () => act(async () => {
    if (names.some((name) => (known?.[name] ?? null) !== null)) await change("DELETE", path);
    return {};
  }, "The same as for all other devices.");
  return {
    root: h("div", {},
      h("form", { onsubmit: send, oninput: () => fill(said), novalidate: true, "aria-label": "Settings" }, names.map((name) => labelled(FIELDS[name].text, inputs[name])),
        h("button", { class: "main" }, "Save"), h("button", { type: "button", onclick: clear }, "Reset")), said),
    refresh: async () => {
      if (known !== null) return; // asked for once: later they would overwrite what is being typed
      show(await get(path));
    },
  };
}
