// Starts `cmaec lsp` for `.cmae` files and speaks with it over its standard input and output. Colours, brackets and snippets are
// data beside this file and need no server.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const vscode = require('vscode');
const { LanguageClient } = require('vscode-languageclient/node');

/** @type {LanguageClient | undefined} */
let client;
/** @type {vscode.LogOutputChannel} */
let output;
/** Starts and stops one after the other: a setting may change while the server is still starting. */
let last = Promise.resolve();

/** What the setting names, with `~` and `${workspaceFolder}` written out. */
function resolved(setting) {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? '';
  const written = setting.trim().replaceAll('${workspaceFolder}', folder);
  return written.startsWith('~/') ? path.join(os.homedir(), written.slice(2)) : written;
}

/** The file that would be started, or nothing where there is none. */
function found(program) {
  const names = process.platform === 'win32' && !program.endsWith('.exe') ? [`${program}.exe`, program] : [program];
  const lone = !program.includes('/') && !program.includes(path.sep);
  const folders = lone ? (process.env.PATH ?? '').split(path.delimiter).filter(Boolean) : [''];
  for (const folder of folders) {
    for (const name of names) {
      const file = path.join(folder, name);
      try {
        if (fs.statSync(file).isFile()) return file;
      } catch {
        // Not here: the next folder.
      }
    }
  }
  return undefined;
}

async function start() {
  const settings = vscode.workspace.getConfiguration('cmae');
  if (!settings.get('server.enabled', true)) return;
  const program = resolved(settings.get('server.path', 'cmaec') || 'cmaec');
  const command = found(program);
  if (command === undefined) {
    output.warn(`cmaec is not found: \`${program}\``);
    const choice = await vscode.window.showWarningMessage(
      `cmaec is not found: \`${program}\`. Without it there are colours and no checks: install it ` +
        '(`cargo install --path .` in a clone) or write where it is.',
      'Open the setting',
    );
    if (choice) await vscode.commands.executeCommand('workbench.action.openSettings', 'cmae.server.path');
    return;
  }
  const server = { command, args: ['lsp'] };
  const started = new LanguageClient('cmae', 'cmae', server, {
    documentSelector: [{ scheme: 'file', language: 'cmae' }, { scheme: 'untitled', language: 'cmae' }],
    outputChannel: output,
  });
  client = started;
  try {
    await started.start();
  } catch (error) {
    output.error(`\`${command} lsp\` does not start: ${error}`);
    // Its own message is shown by the client; a client that never ran cannot be stopped.
    if (client === started) client = undefined;
  }
}

async function stop() {
  const stopped = client;
  client = undefined;
  if (stopped?.isRunning()) await stopped.stop();
}

function restart() {
  last = last.then(stop).then(start);
  return last;
}

exports.activate = function activate(context) {
  output = vscode.window.createOutputChannel('cmae', { log: true });
  context.subscriptions.push(
    output,
    vscode.commands.registerCommand('cmae.restartServer', restart),
    vscode.commands.registerCommand('cmae.showOutput', () => output.show()),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration('cmae.server')) return restart();
    }),
  );
  if (vscode.workspace.isTrusted) {
    void restart();
  } else {
    context.subscriptions.push(vscode.workspace.onDidGrantWorkspaceTrust(restart));
  }
};

exports.deactivate = function deactivate() {
  last = last.then(stop);
  return last;
};
