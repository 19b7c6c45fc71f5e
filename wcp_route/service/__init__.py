"""The Hall over HTTP: `wcp-route serve`. A thin layer over `Hall`: it contains no rule, gate or check.

settings     the `[service]` table of hall.toml
principals   who asks: tokens, OIDC, a proxy's header; roles
connections  how many there may be, and how long a request's head may take
limits       what a request may cost before anybody looks at it
decider      decisions for the event loop, answered once their receipts are durable
problems     errors as `application/problem+json` (RFC 9457)
protocol     /wcp/…: route, discovery, approvals
gateways     AuthZEN 1.0 and Envoy's external authorisation
registry_api what the clients of a worker registry call
ban_lists    signed ban lists, and reports until the ban authority has looked at them
operators    /admin/…, /receipts…
openapi      the description of all of it, with openapi_schemas (bodies and answers) and openapi_words (their members)
machines     health, readiness, metrics
pages        what people look at
application  all of them as one ASGI application
server       sockets, signals, reload
"""
