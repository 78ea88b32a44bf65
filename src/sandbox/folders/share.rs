//! What is shared: directories of the host, with where the guest has them.

use super::Server;
use guest::link::Folder;
use std::path::PathBuf;

/// A directory of the host that the guest has as a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The directory.
    pub host: PathBuf,
    /// The folder.
    pub folder: Folder,
}

/// Opens what is shared, in order. An error is a sentence.
pub fn open(shares: &[Share]) -> Result<Vec<Server>, String> {
    let open = |share: &Share| {
        let Share { host, folder } = share;
        Server::new(host, folder.read_only).map_err(|error| {
            format!(
                "cannot share {host:?}: {error}; name a directory that is there and can be read"
            )
        })
    };
    shares.iter().map(open).collect()
}
