//! What somebody should look at, told on standard error.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Where even that cannot be written, as on a full disk, it is lost: `eprintln!` would panic, and end the thread.
pub(crate) fn complain(what: Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "kubecore: {what}");
}
