"""libtorrent and rqbit under the power-cut rig: `run` downloads as their users do, `claims` says what they start with.

usage: others.py libtorrent|rqbit run|claims TORRENT FOLDER STATE PEER RATE
`claims` prints the pieces that the client has after its own checks, as a bitfield in hexadecimal digits.
"""

import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request

# As often as the example client of libtorrent and qBittorrent do it, or oftener.
SAVE_EVERY = 3
PATIENCE = 60


class Libtorrent:
    def __init__(self, torrent, folder, state, peer, rate):
        import libtorrent as lt

        self.lt, self.state, self.peer = lt, os.path.join(state, "resume"), peer
        os.makedirs(folder, exist_ok=True)
        os.makedirs(state, exist_ok=True)
        self.session = lt.session(
            {
                "listen_interfaces": "127.0.0.1:0",
                "enable_dht": False,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "download_rate_limit": rate,
                "allow_multiple_connections_per_ip": True,
                "alert_mask": lt.alert.category_t.all_categories,
            }
        )
        try:
            with open(self.state, "rb") as file:
                params = lt.read_resume_data(file.read())
            params.ti = lt.torrent_info(torrent)
        except (OSError, RuntimeError):
            params = lt.add_torrent_params()
            params.ti = lt.torrent_info(torrent)
        params.save_path = folder
        params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        self.handle = self.session.add_torrent(params)

    def save(self):
        lt = self.lt
        flags = lt.torrent_handle.save_info_dict | lt.torrent_handle.only_if_modified
        self.handle.save_resume_data(flags)

    def write(self):
        for alert in self.session.pop_alerts():
            if isinstance(alert, self.lt.save_resume_data_alert):
                data = self.lt.write_resume_data_buf(alert.params)
                with open(self.state + ".new", "wb") as file:
                    file.write(data)
                os.rename(self.state + ".new", self.state)

    def run(self):
        host, port = self.peer.split(":")
        self.handle.connect_peer((host, int(port)))
        saved = time.monotonic()
        while not self.handle.status().is_seeding:
            self.write()
            if time.monotonic() - saved > SAVE_EVERY:
                saved = time.monotonic()
                self.save()
            time.sleep(0.1)
        self.save()
        time.sleep(1)
        self.write()

    def claims(self):
        # The check of the resume data, and of the files where there is none, goes by itself.
        states = self.lt.torrent_status
        busy = (states.checking_files, states.checking_resume_data)
        end = time.monotonic() + PATIENCE
        time.sleep(0.2)
        while self.handle.status().state in busy and time.monotonic() < end:
            time.sleep(0.02)
        return list(self.handle.status(0xFFFF).pieces)


class Rqbit:
    API = "127.0.0.1:3030"

    def __init__(self, torrent, folder, state, peer, rate):
        cache = os.environ.get("TORR_LAB_CACHE", os.path.expanduser("~/.cache/torr-lab"))
        self.torrent, self.folder, self.peer = torrent, folder, peer
        self.server = subprocess.Popen(
            [os.path.join(cache, "cargo/bin/rqbit"), "-v", "error", "--disable-dht"]
            + ["--http-api-listen-addr", self.API, "--disable-upnp-port-forward"]
            + ["--disable-lsd", "--disable-trackers", "--ratelimit-download", str(rate)]
            + ["--listen-port", "4999", "server", "start", folder]
            + ["--persistence-location", state, "--fastresume"],
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                self.ask("GET", "/torrents")
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("rqbit does not answer")

    def ask(self, method, path, body=None):
        request = urllib.request.Request(f"http://{self.API}{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def stats(self):
        import json

        return json.loads(self.ask("GET", "/torrents/0/stats/v1"))

    def run(self):
        with open(self.torrent, "rb") as file:
            body = file.read()
        words = {"overwrite": "true", "initial_peers": self.peer, "output_folder": self.folder}
        self.ask("POST", "/torrents?" + urllib.parse.urlencode(words), body)
        while not self.stats().get("finished"):
            time.sleep(0.2)
        time.sleep(1)
        self.end()

    def claims(self):
        try:
            self.ask("GET", "/torrents/0")
        except urllib.error.HTTPError:
            # It forgot the torrent, and would begin anew.
            self.end()
            return []
        # It claims nothing while it has not come to a state of its own, and sometimes never does.
        end = time.monotonic() + PATIENCE / 6
        while self.stats()["state"] == "initializing":
            if time.monotonic() > end:
                self.server.kill()
                return []
            time.sleep(0.05)
        have = self.ask("GET", "/torrents/0/haves")
        self.end()
        return [bool(byte >> (7 - bit) & 1) for byte in have for bit in range(8)]

    def end(self):
        self.server.terminate()
        try:
            self.server.wait(PATIENCE / 6)
        except subprocess.TimeoutExpired:
            self.server.kill()


def main():
    name, mode, torrent, folder, state, peer, rate = sys.argv[1:]
    client = {"libtorrent": Libtorrent, "rqbit": Rqbit}[name]
    client = client(torrent, folder, state, peer, int(rate))
    if mode == "run":
        client.run()
        return
    have = client.claims()
    have += [False] * (-len(have) % 8)
    octets = (have[at : at + 8] for at in range(0, len(have), 8))
    print(bytes(sum(bit << (7 - n) for n, bit in enumerate(octet)) for octet in octets).hex())
    # No parting words: what the client writes at its end is of no interest.
    sys.stdout.flush()
    os._exit(0)


main()
