"""A LangGraph graph whose tool node asks the Hall: a hold interrupts the graph, a grant resumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt

if TYPE_CHECKING:
    from wcp_route import Hall


class Task(TypedDict, total=False):
    """What travels through the graph."""

    request: dict[str, Any]
    result: str


def make_graph(hall: Hall, tenant: str) -> Any:
    """Return the compiled graph. Resume an interrupt with the grant that an approver was shown.

    Args:
        hall: who decides.
        tenant: on whose behalf the graph runs.
    """

    def run_tool(task: Task) -> Task:
        decision = hall.route(task["request"], principal=tenant)  # runs again on resume, and is held once
        if decision.outcome == "STEWARD_HOLD":
            grant = interrupt({"pending_approval_id": decision.pending_approval_id})
            decision = hall.route(task["request"], principal=tenant, grant=str(grant))
        if decision.denied:
            return {"result": f"denied: {decision.code}"}
        return {"result": f"ran {decision.worker_id}"}

    graph: Any = StateGraph(Task)
    graph.add_node("tool", run_tool)
    graph.add_edge(START, "tool")
    graph.add_edge("tool", END)
    return graph.compile(checkpointer=InMemorySaver())
