// Verifies a worker package that public keys signed, with Node's standard library only: format.md, read by somebody else.
//
//   node verify.mjs [--threshold N] [--attestation DIR] [--now SECONDS] PACKAGE NAMESPACE KEY.pub…
//
// Exit status: 0 verified, 1 refused, 2 not decided (BLAKE3, other patterns than `name/` and `/name`). It is stricter than
// format.md in one thing: JSON that is signed must be compact. It reads a tree that nobody changes meanwhile.
import { createHash, createPublicKey, verify } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { parseArgs } from 'node:util';

const text = { type: 'string' };
const { values: option, positionals: [root, namespace, ...files] } =
  parseArgs({ allowPositionals: true, options: { threshold: text, attestation: text, now: text } });
const end = (status, why) => { console.log(why); process.exit(status); };
const need = (fact, why) => fact || end(1, `DENIED ${why}`);
const sha256 = (data) => createHash('sha256').update(data).digest('hex');
const utf8 = (data) => new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(data);
const same = (value, keys) => need(Object.keys(value).join() === keys, `fields ${Object.keys(value)} instead of ${keys}`);
const compact = (data) => { const found = JSON.parse(utf8(data)); need(JSON.stringify(found) === utf8(data), 'JSON'); return found; };
const unbase64 = (data) => { const found = Buffer.from(data, 'base64'); need(found.toString('base64') === data, 'base64'); return found; };
const HIDDEN = /[\p{Default_Ignorable_Code_Point}\p{Bidi_Control}\p{C}\p{Zl}\p{Zp}\u2800\\]/u;
const ID = '[a-z0-9][a-z0-9-]*', DIGEST = '[0-9a-f]{64}', TIME = '(19[7-9]|[2-9]\\d\\d)\\d-\\d\\d-\\d\\dT([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\dZ';
const HEADER = { schema_version: 'awp[.]v2', worker_id: `(org|x)([.]${ID}){2,5}`, worker_species_id: `${ID}([.]${ID}){1,5}`,
  worker_version: '[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}', built_at_utc: TIME, build_source: 'local|ci|agent', hash_algorithm: 'sha256|blake3', package_hash: DIGEST };
const CLAIMED = ['worker_id', 'worker_species_id', 'worker_version', 'package_hash', 'hash_algorithm'];
const fits = (value, pattern) => typeof value === 'string' && new RegExp(`^(${pattern})$`).test(value);
const past = (time) => need(Date.parse(time) <= (option.now ? option.now * 1000 : Date.now()) + 300_000, 'a time in the future, or none');

function payloadOf(line, keys) { // the payload of a line when a trusted key signed it
  if (!line.mediaType) return same(line, 'payload,payloadType,signatures');
  same(line, 'mediaType,verificationMaterial,dsseEnvelope'); same(line.dsseEnvelope, 'payload,payloadType,signatures');
  need(line.mediaType === 'application/vnd.dev.sigstore.bundle.v0.3+json', 'another bundle');
  const { payload, payloadType, signatures } = line.dsseEnvelope, { publicKey } = line.verificationMaterial;
  need(signatures.length === 1 && unbase64(payload) && unbase64(signatures[0].sig), 'signatures');
  if (line.verificationMaterial.certificate) return undefined; // keyless, for a Sigstore client
  same(line.verificationMaterial, 'publicKey'); same(publicKey, 'hint'); same(signatures[0], 'sig');
  const key = keys.get(publicKey.hint), body = unbase64(payload);
  if (!key) return undefined; // somebody else's
  const pae = Buffer.concat([Buffer.from(`DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${body.length} `), body]);
  need(payloadType === 'application/vnd.in-toto+json', 'another payload type');
  need(verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', pae, key, unbase64(signatures[0].sig)), 'a signature that fails');
  return { hint: publicKey.hint, body };
}

function* linesOf(folder, prefix, excludes, pair) { // [path, line, record] of everything below a directory
  let empty = true;
  for (const raw of readdirSync(folder, { encoding: 'buffer' })) {
    const name = utf8(raw), path = prefix + name, at = `${folder}/${name}`, status = lstatSync(at), quoted = path.replaceAll('"', '\\"');
    need(!HIDDEN.test(name), `the name ${JSON.stringify(name)}`);
    if (pair.includes(path)) { need(status.isFile(), 'a pair that is no file'); continue; }
    const left = excludes.includes(`/${path}`) || (status.isDirectory() && excludes.includes(`${name}/`));
    if (status.isDirectory()) {
      const below = [...linesOf(at, `${path}/`, excludes, pair)];
      yield* left ? below.filter(([inner]) => /(^|\/)__pycache__\/|\.pyc$/i.test(inner)) : below;
    } else if (status.isSymbolicLink()) {
      const target = readlinkSync(at), parts = target.replace(/\/$/, '').split('/'), up = parts.findLastIndex((part) => part === '..') + 1;
      need(!HIDDEN.test(target) && parts.slice(0, up).every((part) => part === '..') && up < path.split('/').length && !parts.includes(''), `the link ${path}`);
      if (!left) yield [path, `"${quoted}": {"symlink":"${target.replaceAll('"', '\\"')}"}`, ''];
    } else {
      need(status.isFile() && !(status.mode & 0o6000), `what is no plain file: ${path}`);
      const data = left ? '' : readFileSync(at), digest = sha256(data), mode = status.mode & 0o111 ? ',"executable":true' : '';
      if (!left) yield [path, `"${quoted}": {"sha256":"${digest}","size":${data.length}${mode}}`, `${path}\n${data.length}\n${digest}\n`];
    }
    empty &&= left;
  }
  if (empty && prefix && !pair.includes(`${prefix}manifest.json`)) yield [prefix.slice(0, -1), `"${prefix.slice(0, -1).replaceAll('"', '\\"')}": {"directory":true}`, ''];
}

try {
  const keys = new Map(files.map((file) => createPublicKey(readFileSync(file))).map((key) => [sha256(key.export({ type: 'spki', format: 'der' })), key]));
  for (const { asymmetricKeyType: type, asymmetricKeyDetails: { namedCurve } } of keys.values()) {
    if (type !== 'ed25519' && !['prime256v1', 'secp384r1'].includes(namedCurve)) end(2, 'a key of another type than Ed25519, P-256 and P-384');
  }
  const folder = lstatSync(`${root}/.wcp`, { throwIfNoEntry: false })?.isDirectory() && readdirSync(`${root}/.wcp`).includes('manifest.sig') ? '.wcp/' : '';
  const pair = option.attestation ? [] : [`${folder}manifest.json`, `${folder}manifest.sig`], from = option.attestation ?? `${root}/${folder}`;
  const manifest = readFileSync(`${from}/manifest.json`), lines = utf8(readFileSync(`${from}/manifest.sig`)).replace(/\n$/, '').split('\n');
  const signed = lines.map((line) => payloadOf(compact(Buffer.from(line)), keys)).filter((one) => one?.body);
  need(new Set(signed.map((one) => one.hint)).size >= Number(option.threshold ?? 1), 'too few known signers');
  const [header, rest] = utf8(manifest).split('\n"entries":{\n'), fields = JSON.parse(`${header.replace(/,$/, '')}}`);
  same(fields, [...Object.keys(HEADER), 'excludes', ...['ai', 'source'].filter((name) => fields[name])].join());
  need(rest && Object.entries(HEADER).every(([name, pattern]) => fits(fields[name], pattern)), 'a malformed field');
  need(fields.worker_id.split('.').slice(0, 2).join('.') === namespace, 'another namespace');
  for (const { _type, subject, predicateType, predicate, ...others } of signed.map((one) => compact(one.body))) {
    same(others, ''); same(predicate, [...CLAIMED, 'signed_at_utc'].join()); same(subject[0], 'name,digest'); same(subject[0].digest, 'sha256');
    need(_type === 'https://in-toto.io/Statement/v1' && predicateType === 'https://workerclassprotocol.dev/attestation/package/v1', 'another statement');
    need(subject.length === 1 && subject[0].name === 'manifest.json' && subject[0].digest.sha256 === sha256(manifest), 'a signature over another manifest');
    need(fits(predicate.signed_at_utc, TIME) && CLAIMED.every((name) => predicate[name] === fields[name]), 'a statement that says otherwise');
    past(predicate.signed_at_utc);
  }
  past(fields.built_at_utc);
  if (fields.hash_algorithm !== 'sha256' || !fields.excludes.every((one) => /^([^*?[\\!/]+\/|\/[^*?[\\!/]+)$/.test(one))) end(2, 'beyond this verifier');
  const found = [...linesOf(root, '', fields.excludes, pair)].sort((a, b) => Buffer.compare(Buffer.from(a[0]), Buffer.from(b[0])));
  need(sha256(found.map((one) => one[2]).join('')) === fields.package_hash, 'another package hash');
  const spelled = Object.entries(fields).map(([name, value]) => `"${name}":${JSON.stringify(value)},\n`).join('');
  need(found.length && utf8(manifest) === `{\n${spelled}"entries":{\n${found.map((one) => one[1]).join(',\n')}\n}\n}\n`, 'another tree');
  console.log(`VERIFIED ${fields.worker_id} ${fields.worker_version}`);
} catch (problem) {
  end(1, `DENIED ${problem.message}`);
}
