"""The service under load: how long texts take with 50 clients at once, and whether 200 clients for minutes change anything.

usage: service.py PROGRAM FOLDER [MINUTES]. FOLDER is what vectors.py writes, with an index of the included model (`PROGRAM index
FOLDER`). Needs wrk. Clients are on the same cores, ask one after the other without a pause, and look for words they never looked for
before; answers have 20 results with all that is told of them. Prints a line of JSON for each load.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def resident(process):
    """Anonymous memory and mapped files, in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return {name: int(re.search(rf"{name}:\s+(\d+)", status).group(1)) // 1024 for name in ("RssAnon", "RssFile")}


def load(address, clients, seconds, seed):
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", HERE / "service.lua", address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"SEED": str(seed), "PATH": "/usr/bin:/bin"})
    return json.loads(done.stdout.splitlines()[-1])


def main():
    program, folder = sys.argv[1:3]
    minutes = int((sys.argv[3:] or ["10"])[0])
    serving = subprocess.Popen([program, "serve", folder, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        address = re.search(r"http://\S+/", serving.stderr.readline()).group()
        load(address, 50, 10, 0)  # brings the lists into memory
        for clients in (1, 10, 50):
            print(json.dumps({"clients": clients} | load(address, clients, 20, clients) | resident(serving)), flush=True)
        for minute in range(minutes):
            print(json.dumps({"clients": 200, "minute": minute} | load(address, 200, 60, 1000 + minute) | resident(serving)), flush=True)
    finally:
        serving.terminate()
        serving.wait()


if __name__ == "__main__":
    main()
