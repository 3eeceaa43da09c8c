//! Peers that know each other only through a third (BEP 11).

use std::time::Duration;

use torr::Torrent;

use crate::common::{Payload, Side, synced};

struct Three {
    sides: Vec<Side>,
    /// Of the one that lacks everything.
    last: Torrent,
}

/// One that gives nothing, and with `pex` tells; a seed and a leech that know only that one.
async fn three(payload: &Payload, pex: bool) -> Three {
    let between = Side::with(|config| {
        (config.allow_upload, config.pex) = (false, pex);
        // Two that are complete have no use for each other: it is still at it when the minute comes.
        config.down_rate = Some(8_000);
    });
    let between = between.await;
    between.add(payload, |_| {}).await;
    let seed = Side::new().await;
    payload.write(&seed.data());
    let addr = between.addr();
    seed.add(payload, |add| add.peers = vec![addr]).await;
    let leech = Side::new().await;
    let last = leech.leech(payload, &[addr]).await;
    let sides = vec![between, seed, leech];
    Three { sides, last }
}

#[tokio::test]
async fn peers_find_each_other_through_a_third_unless_it_is_private() {
    let public = Payload::single("public", 200_000, 16_384);
    let private = public.private();
    let (told, quiet, secret) = (
        three(&public, true).await,
        three(&public, false).await,
        three(&private, true).await,
    );
    synced(&told.last).await;
    public.assert_in(&told.sides[2].data());
    // By now the others would have been told as well.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(quiet.last.stats().done, 0);
    assert_eq!(secret.last.stats().done, 0);
    for side in [told, quiet, secret]
        .into_iter()
        .flat_map(|three| three.sides)
    {
        side.end().await;
    }
}
