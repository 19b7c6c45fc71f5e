// Verifies a worker package that public keys signed, with Node's standard library only; written from format.md.
//
//   [THRESHOLD=N] [PAIR=DIR] [NOW=SECONDS] node verify.mjs PACKAGE NAMESPACE KEY.pub…
//
// PAIR is the directory of manifest.json and manifest.sig: PACKAGE (the default), PACKAGE/.wcp, or one outside of PACKAGE.
// Exit status: 0 verified, 1 denied, 2 not decided (BLAKE3, excludes other than /.git). It compares whole texts, so it
// is stricter than format.md where that leaves white space or order to the signer, and about backslashes in the fields
// `ai` and `source`. Nobody may change the tree meanwhile.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { constants, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join, relative } from 'node:path';

const [root, namespace, ...pems] = process.argv.slice(2), der = { type: 'spki', format: 'der' };
const { THRESHOLD = 1, PAIR = root, NOW = Date.now() / 1000 } = process.env, soon = (Number(NOW) + 300) * 1000;
const end = (status, why) => { console.log(why); process.exit(status); };
const need = (fact, why) => fact || end(1, `DENIED ${why}`);
process.on('uncaughtException', (problem) => end(1, `DENIED ${problem.message}`));
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const past = (time) => time > '197' && new Date(time) <= soon && new Date(time).toJSON() === time.replace('Z', '.000Z');
const HASHES = { ed25519: null, prime256v1: 'sha256', secp384r1: 'sha256' }; // what each kind of key signs with
const HIDDEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{C}\p{Zl}\p{Zp}\u2800\\]/u;
const TYPE = 'application/vnd.in-toto+json', ID = '(?=.{1,128}")[a-z0-9][a-z0-9-]*([.][a-z0-9][a-z0-9-]*)';
const HEADER = RegExp(`^{\n"schema_version":"awp[.]v2",\n"worker_id":"(?=org[.]|x[.])${ID}{2,5}",\n` +
  `"worker_species_id":"${ID}{1,5}",\n"worker_version":"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}",\n"built_at_utc":".*",\n` +
  '"build_source":"(local|ci|agent)",\n"hash_algorithm":"(sha256|blake3)",\n"package_hash":"[0-9a-f]{64}",\n' +
  '"excludes":\\[.*\\](,\n"ai":{.*})?(,\n"source":{.*})?(?=,\n"entries":{\n")');

// 1. What the keys have signed: the payload of each line of manifest.sig that names one of them.
const keys = new Map(pems.map((at) => createPublicKey(readFileSync(at))).map((key) => [sha256(key.export(der)), key]));
const pair = ['manifest.json', 'manifest.sig'].map((name) => join(PAIR, name)), signed = new Map();
const [manifest, lines] = pair.map((path) => readFileSync(path, { encoding: 'utf8', flag: constants.O_NONBLOCK }));
for (const line of lines.replace(/\n$/, '').split('\n')) {
  const { verificationMaterial: who = {}, dsseEnvelope, ...bare } = JSON.parse(line), hint = who.publicKey?.hint;
  const { payload, signatures: [{ sig, keyid }] } = dsseEnvelope ?? bare, key = keys.get(hint);
  const [body, proof] = [payload, sig].map((text) => Buffer.from(text, 'base64'));
  const copy = { payload: body.toString('base64'), payloadType: TYPE, signatures: [{ sig: proof.toString('base64') }] };
  need(keyid || who.certificate || line === JSON.stringify({ mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: { publicKey: { hint } }, dsseEnvelope: copy }), 'a malformed line');
  const message = Buffer.concat([Buffer.from(`DSSEv1 ${TYPE.length} ${TYPE} ${body.length} `), body]);
  const hash = HASHES[key?.asymmetricKeyDetails.namedCurve ?? key?.asymmetricKeyType];
  need(!key || (hash !== undefined && verify(hash, message, key, proof)), 'a signature that does not hold');
  if (key) signed.set(hint, body.toString()); // the other lines are somebody else's
}

// 2. The manifest up to its entries, and the statements about it.
const [header] = HEADER.exec(manifest) ?? end(1, 'DENIED a malformed manifest'), fields = JSON.parse(`${header}}`);
const { worker_id, worker_species_id, worker_version, package_hash, hash_algorithm, built_at_utc, excludes } = fields;
need(JSON.stringify(fields) === `${header.replaceAll('\n', '')}}`, 'another spelling of the manifest');
need(!HIDDEN.test(manifest.replace(/\n|\\"/g, '')), 'hidden characters, or a backslash');
need(signed.size >= THRESHOLD && /^\w+[.][^.]+/.exec(worker_id)[0] === namespace, 'too few signers for the namespace');
for (const body of signed.values()) {
  const { predicate: { signed_at_utc } } = JSON.parse(body), digest = { sha256: sha256(manifest) };
  const predicate = { worker_id, worker_species_id, worker_version, package_hash, hash_algorithm, signed_at_utc };
  need(body === JSON.stringify({ _type: 'https://in-toto.io/Statement/v1', subject: [{ name: 'manifest.json', digest }],
    predicateType: 'https://workerclassprotocol.dev/attestation/package/v1', predicate }), 'another statement');
  need(past(signed_at_utc) && past(built_at_utc), 'a time in the future, or none');
}
if (hash_algorithm === 'blake3' || !['', '/.git'].includes(excludes.join())) end(2, 'beyond this verifier');

// 3. The tree: the manifest made again from it.
const left = excludes.length ? /^[.]git(\/|$)(?!.*(__pycache__|[.]pyc$))/i : /^$/, entries = [];
for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
  const at = join(entry.parentPath, entry.name), path = relative(root, at), { mode } = lstatSync(at);
  const directory = entry.isDirectory() || undefined, symlink = entry.isSymbolicLink() ? readlinkSync(at) : undefined;
  const depth = path.split('/').length - 1, inside = RegExp(`^([.]{2}(/|$)){0,${depth}}((?![.]{2}(/|$))[^/]+(/|$))*$`);
  const data = entry.isFile() ? readFileSync(at) : undefined, executable = data && mode & 0o111 ? true : undefined;
  need(directory || (data && !(mode & 0o6000)) || inside.test(symlink ?? '/'), `what may not be in a package: ${path}`);
  if (left.test(path) || (data && pair.includes(at)) || (directory && readdirSync(at).length)) continue;
  entries.push([path, { sha256: data && sha256(data), size: data?.length, executable, symlink, directory }]);
}
entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
const records = entries.map(([path, { sha256: hash, size }]) => (hash ? `${path}\n${size}\n${hash}\n` : '')).join('');
const listed = entries.map(([path, value]) => `${JSON.stringify(path)}: ${JSON.stringify(value)}`).join(',\n');
need(manifest === `${header},\n"entries":{\n${listed}\n}\n}\n` && sha256(records) === package_hash, 'another tree');
end(0, `VERIFIED ${worker_id} ${worker_version}`);
