// A person with a browser: `node approval/browser.mjs CHROMIUM URL approve|decline KEYS` opens the page of a question, tries
// each key of the JSON list KEYS until one may answer, and clicks. Prints what the page showed as one JSON object.
import { chromium } from "playwright-core";

const [executablePath, url, answer, keys] = process.argv.slice(2);
const flags = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-proxy-server",
];
const browser = await chromium.launch({ executablePath, headless: true, args: flags });
const problems = [];
const requested = new Set();
try {
  const page = await browser.newPage({ javaScriptEnabled: false, colorScheme: "dark" });
  page.on("console", (message) => problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("request", (request) => requested.add(`${request.method()} ${new URL(request.url()).pathname}`));
  await page.goto(url);
  const question = await page.locator("pre").innerText();
  const button = page.getByRole("button", { name: answer === "approve" ? "Approve" : "Decline" });
  const tried = [];
  const decide = async () => {
    await Promise.all([page.waitForNavigation(), button.click()]);
    tried.push(await page.locator("h1").innerText());
  };
  for (const key of JSON.parse(keys)) {
    await page.getByLabel(/^Key/).fill(key);
    await page.keyboard.press("Enter"); // is no decision
    await decide();
  }
  if (!tried.length) await decide();
  const again = await page.goto(url);
  console.log(JSON.stringify({ question, tried, again: again.status(), problems, requested: [...requested] }));
} finally {
  await browser.close();
}
