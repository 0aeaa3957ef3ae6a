"""A service whose whole state is in memory: it counts the lines of each client, and all lines there ever were.

It knows nothing of kagemusha. Kill it, and both counts go on in its double:

    nc 10.0.0.101 8000
"""

from __future__ import annotations

import asyncio
import sys

total = 0


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each line of one client with two counts."""
    global total
    own = 0
    try:
        while await reader.readline():
            own += 1
            total += 1
            writer.write(f"your line {own}, line {total} of all\n".encode())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    """Listen on all addresses, for ever."""
    server = await asyncio.start_server(serve, "0.0.0.0", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
