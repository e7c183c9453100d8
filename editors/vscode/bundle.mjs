// Puts the extension and what it is made of into one file, `dist/extension.js`, with the licences of all of it beside it.
import { copyFileSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));

export async function bundle() {
  process.chdir(here);
  rmSync('dist', { recursive: true, force: true });
  mkdirSync('dist');

  const { metafile } = await build({
    entryPoints: ['extension.js'],
    outfile: 'dist/extension.js',
    bundle: true,
    external: ['vscode'],
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    minify: true,
    metafile: true,
    logLevel: 'warning',
  });

  const packages = new Set();
  for (const input of Object.keys(metafile.inputs)) {
    const found = /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  let text = 'Parts of dist/extension.js that others have written, with their licences.\n';
  for (const folder of [...packages].sort()) {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file) throw new Error(`${folder} has no licence file`);
    text += `\n${'='.repeat(80)}\n${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  }
  writeFileSync('dist/LICENCES-OF-PARTS.txt', text);

  for (const file of ['LICENSE-MIT', 'LICENSE-APACHE']) {
    const own = join(here, '..', '..', file);
    if (!existsSync(own)) throw new Error(`${own} is missing`);
    copyFileSync(own, join('dist', `${file}.txt`));
  }
}
