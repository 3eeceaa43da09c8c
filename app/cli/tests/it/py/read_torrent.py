"""Reads a .torrent by its specification alone and prints what `torr info --json` should say of it.

Knows nothing of torr: a second opinion. With --libtorrent it asks that library instead, as far as it goes.
"""
import hashlib
import json
import sys


def read(data, at):
    kind = data[at:at + 1]
    if kind == b"i":
        end = data.index(b"e", at)
        return int(data[at + 1:end]), end + 1
    if kind == b"l":
        items, at = [], at + 1
        while data[at:at + 1] != b"e":
            item, at = read(data, at)
            items.append(item)
        return items, at + 1
    if kind == b"d":
        items, at = {}, at + 1
        while data[at:at + 1] != b"e":
            key, at = read(data, at)
            start = at
            items[key], at = read(data, at)
            if key == b"info":
                items["raw info"] = data[start:at]
        return items, at + 1
    colon = data.index(b":", at)
    end = colon + 1 + int(data[at:colon])
    return data[colon + 1:end], end


def text(value):
    return None if value is None else value.decode("utf-8", "replace")


def files_of(info):
    name = text(info.get(b"name.utf-8", info[b"name"]))
    if b"files" not in info:
        return [{"path": name, "size": info[b"length"], **attrs(info)}]
    files = []
    for entry in info[b"files"]:
        parts = entry.get(b"path.utf-8", entry[b"path"])
        path = "/".join([name] + [text(part) for part in parts])
        files.append({"path": path, "size": entry.get(b"length", 0), **attrs(entry)})
    return files


def attrs(entry):
    letters = entry.get(b"attr", b"")
    link = None
    if b"l" in letters:
        link = "/".join(text(part) for part in entry[b"symlink path"])
    return {"pad": b"p" in letters, "executable": b"x" in letters, "hidden": b"h" in letters, "symlink": link}


def own(data):
    top, _ = read(data, 0)
    info, raw = top[b"info"], top["raw info"]
    tiers = [[text(url) for url in tier] for tier in top.get(b"announce-list", [])]
    if not tiers and b"announce" in top:
        tiers = [[text(top[b"announce"])]]
    seeds = top.get(b"url-list", [])
    seeds = [seeds] if isinstance(seeds, bytes) else seeds
    files = files_of(info)
    v2 = hashlib.sha256(raw).hexdigest() if info.get(b"meta version") == 2 else None
    return {
        "name": text(info.get(b"name.utf-8", info[b"name"])),
        "info_hash": {"v1": hashlib.sha1(raw).hexdigest(), "v2": v2},
        "piece_length": info[b"piece length"],
        "pieces": len(info[b"pieces"]) // 20,
        "total_size": sum(file["size"] for file in files if not file["pad"]),
        "files": files,
        "trackers": tiers,
        "web_seeds": [text(url) for url in seeds],
        "nodes": ["%s:%d" % (text(host), port) for host, port in top.get(b"nodes", [])],
        "private": info.get(b"private", 0) == 1,
        "source": text(info.get(b"source")),
        "comment": text(top.get(b"comment.utf-8", top.get(b"comment"))),
        "created_by": text(top.get(b"created by")),
        "creation_date": top.get(b"creation date"),
    }


def by_libtorrent(path):
    import libtorrent
    torrent = libtorrent.torrent_info(path)
    storage = torrent.files()
    flags = libtorrent.file_flags_t
    files = []
    for n in range(storage.num_files()):
        flag = storage.file_flags(n)
        files.append({
            "path": storage.file_path(n),
            "size": storage.file_size(n),
            "pad": bool(flag & flags.flag_pad_file),
            "executable": bool(flag & flags.flag_executable),
            "hidden": bool(flag & flags.flag_hidden),
        })
    return {
        "name": torrent.name(),
        "info_hash": {"v1": str(torrent.info_hashes().v1)},
        "piece_length": torrent.piece_length(),
        "pieces": torrent.num_pieces(),
        "files": files,
        "trackers": [tracker.url for tracker in torrent.trackers()],
        "private": torrent.priv(),
        "comment": torrent.comment(),
    }


if __name__ == "__main__":
    if sys.argv[1] == "--libtorrent":
        print(json.dumps(by_libtorrent(sys.argv[2])))
    else:
        with open(sys.argv[1], "rb") as file:
            print(json.dumps(own(file.read())))
