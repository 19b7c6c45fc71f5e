// Verifies a worker package that public keys signed, with Node's standard library only; written from format.md.
//
//   [THRESHOLD=N] [PAIR=DIR] [NOW=SECONDS] node verify.mjs PACKAGE NAMESPACE KEY.pub…
//
// THRESHOLD is how many different keys must have signed (1 by default). PAIR is the directory of manifest.json and
// manifest.sig: PACKAGE (the default), PACKAGE/.wcp, or one outside of PACKAGE. NOW is the time to judge by.
//
// Exit status: 0 verified, 1 denied, 2 not decided (BLAKE3, excludes other than /.git, files over 2 GiB).
//
// How it works: it parses as little as it can. Where format.md gives a text one spelling, the text is made again from
// its parts and compared as a whole; what was added, left out, repeated or reordered then makes a difference. So it is
// stricter than format.md where that leaves white space or order to the signer, and about backslashes in the fields
// `ai` and `source`. Nobody may change the tree meanwhile.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { constants, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join, relative } from 'node:path';

const [root, namespace, ...pems] = process.argv.slice(2), der = { type: 'spki', format: 'der' };
const { THRESHOLD = 1, PAIR = root, NOW = Date.now() / 1000 } = process.env, soon = (Number(NOW) + 300) * 1000;

// Every way out: `end` says why, and `need` denies unless a fact holds. What throws denies, too: an absent file, say.
const end = (status, why) => { console.log(status === 1 ? `DENIED ${why}` : why); process.exit(status); };
const need = (fact, why) => fact || end(1, why);
process.on('uncaughtException', ({ code, message }) => end(code === 'ERR_FS_FILE_TOO_LARGE' ? 2 : 1, message));

const sha256 = (data) => createHash('sha256').update(data).digest('hex');
// A time is 2026-11-28T12:00:00Z in this very spelling, after 1970, and not more than five minutes ahead of NOW.
const past = (time) => time > '197' && new Date(time) <= soon && new Date(time).toJSON() === time.replace('Z', '.000Z');
const HASHES = { ed25519: null, prime256v1: 'sha256', secp384r1: 'sha256' }; // the key says what it signs with
// Characters that hide, reorder or control; and the backslash, so that no escape can spell one of them.
const HIDDEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{C}\p{Zl}\p{Zp}\u2800\\]/u;
const TYPE = 'application/vnd.in-toto+json', ID = '(?=.{1,128}")[a-z0-9][a-z0-9-]*([.][a-z0-9][a-z0-9-]*)';
// The lines of manifest.json before its entries, each field with its grammar.
const HEADER = RegExp(`^{\n"schema_version":"awp[.]v2",\n"worker_id":"(?=org[.]|x[.])${ID}{2,5}",\n` +
  `"worker_species_id":"${ID}{1,5}",\n"worker_version":"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}",\n"built_at_utc":".*",\n` +
  '"build_source":"(local|ci|agent)",\n"hash_algorithm":"(sha256|blake3)",\n"package_hash":"[0-9a-f]{64}",\n' +
  '"excludes":\\[.*\\](,\n"ai":{.*})?(,\n"source":{.*})?(?=,\n"entries":{\n")');

// 1. What the keys have signed. `keys` knows each key by its id, the SHA-256 of its DER form; `signed` gets, for each
//    key that a line of manifest.sig names, the payload of that line.
const keys = new Map(pems.map((at) => createPublicKey(readFileSync(at))).map((key) => [sha256(key.export(der)), key]));
const pair = ['manifest.json', 'manifest.sig'].map((name) => join(PAIR, name)), signed = new Map();
const [manifest, lines] = pair.map((path) => readFileSync(path, { encoding: 'utf8', flag: constants.O_NONBLOCK }));
for (const line of lines.replace(/\n$/, '').split('\n')) {
  // A key's line is a Sigstore bundle; an HMAC's is its envelope alone, with a `keyid`, and is passed over.
  const { verificationMaterial: who = {}, dsseEnvelope, ...bare } = JSON.parse(line), hint = who.publicKey?.hint;
  const { payload, signatures: [{ sig, keyid }] } = dsseEnvelope ?? bare, key = keys.get(hint);
  const [body, proof] = [payload, sig].map((text) => Buffer.from(text, 'base64'));
  const copy = { payload: body.toString('base64'), payloadType: TYPE, signatures: [{ sig: proof.toString('base64') }] };
  need(keyid || who.certificate || line === JSON.stringify({ mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: { publicKey: { hint } }, dsseEnvelope: copy }), 'a malformed line');
  // DSSE signs type and body with their lengths (secure-systems-lab/dsse, protocol.md).
  const message = Buffer.concat([Buffer.from(`DSSEv1 ${TYPE.length} ${TYPE} ${body.length} `), body]);
  const hash = HASHES[key?.asymmetricKeyDetails.namedCurve ?? key?.asymmetricKeyType];
  need(!key || (hash !== undefined && verify(hash, message, key, proof)), 'a signature that does not hold');
  if (key) signed.set(hint, body.toString()); // the other lines are somebody else's
}

// 2. The manifest up to its entries; and each statement, which must say of this very manifest what it says of itself.
const [header] = HEADER.exec(manifest) ?? end(1, 'a malformed manifest'), fields = JSON.parse(`${header}}`);
const { worker_id, worker_species_id, worker_version, package_hash, hash_algorithm, built_at_utc, excludes } = fields;
need(JSON.stringify(fields) === `${header.replaceAll('\n', '')}}`, 'another spelling of the manifest');
need(!HIDDEN.test(manifest.replace(/\n|\\"/g, '')), 'hidden characters, or a backslash');
// The keys speak for NAMESPACE alone, and THRESHOLD of them must have signed; an empty or zero THRESHOLD asks for one.
need(signed.size >= Math.max(1, THRESHOLD) && /^\w+[.][^.]+/.exec(worker_id)[0] === namespace, 'signers are missing');
for (const body of signed.values()) {
  const { predicate: { signed_at_utc } } = JSON.parse(body), digest = { sha256: sha256(manifest) };
  const predicate = { worker_id, worker_species_id, worker_version, package_hash, hash_algorithm, signed_at_utc };
  need(body === JSON.stringify({ _type: 'https://in-toto.io/Statement/v1', subject: [{ name: 'manifest.json', digest }],
    predicateType: 'https://workerclassprotocol.dev/attestation/package/v1', predicate }), 'another statement');
  need(past(signed_at_utc) && past(built_at_utc), 'a time in the future, or none');
}
if (hash_algorithm === 'blake3' || !['', '/.git'].includes(excludes.join())) end(2, 'beyond this verifier');

// 3. The tree. Entries are made of it as a signer makes them, and with them the manifest, which must be the signed one.
//    `left` is what `/.git` leaves out, but never bytecode. `inside` is a link's target that stays in the package: not
//    absolute, first at most as many `..` as there are directories above the link, then none.
const left = excludes.length ? /^[.]git(\/|$)(?!.*(__pycache__|[.]pyc$))/i : /^$/, entries = [];
for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
  const at = join(entry.parentPath, entry.name), path = relative(root, at), { mode } = lstatSync(at);
  const directory = entry.isDirectory() || undefined, symlink = entry.isSymbolicLink() ? readlinkSync(at) : undefined;
  const depth = path.split('/').length - 1, inside = RegExp(`^([.]{2}(/|$)){0,${depth}}((?![.]{2}(/|$))[^/]+(/|$))*$`);
  const data = entry.isFile() ? readFileSync(at) : undefined, executable = data && mode & 0o111 ? true : undefined;
  need(directory || (data && !(mode & 0o6000)) || inside.test(symlink ?? '/'), `what may not be in a package: ${path}`);
  // Not listed: what is left out, the pair itself, and a directory that holds something.
  if (left.test(path) || (data && pair.includes(at)) || (directory && readdirSync(at).length)) continue;
  entries.push([path, { sha256: data && sha256(data), size: data?.length, executable, symlink, directory }]);
}
entries.sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
const records = entries.map(([path, { sha256: hash, size }]) => (hash ? `${path}\n${size}\n${hash}\n` : '')).join('');
const listed = entries.map(([path, value]) => `${JSON.stringify(path)}: ${JSON.stringify(value)}`).join(',\n');
need(manifest === `${header},\n"entries":{\n${listed}\n}\n}\n` && sha256(records) === package_hash, 'another tree');
end(0, `VERIFIED ${worker_id} ${worker_version}`);
