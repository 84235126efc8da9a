//! A new beginning under the same process id.

use super::Failure;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Puts a fresh start of this program in the place of this process, with the same arguments and environment. All
/// files, locks and sockets of the old one are closed by that; the service manager sees one process that goes on.
/// Returns only if the system refuses.
pub fn begin_anew() -> Failure {
    let mut words = std::env::args_os();
    let named = words.next();
    // Where the program was replaced meanwhile, the new one is at the old one's name.
    let program = std::env::current_exe().ok().filter(|path| path.exists()).map(Into::into).or(named);
    match program {
        Some(program) => {
            let refused = Command::new(&program).args(words).exec();
            Failure::unavailable(format!("cannot begin anew with {}: {refused}", program.display()))
        }
        None => Failure::unavailable("cannot begin anew: the program does not know its own name".to_owned()),
    }
}
