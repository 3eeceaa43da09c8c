//! What a person tries first, and what must happen: each line of the list, by the real program.

use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{Ran, Running, Tracker, World, ran, tree};

const FILES: &[(&str, usize)] = &[
    ("a.bin", 3_000_000),
    ("sub/b", 70_000),
    ("sub/empty", 0),
    ("c", 1),
];

#[test]
fn a_download_creates_its_folder_and_exits_0() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let ran = world.run(&[&torrent, "-d", "new/dir"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // The path is all of standard output.
    let path = world.path("new/dir/things").display().to_string();
    assert_eq!(ran.out, format!("{path}\n"));
    assert!(
        ran.err.starts_with("things  3.1 MB  4 files\n"),
        "{}",
        ran.err
    );
    let last = ran.err.lines().last().unwrap();
    assert!(
        last.starts_with("done in 0:0") && last.contains("3.1 MB, verified"),
        "{last}"
    );
    assert!(last.ends_with("Keep seeding with --seed."), "{last}");
    world.assert_same("things", "new/dir");
}

#[test]
fn single_and_multi_file_torrents_land_as_dir_and_name() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let multi = world.share("many", FILES, Some(&tracker));
    let single = world.share_file("one.iso", 500_000, Some(&tracker));
    let _seeds = (world.seed(&multi, &[]), world.seed(&single, &[]));
    let ran = world.run(&[&multi, &single, "-d", "dir"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(world.path("dir/one.iso").is_file() && world.path("dir/many/sub/b").is_file());
    assert_eq!(std::fs::read_dir(world.path("dir")).unwrap().count(), 2);
    world.assert_same("many", "dir");
    world.assert_same("one.iso", "dir");
}

#[test]
fn the_second_run_downloads_nothing_and_takes_no_second() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let seed = world.seed(&torrent, &[]);
    assert_eq!(world.run(&[&torrent, "-d", "dir"]).code, 0);
    drop(seed);
    let ran = world.run(&[&torrent, "-d", "dir", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.object("done")["downloaded"], 0);
    assert!(ran.took < Duration::from_secs(1), "{:?}", ran.took);
    let ran = world.run(&[&torrent, "-d", "dir"]);
    assert!(ran.err.contains("nothing to download"), "{}", ran.err);
}

/// 24 MiB of memory leave 12 to blocks, and three quarters of them to unfinished pieces.
const BUDGET: u64 = 9 << 20;

#[test]
fn killed_at_half_it_goes_on_from_what_was_finished() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let size = 48 << 20;
    let torrent = world.share_file("big.bin", size, Some(&tracker));
    let _seed = world.seed(&torrent, &["--up", "10M"]);
    let args = [&torrent, "-d", "dir", "--json", "--memory", "24MiB"];
    let mut first = Running::start(world.torr(args));
    let half = size as u64 / 2;
    let at =
        first.until(|object| object["t"] == "progress" && object["done"].as_u64() >= Some(half));
    let done = at["done"].as_u64().unwrap();
    assert!(done < size as u64, "it was too fast to be killed half-way");
    first.signal("KILL");
    assert_eq!(first.end().code, 137);
    let ran = ran(world.torr(args));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let again = ran.object("done")["downloaded"].as_u64().unwrap();
    assert!(
        again > 0 && again <= size as u64 - done + BUDGET,
        "{again} after {done}"
    );
    world.assert_same("big.bin", "dir");
}

#[test]
fn statuses_of_common_mistakes() {
    let world = World::new();
    world.write("bad.torrent", b"this is no torrent");
    let status = |args: &[&str]| {
        let ran = world.run(args);
        assert!(
            ran.err.starts_with("torr: ") && ran.out.is_empty(),
            "{ran:?}"
        );
        ran.code
    };
    assert_eq!(status(&["missing.torrent"]), 4);
    assert_eq!(status(&["bad.torrent"]), 3);
    assert_eq!(status(&["bad.torrent", "--no-such-flag"]), 2);
}

#[test]
fn in_the_background_without_any_stream_it_completes() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let torrent = world.share("things", FILES, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let script = format!("torr {torrent} -d dir </dev/null >/dev/null 2>&1 &\nwait $!");
    let ran = ran(world.shell(&script));
    assert_eq!(ran.code, 0);
    world.assert_same("things", "dir");
    // Not even descriptors.
    let script = format!("torr {torrent} -d dir2 <&- >&- 2>&- &\nwait $!");
    assert_eq!(crate::common::ran(world.shell(&script)).code, 0);
    world.assert_same("things", "dir2");
}

#[test]
fn a_reader_of_json_may_leave() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    // It would take a minute and a half.
    let torrent = world.share_file("slow.bin", 20_000_000, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    let script =
        format!("{{ torr {torrent} -d dir --json --down 200K; echo $? >status; }} | head -1");
    let ran = ran(world.shell(&script));
    assert_eq!(ran.out.lines().count(), 1);
    assert!(ran.out.starts_with(r#"{"v":1,"t":"#), "{}", ran.out);
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
    assert!(ran.took < Duration::from_secs(15), "{:?}", ran.took);
    assert_eq!(
        std::fs::read_to_string(world.path("status"))
            .unwrap()
            .trim(),
        "1"
    );
    let script = format!("torr info {torrent} --json | true; torr --help | head -1");
    let ran = crate::common::ran(world.shell(&script));
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}

#[test]
fn a_full_disk_is_status_5_and_loses_nothing() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let size = 24 << 20;
    let torrent = world.share_file("big.bin", size, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    std::fs::create_dir(world.path("small")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=10m tmpfs small || exit 99\n\
         $TORR {torrent} -d small --json >first; echo $?\n\
         $TORR {torrent} -d small >/dev/null 2>still-full; echo $?\n\
         mount -o remount,size=64m small || exit 99\n\
         $TORR {torrent} -d small --json >second; echo $?\n\
         cmp small/big.bin share/big.bin && echo same"
    );
    let ran = among_mounts(&world, &script);
    assert_eq!(ran.out, "5\n5\n0\nsame\n", "{}", ran.err);
    assert!(
        ran.err.contains("No space left on device") && ran.err.contains("hint: "),
        "{}",
        ran.err
    );
    let read = |name| std::fs::read_to_string(world.path(name)).unwrap();
    let error = crate::common::objects(&read("first"))
        .into_iter()
        .find(|o| o["t"] == "error")
        .unwrap();
    assert_eq!(error["code"], 5);
    let done = crate::common::objects(&read("second"))
        .into_iter()
        .find(|o| o["t"] == "done")
        .unwrap();
    // What fitted stayed. Pieces on their way when it was full may come again.
    let again = done["downloaded"].as_u64().unwrap();
    assert!(
        again < size as u64 - (6 << 20),
        "{again} of {size} came again"
    );
}

/// With `--wait-for-space` it says what it waits for, and goes on by itself, fetching nothing twice.
#[test]
fn a_full_disk_is_waited_for_if_that_is_asked_for() {
    let world = World::new();
    let size = 20_000_000;
    let tracker = Tracker::start(&world);
    let torrent = world.share_file("big.bin", size, Some(&tracker));
    let _seed = world.seed(&torrent, &[]);
    std::fs::create_dir(world.path("small")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=10m tmpfs small || exit 99\n\
         timeout 120 $TORR {torrent} -d small --wait-for-space --json >told & torr=$!\n\
         for n in $(seq 300); do grep -q '\"needs\":[0-9]' told && break; sleep 0.1; done\n\
         sleep 2\n\
         mount -o remount,size=64m small || exit 99\n\
         wait $torr; echo $?\n\
         cmp small/big.bin share/big.bin && echo same"
    );
    let ran = among_mounts(&world, &script);
    assert_eq!(ran.out, "0\nsame\n", "{}", ran.err);
    let told = std::fs::read_to_string(world.path("told")).unwrap();
    let told = crate::common::objects(&told);
    let errors: Vec<_> = told.iter().filter(|o| o["t"] == "error").collect();
    let [first, .., more, over] = errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!(
        (&first["errno"], &first["code"]),
        (&"ENOSPC".into(), &5.into())
    );
    assert!(first["file"].as_str().unwrap().ends_with("small/big.bin"));
    assert_eq!(
        (&first["waiting"], &more["waiting"]),
        (&true.into(), &true.into())
    );
    assert!(more["needs"].as_u64() > more["free"].as_u64(), "{more}");
    assert_eq!(
        (&over["waiting"], &over["code"]),
        (&false.into(), &0.into())
    );
    let done = told.iter().find(|o| o["t"] == "done").unwrap();
    let fetched = done["downloaded"].as_u64().unwrap();
    assert!(fetched < size as u64 * 3 / 2, "{fetched} of {size}");
}

/// Runs a script that mounts things which nobody else sees; `$TORR` is the program.
fn among_mounts(world: &World, script: &str) -> Ran {
    let mut command = std::process::Command::new("unshare");
    // Without root, a user namespace has a root of its own.
    command.args(["-m", "--propagation", "private"]);
    if !is_root() {
        command.arg("-r");
    }
    command
        .args(["/bin/sh", "-c", script])
        .current_dir(world.dir.path());
    command
        .env("TORR", env!("CARGO_BIN_EXE_torr"))
        .env("TORR_NO_DHT", "true")
        .env("HOME", world.dir.path());
    ran(command)
}

fn is_root() -> bool {
    let id = std::process::Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// Accepts, and never says a word; by UDP not even that.
fn silent_tracker() -> (TcpListener, UdpSocket, [String; 2]) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let urls = [
        format!("http://{}/announce", tcp.local_addr().unwrap()),
        format!("udp://{}/announce", udp.local_addr().unwrap()),
    ];
    (tcp, udp, urls)
}

#[test]
fn interrupted_it_leaves_in_time_whatever_the_tracker_does() {
    let world = World::new();
    let (_tcp, _udp, urls) = silent_tracker();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let args = [
            &torrent, "-d", "dir", "--json", "-t", &urls[0], "-t", &urls[1],
        ];
        let mut command = world.torr(args);
        command.stderr(Stdio::piped());
        let mut run = Running::start(command);
        run.until(|object| object["t"] == "progress");
        let began = Instant::now();
        run.signal(signal);
        let ran = run.end();
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(
            began.elapsed() <= Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert!(
            ran.err.contains("resume with: ") && ran.err.contains("never.bin.torrent -d dir"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn interrupted_twice_it_leaves_at_once() {
    let world = World::new();
    let (_tcp, _udp, urls) = silent_tracker();
    let torrent = world.share_file("never.bin", 1_000_000, None);
    let mut run = Running::start(world.torr([&torrent, "-d", "dir", "--json", "-t", &urls[0]]));
    run.until(|object| object["t"] == "progress");
    let began = Instant::now();
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    run.signal("INT");
    assert_eq!(run.end().code, 130);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_was_interrupted_is_resumed() {
    let world = World::new();
    let tracker = Tracker::start(&world);
    let size = 12_000_000;
    let torrent = world.share_file("big.bin", size, Some(&tracker));
    let _seed = world.seed(&torrent, &["--up", "4M"]);
    let args = [&torrent, "-d", "dir", "--json"];
    let mut run = Running::start(world.torr(args));
    let at = run.until(|o| o["t"] == "progress" && o["done"].as_u64() > Some(size as u64 / 4));
    run.signal("INT");
    assert_eq!(run.end().code, 130);
    let ran = ran(world.torr(args));
    assert_eq!(ran.code, 0, "{}", ran.err);
    // A clean stop keeps unfinished pieces too.
    let again = ran.object("done")["downloaded"].as_u64().unwrap();
    assert!(
        again <= size as u64 - at["done"].as_u64().unwrap(),
        "{again}"
    );
    world.assert_same("big.bin", "dir");
    assert_eq!(tree(&world.path("dir")).len(), 1);
}
