// Loads workflow files in ComfyUI's page, one after the other, and says as one JSON line each what the page made of them.
//
//   node page.mjs SERVER SHOTS_FOLDER open|queue|look classic|vue WORKFLOW.json…
//
// "open" loads each; "queue" runs it too and waits for its end; "look" loads it in a page of its own and opens what that says
// about missing models.
// classic: nodes drawn on a canvas; vue: nodes as parts of the page ("Nodes 2.0"), where the page has them.
// Boxes of nodes are [left, top, right, bottom] in the units of the workflow file, titles included, before and after the run.
import fs from 'node:fs';
import path from 'node:path';
import { browser, openPage } from './browser.mjs';

const [server, shots, mode, rendering, ...workflows] = process.argv.slice(2);

// Shows the whole graph.
const fit = (page) => page.evaluate(() => {
  const { canvas } = window.app;
  const boxes = window.app.graph.nodes.map((node) => [...node.pos, node.pos[0] + node.size[0], node.pos[1] + node.size[1]]);
  const [left, top] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])) - 60);
  const [right, bottom] = [2, 3].map((i) => Math.max(...boxes.map((box) => box[i])) + 60);
  canvas.ds.scale = Math.min(1.2, 1500 / (right - left), 800 / (bottom - top));
  canvas.ds.offset = [80 / canvas.ds.scale - left, 80 / canvas.ds.scale - top];
  canvas.setDirty(true, true);
});

// Where nodes are. Pages with Vue nodes spread a file's positions to make room for them: `spread` says how much.
const measure = (page) => page.evaluate(() => {
  const title = window.LiteGraph.NODE_TITLE_HEIGHT;
  const { scale } = window.app.canvas.ds;
  return window.app.graph.nodes.map((node) => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`);
    const rect = element?.getBoundingClientRect();
    const [width, height] = rect ? [rect.width / scale, rect.height / scale] : [node.size[0], node.size[1] + title];
    const [left, top] = [node.pos[0], node.pos[1] - title];
    return { id: Number(node.id), type: node.type, title: node.title, box: [left, top, left + width, top + height] };
  });
});

const open = () => openPage(server, {
  'Comfy.Workflow.ShowMissingModelsWarning': mode === 'look',
  'Comfy.VueNodes.Enabled': rendering === 'vue',
});

let page;
for (const workflow of workflows) {
  if (!page || mode === 'look') page = await open();
  const file = JSON.parse(fs.readFileSync(workflow, 'utf8'));
  await page.evaluate((data) => window.app.loadGraphData(data), structuredClone(file));
  await page.waitForTimeout(1000);
  await fit(page);
  await page.waitForTimeout(700);
  if (mode === 'look') {
    const details = page.getByText('View details').first();
    if (await details.isVisible().catch(() => false)) {
      await details.click();
      await page.waitForTimeout(700);
    }
  }
  const report = await page.evaluate(async () => {
    const nodes = window.app.graph.nodes;
    const titles = (wanted) => nodes.filter(wanted).map((node) => node.title);
    return {
      nodes: nodes.length,
      missing: titles((node) => !window.LiteGraph.registered_node_types[node.type]),
      errored: titles((node) => node.has_errors),
      toasts: [...document.querySelectorAll('.p-toast-message')].map((toast) => toast.innerText),
      dialog: document.querySelector('[role="dialog"]')?.innerText ?? '',
      text: document.body.innerText,
      vue: document.querySelectorAll('[data-node-id]').length,
      api: (await window.app.graphToPrompt()).output,
    };
  });
  report.before = await measure(page);

  if (mode === 'queue') {
    await page.evaluate(() => window.app.queuePrompt(0, 1));
    const history = async () => Object.values(await (await page.request.get(`${server}/api/history?max_items=1`)).json())[0];
    const before = Date.now();
    let entry;
    do {
      await page.waitForTimeout(200);
      const { queue_running, queue_pending } = await (await page.request.get(`${server}/api/queue`)).json();
      entry = queue_running.length + queue_pending.length ? undefined : await history();
    } while (!entry && Date.now() - before < 180_000);
    report.status = entry?.status?.status_str ?? 'none';
    report.outputs = entry?.outputs ?? {};
    report.errored.push(...Object.keys((await page.evaluate(() => window.app.lastNodeErrors)) ?? {}));
    await page.waitForTimeout(1000);
  }
  await fit(page);
  await page.waitForTimeout(700);
  report.after = await measure(page);
  report.size = file.nodes.map((node) => [node.id, ...node.pos, ...node.size]);
  await page.screenshot({ path: path.join(shots, `${path.basename(workflow, '.json')}.png`) });
  console.log(JSON.stringify({ workflow: path.basename(workflow, '.json'), ...report }));
  if (mode === 'look') await page.close();
}
await browser.close();
