"""A TCP proxy that delays every round trip: ``python -m benchmarks.proxy PORT TARGET_PORT MS``.

It forwards the client's bytes after the delay, in order and without a bandwidth limit.
"""

import asyncio
import sys

import uvloop


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(1 << 18):
            if seconds:
                loop.call_later(seconds, writer.write, data)
            else:
                writer.write(data)
                await writer.drain()
    except ConnectionError:
        pass
    loop.call_later(seconds, writer.close)


async def serve(port: int, target: int, seconds: float) -> None:
    """Serve until cancelled."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_target, to_target = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_forward(reader, to_target, seconds), _forward(from_target, writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
