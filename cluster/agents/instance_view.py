"""What a node tells of one of its instances in a heartbeat."""

from __future__ import annotations

import time

from cluster.agents.instance import LocalInstance
from cluster.health.rounds import Primary
from cluster.node.messages import InstanceState
from transport.checkpoint import NOTHING
from transport.control import InstanceStatus


def primary_of(instance: LocalInstance) -> Primary | None:
    """What there is to look after: a program that serves here, or would if it were not kept still; None: none."""
    record = instance.record
    if record.role != "primary" or not (instance.serving and record.pid) or instance.ended is not None:
        return None
    return Primary(record.program, record.token, record.pid, record.config_file, lambda: _is_still(instance))


def _is_still(instance: LocalInstance) -> bool:
    return bool(instance.fence_id) or instance.held or instance.tenure.fencing is not None


def state_of(instance: LocalInstance, unhealthy: str = "") -> InstanceState:
    """What is known of it now; nobody is asked. unhealthy: what its health checks say, or is in its clients' way."""
    agent, record = instance.agent, instance.record
    status = agent.last_status if agent is not None else None
    version = status.version if status is not None and record.role != "none" else NOTHING
    captured_ns = agent.captured_ns if agent is not None and version != NOTHING else 0
    return InstanceState(
        program=record.program,
        incarnation=agent.hello.incarnation if agent is not None else 0,
        role="primary" if record.role == "primary" else "mirror",
        status=_word(instance),
        reason=(instance.failed or instance.reason or instance.clients.taken or instance.clients.trouble)[:512],
        token=record.token,
        version=version,
        captured_ns=captured_ns,
        staleness_ms=max(time.time_ns() - captured_ns, 0) / 1e6 if captured_ns else 0.0,
        stream=agent.stream if agent is not None else "",
        fence_id=instance.fence_id,
        lease_out=not instance.fence_id and instance.tenure.fencing is not None,
        agent_lost=instance.agent_lost,
        ended=instance.ended,
        unhealthy=unhealthy[:512],
    )


def _word(instance: LocalInstance) -> InstanceStatus:
    record, agent = instance.record, instance.agent
    if record.role == "none":
        return "stopped"
    if instance.failed:
        return "failed"
    if instance.ended is not None:
        return "stopped" if instance.ended.status == 0 else "failed"
    if instance.fence_id or (instance.serving and instance.tenure.fencing is not None):
        return "fenced"
    if record.role == "primary" and not (instance.serving and record.pid):
        return "starting"
    status = agent.last_status if agent is not None else None
    return status.status if status is not None else "starting"
