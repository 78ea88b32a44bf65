//! Which engine executes a machine's CPUs.

use std::sync::Arc;

use hvf_sys::ram::Ram;

#[cfg(feature = "hvf-model")]
use super::hvf::{Hvf, model::Model};
use super::soft::Soft;
use super::{Engine, Refusal};
use crate::spec;

/// The engine that is meant by `choice`, for a machine with so many CPUs over `ram`.
pub fn engine(choice: spec::Engine, ram: &Arc<Ram>, cpus: u8) -> Result<Arc<dyn Engine>, Refusal> {
    match choice {
        spec::Engine::Auto | spec::Engine::Soft => Ok(Arc::new(Soft::new(ram.clone(), cpus))),
        spec::Engine::Hvf => Err(absent("hvf")),
        spec::Engine::Kvm => Err(absent("kvm")),
        #[cfg(feature = "hvf-model")]
        spec::Engine::HvfModel(host) => {
            let vmx = Model::new(host.into(), ram.clone());
            Ok(Arc::new(Hvf::new(vmx, ram.clone(), cpus)?))
        }
    }
}

fn absent(name: &str) -> Refusal {
    Refusal(format!(
        "--engine {name} is not in this version of xlaunch; use --engine soft, which runs everywhere"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_are_not_there_say_so() {
        let ram = Ram::new(&[(0, 1 << 20)]).unwrap();
        for absent in [spec::Engine::Hvf, spec::Engine::Kvm] {
            let Err(refusal) = engine(absent, &ram, 1) else {
                panic!("{absent:?} is there");
            };
            assert!(refusal.to_string().contains("not in this version"));
        }
        for present in [spec::Engine::Auto, spec::Engine::Soft] {
            assert!(engine(present, &ram, 1).is_ok(), "{present:?}");
        }
    }
}
