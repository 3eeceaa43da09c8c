"""One libtorrent peer. Its standard output is the protocol with the harness: LISTENING, COMPLETE, ERROR."""

import argparse
import signal
import sys
import time

import libtorrent as lt


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("torrent", help="a torrent file or a magnet link")
    parser.add_argument("dir")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upload-limit", type=int, default=0, help="bytes per second, 0 for none")
    parser.add_argument("--peer", action="append", default=[], help="HOST PORT as HOST/PORT")
    parser.add_argument("--download-limit", type=int, default=0, help="bytes per second, 0 for none")
    parser.add_argument("--lsd", action="store_true", help="local service discovery")
    parser.add_argument("--pex", action="store_true", help="peer exchange")
    parser.add_argument("--dht", help="a node of the DHT to start from as HOST/PORT, or none")
    parser.add_argument("--bind", help="listen only there")
    parser.add_argument("--encryption", choices=["off", "prefer", "require"])
    parser.add_argument("--trust", action="store_true", help="seed without hashing first")
    parser.add_argument("--long-line", action="store_true", help="queues for a long fast line")
    return parser.parse_args()


def session(args):
    settings = {
        "listen_interfaces": f"0.0.0.0:{args.port},[::]:{args.port}",
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification,
        "enable_dht": False,
        "enable_lsd": args.lsd,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        # Plain connections out, both kinds in.
        "out_enc_policy": int(lt.enc_policy.disabled),
        "in_enc_policy": int(lt.enc_policy.enabled),
        "allowed_enc_level": int(lt.enc_level.both),
        "allow_multiple_connections_per_ip": True,
        "announce_to_all_tiers": True,
        "announce_to_all_trackers": True,
        # A limit is meant for these addresses too, which libtorrent would otherwise take for its own network.
        "mixed_mode_algorithm": int(lt.bandwidth_mixed_algo_t.prefer_tcp),
        "upload_rate_limit": args.upload_limit,
        "download_rate_limit": args.download_limit,
    }
    if args.bind:
        host = f"[{args.bind}]" if ":" in args.bind else args.bind
        settings["listen_interfaces"] = f"{host}:{args.port}"
    if args.dht:
        settings |= {
            "enable_dht": True,
            "dht_bootstrap_nodes": "",
            # Announced again soon: this network is young.
            "dht_announce_interval": 20,
            "dht_upload_rate_limit": 1 << 20,
        }
    policy = {
        "off": lt.enc_policy.disabled,
        "prefer": lt.enc_policy.enabled,
        "require": lt.enc_policy.forced,
    }.get(args.encryption)
    if policy is not None:
        level = lt.enc_level.rc4 if args.encryption == "require" else lt.enc_level.both
        settings |= {
            "out_enc_policy": int(policy),
            "in_enc_policy": int(policy),
            "allowed_enc_level": int(level),
        }
    if args.long_line:
        settings |= {
            "max_allowed_in_request_queue": 4000,
            "max_out_request_queue": 4000,
            "send_buffer_watermark": 32 << 20,
            "send_buffer_low_watermark": 1 << 20,
            "max_queued_disk_bytes": 64 << 20,
        }
    if args.pex:
        return lt.session(settings)
    # The session that has no plugin but ut_metadata.
    ses = lt.session(settings, 0)
    ses.add_extension("ut_metadata")
    return ses


def nodes_only(ses):
    """A node of the DHT and nothing else."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("LISTENING", flush=True)
    while True:
        time.sleep(1)
        print("nodes", ses.status().dht_nodes, flush=True)


def main():
    args = arguments()
    ses = session(args)
    if args.dht and args.dht != "none":
        host, port = args.dht.rsplit("/", 1)
        ses.add_dht_node((host, int(port)))
    if args.torrent == "none":
        nodes_only(ses)
    if args.torrent.startswith("magnet:"):
        params = lt.parse_magnet_uri(args.torrent)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(args.torrent)
    params.save_path = args.dir
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if args.trust:
        params.flags |= lt.torrent_flags.seed_mode
    handle = ses.add_torrent(params)
    for peer in args.peer:
        host, port = peer.rsplit("/", 1)
        handle.connect_peer((host, int(port)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("LISTENING", flush=True)

    said = False
    last = 0.0
    while True:
        for alert in ses.pop_alerts():
            if alert.category() & lt.alert.category_t.error_notification:
                print("ERROR", alert.message(), flush=True)
        status = handle.status()
        if status.is_seeding and not said:
            said = True
            print("COMPLETE", flush=True)
        now = time.monotonic()
        if now - last > 1:
            last = now
            print(f"state {status.state} done {status.total_wanted_done} peers {status.num_peers} "
                  f"down {status.download_rate} up {status.upload_rate}", flush=True)
        time.sleep(0.05)


main()
