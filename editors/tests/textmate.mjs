// The class of every character of a text, by the TextMate grammar and the engine that VS Code runs it with.
// Reads `{name: text}` as JSON and writes `{name: classes}`, a letter for each character: classes are those of `treesitter.py`.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const vscode = new URL('../vscode/', import.meta.url);
const require = createRequire(new URL('package.json', vscode));
const oniguruma = require('vscode-oniguruma');
const textmate = require('vscode-textmate');

/** By the innermost scope that says one; a string keeps what lies within it, a comment too. */
function letter(scopes) {
  if (scopes.some((scope) => scope.startsWith('comment.'))) return 'c';
  if (scopes.some((scope) => scope.startsWith('string.'))) return 's';
  for (const scope of [...scopes].reverse()) {
    if (scope.startsWith('constant.numeric.')) return 'n';
    if (scope.startsWith('keyword.other.unit.')) return 'u';
    if (scope.startsWith('constant.language.')) return 'l';
    if (scope.startsWith('keyword.operator.') && !scope.startsWith('keyword.operator.wordlike.')) return 'o';
    if (scope.startsWith('keyword.')) return 'k';
  }
  return '.';
}

await oniguruma.loadWASM(readFileSync(require.resolve('vscode-oniguruma/release/onig.wasm')).buffer);
const registry = new textmate.Registry({
  onigLib: Promise.resolve({
    createOnigScanner: (patterns) => new oniguruma.OnigScanner(patterns),
    createOnigString: (text) => new oniguruma.OnigString(text),
  }),
  loadGrammar: async (scope) => {
    if (scope !== 'source.cmae') throw new Error(`no grammar for ${scope}`);
    const file = fileURLToPath(new URL('syntaxes/cmae.tmLanguage.json', vscode));
    return textmate.parseRawGrammar(readFileSync(file, 'utf8'), file);
  },
});
const grammar = await registry.loadGrammar('source.cmae');

const classes = {};
for (const [name, text] of Object.entries(JSON.parse(readFileSync(0, 'utf8')))) {
  let stack = textmate.INITIAL;
  const lines = [];
  for (const line of text.split('\n')) {
    const { tokens, ruleStack } = grammar.tokenizeLine(line, stack);
    stack = ruleStack;
    const units = Array(line.length).fill('.');
    for (const { startIndex, endIndex, scopes } of tokens) {
      units.fill(letter(scopes), startIndex, Math.min(endIndex, line.length));
    }
    // A letter for each character, not for each half of one.
    lines.push(units.filter((_, at) => !/[\uDC00-\uDFFF]/.test(line[at])).join(''));
  }
  classes[name] = lines.join('\n');
}
process.stdout.write(JSON.stringify(classes));
