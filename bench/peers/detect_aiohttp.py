"""A plain polling client: what is written with aiohttp in an afternoon.

Usage: detect_aiohttp.py URL CA_FILE REQUESTS_PER_SECOND
Asks at even distances over one warm connection, missed instants are not made up for. Prints `ready` after
the first answer, then one line for each notice that was not there before: its address and when this
program had it parsed, in microseconds since the epoch. Runs until it is killed.
"""

import asyncio
import ssl
import sys
import time

import aiohttp


async def main() -> None:
    url, ca_file, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    known = None
    context = ssl.create_default_context(cafile=ca_file)
    headers = {"User-Agent": "bench-aiohttp"}
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        due = time.monotonic()
        while True:
            async with session.get(url) as response:
                notices = await response.json(content_type=None)
            at = time.time_ns() // 1_000
            addresses = {notice["pc_url"] for notice in notices}
            if known is None:
                known = set()
                print("ready", flush=True)
            else:
                for address in addresses - known:
                    print(address, at, flush=True)
            known |= addresses
            due += 1.0 / rate
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            else:
                due = now


asyncio.run(main())
