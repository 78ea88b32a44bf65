//! The list that says what goes into an initrd: one member a line, words apart by blanks, `#` for comments.
//!
//! ```text
//! dir   PATH MODE
//! file  PATH MODE SOURCE
//! link  PATH TARGET
//! node  PATH MODE c|b MAJOR MINOR
//! tree  PATH SOURCE         everything below the directory SOURCE
//! ```
//! PATH is inside the guest, SOURCE on this machine, MODE octal. Of a tree's files only "may be executed" is kept of
//! the mode (755 or 644), since the rest depends on who checked it out; times and owners are never kept.

use crate::archive::{Archive, Member, NodeKind};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What is wrong with a list, and in which line.
#[derive(Debug)]
pub struct BadLine {
    line: usize,
    why: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for BadLine {}

/// Puts what `text` lists into `archive`.
pub fn read(text: &str, archive: &mut Archive) -> Result<(), BadLine> {
    for (number, line) in (1..).zip(text.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        read_line(&words, archive).map_err(|why| BadLine { line: number, why })?;
    }
    Ok(())
}

fn read_line(words: &[&str], archive: &mut Archive) -> Result<(), String> {
    match words {
        [] => Ok(()),
        [word, ..] if word.starts_with('#') => Ok(()),
        ["dir", path, mode] => {
            let mode = octal(mode)?;
            add(archive, path, Member::Directory { mode })
        }
        ["file", path, mode, source] => {
            let (mode, data) = (octal(mode)?, contents(Path::new(source))?);
            add(archive, path, Member::File { mode, data })
        }
        ["link", path, target] => add(archive, path, link(target)),
        ["node", path, mode, kind, major, minor] => {
            let node = Member::Node {
                mode: octal(mode)?,
                kind: node_kind(kind)?,
                major: decimal(major)?,
                minor: decimal(minor)?,
            };
            add(archive, path, node)
        }
        ["tree", path, source] => add_tree(archive, path, Path::new(source)),
        [word, ..] => Err(format!(
            "\"{word}\" with {} words is none of: dir PATH MODE, file PATH MODE SOURCE, link PATH TARGET, \
             node PATH MODE c|b MAJOR MINOR, tree PATH SOURCE",
            words.len() - 1
        )),
    }
}

fn add(archive: &mut Archive, path: &str, member: Member) -> Result<(), String> {
    archive.add(path, member).map_err(|e| e.to_string())
}

fn add_tree(archive: &mut Archive, path: &str, source: &Path) -> Result<(), String> {
    let reading = |e| format!("cannot read the directory {}: {e}", source.display());
    for entry in fs::read_dir(source).map_err(reading)? {
        let from = entry.map_err(reading)?.path();
        let name = from.file_name().and_then(|name| name.to_str());
        let name =
            name.ok_or_else(|| format!("{} has a name that is not UTF-8", from.display()))?;
        add_found(archive, &format!("{path}/{name}"), &from)?;
    }
    Ok(())
}

/// One thing of a tree; directories go deeper, but never through a symbolic link.
fn add_found(archive: &mut Archive, path: &str, from: &Path) -> Result<(), String> {
    let meta = fs::symlink_metadata(from).map_err(|e| cannot_read(from, &e))?;
    if meta.is_dir() {
        add(archive, path, Member::Directory { mode: 0o755 })?;
        add_tree(archive, path, from)
    } else if meta.is_symlink() {
        let target = fs::read_link(from).map_err(|e| cannot_read(from, &e))?;
        let target = target.to_str().map(link);
        let target = target.ok_or_else(|| format!("{} points to no UTF-8", from.display()))?;
        add(archive, path, target)
    } else {
        let mode = if executable(&meta) { 0o755 } else { 0o644 };
        let data = contents(from)?;
        add(archive, path, Member::File { mode, data })
    }
}

fn executable(meta: &fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    meta.permissions().mode() & 0o100 != 0
}

/// The bytes of a regular file; a FIFO or a device would block or never end.
fn contents(source: &Path) -> Result<Vec<u8>, String> {
    let meta = fs::metadata(source).map_err(|e| cannot_read(source, &e))?;
    if !meta.is_file() {
        return Err(format!("{} is no regular file", source.display()));
    }
    fs::read(source).map_err(|e| cannot_read(source, &e))
}

fn cannot_read(source: &Path, e: &std::io::Error) -> String {
    format!("cannot read {}: {e}", PathBuf::from(source).display())
}

fn link(target: &str) -> Member {
    Member::Link {
        target: target.to_owned(),
    }
}

fn octal(word: &str) -> Result<u32, String> {
    u32::from_str_radix(word, 8).map_err(|_| format!("\"{word}\" is no octal mode"))
}

fn decimal(word: &str) -> Result<u32, String> {
    word.parse()
        .map_err(|_| format!("\"{word}\" is no device number"))
}

fn node_kind(word: &str) -> Result<NodeKind, String> {
    match word {
        "c" => Ok(NodeKind::Character),
        "b" => Ok(NodeKind::Block),
        _ => Err(format!("\"{word}\" is neither c nor b")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Result<Archive, String> {
        let mut archive = Archive::new();
        read(text, &mut archive).map_err(|e| e.to_string())?;
        Ok(archive)
    }

    fn paths(archive: &Archive) -> Vec<&str> {
        archive.members().map(|(path, _)| path).collect()
    }

    #[test]
    fn every_kind_of_line_adds_its_member() {
        let here = tempfile::tempdir().unwrap();
        let source = here.path().join("hello");
        fs::write(&source, "hello\n").unwrap();
        let text = format!(
            "# a comment\n\ndir /tmp 1777\nfile /etc/motd 644 {}\nlink /bin/sh busybox\n\
             node /dev/console 600 c 5 1\n",
            source.display()
        );
        let archive = listed(&text).unwrap();
        let members: Vec<_> = archive.members().collect();
        let plain = &Member::Directory { mode: 0o755 };
        let motd = &Member::File {
            mode: 0o644,
            data: b"hello\n".to_vec(),
        };
        let console = &Member::Node {
            mode: 0o600,
            kind: NodeKind::Character,
            major: 5,
            minor: 1,
        };
        assert_eq!(
            members,
            [
                ("bin", plain),
                ("bin/sh", &link("busybox")),
                ("dev", plain),
                ("dev/console", console),
                ("etc", plain),
                ("etc/motd", motd),
                ("tmp", &Member::Directory { mode: 0o1777 }),
            ]
        );
    }

    #[test]
    fn a_tree_is_taken_whole_without_following_links() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let here = tempfile::tempdir().unwrap();
        let tool = here.path().join("sub/tool");
        fs::create_dir(here.path().join("sub")).unwrap();
        fs::write(&tool, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o700)).unwrap();
        symlink("..", here.path().join("sub/loop")).unwrap();
        let archive = listed(&format!("tree /opt {}", here.path().display())).unwrap();
        assert_eq!(
            paths(&archive),
            ["opt", "opt/sub", "opt/sub/loop", "opt/sub/tool"]
        );
        let tool = archive.members().find(|(path, _)| *path == "opt/sub/tool");
        assert!(matches!(tool, Some((_, Member::File { mode: 0o755, .. }))));
    }

    #[test]
    fn the_list_of_every_initrd_is_sound() {
        let archive = listed(include_str!("../initrd.list")).unwrap();
        let console = archive.members().find(|(path, _)| *path == "dev/console");
        assert!(matches!(
            console,
            Some((
                _,
                Member::Node {
                    kind: NodeKind::Character,
                    major: 5,
                    minor: 1,
                    ..
                }
            ))
        ));
    }

    #[test]
    fn bad_lines_name_their_number_and_their_fault() {
        let cases = [
            ("dir /x 755\nfile /y 644", "line 2: \"file\" with 2 words"),
            ("dir /x 9", "line 1: \"9\" is no octal mode"),
            ("node /x 600 d 1 1", "\"d\" is neither c nor b"),
            ("node /x 600 c -1 1", "\"-1\" is no device number"),
            ("file /x 644 /nonexistent", "cannot read /nonexistent: "),
            ("file /x 644 /", "/ is no regular file"),
            ("tree /x /nonexistent", "cannot read the directory"),
            ("link /x y\nlink /x z", "line 2: /x is there twice"),
            ("dir /x/../y 755", "is no path inside the guest"),
        ];
        for (text, fault) in cases {
            let message = listed(text).unwrap_err();
            assert!(message.contains(fault), "{text:?} gave {message:?}");
        }
    }
}
