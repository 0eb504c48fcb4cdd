"""A TCP proxy that adds a delay to every round trip: ``python -m benchmarks.proxy PORT TO MS``.

What the client sends is passed on after the delay, in order and without limit of bandwidth.
"""

import asyncio
import sys

import uvloop


async def _delayed(
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
    """Until cancelled."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(_delayed(reader, back, seconds), _delayed(there, writer, 0))

    server = await asyncio.start_server(connected, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000))
