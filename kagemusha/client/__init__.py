"""The cluster, asked from Python: `create_mirrored_instance`, `get_instance_status`, `force_switchover`, and the rest.

    from kagemusha.client import Client

    with Client(["10.0.0.1:7402", "10.0.0.2:7402"], token="kgm_...", authority="/etc/kagemusha/pki/authority.pem") as c:
        c.create_mirrored_instance("redis", "/etc/kagemusha/redis.toml")
        print(c.get_instance_status("redis@a")["role"])

`AsyncClient` has the same methods as coroutines. Answers are the JSON objects that docs/api.md describes. Any node will
do: nodes that do not answer are passed over, and a request that changes something carries a key, so that it can be sent
again without being done twice. This needs aiohttp, and nothing else of kagemusha.
"""

from kagemusha.client.access import Access, ApiError
from kagemusha.client.async_client import AsyncClient
from kagemusha.client.client import Client, create_mirrored_instance, force_switchover, get_instance_status
from kagemusha.client.nodes import Json

__all__ = [
    "Access",
    "ApiError",
    "AsyncClient",
    "Client",
    "Json",
    "create_mirrored_instance",
    "force_switchover",
    "get_instance_status",
]
