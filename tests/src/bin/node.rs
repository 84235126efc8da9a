//! The node program for tests of many processes, which only find programs of their own package.
//!
//! Unlike the product it may be told to end itself at a step: by a file `crash-at` beside its configuration
//! that holds the name of the step and the number of the passage, such as `ReserveAsk 2`. And it may be told to
//! spoil what it sends of a making: by a file `spoil`, for as long as it is there, that holds the number of the
//! frame and how, such as `0 ones`.

use consilium::crash::{Step, install, install_spoiler};
use consilium_protocol::wire::HEADER_BYTES;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

static ORDERS: OnceLock<PathBuf> = OnceLock::new();
static SPOILS: OnceLock<PathBuf> = OnceLock::new();
/// The order that is being followed, and how often its step was passed.
static PASSED: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

fn main() -> std::process::ExitCode {
    let configuration = std::env::args().skip_while(|word| word != "--config").nth(1);
    if let Some(folder) = configuration.as_deref().map(Path::new).and_then(Path::parent) {
        ORDERS.get_or_init(|| folder.join("crash-at"));
        install(pass);
        SPOILS.get_or_init(|| folder.join("spoil"));
        install_spoiler(spoil);
    }
    consilium::cli::run()
}

/// Ends the process as a power cut would, if it was ordered to.
fn pass(step: Step) {
    let Some(file) = ORDERS.get() else { return };
    let Ok(order) = std::fs::read_to_string(file) else { return };
    let Some((name, number)) = order.trim().split_once(' ') else { return };
    if name != format!("{step:?}") {
        return;
    }
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    if passed.0 != order {
        *passed = (order.clone(), 0);
    }
    passed.1 += 1;
    if number == passed.1.to_string() && std::fs::remove_file(file).is_ok() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Sends what no honest party sends, if it was ordered to.
fn spoil(frame: &mut Vec<u8>) {
    let Some(order) = SPOILS.get().and_then(|file| std::fs::read_to_string(file).ok()) else { return };
    let Some((number, how)) = order.trim().split_once(' ') else { return };
    let Some(round) = frame.get(12..16).and_then(|bytes| bytes.try_into().ok()) else { return };
    if number != u32::from_le_bytes(round).to_string() {
        return;
    }
    match how {
        "ones" => frame[HEADER_BYTES..].fill(0xff),
        "cut" => frame.truncate(frame.len() - 1),
        "header" => frame[..HEADER_BYTES].fill(0xff),
        _ => {}
    }
}
