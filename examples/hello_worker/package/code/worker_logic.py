"""Greets. The contract of a worker: `execute(request, context)` returns status, result, telemetry and evidence."""

from __future__ import annotations

from typing import Any

GREETINGS = {"en": "Hello", "eo": "Saluton", "fr": "Bonjour"}


def execute(request: dict[str, Any], context: dict[str, Any] | None = None) -> dict[str, Any]:
    """Greet whoever the request names, in its language."""
    del context  # nothing in it changes a greeting
    payload = request.get("request", {})
    language = payload.get("language", "en")
    if language not in GREETINGS:
        return {"status": "denied", "result": None, "deny_reason": f"no greeting in {language!r}"}
    executed = {
        "event_id": "evt.worker.executed",
        "worker_id": "org.example.hello-worker",
        "capability_id": request.get("capability_id"),
        "status": "ok",
    }
    text = f"{GREETINGS[language]}, {payload.get('name', 'world')}!"
    return {"status": "ok", "result": {"text": text}, "telemetry": [executed], "evidence": []}
