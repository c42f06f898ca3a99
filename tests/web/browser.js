// A browser that does what it is told: node browser.js MODULES CHROMIUM PROFILE
// Each line of standard input is JSON: {page: its name, script: the body of a function of `page`, `given` and `seen`, given}.
// `seen` has what a page should not show by itself: errors, messages of the console, dialogs.
// Each line of standard output is what the script returned, {result}, or {error}.

const { createRequire } = require("node:module");
const { createInterface } = require("node:readline");

const [modules, executablePath, profile] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/package.json`)("playwright-core");
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const Script = Object.getPrototypeOf(async () => {}).constructor;

async function main() {
  const browser = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
  const pages = new Map();
  const seen = new Map();
  const faults = [];
  try {
    for await (const line of createInterface({ input: process.stdin })) {
      const { page: name, script, given } = JSON.parse(line);
      if (!pages.has(name)) {
        const page = await browser.newPage();
        const found = [];
        page.on("pageerror", (error) => faults.push(`${name}: ${error}`) && found.push(`error: ${error}`));
        page.on("console", (message) => found.push(`console: ${message.text()}`));
        page.on("dialog", (dialog) => found.push(`dialog: ${dialog.message()}`) && dialog.dismiss());
        seen.set(name, found);
        pages.set(name, page);
      }
      let answer;
      try {
        // the others have no frames drawn, and playwright waits for them before it clicks
        await pages.get(name).bringToFront();
        answer = { result: (await new Script("page", "given", "seen", script)(pages.get(name), given, seen.get(name))) ?? null };
        // what went wrong in a page by itself is a fault of what it was told last
        if (faults.length) answer = { error: faults.splice(0).join("; ") };
      } catch (error) {
        answer = { error: `${error}` };
      }
      process.stdout.write(`${JSON.stringify(answer)}\n`);
    }
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
