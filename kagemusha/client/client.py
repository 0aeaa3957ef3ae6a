"""The cluster, asked by a program without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from kagemusha.client.async_client import PATIENCE_S, AsyncClient
from kagemusha.client.nodes import Json

Result = TypeVar("Result")


class Client:
    """`AsyncClient` for programs without an event loop; safe to use from several threads."""

    def __init__(
        self,
        endpoints: Sequence[str] = (),
        *,
        token: str = "",
        authority: str = "",
        patience_s: float = PATIENCE_S,
    ) -> None:
        """See `AsyncClient`."""
        self._client = AsyncClient(endpoints, token=token, authority=authority, patience_s=patience_s)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kagemusha-client", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def create_mirrored_instance(self, program_id: str, config_file: str, nodes: Sequence[str] = ()) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.create_mirrored_instance(program_id, config_file, nodes))

    def get_instance_status(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_status(instance_id))

    def force_switchover(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.force_switchover(instance_id))

    def get_instance_context(self, instance_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_context(instance_id))

    def get_instance_structures(self, instance_id: str, name: str = "", elements: int = 0) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_instance_structures(instance_id, name, elements))

    def list_programs(self) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.list_programs())

    def list_nodes(self) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.list_nodes())

    def start_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.start_program(program_id))

    def stop_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.stop_program(program_id))

    def shutdown_program(self, program_id: str) -> Json:
        """See `AsyncClient.shutdown_program`."""
        return self._run(self._client.shutdown_program(program_id))

    def delete_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.delete_program(program_id))

    def pause_program(self, program_id: str, for_s: int = 3600) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.pause_program(program_id, for_s))

    def resume_program(self, program_id: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.resume_program(program_id))

    def force_failover(self, instance_id: str, *, force: bool = False) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.force_failover(instance_id, force=force))

    def drain_node(self, node: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.drain_node(node))

    def undrain_node(self, node: str) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.undrain_node(node))

    def set_log_level(self, node: str, level: str, for_s: int = 600) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.set_log_level(node, level, for_s))

    def get_history(self, program_id: str = "", limit: int = 100) -> list[Json]:
        """See `AsyncClient`."""
        return self._run(self._client.get_history(program_id, limit))

    def get_health(self) -> Json:
        """See `AsyncClient`."""
        return self._run(self._client.get_health())

    def _run(self, job: Coroutine[Any, Any, Result]) -> Result:
        future = asyncio.run_coroutine_threadsafe(job, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise


def create_mirrored_instance(program_id: str, config_file: str) -> Json:
    """`Client.create_mirrored_instance`, with the environment's endpoints and token."""
    with Client() as client:
        return client.create_mirrored_instance(program_id, config_file)


def get_instance_status(instance_id: str) -> Json:
    """`Client.get_instance_status`, with the environment's endpoints and token."""
    with Client() as client:
        return client.get_instance_status(instance_id)


def force_switchover(instance_id: str) -> Json:
    """`Client.force_switchover`, with the environment's endpoints and token."""
    with Client() as client:
        return client.force_switchover(instance_id)
