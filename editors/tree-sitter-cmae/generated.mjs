// Notes what the parser was generated from and by which release, so that a change of one file alone is seen.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';

const files = ['grammar.js', 'src/grammar.json', 'src/node-types.json', 'src/parser.c'];
const digest = (file) => createHash('sha256').update(readFileSync(file)).digest('hex');
const by = execFileSync('tree-sitter', ['--version'], { encoding: 'utf8' }).trim();
const sha256 = Object.fromEntries(files.map((file) => [file, digest(file)]));
writeFileSync('generated.json', `${JSON.stringify({ by, abi: 14, sha256 }, null, 2)}\n`);
