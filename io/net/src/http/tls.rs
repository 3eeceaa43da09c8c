//! Which certificates are believed.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::sync::OnceCell;

use super::HttpError;

/// The system's certificate authorities, read at the first request that needs them: most torrents
/// never do, and the list takes a megabyte.
#[derive(Debug)]
pub(super) struct Tls(OnceCell<Result<ClientConfig, String>>);

impl Tls {
    pub(super) fn platform() -> Self {
        Self(OnceCell::new())
    }

    #[cfg(test)]
    pub(super) fn trusting(roots: RootCertStore) -> Self {
        Self(OnceCell::new_with(Some(Ok(with_roots(roots)))))
    }

    pub(super) async fn config(&self) -> Result<ClientConfig, HttpError> {
        let load = || async {
            // It reads files.
            let loaded = tokio::task::spawn_blocking(load).await;
            loaded.unwrap_or_else(|error| Err(error.to_string()))
        };
        let config = self.0.get_or_init(load).await;
        config.clone().map_err(HttpError::NoTls)
    }
}

/// For plain HTTP: believes nobody.
pub(super) fn none() -> ClientConfig {
    with_roots(RootCertStore::empty())
}

fn load() -> Result<ClientConfig, String> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map(|builder| builder.with_no_client_auth())
        .map_err(|error| error.to_string())
}

fn with_roots(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Named here instead of installed for the process, so that no other library's choice matters.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
