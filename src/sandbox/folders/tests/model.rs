//! Random work through the server and on a directory of the host's own must come to the same.

use super::super::wire::valid;
use super::Client;
use super::client::{Set, text};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// What is done, to names that are few enough to meet.
#[derive(Clone, Debug)]
enum Step {
    Write {
        dir: String,
        name: String,
        offset: u8,
        data: Vec<u8>,
    },
    Mkdir {
        dir: String,
        name: String,
    },
    Remove {
        dir: String,
        name: String,
        directory: bool,
    },
    Rename {
        from: (String, String),
        to: (String, String),
    },
    Link {
        from: (String, String),
        to: (String, String),
    },
    Symlink {
        dir: String,
        name: String,
        target: String,
    },
    Cut {
        dir: String,
        name: String,
        size: u8,
    },
    Mode {
        dir: String,
        name: String,
        mode: u32,
    },
}

fn directory() -> impl Strategy<Value = String> {
    prop_oneof![Just(""), Just("a"), Just("b"), Just("a/b"), Just("a/a")].prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![Just("a"), Just("b"), Just("c")].prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let entry = || (directory(), name());
    prop_oneof![
        (entry(), any::<u8>(), vec(any::<u8>(), 1..20)).prop_map(|((dir, name), offset, data)| {
            Step::Write {
                dir,
                name,
                offset,
                data,
            }
        }),
        entry().prop_map(|(dir, name)| Step::Mkdir { dir, name }),
        (entry(), any::<bool>()).prop_map(|((dir, name), directory)| Step::Remove {
            dir,
            name,
            directory
        }),
        (entry(), entry()).prop_map(|(from, to)| Step::Rename { from, to }),
        (entry(), entry()).prop_map(|(from, to)| Step::Link { from, to }),
        (entry(), name()).prop_map(|((dir, name), target)| Step::Symlink { dir, name, target }),
        (entry(), any::<u8>()).prop_map(|((dir, name), size)| Step::Cut { dir, name, size }),
        (entry(), 0..8_u32).prop_map(|((dir, name), mode)| Step::Mode {
            dir,
            name,
            mode: 0o700 | mode
        }),
    ]
}

fn join(dir: &str, name: &str) -> String {
    format!("{dir}/{name}")
}

/// Through the server, as the guest's kernel does it: it has looked at what is there before.
fn through(client: &mut Client, step: &Step) -> Result<(), u32> {
    match step {
        Step::Write {
            dir,
            name,
            offset,
            data,
        } => {
            client.create(dir, name, 0o102, 0o640)?;
            let written = client.write(super::OPEN, (*offset).into(), data);
            client.clunk(super::OPEN)?;
            written.map(drop)
        }
        Step::Mkdir { dir, name } => client.mkdir(dir, name),
        Step::Remove {
            dir,
            name,
            directory,
        } => client.unlink(dir, name, if *directory { 0x200 } else { 0 }),
        Step::Rename { from, to } => client.rename((&from.0, &from.1), (&to.0, &to.1)),
        Step::Link { from, to } => client.link(&join(&from.0, &from.1), &to.0, &to.1),
        Step::Symlink { dir, name, target } => client.symlink(dir, name, target),
        Step::Cut { dir, name, size } => {
            let set = Set {
                size: (*size).into(),
                ..Set::default()
            };
            client.on(&join(dir, name), |client, fid| {
                client.set(fid, valid::SIZE, set)
            })
        }
        Step::Mode { dir, name, mode } => {
            let set = Set {
                mode: *mode,
                ..Set::default()
            };
            client.on(&join(dir, name), |client, fid| {
                client.set(fid, valid::MODE, set)
            })
        }
    }
}

/// On the host, without following links, as the guest's kernel follows them itself.
fn directly(root: &Path, step: &Step) -> io::Result<()> {
    let dir = |dir: &str| {
        dir.split('/')
            .filter(|it| !it.is_empty())
            .try_fold(root.to_owned(), |at, name| {
                let next = at.join(name);
                next.symlink_metadata()?
                    .is_dir()
                    .then_some(next)
                    .ok_or_else(|| io::Error::from(ErrorKind::NotADirectory))
            })
    };
    let not_link = |path: &Path, types: fn(&fs::FileType) -> bool| {
        let found = path.symlink_metadata()?.file_type();
        types(&found)
            .then_some(())
            .ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))
    };
    match step {
        Step::Write {
            dir: parent,
            name,
            offset,
            data,
        } => {
            let path = dir(parent)?.join(name);
            let new = path.symlink_metadata().is_err();
            if !new {
                not_link(&path, fs::FileType::is_file)?;
            }
            let file = fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            if new {
                file.set_permissions(fs::Permissions::from_mode(0o640))?;
            }
            file.write_all_at(data, (*offset).into())
        }
        Step::Mkdir { dir: parent, name } => {
            let path = dir(parent)?.join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        }
        Step::Remove {
            dir: parent,
            name,
            directory: true,
        } => fs::remove_dir(dir(parent)?.join(name)),
        Step::Remove {
            dir: parent,
            name,
            directory: false,
        } => fs::remove_file(dir(parent)?.join(name)),
        Step::Rename { from, to } => {
            fs::rename(dir(&from.0)?.join(&from.1), dir(&to.0)?.join(&to.1))
        }
        Step::Link { from, to } => {
            fs::hard_link(dir(&from.0)?.join(&from.1), dir(&to.0)?.join(&to.1))
        }
        Step::Symlink {
            dir: parent,
            name,
            target,
        } => symlink(target, dir(parent)?.join(name)),
        Step::Cut {
            dir: parent,
            name,
            size,
        } => {
            let path = dir(parent)?.join(name);
            not_link(&path, fs::FileType::is_file)?;
            fs::File::options()
                .write(true)
                .open(path)?
                .set_len((*size).into())
        }
        Step::Mode {
            dir: parent,
            name,
            mode,
        } => {
            let path = dir(parent)?.join(name);
            not_link(&path, |it| !it.is_symlink())?;
            fs::set_permissions(path, fs::Permissions::from_mode(*mode))
        }
    }
}

/// Everything that a tree holds, line by line.
fn inventory(root: &Path, prefix: &str, into: &mut Vec<String>) {
    let mut entries: Vec<_> = fs::read_dir(root).unwrap().map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let it = path.symlink_metadata().unwrap();
        let name = format!("{prefix}/{}", entry.file_name().display());
        let content = match it.file_type() {
            kind if kind.is_symlink() => format!("-> {}", fs::read_link(&path).unwrap().display()),
            kind if kind.is_file() => format!("{} {:?}", it.nlink(), fs::read(&path).unwrap()),
            _ => String::new(),
        };
        into.push(format!("{name} {:o} {content}", it.mode()));
        if it.is_dir() {
            inventory(&path, &name, into);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_server_does_what_the_host_would(steps in vec(step(), 1..80)) {
        let mut client = Client::new();
        let model = tempfile::tempdir().unwrap();
        for step in &steps {
            let served = through(&mut client, step);
            let direct = directly(model.path(), step);
            prop_assert_eq!(served.is_ok(), direct.is_ok(), "{:?}: {:?} {:?}", step, served, direct);
        }
        let (mut served, mut direct) = (Vec::new(), Vec::new());
        inventory(&client.path(""), "", &mut served);
        inventory(model.path(), "", &mut direct);
        prop_assert_eq!(served, direct);
        prop_assert_eq!(text(&client.outside().join("secret")), "secret");
    }
}
