// Signs a statement with sigstore-js at a Sigstore instance and prints the bundle, a foreign one for our verifier.
//
//   node sign.cjs --instance http://127.0.0.1:PORT --statement STATEMENT.json < TOKEN
//
// Rekor v1 only: for version 2 sigstore-js sends a kind of entry that the log no longer takes.
'use strict';
const fs = require('node:fs');
const { parseArgs } = require('node:util');

const { bundleToJSON } = require('@sigstore/bundle');
const { DSSEBundleBuilder, FulcioSigner, RekorWitness, TSAWitness } = require('@sigstore/sign');

const text = { type: 'string' };
const { values } = parseArgs({ options: { instance: text, statement: text } });
const token = fs.readFileSync(0, 'utf8').trim();

async function sign() {
  const signer = new FulcioSigner({
    fulcioBaseURL: values.instance,
    identityProvider: { getToken: async () => token },
    retry: false,
  });
  const witnesses = [
    new RekorWitness({ rekorBaseURL: values.instance, entryType: 'dsse', retry: false }),
    new TSAWitness({ tsaBaseURL: values.instance, retry: false }),
  ];
  const builder = new DSSEBundleBuilder({ signer, witnesses });
  const data = fs.readFileSync(values.statement);
  return bundleToJSON(await builder.create({ data, type: 'application/vnd.in-toto+json' }));
}

sign().then(
  (bundle) => console.log(JSON.stringify(bundle)),
  (error) => {
    console.error(`${error.code ?? error.name}: ${error.message}: ${error.cause?.message ?? ''}`);
    process.exit(1);
  },
);
