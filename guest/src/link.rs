//! What launcher and init have agreed on about the private link: addresses, ports, and the kernel's command line.
//!
//! The link is an Ethernet of two: init, which takes the interface with the address `MAC` into a network namespace of
//! its own, and the launcher. Init always connects; the launcher always listens. Neither asks for addresses, so the
//! link is up as soon as the kernel has found the interface. The addresses are link-local (RFC 3927), which
//! no image routes anywhere.

use std::ffi::OsString;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The hardware address of the guest's interface, by which init knows it.
pub const MAC: [u8; 6] = *b"\x02xlink";
/// The hardware address of the launcher.
pub const LAUNCHER_MAC: [u8; 6] = *b"\x02xlhst";
/// The launcher's address.
pub const LAUNCHER: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The guest's address.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
/// How many leading bits the two addresses share.
pub const PREFIX: u8 = 30;

/// The TCP ports that the launcher listens at.
pub mod port {
    /// The session (`protocol`).
    pub const SESSION: u16 = 1;
    /// The first shared folder; each has a port of its own, one after the other.
    pub const FOLDERS: u16 = 2;
}

/// The most folders that are shared with one guest.
pub const FOLDERS_MAX: usize = 64;

/// What begins a word of the kernel's command line that names a shared folder. The first of them is served at
/// `port::FOLDERS`, the next at the port behind it, and so on.
const FOLDER: &str = "xlaunch.share=";
/// What ends the word of a folder that must not change.
const READ_ONLY: &str = ":ro";

/// A shared folder, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Where it is in the guest, from the root.
    pub path: PathBuf,
    /// Whether it cannot be changed from inside.
    pub read_only: bool,
}

impl Folder {
    /// Its word on the kernel's command line. What the kernel gives a meaning to, or we, is written as `%` and two hexadecimal digits.
    pub fn word(&self) -> String {
        let mut word = FOLDER.to_owned();
        for &byte in self.path.as_os_str().as_bytes() {
            if byte.is_ascii_alphanumeric() || b"/._-+,@~".contains(&byte) {
                word.push(byte.into());
            } else {
                // Writing to a string cannot fail.
                let _ = write!(word, "%{byte:02X}");
            }
        }
        if self.read_only {
            word.push_str(READ_ONLY);
        }
        word
    }

    /// The folders on a kernel's command line, in order. An error is a sentence.
    pub fn all(cmdline: &str) -> Result<Vec<Self>, String> {
        let words = cmdline.split_ascii_whitespace();
        let folders = words.filter_map(|word| Some((word, word.strip_prefix(FOLDER)?)));
        let folder = |(word, text)| {
            let wrong = || {
                format!(
                    "the kernel's command line has {word:?}, which names no folder; write {FOLDER}/PATH"
                )
            };
            Self::decode(text).ok_or_else(wrong)
        };
        let folders = folders.map(folder).collect::<Result<Vec<_>, _>>()?;
        if folders.len() > FOLDERS_MAX {
            return Err(format!(
                "the kernel's command line has {} shared folders; share at most {FOLDERS_MAX}",
                folders.len()
            ));
        }
        Ok(folders)
    }

    fn decode(text: &str) -> Option<Self> {
        let (path, read_only) = match text.strip_suffix(READ_ONLY) {
            Some(path) => (path, true),
            None => (text, false),
        };
        let mut bytes = Vec::new();
        let mut parts = path.split('%');
        bytes.extend(parts.next()?.bytes());
        for part in parts {
            let (code, rest) = part.split_at_checked(2)?;
            // A sign would be a number too.
            let digits = code.bytes().all(|it| it.is_ascii_hexdigit());
            bytes.push(u8::from_str_radix(code, 16).ok().filter(|_| digits)?);
            bytes.extend(rest.bytes());
        }
        let path = PathBuf::from(OsString::from_vec(bytes));
        path.is_absolute().then_some(Self { path, read_only })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(path: impl Into<OsString>, read_only: bool) -> Folder {
        Folder {
            path: PathBuf::from(path.into()),
            read_only,
        }
    }

    #[test]
    fn folders_come_through_a_command_line() {
        let all: Vec<u8> = (1..=255).collect();
        let folders = [
            folder("/src", false),
            folder("/a b/\"c\":ro", false),
            folder("/100%/x:ro", true),
            folder(OsString::from_vec([b"/", all.as_slice()].concat()), true),
        ];
        let words: Vec<_> = folders.iter().map(Folder::word).collect();
        assert_eq!(words[0], "xlaunch.share=/src");
        assert_eq!(words[1], "xlaunch.share=/a%20b/%22c%22%3Aro");
        assert_eq!(words[2], "xlaunch.share=/100%25/x%3Aro:ro");
        let cmdline = format!("quiet {} panic=-1\n", words.join(" "));
        assert_eq!(Folder::all(&cmdline).unwrap(), folders);
        assert_eq!(Folder::all("quiet share=/a").unwrap(), []);
    }

    #[test]
    fn words_that_name_no_folder_are_told() {
        for wrong in [
            "", "src", "%2", "/%", "/%4", "/%+1", "/%zz", "/%é", ":ro", "%2e/a",
        ] {
            let error = Folder::all(&format!("a {FOLDER}{wrong}")).unwrap_err();
            assert!(error.contains(&format!("{FOLDER}{wrong}")), "{error}");
        }
        let many = format!("{FOLDER}/a ").repeat(FOLDERS_MAX + 1);
        assert!(Folder::all(&many).unwrap_err().contains("at most 64"));
    }
}
