// Questions to the API. Who is not logged in is led to the login.

export class ApiError extends Error {
  constructor(status, body) {
    super(body.detail ?? `The server answers with status ${status}.`);
    this.status = status;
    this.body = body;
  }
}

export async function ask(path, parameters = {}, options = {}) {
  const query = new URLSearchParams(
    Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== ""),
  );
  let answer;
  try {
    answer = await fetch(query.size ? `${path}?${query}` : path, { headers: { Accept: "application/json" }, ...options });
  } catch {
    throw new ApiError(0, { detail: "The server does not answer. The page asks again." });
  }
  if (answer.status === 401) {
    location.assign(`/login${location.hash}`);
    return new Promise(() => {}); // the page goes away
  }
  return answer;
}

export async function get(path, parameters) {
  return body(await ask(path, parameters));
}

/** As `get`, but null where nothing is known of a device. */
export async function find(path, parameters) {
  const answer = await ask(path, parameters);
  return answer.status === 404 ? null : body(answer);
}

/** /health says with 503 what is wrong. */
export async function health() {
  return (await ask("/health")).json();
}

export async function change(method, path, value) {
  const options = { method, headers: { Accept: "application/json" } };
  if (value !== undefined) {
    options.body = JSON.stringify(value);
    options.headers["Content-Type"] = "application/json";
  }
  return body(await ask(path, {}, options));
}

async function body(answer) {
  if (answer.status === 204) return null;
  const parsed = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, parsed);
  return parsed;
}

/** The samples of /metrics: a list of {name, labels, value}. */
export async function metrics() {
  const answer = await ask("/metrics");
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  return [...(await answer.text()).matchAll(/^([a-z_]+)(\{.*\})? (\S+)$/gm)].map(([, name, labels, value]) => ({
    name,
    labels: labels ?? "",
    value: Number(value),
  }));
}

/** The sum of a metric over its labels; null if there is none. */
export function total(samples, name) {
  const found = samples.filter((sample) => sample.name === name);
  return found.length ? found.reduce((sum, sample) => sum + sample.value, 0) : null;
}

export function device(kind, id, what) {
  return `/v1/analytics/${kind}/${encodeURIComponent(id)}/${what}`;
}
