"""An MCP server whose every tool call is decided by the Hall first, by a middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp import MCPError
from mcp.server.mcpserver import MCPServer

if TYPE_CHECKING:
    from wcp_route import Hall

REFUSED = -32001  # the server's own range of JSON-RPC error codes
CAPABILITIES = {"summarize": "cap.doc.summarize"}  # which capability each tool needs


def make_server(hall: Hall, tenant: str) -> MCPServer[Any]:
    """Return the server.

    Args:
        hall: who decides.
        tenant: whom the transport authenticated.
    """

    async def decided(context: Any, call_next: Any) -> Any:
        if context.method != "tools/call":
            return await call_next(context)
        params = context.params or {}
        decision = await hall.aroute(
            {
                "capability_id": CAPABILITIES.get(str(params.get("name")), "cap.none"),
                "tenant_id": tenant,
                "correlation_id": f"mcp-{context.request_id}",
                "env": hall.world.config.env,
                "data_label": "INTERNAL",
                "tenant_risk": "low",
                "qos_class": "P2",
                "request": {"arguments": params.get("arguments") or {}},
            },
            principal=tenant,
        )
        if decision.denied:
            code = "" if decision.code is None else decision.code.value
            raise MCPError(REFUSED, f"{decision.outcome} {code}", {"decision_id": decision.decision_id})
        return await call_next(context)

    server: MCPServer[Any] = MCPServer("summaries", middleware=[cast("Any", decided)])

    @server.tool()
    def summarize(text: str) -> str:
        """Return the first words of a text."""
        return " ".join(text.split()[:3])

    @server.tool()
    def unlisted(text: str) -> str:
        """No capability is known for this one, so the Hall has no rule for it."""
        return text

    return server
