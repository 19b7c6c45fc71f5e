// Asks a Hall for a decision, waits when a person must look at it, and verifies the signed receipt.
//   HALL=http://127.0.0.1:7777 TOKEN=… AUDIT_TOKEN=… RECEIPT_KEY=receipts.key.pub node route.ts cap.doc.summarize
// Node 22.18 and later run TypeScript as it is; for earlier ones compile it with tsc.
// TOKEN has the role router; AUDIT_TOKEN the role reader, because receipts tell more than a tenant may know.
import { createHash, createPublicKey, randomUUID, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

type Decision = { outcome: string; decision_id: string; pending_approval_id: string; worker_id?: string };
type Hold = { state: string; grant?: string };
type Proof = { body: string; batch: { payloadType: string; payload: string; signatures: { sig: string }[] } };

const { HALL = "http://127.0.0.1:7777", TOKEN = "", AUDIT_TOKEN = TOKEN, RECEIPT_KEY = "" } = process.env;
const WAIT_MS = 120_000; // how long a person may take, as far as this program is concerned

async function ask<T>(path: string, token: string, body?: object, grant = ""): Promise<T> {
  const headers: Record<string, string> = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  if (grant) headers["x-wcp-grant"] = grant;
  const method = body ? "POST" : "GET";
  const signal = AbortSignal.timeout(30_000);
  const answer = await fetch(HALL + path, { method, headers, signal, redirect: "error", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return (await answer.json()) as T;
}

async function decide(request: object): Promise<Decision> {
  const first = await ask<Decision>("/wcp/route", TOKEN, request);
  if (first.outcome !== "STEWARD_HOLD") return first;
  const path = `/wcp/approvals/${first.pending_approval_id}`;
  for (const until = Date.now() + WAIT_MS; Date.now() < until; await sleep(500)) {
    const hold = await ask<Hold>(path, TOKEN);
    if (hold.state === "approved" && hold.grant) return ask<Decision>("/wcp/route", TOKEN, request, hold.grant);
    if (hold.state !== "pending") throw new Error(`the request was not approved: ${hold.state}`);
  }
  throw new Error("nobody answered in time");
}

async function check(decision: Decision): Promise<void> {
  const proof = await ask<Proof>(`/receipts/${decision.decision_id}/proof`, AUDIT_TOKEN);
  const [body, payload] = [Buffer.from(proof.body, "base64"), Buffer.from(proof.batch.payload, "base64")];
  const { payloadType: type, signatures } = proof.batch;
  const signed = Buffer.concat([Buffer.from(`DSSEv1 ${type.length} ${type} ${payload.length} `), payload]);
  const key = createPublicKey(readFileSync(RECEIPT_KEY)); // known beforehand, never taken from the answer
  const good = signatures.some((one) => verify(null, signed, key, Buffer.from(one.sig, "base64")));
  if (!good) throw new Error("the receipt is not signed by the Hall's key");
  const hash = createHash("sha256").update(body).digest("hex");
  if (type !== "application/vnd.wcp.receipt-batch.v2+json" || !JSON.parse(payload.toString()).hashes.includes(hash))
    throw new Error("the signed batch does not hold this receipt");
  const told = JSON.parse(body.toString()) as Decision;
  if (told.decision_id !== decision.decision_id || told.outcome !== decision.outcome)
    throw new Error("the receipt is about another decision");
}

try {
  if (process.argv.length !== 3) throw new Error("usage: route CAPABILITY, for example: route cap.doc.summarize");
  const classes = { env: "stage", data_label: "PUBLIC", tenant_risk: "low", qos_class: "P2" };
  const decision = await decide({ capability_id: process.argv[2], correlation_id: randomUUID(), ...classes });
  await check(decision);
  console.log(`${decision.outcome} ${decision.worker_id ?? ""} receipt verified`);
} catch (problem) {
  const { message, cause } = problem as Error;
  console.error(`error: ${message}${cause ? `: ${(cause as Error).message}` : ""}`);
  process.exitCode = 1;
}
