// Asks a Hall for a decision, waits when a person must look at it, and verifies the signed receipt.
//
//	HALL=http://127.0.0.1:7777 TOKEN=… AUDIT_TOKEN=… RECEIPT_KEY=receipts.key.pub go run route.go cap.doc.summarize
//
// TOKEN has the role router; AUDIT_TOKEN the role reader, because receipts tell more than a tenant may know.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

type object = map[string]any

type proof struct {
	Body  []byte `json:"body"` // encoding/json reads base64 into bytes
	Batch struct {
		PayloadType string                 `json:"payloadType"`
		Payload     []byte                 `json:"payload"`
		Signatures  []struct{ Sig []byte } `json:"signatures"`
	} `json:"batch"`
}

var client = http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error {
	return errors.New("redirects are not followed: they would carry the token along")
}}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func ask(path, token string, body any, grant string, answer any) {
	method, data := http.MethodGet, []byte(nil)
	if body != nil {
		method = http.MethodPost
		data, _ = json.Marshal(body)
	}
	request, err := http.NewRequest(method, os.Getenv("HALL")+path, bytes.NewReader(data))
	must(err)
	request.Header.Set("authorization", "Bearer "+os.Getenv(token))
	request.Header.Set("content-type", "application/json")
	if grant != "" {
		request.Header.Set("x-wcp-grant", grant)
	}
	reply, err := client.Do(request)
	must(err)
	defer reply.Body.Close()
	text, err := io.ReadAll(io.LimitReader(reply.Body, 1<<20))
	must(err)
	if reply.StatusCode != 200 {
		must(fmt.Errorf("%s: %d %s", path, reply.StatusCode, text))
	}
	must(json.Unmarshal(text, answer))
}

func decide(body object) (decision object) {
	ask("/wcp/route", "TOKEN", body, "", &decision)
	for until := time.Now().Add(2 * time.Minute); decision["outcome"] == "STEWARD_HOLD"; time.Sleep(time.Second / 2) {
		var hold struct{ State, Grant string }
		ask(fmt.Sprint("/wcp/approvals/", decision["pending_approval_id"]), "TOKEN", nil, "", &hold)
		if hold.State == "approved" && hold.Grant != "" {
			ask("/wcp/route", "TOKEN", body, hold.Grant, &decision)
			return
		} else if hold.State != "pending" || time.Now().After(until) {
			must(errors.New("the request was not approved: " + hold.State))
		}
	}
	return
}

func check(decision object) {
	var found proof
	ask(fmt.Sprintf("/receipts/%s/proof", decision["decision_id"]), "AUDIT_TOKEN", nil, "", &found)
	file, err := os.ReadFile(os.Getenv("RECEIPT_KEY")) // known beforehand, never taken from the answer
	must(err)
	block, _ := pem.Decode(file)
	if block == nil {
		must(errors.New("RECEIPT_KEY is not a PEM file"))
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(err)
	key, isKey := parsed.(ed25519.PublicKey)
	batch, good, held := found.Batch, false, false
	signed := fmt.Sprintf("DSSEv1 %d %s %d %s", len(batch.PayloadType), batch.PayloadType, len(batch.Payload), batch.Payload)
	for _, one := range batch.Signatures {
		good = good || isKey && ed25519.Verify(key, []byte(signed), one.Sig)
	}
	var statement struct{ Hashes []string }
	must(json.Unmarshal(batch.Payload, &statement))
	for _, hash := range statement.Hashes {
		held = held || hash == fmt.Sprintf("%x", sha256.Sum256(found.Body))
	}
	var told object
	must(json.Unmarshal(found.Body, &told))
	same := told["decision_id"] == decision["decision_id"] && told["outcome"] == decision["outcome"]
	if !good || !held || !same || batch.PayloadType != "application/vnd.wcp.receipt-batch.v2+json" {
		must(errors.New("the receipt is not signed by the Hall's key, or is about another decision"))
	}
}

func main() {
	if len(os.Args) != 2 {
		must(errors.New("usage: route CAPABILITY, for example: route cap.doc.summarize"))
	}
	id := make([]byte, 16)
	_, err := rand.Read(id)
	must(err)
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	request := object{"capability_id": os.Args[1], "env": "stage", "data_label": "PUBLIC", "tenant_risk": "low",
		"qos_class": "P2", "correlation_id": fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])}
	decision := decide(request)
	check(decision)
	worker, _ := decision["worker_id"].(string) // none when it was denied
	fmt.Println(decision["outcome"], worker, "receipt verified")
}
