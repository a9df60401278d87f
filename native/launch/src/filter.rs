//! Filters of system calls (seccomp).

use std::collections::HashMap;

use libc::c_int;
use seccompiler::{BpfProgram, TargetArch, sock_filter};

/// A compiled filter, ready to be set between `clone` and `exec`.
#[derive(Debug, Clone)]
pub struct Filter(BpfProgram);

/// The kernel's struct sock_fprog.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const sock_filter,
}

impl Filter {
    /// Sets it for the calling thread.
    pub(crate) fn enforce(&self) -> bool {
        let program = Program { length: self.0.len() as u16, instructions: self.0.as_ptr() };
        // SAFETY: the program lives through the call, which copies it.
        unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER as c_int, 0, &raw const program)
                == 0
        }
    }
}

/// Compile a filter for this machine from seccompiler's JSON: one filter of any name.
pub fn compile_filter(json: &[u8]) -> Result<Filter, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let compiled: HashMap<String, BpfProgram> =
        seccompiler::compile_from_json(json, architecture).map_err(|error| error.to_string())?;
    compiled.into_values().next().map(Filter).ok_or_else(|| "there is no filter".to_owned())
}

#[cfg(test)]
mod tests {
    use super::compile_filter;

    #[test]
    fn a_filter_is_compiled_from_json_and_a_bad_one_says_why() {
        let good = br#"{"main": {"mismatch_action": "allow", "match_action": {"errno": 1},
            "filter": [{"syscall": "mount"}]}}"#;
        assert!(compile_filter(good).is_ok());
        let bad = br#"{"main": {"mismatch_action": "allow", "match_action": {"errno": 1},
            "filter": [{"syscall": "no_such_call"}]}}"#;
        assert!(compile_filter(bad).is_err_and(|text| text.contains("no_such_call")));
    }
}
