#!/usr/bin/env python3
"""Would more than one shard pay? Two torrents in one torr, beside two torrs with one torrent each.

The two processes share nothing: no two shards of one process could do better. Also where the time of the one
goes, thread by thread: what its network thread takes for a GiB says at which rate it would be full.

    shards.py TORR FOLDER [GIB [RUNS]]

Needs `taskset`, two CPUs, and FOLDER on a real disk. The seeds are torr too, on the same CPUs.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

PIECE = 4 << 20
TICKS = os.sysconf("SC_CLK_TCK")
TIME_MAX = 300


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%b" % (len(value), value)
    pairs = sorted(value.items())
    return b"d" + b"".join(bencode(k) + bencode(v) for k, v in pairs) + b"e"


def payload(folder, name, gib):
    """A file of random bytes and its torrent, made once."""
    torrent, data = folder / f"{name}.torrent", folder / "seed" / name
    if not torrent.exists():
        data.parent.mkdir(parents=True, exist_ok=True)
        hashes = []
        with data.open("wb") as out:
            for _ in range((gib << 30) // PIECE):
                piece = os.urandom(PIECE)
                hashes.append(hashlib.sha1(piece).digest())
                out.write(piece)
        info = {b"name": name.encode(), b"length": gib << 30, b"piece length": PIECE, b"pieces": b"".join(hashes)}
        torrent.write_bytes(bencode({b"info": info}))
    subprocess.run(["cat", data], stdout=subprocess.DEVNULL, check=True)
    return torrent


def start(torr, folder, state, args):
    own = ["--json", "--quiet", "--bind", "127.0.0.1", "--no-dht", "--state", str(folder / state)]
    return subprocess.Popen([torr, *map(str, args), *own], stdout=subprocess.PIPE, text=True)


def seed(torr, folder, torrent, port):
    args = [torrent, "-d", folder / "seed", "--seed", "--trust", "--port", port]
    child = start(torr, folder, f"state-{torrent.stem}", args)
    while '"t":"seeding"' not in child.stdout.readline():
        if child.poll() is not None:
            sys.exit("the seed ended")
    return child


def ticks(stat):
    fields = stat.rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def threads(pid, seen):
    """CPU seconds of each thread so far; of one that has ended, the last that was seen."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name = (task / "comm").read_text().strip()
            seen[task.name] = (name, ticks((task / "stat").read_text()) / TICKS)
        except OSError:
            pass


def leech(torr, folder, plans):
    """Runs one torr for each plan at once; seconds, CPU seconds, CPU seconds by thread."""
    shutil.rmtree(folder / "got", ignore_errors=True)
    before, began = os.times(), time.monotonic()
    children = []
    for number, torrents in enumerate(plans):
        peers = [arg for _, port in torrents for arg in ("--peer", f"127.0.0.1:{port}")]
        args = [*(torrent for torrent, _ in torrents), "-d", folder / "got", "--port", 0, *peers]
        children.append(start(torr, folder, f"state-leech-{number}", args))
    seen = [{} for _ in children]
    while any(child.poll() is None for child in children):
        for child, threads_seen in zip(children, seen):
            threads(child.pid, threads_seen)
        if time.monotonic() - began > TIME_MAX:
            sys.exit("it does not end")
        time.sleep(0.02)
    wall, after = time.monotonic() - began, os.times()
    if any(child.returncode for child in children):
        sys.exit("a download failed")
    for number in range(len(plans)):
        shutil.rmtree(folder / f"state-leech-{number}", ignore_errors=True)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    by_name = {}
    for threads_seen in seen:
        for name, spent in threads_seen.values():
            by_name[name] = by_name.get(name, 0) + spent
    return wall, cpu, by_name


def main():
    torr, folder = os.path.abspath(sys.argv[1]), Path(sys.argv[2]).absolute()
    gib, runs = (int(sys.argv[n]) if len(sys.argv) > n else default for n, default in ((3, 2), (4, 5)))
    torrents = [payload(folder, name, gib) for name in ("a", "b")]
    ports = [18081, 18082]
    pairs = list(zip(torrents, ports))
    seeds = [seed(torr, folder, torrent, port) for torrent, port in pairs]
    ways = {"one process": [pairs], "two processes": [[pair] for pair in pairs]}
    figures = {way: [] for way in ways}
    try:
        for _ in range(runs):
            for way, plans in ways.items():
                figures[way].append(leech(torr, folder, plans))
    finally:
        for child in seeds:
            child.kill()
            child.wait()
        shutil.rmtree(folder / "got", ignore_errors=True)
    for way, all_runs in figures.items():
        wall, cpu, by_name = min(all_runs, key=lambda run: run[1])
        median = sorted(run[0] for run in all_runs)[runs // 2]
        shares = ", ".join(f"{name} {spent / (2 * gib):.3f}" for name, spent in sorted(by_name.items()))
        print(f"{way}: {cpu / (2 * gib):.3f} CPU s/GiB, {wall:.2f} s (median {median:.2f} s) for {2 * gib} GiB; {shares}")


main()
