// What an OpenAPI 3.1 document says: references, schemas in words, and examples of values.

export const METHODS = ["get", "post", "put", "patch", "delete"];

export class OpenApi {
  constructor(document) {
    this.document = document;
  }

  /** All operations in the order of the document: {method, path, id, group, parameters, ...}. */
  operations() {
    return Object.entries(this.document.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => item[method]).map((method) => {
        const operation = item[method];
        return {
          ...operation,
          method,
          path,
          id: `${method}${path.replace(/[^A-Za-z0-9]+/g, "-")}`.replace(/-$/, ""),
          group: operation.tags?.[0] ?? "Operations",
          parameters: [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((one) => this.resolved(one)),
          body: operation.requestBody && this.resolved(operation.requestBody),
          answers: Object.entries(operation.responses ?? {}).map(([status, answer]) => [status, this.resolved(answer)]),
        };
      }));
  }

  /** What a $ref leads to; its neighbours, such as a description, win. */
  resolved(value) {
    let found = value ?? {};
    for (let steps = 0; found.$ref && steps < 20; steps += 1) {
      const { $ref, ...rest } = found;
      const target = $ref.slice(2).split("/").reduce(
        (inner, part) => inner?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")], this.document);
      found = { ...target, ...rest };
    }
    return found;
  }

  /** Whether it is refused without a token. */
  needsToken(operation) {
    const needed = operation.security ?? this.document.security ?? [];
    return needed.length > 0 && needed.every((one) => Object.keys(one).length > 0);
  }

  /** A schema in a few words: "array of number or null". */
  type(schema) {
    if (schema === true || schema === undefined) return "anything";
    const found = this.resolved(schema);
    const choices = found.anyOf ?? found.oneOf;
    if (choices && !found.properties) return [...new Set(choices.map((one) => this.type(one)))].join(" or ");
    if (found.allOf?.length === 1) return this.type(found.allOf[0]);
    if (found.const !== undefined) return JSON.stringify(found.const);
    if (found.enum) return found.enum.map((one) => JSON.stringify(one)).join(" or ");
    if (found.title && found.properties) return found.title;
    const types = [found.type ?? (found.properties ? "object" : "anything")].flat();
    return types.map((one) => (one === "array" ? `array of ${this.type(found.items)}` : one)).join(" or ");
  }

  /** What limits a value, in words. */
  limits(schema) {
    const found = this.resolved(schema);
    const inner = (found.anyOf ?? found.oneOf ?? []).map((one) => this.limits(one)).filter(Boolean);
    const range = [
      found.minimum !== undefined && `at least ${found.minimum}`,
      found.exclusiveMinimum !== undefined && `more than ${found.exclusiveMinimum}`,
      found.maximum <= Number.MAX_SAFE_INTEGER && `at most ${found.maximum}`,
      found.exclusiveMaximum !== undefined && `less than ${found.exclusiveMaximum}`,
      found.minLength !== undefined && `at least ${found.minLength} characters`,
      found.maxLength !== undefined && `at most ${found.maxLength} characters`,
      found.minItems !== undefined && `at least ${found.minItems} items`,
      found.maxItems !== undefined && `at most ${found.maxItems} items`,
      found.format ?? (found.pattern && `pattern ${found.pattern}`),
      found.default !== undefined && found.default !== null && `${JSON.stringify(found.default)} if missing`,
      ...new Set(inner),
    ];
    return range.filter(Boolean).join(", ");
  }

  /** The objects that a schema describes, by the name of each member: {name, schema, required}. */
  members(schema) {
    const found = this.resolved(schema);
    const required = new Set(found.required ?? []);
    const own = Object.entries(found.properties ?? {}).map(([name, member]) => ({ name, schema: member, required: required.has(name) }));
    const others = found.additionalProperties;
    if (others && typeof others === "object") own.push({ name: "…", schema: others, required: false });
    return [...own, ...(found.allOf ?? []).flatMap((one) => this.members(one))];
  }

  /** The schemas of objects inside, each once: of the items of an array, of each choice. */
  objects(schema) {
    return [...new Map(this.all(schema).map((one) => [JSON.stringify(one), one])).values()];
  }

  all(schema, seen = new Set()) {
    if (!schema || schema === true || seen.has(schema.$ref)) return [];
    const found = this.resolved(schema);
    if (found.properties || found.allOf || typeof found.additionalProperties === "object") return [schema];
    const within = schema.$ref ? new Set([...seen, schema.$ref]) : seen;
    return [...(found.anyOf ?? []), ...(found.oneOf ?? []), found.items].flatMap((one) => this.all(one, within));
  }

  /** The example of a body or an answer: one that is given, or one made from the schema. */
  example(media) {
    if (media.example !== undefined) return media.example;
    const given = Object.values(media.examples ?? {}).map((one) => this.resolved(one).value);
    return given.length ? given[0] : this.sample(media.schema);
  }

  sample(schema, seen = new Set()) {
    if (!schema || schema === true || seen.has(schema.$ref)) return null;
    const within = schema.$ref ? new Set([...seen, schema.$ref]) : seen;
    const found = this.resolved(schema);
    const given = [found.example, found.examples?.[0], found.const, found.default, found.enum?.[0]].find((one) => one !== undefined && one !== null);
    if (given !== undefined) return given;
    const choices = found.anyOf ?? found.oneOf;
    if (choices && !found.properties) return this.sample(choices.find((one) => this.type(one) !== "null"), within);
    const members = this.members(schema);
    if (members.length) return Object.fromEntries(members.map((one) => [one.name, this.sample(one.schema, within)]));
    switch ([found.type].flat()[0]) {
      case "array": return [this.sample(found.items, within)];
      case "string": return found.format === "date-time" ? "2026-11-20T10:30:00Z" : "…";
      case "integer": case "number": return found.minimum ?? 0;
      case "boolean": return true;
      case "object": return {};
      default: return null;
    }
  }
}
