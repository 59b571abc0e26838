// Types phrases into the node search of ComfyUI's page, which a double click on the empty canvas opens, and prints as JSON
// {phrase: the texts of the nodes that it shows, in order}.
//
//   node search.mjs SERVER PHRASE…
import { browser, openPage } from './browser.mjs';

const [server, ...phrases] = process.argv.slice(2);
const page = await openPage(server, {});
await page.evaluate(() => window.app.graph.clear());
const found = {};
for (const phrase of phrases) {
  await page.mouse.dblclick(800, 600);
  await page.waitForTimeout(600);
  await page.keyboard.type(phrase, { delay: 20 });
  await page.waitForTimeout(1000);
  found[phrase] = await page.evaluate(() =>
    [...document.querySelectorAll('[role="option"], [data-testid="result-item"]')].map((entry) => entry.innerText).filter(Boolean));
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.waitForTimeout(300);
}
console.log(JSON.stringify(found));
await browser.close();
