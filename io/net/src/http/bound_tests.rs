//! Where connections leave from.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

#[tokio::test]
async fn a_bound_client_leaves_by_its_address_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let from = |bind: &str| HttpClient::bound(false, Some(bind.parse().unwrap()));
    let server = tokio::spawn(async move {
        let (mut socket, remote) = listener.accept().await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await;
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let _ = socket.write_all(reply).await;
        remote.ip()
    });
    let limits = HttpLimits::default();
    let other = from("::1").get(&url, Purpose::Tracker, &limits).await;
    assert!(
        matches!(other, Err(HttpError::NoAddressOfFamily(_))),
        "{other:?}"
    );
    let reply = from("127.0.0.2").get(&url, Purpose::Tracker, &limits).await;
    assert_eq!(reply.map(|reply| reply.status), Ok(200));
    assert_eq!(server.await.unwrap().to_string(), "127.0.0.2");
}
