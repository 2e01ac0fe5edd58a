// JSON Schema as a form needs it. A draft is what the fields hold; `collect` makes the JSON value, and what is wrong with it.
//
// Schemas come from servers: they may be huge, circular or wrong. What a form cannot do becomes a field for JSON.

const MAX_DEPTH = 6;
const MAX_FIELDS = 200;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const own = (object, key) => (isObject(object) && Object.hasOwn(object, key) ? object[key] : undefined);
const text = (value) => (typeof value === "string" ? value : "");
/** An object whose member may have any name. */
const bare = (entries = []) => {
  const made = Object.create(null);
  for (const [key, value] of entries) made[key] = value;
  return made;
};

/**
 * A tree of fields: {kind, title, description, required, nullable, fallback, …}. Kinds: `string`, `number`, `integer`,
 * `boolean`, `choice` (with `choices`: [{value, title}]), `choices` (several of them), `list` (with `item`), `object`
 * (with `fields`: [[name, field]]), `json`.
 */
export function fieldOf(schema) {
  const root = isObject(schema) ? schema : {};
  const left = { fields: MAX_FIELDS };
  return make(root, root, 0, left, new Set());
}

function resolved(schema, root, seen) {
  let now = schema;
  const path = new Set(seen);
  for (let turn = 0; turn < 20; turn += 1) {
    const reference = own(now, "$ref");
    if (reference !== undefined) {
      if (path.has(reference) || !text(reference).startsWith("#/")) return [null, path];
      path.add(reference);
      let found = root;
      for (const part of reference.slice(2).split("/")) found = own(found, part.replaceAll("~1", "/").replaceAll("~0", "~"));
      if (!isObject(found)) return [null, path];
      const { $ref: _, ...rest } = now;
      now = { ...found, ...rest };
      continue;
    }
    const all = own(now, "allOf");
    if (Array.isArray(all) && all.length === 1 && isObject(all[0])) {
      const { allOf: _, ...rest } = now;
      now = { ...all[0], ...rest };
      continue;
    }
    break;
  }
  return [isObject(now) ? now : null, path];
}

const isNull = (schema) => own(schema, "type") === "null" || (own(schema, "const") === null && Object.hasOwn(schema, "const"));

function titledChoices(list) {
  if (!Array.isArray(list) || !list.length || !list.every((one) => isObject(one) && Object.hasOwn(one, "const"))) return null;
  return list.slice(0, 500).map((one) => ({ value: one.const, title: text(one.title) || show(one.const) }));
}
const show = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function make(given, root, depth, left, seen) {
  left.fields -= 1;
  let [schema, path] = resolved(given, root, seen);
  const about = { title: text(own(given, "title")), description: text(own(given, "description")), nullable: false };
  if (!schema || depth > MAX_DEPTH || left.fields < 0) return { ...about, kind: "json" };
  for (const key of ["anyOf", "oneOf"]) {
    const list = own(schema, key);
    if (!Array.isArray(list) || !list.every(isObject)) continue;
    const others = list.filter((one) => !isNull(one));
    if (others.length !== list.length) about.nullable = true;
    const { [key]: _, ...rest } = schema;
    if (others.length === 1) [schema, path] = resolved({ ...others[0], ...rest }, root, path);
    else if (titledChoices(others)) schema = { ...rest, oneOf: others };
    if (!schema) return { ...about, kind: "json" };
  }
  let type = own(schema, "type");
  if (Array.isArray(type)) {
    about.nullable ||= type.includes("null");
    const types = type.filter((one) => one !== "null");
    type = types.length === 1 ? types[0] : undefined;
  }
  const field = {
    ...about,
    title: about.title || text(own(schema, "title")),
    description: about.description || text(own(schema, "description")),
    fallback: own(given, "default") ?? own(schema, "default"),
    schema,
  };
  const choices = choicesOf(schema);
  if (choices) return { ...field, kind: "choice", choices };
  if (own(schema, "anyOf") || own(schema, "oneOf") || own(schema, "allOf")) return { ...field, kind: "json" };
  if (type === "string" || type === "number" || type === "integer" || type === "boolean") return { ...field, kind: type };
  if (type === "array") {
    const items = own(schema, "items");
    if (!isObject(items)) return { ...field, kind: "json" };
    const several = choicesOf(items) ?? titledChoices(own(items, "anyOf"));
    if (several) return { ...field, kind: "choices", choices: several };
    return { ...field, kind: "list", item: make(items, root, depth + 1, left, path) };
  }
  const properties = own(schema, "properties");
  if (isObject(properties) && (type === "object" || type === undefined)) {
    const required = Array.isArray(schema.required) ? schema.required : [];
    const fields = Object.entries(properties).map(([name, one]) => [
      name,
      { ...make(isObject(one) ? one : {}, root, depth + 1, left, path), required: required.includes(name) },
    ]);
    fields.sort(([, one], [, other]) => Number(other.required) - Number(one.required));
    return { ...field, kind: "object", fields };
  }
  if (type === "object" && depth === 0 && own(schema, "additionalProperties") !== undefined && !isObject(schema.additionalProperties)) return { ...field, kind: "object", fields: [] };
  if (type === "object" && depth === 0 && !Object.hasOwn(schema, "additionalProperties")) return { ...field, kind: "object", fields: [] };
  return { ...field, kind: "json" };
}

function choicesOf(schema) {
  if (Object.hasOwn(schema, "const")) return [{ value: schema.const, title: show(schema.const) }];
  const listed = own(schema, "enum");
  if (Array.isArray(listed) && listed.length) {
    const names = own(schema, "enumNames");
    return listed.slice(0, 500).map((value, at) => ({ value, title: Array.isArray(names) && text(names[at]) ? names[at] : show(value) }));
  }
  return titledChoices(own(schema, "oneOf"));
}

// --- drafts

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const choiceAt = (field, value) => {
  const at = field.choices.findIndex((one) => same(one.value, value));
  return at < 0 ? "" : String(at);
};

/** The draft of a JSON value; undefined for none. Throws `Error` for a value that the form has no place for. */
export function draftOf(field, value) {
  if (value === undefined && field.fallback !== undefined) {
    try {
      return draftOf({ ...field, fallback: undefined }, field.fallback);
    } catch {
      // A default that does not fit its own schema counts as none.
    }
  }
  const fit = (good) => {
    if (value !== undefined && !good) throw new Error(`the form has no place for ${show(value).slice(0, 80)}`);
  };
  if (field.kind !== "json" && value === null && field.nullable) return draftOf({ ...field, fallback: undefined }, undefined);
  switch (field.kind) {
    case "string":
      fit(typeof value === "string");
      return value ?? "";
    case "number":
    case "integer":
      fit(typeof value === "number");
      return value === undefined ? "" : String(value);
    case "boolean":
      fit(typeof value === "boolean");
      return value === undefined ? "" : String(value);
    case "choice":
      if (value !== undefined) fit(choiceAt(field, value) !== "");
      return value === undefined ? (field.required && field.choices.length === 1 ? "0" : "") : choiceAt(field, value);
    case "choices":
      fit(Array.isArray(value) && value.every((one) => choiceAt(field, one) !== ""));
      return (value ?? []).map((one) => choiceAt(field, one));
    case "list":
      fit(Array.isArray(value) && value.length <= MAX_FIELDS);
      return (value ?? []).map((one) => draftOf(field.item, one));
    case "object": {
      fit(isObject(value));
      const known = new Set(field.fields.map(([name]) => name));
      const other = Object.keys(value ?? {}).find((name) => !known.has(name));
      if (other !== undefined) throw new Error(`the form has no field for ${show(other).slice(0, 80)}`);
      return bare(field.fields.map(([name, one]) => [name, draftOf(one, value === undefined ? undefined : own(value, name))]));
    }
    default:
      return value === undefined ? "" : JSON.stringify(value, null, 2);
  }
}

/** A draft of an object with another draft of one member. */
export const withMember = (draft, name, member) => bare([...Object.entries(draft), [name, member]]);

/** The JSON value of a draft, undefined for none: {value, errors}. `errors`: path -> what is wrong. */
export function collect(field, draft) {
  const errors = new Map();
  const value = gather(field, draft, "", errors, true);
  return { value, errors };
}

function isEmpty(field, draft) {
  if (field.kind === "object") return field.fields.every(([name, one]) => isEmpty(one, draft[name]));
  if (field.kind === "list" || field.kind === "choices") return !draft.length;
  return draft === "";
}

function gather(field, draft, path, errors, needed) {
  const wrong = (said) => {
    errors.set(path, said);
    return undefined;
  };
  const { schema = {} } = field;
  if (isEmpty(field, draft) && !needed) return undefined;
  switch (field.kind) {
    case "string": {
      const [least, most] = [own(schema, "minLength"), own(schema, "maxLength")];
      const length = [...draft].length;
      if (!length && field.required) return wrong("needed; an empty text can be given as JSON");
      if (length < least) return wrong(length ? `at least ${least} characters` : "needed");
      if (length > most) return wrong(`at most ${most} characters; now ${length}`);
      return draft;
    }
    case "number":
    case "integer":
      return gatherNumber(field, draft, wrong);
    case "boolean":
      return draft === "" ? wrong("needed") : draft === "true";
    case "choice":
      return draft === "" ? wrong("choose one") : field.choices[Number(draft)].value;
    case "choices":
      return bounded(schema, draft.map((at) => field.choices[Number(at)].value), wrong);
    case "list": {
      const values = draft.map((one, at) => gather(field.item, one, `${path}/${at}`, errors, true));
      return bounded(schema, values, wrong);
    }
    case "object": {
      const made = bare();
      for (const [name, one] of field.fields) {
        const value = gather(one, draft[name], `${path}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`, errors, one.required === true);
        if (value !== undefined) made[name] = value;
      }
      return made;
    }
    default:
      if (draft.trim() === "") return wrong("needed, as JSON");
      try {
        return JSON.parse(draft);
      } catch (error) {
        return wrong(`not JSON: ${error.message}`);
      }
  }
}

function gatherNumber(field, draft, wrong) {
  const { schema } = field;
  const written = draft.trim();
  if (written === "") return wrong("needed");
  const value = Number(written);
  if (!Number.isFinite(value) || !/^[-+]?[\d.]/.test(written) || /^[-+]?0[xob]/i.test(written)) return wrong(field.kind === "integer" ? "not a whole number" : "not a number");
  if (field.kind === "integer" && !Number.isInteger(value)) return wrong("not a whole number");
  if (field.kind === "integer" && !Number.isSafeInteger(value)) return wrong("too large for this form; use JSON");
  const [least, most, above, below] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"].map((key) => own(schema, key));
  if (value < least) return wrong(`at least ${least}`);
  if (value > most) return wrong(`at most ${most}`);
  if (value <= above) return wrong(`more than ${above}`);
  if (value >= below) return wrong(`less than ${below}`);
  return value;
}

function bounded(schema, values, wrong) {
  const [least, most] = [own(schema, "minItems"), own(schema, "maxItems")];
  if (values.length < least) return wrong(`at least ${least}`);
  if (values.length > most) return wrong(`at most ${most}`);
  return values;
}

/** What a value may be, in words: `whole number, 1 to 10`. */
export function limitsOf(field) {
  const { schema = {} } = field;
  const said = [{ integer: "whole number", number: "number", list: "list", choices: "any of these", json: "JSON" }[field.kind] ?? ""];
  const [least, most] = [own(schema, "minimum"), own(schema, "maximum")];
  if (least !== undefined && most !== undefined) said.push(`${least} to ${most}`);
  else if (least !== undefined) said.push(`at least ${least}`);
  else if (most !== undefined) said.push(`at most ${most}`);
  const [above, below] = [own(schema, "exclusiveMinimum"), own(schema, "exclusiveMaximum")];
  if (above !== undefined) said.push(`more than ${above}`);
  if (below !== undefined) said.push(`less than ${below}`);
  if (own(schema, "minLength") > 1) said.push(`at least ${schema.minLength} characters`);
  if (own(schema, "maxLength") !== undefined) said.push(`at most ${schema.maxLength} characters`);
  if (text(own(schema, "format"))) said.push(schema.format);
  if (text(own(schema, "pattern"))) said.push(`pattern ${schema.pattern}`);
  return said.filter(Boolean).join(", ");
}

/** A short word for the type of a field, for tables. */
export function typeOf(field) {
  if (field.kind === "choice") return field.choices.length === 1 ? "constant" : "one of " + field.choices.length;
  if (field.kind === "list") return `list of ${typeOf(field.item)}`;
  if (field.kind === "choices") return "list of choices";
  return { json: "any", integer: "whole number" }[field.kind] ?? field.kind;
}
