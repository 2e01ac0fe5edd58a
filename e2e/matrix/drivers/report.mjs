// How every Node.js driver of the matrix reports; `report.py` tells the form.
export const STEP_LIMIT = 8_000;
export const NOT_HONORED = "subscriptions/listen does not honor it";

export const [url, planText, era = ""] = process.argv.slice(2);
export const plan = JSON.parse(planText);

export function line(values) {
  process.stdout.write(`${JSON.stringify(values)}\n`);
}

export function within(promise, milliseconds = STEP_LIMIT) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("nothing came in time")), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

// What came unasked: log messages, updated URIs, changed lists.
export class Heard {
  items = [];
  #news;
  #arrived = new Promise((resolve) => {
    this.#news = resolve;
  });

  note(item) {
    this.items.push(item);
    this.#news();
  }

  async first() {
    await within(this.#arrived, STEP_LIMIT / 2);
    return this.items;
  }
}

export function text(content, isError = false) {
  const joined = content.flatMap((part) => (part.text === undefined ? [] : [part.text])).join("\n");
  if (isError) throw new Error(`tool error: ${joined}`);
  return joined;
}

async function report(step, work) {
  try {
    line({ step, got: await within(work()) });
    return true;
  } catch (error) {
    line({ step, error: String(error.message || error).replace(/\s+/g, " ") });
    return false;
  }
}

// The plan's steps, one after another, once the connection stands.
export async function take(connect, steps) {
  line({ can: ["connect", ...Object.keys(steps)] });
  if (!(await report("connect", connect))) return;
  for (const [name, needs] of Object.entries(plan)) {
    if (name in steps) await report(name, () => steps[name](needs));
  }
}

// The steps of a client on the official TypeScript SDK: what both of its versions share.
export function sdkSteps(client, call, heard) {
  const callText = async ({ name, arguments: args }) => {
    const result = await call(name, args);
    return text(result.content, result.isError);
  };
  const callOften = async (needs) => {
    for (let time = 0; time < needs.times; time++) await callText(needs);
  };
  return {
    "tools/list": async () => (await client.listTools()).tools.map((tool) => tool.name),
    "tools/call": callText,
    progress: async ({ name, arguments: args }) => {
      const seen = [];
      await call(name, args, (step) => seen.push([step.progress, step.total]));
      return seen;
    },
    "resources/list": async () => (await client.listResources()).resources.map((each) => each.uri),
    "resources/templates/list": async () =>
      (await client.listResourceTemplates()).resourceTemplates.map((each) => each.uriTemplate),
    "resources/read": async ({ uri }) => text((await client.readResource({ uri })).contents),
    "prompts/list": async () => (await client.listPrompts()).prompts.map((each) => each.name),
    "prompts/get": async ({ name, arguments: args }) =>
      text((await client.getPrompt({ name, arguments: args })).messages.map((message) => message.content)),
    "completion/complete": async ({ prompt, argument }) =>
      (await client.complete({ ref: { type: "ref/prompt", name: prompt }, argument })).completion.values,
    elicitation: callText,
    sampling: callText,
    logging: async (needs) => {
      await client.setLoggingLevel("debug");
      await callOften(needs);
      return heard.logs.first();
    },
    "resources/updated": async (needs) => {
      await client.subscribeResource({ uri: needs.uri });
      await callOften(needs);
      return heard.updates.first();
    },
    "tools/list_changed": async (needs) => {
      await callText(needs);
      return heard.changes.first();
    },
    callOften,
  };
}

export const answers = {
  elicitation: () => ({ action: "accept", content: plan.elicitation.answer }),
  sampling: () => ({
    role: "assistant",
    model: "matrix",
    content: { type: "text", text: plan.sampling.answer },
  }),
};
