"""libtorrent for one task: leech, seed, check or create. COMPLETE on standard output says that it is done."""

import signal
import sys
import time

import libtorrent as lt

PEERS_MAX = 100


def session(port, method):
    rc4 = method == "rc4"
    return lt.session({
        "listen_interfaces": f"0.0.0.0:{port}",
        "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.status_notification
        | lt.alert.category_t.storage_notification,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "out_enc_policy": int(lt.enc_policy.forced if rc4 else lt.enc_policy.disabled),
        "in_enc_policy": int(lt.enc_policy.forced if rc4 else lt.enc_policy.enabled),
        "allowed_enc_level": int(lt.enc_level.rc4 if rc4 else lt.enc_level.both),
        "allow_multiple_connections_per_ip": True,
        "connections_limit": PEERS_MAX,
        "unchoke_slots_limit": PEERS_MAX,
        # All at once, as the others do it.
        "connection_speed": PEERS_MAX,
    })


def add(ses, torrent, folder, trust):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(torrent)
    params.save_path = folder
    params.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if trust:
        params.flags |= lt.torrent_flags.seed_mode
    return ses.add_torrent(params)


def wait(ses, kind):
    while True:
        ses.wait_for_alert(1000)
        for alert in ses.pop_alerts():
            if alert.category() & lt.alert.category_t.error_notification:
                print("ERROR", alert.message(), file=sys.stderr, flush=True)
            if isinstance(alert, kind):
                return


def create(path, out, piece_len):
    storage = lt.file_storage()
    lt.add_files(storage, path)
    draft = lt.create_torrent(storage, int(piece_len), lt.create_torrent.v1_only)
    lt.set_piece_hashes(draft, path.rsplit("/", 1)[0])
    with open(out, "wb") as file:
        file.write(lt.bencode(draft.generate()))


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    task, *args = sys.argv[1:]
    if task == "create":
        create(*args)
        return
    torrent, folder, port, method = args
    ses = session(port, method)
    handle = add(ses, torrent, folder, task in ("seed", "check"))
    if task == "check":
        # In seed mode nothing is read when the torrent is added, so that this is the only pass. Adding it tells of
        # a check as well: only after that is it known which one the next is.
        wait(ses, lt.torrent_checked_alert)
        handle.force_recheck()
        wait(ses, lt.torrent_checked_alert)
        while not handle.status().is_seeding:
            wait(ses, lt.torrent_checked_alert)
    else:
        wait(ses, lt.torrent_finished_alert)
        if task == "leech":
            # Verified, but some of it may wait to be written.
            handle.flush_cache()
            wait(ses, lt.cache_flushed_alert)
    print("COMPLETE", flush=True)
    while True:
        time.sleep(60)


main()
