// The example page in a browser: node pages.js MODULES CHROMIUM PROFILE URL...
// Sends a job on each page, waits for an answer, and prints what the page shows as JSON.

const { createRequire } = require("node:module");

const [modules, executablePath, profile, ...urls] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/package.json`)("playwright-core");
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

async function main() {
  const browser = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args });
  try {
    for (const url of urls) {
      const page = await browser.newPage();
      await page.goto(url);
      await page.locator("#state").filter({ hasText: "connected" }).waitFor();
      await page.fill("[name=job]", "a kilt for <b>Jamie</b>");
      await page.click("button");
      const answer = page.locator("#answers li");
      await answer.waitFor();
      process.stdout.write(`${JSON.stringify(await answer.textContent())}\n`);
    }
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});
