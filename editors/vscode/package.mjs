// Bundles the extension and packs it: `npm run package [-- FILE]`. A `.vsix` is a zip of the extension's folder with two files
// that describe it; the usual packer brings three hundred packages, which every check of a change would have to install.
import { readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deflateRawSync } from 'node:zlib';
import { bundle } from './bundle.mjs';

const target = resolve(process.argv[2] ?? 'cmae.vsix');
process.chdir(dirname(fileURLToPath(import.meta.url)));

/** The files of `manifest.files`, folders with all that is in them. */
function files(path) {
  return statSync(path).isDirectory() ? readdirSync(path).sort().flatMap((entry) => files(join(path, entry))) : [path];
}

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');

/** What a shop and an editor read before they unpack. */
function description(manifest) {
  const property = (id, value) => `      <Property Id="Microsoft.VisualStudio.${id}" Value="${escaped(value)}" />`;
  return `<?xml version="1.0" encoding="utf-8"?>
<PackageManifest Version="2.0.0" xmlns="http://schemas.microsoft.com/developer/vsx-schema/2011">
  <Metadata>
    <Identity Language="en-US" Id="${manifest.name}" Version="${manifest.version}" Publisher="${manifest.publisher}" />
    <DisplayName>${escaped(manifest.displayName)}</DisplayName>
    <Description xml:space="preserve">${escaped(manifest.description)}</Description>
    <Tags>${manifest.keywords.map(escaped).join(',')}</Tags>
    <Categories>${manifest.categories.map(escaped).join(',')}</Categories>
    <GalleryFlags>Public</GalleryFlags>
    <Properties>
${[
  property('Code.Engine', manifest.engines.vscode),
  property('Code.ExtensionKind', 'workspace'),
  property('Code.ExecutesCode', 'true'),
  property('Services.GitHubFlavoredMarkdown', 'true'),
  property('Services.Content.Pricing', 'Free'),
].join('\n')}
    </Properties>
  </Metadata>
  <Installation>
    <InstallationTarget Id="Microsoft.VisualStudio.Code" />
  </Installation>
  <Dependencies />
  <Assets>
    <Asset Type="Microsoft.VisualStudio.Code.Manifest" Path="extension/package.json" Addressable="true" />
    <Asset Type="Microsoft.VisualStudio.Services.Content.Details" Path="extension/README.md" Addressable="true" />
  </Assets>
</PackageManifest>
`;
}

const KINDS = {
  '.js': 'application/javascript',
  '.json': 'application/json',
  '.md': 'text/markdown',
  '.txt': 'text/plain',
  '.vsixmanifest': 'text/xml',
};

function kinds() {
  const entries = Object.entries(KINDS).map(([extension, kind]) => `<Default Extension="${extension}" ContentType="${kind}" />`);
  return `<?xml version="1.0" encoding="utf-8"?>
<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">${entries.join('')}</Types>
`;
}

/** The checksum of a zip's files. */
function crc32(bytes) {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** A zip of `[name, bytes]`; the same bytes for the same files: every date is the first that the format knows. */
function zip(entries) {
  const [made, list] = [[], []];
  let offset = 0;
  for (const [name, bytes] of entries) {
    const packed = deflateRawSync(bytes, { level: 9 });
    // Version 2.0, names in UTF-8, deflated, 1980-01-01 00:00.
    const head = Buffer.alloc(26);
    for (const [at, value] of [[0, 20], [2, 0x800], [4, 8], [6, 0], [8, 0x21]]) head.writeUInt16LE(value, at);
    for (const [at, value] of [[10, crc32(bytes)], [14, packed.length], [18, bytes.length]]) head.writeUInt32LE(value, at);
    head.writeUInt16LE(Buffer.byteLength(name), 22);
    made.push(Buffer.from('PK\x03\x04', 'latin1'), head, Buffer.from(name), packed);

    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(offset, 10);
    list.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), head, tail, Buffer.from(name));
    offset += 30 + Buffer.byteLength(name) + packed.length;
  }
  const directory = Buffer.concat(list);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...made, directory, Buffer.from('PK\x05\x06', 'latin1'), end]);
}

await bundle();
const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
const inside = ['package.json', ...manifest.files.flatMap(files)];
for (const file of inside) {
  if (!KINDS[/\.\w+$/.exec(file)?.[0]]) throw new Error(`${file}: say what kind it is in package.mjs`);
}
const entries = inside.map((file) => [`extension/${file.replaceAll('\\', '/')}`, readFileSync(file)]);
entries.unshift(['[Content_Types].xml', Buffer.from(kinds())], ['extension.vsixmanifest', Buffer.from(description(manifest))]);
writeFileSync(target, zip(entries));
console.log(`${target}: ${entries.length} files`);
