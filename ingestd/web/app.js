// The views and their addresses: #/fleet, #/vehicle/EV-101?hours=24 and so on. Each view has a link.

import { ask, ApiError } from "/web/api.js";
import { alerts } from "/web/alerts.js";
import { deadLetters } from "/web/dead_letters.js";
import { meter, vehicle } from "/web/device.js";
import { meters, vehicles } from "/web/devices.js";
import { empty, h, section } from "/web/dom.js";
import { fleet } from "/web/fleet.js";
import * as format from "/web/format.js";
import { healthView } from "/web/health.js";
import { follow } from "/web/live.js";

const VIEWS = {
  fleet, vehicles, meters, vehicle, meter, alerts, "dead-letters": deadLetters, health: healthView,
};
const PARENTS = { vehicle: "vehicles", meter: "meters" };
const main = document.querySelector("#main");
const notice = document.querySelector("#notice");
let end = () => {};
let shown = null;

function open() {
  if (location.hash && !location.hash.startsWith("#/")) return; // the link that skips to the content
  end();
  const [path, query] = location.hash.slice(2).split("?");
  const [name, id] = parts(path);
  const makeView = (name in PARENTS && !id ? null : VIEWS[name]) ?? notFound;
  for (const link of document.querySelectorAll("nav a")) {
    const is = link.getAttribute("href") === `#/${PARENTS[name] ?? name}`;
    if (is) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const root = h("div");
  main.replaceChildren(root);
  const refresh = makeView(root, { id, query: new URLSearchParams(query) });
  document.title = `${root.querySelector("h1").textContent} · ingestd`;
  if (shown !== null && shown !== path) main.focus(); // a screen reader begins to read here
  shown = path;
  end = follow((watch) => tried(() => refresh(watch)));
}

function notFound(root) {
  root.append(h("h1", {}, "Not found"), section("There is no such view",
    empty("No view has the address ", h("code", {}, location.hash), ". "), h("p", {}, h("a", { href: "#/fleet" }, "To the fleet"))));
  return async () => {};
}

/** Of a path such as vehicle/EV-101. Without a path it is the fleet; what is no address is no view. */
function parts(path) {
  try {
    return (path || "fleet").split("/").map(decodeURIComponent);
  } catch {
    return [];
  }
}

async function tried(refresh) {
  try {
    await refresh();
    notice.hidden = true;
    document.querySelector("#updated").textContent = `Updated at ${format.time(new Date())}.`;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (notice.hidden || notice.textContent !== error.message) notice.textContent = error.message;
    notice.hidden = false;
  }
}

/** Where no tokens are used, there is no login to end. */
async function showLogout() {
  const answer = await ask("/");
  document.querySelector("#logout").hidden = answer.ok && !(await answer.json()).tokens;
}

document.querySelector("#zone").textContent = `Times are those of ${format.ZONE}.`;
document.querySelector("#logout").addEventListener("click", async () => {
  await ask("/logout", {}, { method: "POST" });
  location.assign("/login");
});
addEventListener("hashchange", open);
tried(showLogout);
open();
