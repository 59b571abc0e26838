// Loads workflow files in ComfyUI's page, one after the other, and says as one JSON line each what the page made of them.
//
//   node page.mjs SERVER SHOTS_FOLDER queue|look WORKFLOW.json…
//
// "queue" runs each and waits for its end; "look" only loads it, with the dialog about missing models switched on.
// $PLAYWRIGHT is a folder with node_modules/playwright-core, $CHROMIUM a browser (/usr/bin/chromium).
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT, 'x.js'))('playwright-core');
const [server, shots, mode, ...workflows] = process.argv.slice(2);

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
});

for (const workflow of workflows) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });  // in a context of its own: the page restores its last graph
  // Nothing outside this machine: such requests fail at once instead of waiting.
  await page.route((url) => url.protocol.startsWith('http') && url.hostname !== '127.0.0.1', (route) => route.abort());
  await page.request.post(`${server}/api/settings`, {
    data: {
      'Comfy.TutorialCompleted': true,
      'Comfy.Notification.ShowVersionUpdates': false,
      'Comfy.Minimap.Visible': false,
      'Comfy.Workflow.ShowMissingModelsWarning': mode === 'look',
      'LiteGraph.Canvas.LowQualityRenderingZoomThreshold': 0.1,
    },
  });
  await page.goto(server, { waitUntil: 'domcontentloaded' });
  await page.waitForFunction(() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50);
  await page.waitForTimeout(500);
  const report = await page.evaluate(async (data) => {
    await window.app.loadGraphData(data);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const nodes = window.app.graph.nodes;
    const titles = (wanted) => nodes.filter(wanted).map((node) => node.title);
    return {
      nodes: nodes.length,
      missing: titles((node) => !window.LiteGraph.registered_node_types[node.type]),
      errored: titles((node) => node.has_errors),
      toasts: [...document.querySelectorAll('.p-toast-message')].map((toast) => toast.innerText),
      dialog: document.querySelector('[role="dialog"]')?.innerText ?? '',
      api: (await window.app.graphToPrompt()).output,
    };
  }, JSON.parse(fs.readFileSync(workflow, 'utf8')));

  if (mode === 'queue') {
    await page.evaluate(() => window.app.queuePrompt(0, 1));
    const history = async () => Object.values(await (await page.request.get(`${server}/api/history?max_items=1`)).json())[0];
    const before = Date.now();
    let entry;
    do {
      await page.waitForTimeout(200);
      const { queue_running, queue_pending } = await (await page.request.get(`${server}/api/queue`)).json();
      entry = queue_running.length + queue_pending.length ? undefined : await history();
    } while (!entry && Date.now() - before < 60000);
    report.status = entry?.status?.status_str ?? 'none';
    report.outputs = entry?.outputs ?? {};
    report.errored.push(...Object.keys((await page.evaluate(() => window.app.lastNodeErrors)) ?? {}));
  }
  await page.evaluate(() => {
    const { canvas } = window.app;
    const boxes = window.app.graph.nodes.map((node) => [...node.pos, node.pos[0] + node.size[0], node.pos[1] + node.size[1]]);
    const [left, top] = [0, 1].map((i) => Math.min(...boxes.map((box) => box[i])) - 60);
    const [right, bottom] = [2, 3].map((i) => Math.max(...boxes.map((box) => box[i])) + 60);
    canvas.ds.scale = Math.min(1.2, 1500 / (right - left), 800 / (bottom - top));
    canvas.ds.offset = [80 / canvas.ds.scale - left, 80 / canvas.ds.scale - top];
    canvas.setDirty(true, true);
  });
  await page.waitForTimeout(700);
  await page.screenshot({ path: path.join(shots, `${path.basename(workflow, '.json')}.png`) });
  console.log(JSON.stringify({ workflow: path.basename(workflow, '.json'), ...report }));
  await page.close();
}
await browser.close();
