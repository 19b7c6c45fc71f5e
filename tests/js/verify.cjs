// Verifies one line of manifest.sig against manifest.json with sigstore-js: no TUF, no network, none of our code.
//
//   node verify.cjs --trusted-root ROOT.json [--san S] [--issuer I]  --bundle LINE.json --manifest manifest.json
//   node verify.cjs --public-key KEY.pem                             --bundle LINE.json --manifest manifest.json
//
// A bundle with a DSSE envelope proves a statement, so the statement's subject is compared with the manifest here.
// Prints one JSON object; exit status 0 verified, 1 refused, 2 wrong use.
'use strict';
const crypto = require('node:crypto');
const fs = require('node:fs');
const { parseArgs } = require('node:util');

const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

const STATEMENT = 'https://in-toto.io/Statement/v1';
const PAYLOAD_TYPE = 'application/vnd.in-toto+json';
const NOTHING = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };

const text = { type: 'string' };
const { values } = parseArgs({
  options: { 'trusted-root': text, 'public-key': text, bundle: text, manifest: text, san: text, issuer: text },
});

function verifier() {
  if (values['public-key']) {
    const publicKey = crypto.createPublicKey(fs.readFileSync(values['public-key']));
    const material = toTrustMaterial(NOTHING, () => ({ publicKey, validFor: () => true }));
    return new Verifier(material, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
  }
  const root = TrustedRoot.fromJSON(JSON.parse(fs.readFileSync(values['trusted-root'], 'utf8')));
  return new Verifier(toTrustMaterial(root), { ctlogThreshold: 1, tlogThreshold: 1, timestampThreshold: 1 });
}

function checkSubject(envelope, manifest) {
  if (envelope.payloadType !== PAYLOAD_TYPE) throw new Error(`payload type: ${envelope.payloadType}`);
  const statement = JSON.parse(Buffer.from(envelope.payload).toString('utf8'));
  if (statement._type !== STATEMENT) throw new Error(`statement type: ${statement._type}`);
  if (statement.subject.length !== 1) throw new Error(`subjects: ${statement.subject.length}`);
  const found = crypto.createHash('sha256').update(manifest).digest('hex');
  if (statement.subject[0].digest.sha256 !== found) throw new Error('the subject is not this manifest');
}

function verify() {
  const manifest = fs.readFileSync(values.manifest);
  const bundle = bundleFromJSON(JSON.parse(fs.readFileSync(values.bundle, 'utf8')));
  const policy = {};
  if (values.san) policy.subjectAlternativeName = values.san;
  if (values.issuer) policy.extensions = { issuer: values.issuer };
  const signer = verifier().verify(toSignedEntity(bundle, manifest), policy);
  if (bundle.content.$case === 'dsseEnvelope') checkSubject(bundle.content.dsseEnvelope, manifest);
  return { ok: true, san: signer.identity?.subjectAlternativeName, issuer: signer.identity?.extensions?.issuer };
}

if (!values.bundle || !values.manifest || !values['trusted-root'] === !values['public-key']) {
  console.error('give --bundle, --manifest, and one of --trusted-root and --public-key');
  process.exit(2);
}
try {
  console.log(JSON.stringify(verify()));
} catch (error) {
  const cause = error.cause ? `: ${error.cause.message ?? error.cause}` : '';
  console.log(JSON.stringify({ ok: false, message: `${error.code ?? error.name}: ${error.message}${cause}` }));
  process.exit(1);
}
