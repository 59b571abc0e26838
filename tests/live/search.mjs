// Types phrases into the node search of ComfyUI's page, which a double click on the empty canvas opens, and prints as JSON
// {phrase: the texts of the nodes that it shows, in order}.
//
//   node search.mjs SERVER PHRASE…
import { browser, openPage } from './browser.mjs';

const [server, ...phrases] = process.argv.slice(2);
const page = await openPage(server, {});
await page.evaluate(() => window.app.graph.clear());
const list = () => page.evaluate(() =>
  [...document.querySelectorAll('[role="option"], [data-testid="result-item"]')].map((entry) => entry.innerText).filter(Boolean));
const found = {};
for (const phrase of phrases) {
  for (let tries = 0; tries < 10 && !(await page.$('input:focus')); tries += 1) {
    await page.mouse.dblclick(800, 600);
    await page.waitForSelector('input:focus', { timeout: 3000 }).catch(() => {}); // a busy machine: once more
  }
  const before = await list(); // of pages that show nodes before anything is typed
  await page.keyboard.type(phrase, { delay: 20 });
  // Until the list has changed, and then no more.
  let shown = before;
  for (let waited = 0; waited < 20 && (!shown.length || String(shown) === String(before)); waited += 0.5) {
    await page.waitForTimeout(500);
    shown = await list();
  }
  await page.waitForTimeout(1000);
  found[phrase] = await list();
  await page.keyboard.press('Escape');
  await page.keyboard.press('Escape');
  await page.waitForTimeout(500);
}
console.log(JSON.stringify(found));
await browser.close();
