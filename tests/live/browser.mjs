// Chromium on ComfyUI's page. $PLAYWRIGHT is a folder with node_modules/playwright-core, $CHROMIUM a browser (/usr/bin/chromium).
import path from 'node:path';
import { createRequire } from 'node:module';

const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT, 'x.js'))('playwright-core');

export const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--disable-background-networking'],
});

// An empty page, in a context of its own: the page restores its last graph. settings: more of the page's.
export async function openPage(server, settings) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
  page.setDefaultTimeout(180_000); // of a busy machine
  // Nothing outside this machine: such requests fail at once instead of waiting.
  await page.route((url) => url.protocol.startsWith('http') && url.hostname !== '127.0.0.1', (route) => route.abort());
  await page.request.post(`${server}/api/settings`, {
    data: {
      'Comfy.TutorialCompleted': true,
      'Comfy.Notification.ShowVersionUpdates': false,
      'Comfy.VersionCompatibility.DisableWarnings': true, // of a page older than the server asks for
      'Comfy.Minimap.Visible': false,
      'LiteGraph.Canvas.LowQualityRenderingZoomThreshold': 0.1,
      ...settings,
    },
  });
  await page.goto(server, { waitUntil: 'domcontentloaded' });
  await page.waitForFunction(() => window.app?.graph && Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 50);
  await page.waitForTimeout(500);
  return page;
}
