//! Which engine executes a machine's CPUs: what each is worth on this host, and the choice.
//!
//! `auto` takes the first that runs guests at a processor's speed, and the software CPU where none does. An engine that
//! was asked for by name is taken or refuses; it is never replaced by another.

use std::sync::Arc;

use hvf_sys::ram::Ram;

use super::hvf::host;
#[cfg(feature = "hvf-model")]
use super::hvf::{Hvf, model::Model};
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
use super::kvm::{self, probe::Finding};
use super::soft::Soft;
use super::{Engine, Refusal};
use crate::spec;

/// What an engine is worth on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The engine.
    pub engine: spec::Engine,
    /// Its name for `--engine`.
    pub name: &'static str,
    /// What speaks for it, or why it does not serve.
    pub verdict: Result<String, String>,
}

/// All engines, the best first; the last always serves.
pub fn survey() -> [Standing; 3] {
    let standing = |engine, name, verdict| Standing {
        engine,
        name,
        verdict,
    };
    [
        standing(spec::Engine::Hvf, "hvf", host::verdict()),
        standing(spec::Engine::Kvm, "kvm", kvm()),
        standing(spec::Engine::Soft, "soft", Ok("runs everywhere".to_owned())),
    ]
}

/// The engine that is meant by `choice`, for a machine with so many CPUs over `ram`.
pub fn engine(choice: spec::Engine, ram: &Arc<Ram>, cpus: u8) -> Result<Arc<dyn Engine>, Refusal> {
    match choice {
        spec::Engine::Auto => Ok(auto(ram, cpus)),
        spec::Engine::Hvf => host::engine(ram, cpus),
        spec::Engine::Kvm => named_kvm(ram, cpus),
        spec::Engine::Soft => Ok(Arc::new(Soft::new(ram.clone(), cpus))),
        #[cfg(feature = "hvf-model")]
        spec::Engine::HvfModel(host) => {
            let vmx = Model::new(host.into(), ram.clone());
            Ok(Arc::new(Hvf::new(vmx, ram.clone(), cpus)?))
        }
    }
}

fn auto(ram: &Arc<Ram>, cpus: u8) -> Arc<dyn Engine> {
    type Verdict = fn() -> Result<String, String>;
    let candidates: [(_, Verdict); 2] =
        [(spec::Engine::Hvf, host::verdict), (spec::Engine::Kvm, kvm)];
    for (engine, verdict) in candidates {
        let taken = verdict().map_err(Refusal).and_then(|why| {
            log::info!("--engine auto takes {engine:?}: {why}");
            self::engine(engine, ram, cpus)
        });
        match taken {
            Ok(engine) => return engine,
            Err(why) => log::info!("--engine auto does not take {engine:?}: {why}"),
        }
    }
    Arc::new(Soft::new(ram.clone(), cpus))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn named_kvm(ram: &Arc<Ram>, cpus: u8) -> Result<Arc<dyn Engine>, Refusal> {
    Ok(Arc::new(kvm::Kvm::new(ram.clone(), cpus)?))
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn named_kvm(_: &Arc<Ram>, _: u8) -> Result<Arc<dyn Engine>, Refusal> {
    Err(Refusal(kvm().err().unwrap_or_default()))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn kvm() -> Result<String, String> {
    match kvm::probe::probe() {
        Finding::Runs { rate, took } => Ok(format!(
            "a small guest did {} million rounds of a loop a second, and took {:.1} ms",
            rate / 1_000_000,
            took.as_secs_f64() * 1e3
        )),
        Finding::Refuses(why) => Err(why.to_string()),
        Finding::Fails(why) => Err(format!("{why}; it is not a processor's own virtualization")),
        Finding::Crawls(rate) => Err(format!(
            "it crawls: a small guest did at most {:.1} million rounds of a loop a second",
            rate as f64 / 1e6
        )),
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn kvm() -> Result<String, String> {
    Err("KVM is a part of Linux on x86-64, which this host is not; use --engine soft".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_finds_an_engine_on_every_host() {
        let ram = Ram::new(&[(0, 1 << 20)]).unwrap();
        for choice in [spec::Engine::Auto, spec::Engine::Soft] {
            assert!(engine(choice, &ram, 1).is_ok(), "{choice:?}");
        }
    }

    #[test]
    fn the_last_of_all_engines_serves_and_the_others_say_why_not() {
        let all = survey();
        assert_eq!(all[2].engine, spec::Engine::Soft);
        assert!(all[2].verdict.is_ok());
        for standing in &all {
            if let Err(why) = &standing.verdict {
                assert!(why.len() > 10 && !why.contains('\n'), "{why}");
                println!("{} does not serve here: {why}", standing.name);
            }
        }
    }

    #[test]
    fn an_engine_that_is_named_is_not_replaced() {
        let ram = Ram::new(&[(0, 1 << 20)]).unwrap();
        let Err(refusal) = engine(spec::Engine::Hvf, &ram, 1) else {
            return println!("skipped: this host has the engine hvf");
        };
        assert!(refusal.to_string().contains("--engine soft"));
    }
}
