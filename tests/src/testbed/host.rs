//! What this machine offers, and the namespaces that a run borrows from it.

use super::TestbedError;
use std::path::Path;
use std::process::{Command, Stdio};

/// All namespaces and devices of a run have names that begin so, and go on with its process id.
const PREFIX: &str = "ctb";

/// What a run needs of the machine and may find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is missing, in words; a run is impossible without it.
    pub missing: Vec<String>,
    /// Whether the kernel could delay and lose packets itself. The links of a run do it in any case, so that all
    /// machines measure the same.
    pub netem: bool,
}

/// Looks what the machine offers.
pub fn offer() -> Offer {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("the rights of root, to make network namespaces".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        missing.push("/dev/net/tun (`modprobe tun`)".to_owned());
    }
    let probe = format!("{PREFIX}{}-probe", std::process::id());
    if let Err(error) = ip(&["netns", "add", &probe]) {
        missing.push(format!("network namespaces: {error}"));
        return Offer { missing, netem: false };
    }
    let netem = Command::new("tc")
        .args(["-n", &probe, "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let _ = ip(&["netns", "del", &probe]);
    Offer { missing, netem: netem.is_ok_and(|status| status.success()) }
}

/// Runs the program `ip` of iproute2.
pub(super) fn ip(words: &[&str]) -> Result<String, TestbedError> {
    let what = || format!("ip {}", words.join(" "));
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|source| TestbedError::Io { what: what(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(TestbedError::Command { what: what(), told: text })
}

/// The namespaces of this run. Dropping it removes them.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    names: Vec<String>,
}

/// The device of a node in this run.
pub(super) fn device_name(number: usize) -> String {
    format!("{PREFIX}{}n{number}", std::process::id())
}

impl Namespaces {
    /// Makes one for a node.
    pub(super) fn add(&mut self, node: &str) -> Result<String, TestbedError> {
        let name = format!("{PREFIX}{}-{node}", std::process::id());
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// Moves a device into a namespace and gives it its address there.
pub(super) fn attach(device: &str, namespace: &str, address: &str, mtu: usize) -> Result<(), TestbedError> {
    ip(&["link", "set", "dev", device, "netns", namespace])?;
    ip(&["-n", namespace, "addr", "add", address, "dev", device])?;
    ip(&["-n", namespace, "link", "set", "dev", device, "mtu", &mtu.to_string(), "up"])?;
    ip(&["-n", namespace, "route", "add", "default", "dev", device])?;
    Ok(())
}

/// Removes namespaces of runs that were killed, with the processes in them, and says how many there were.
pub fn sweep() -> usize {
    let Ok(list) = ip(&["netns", "list"]) else { return 0 };
    let mut swept = 0;
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let Some(run) = run_of(name) else { continue };
        if Path::new(&format!("/proc/{run}")).exists() {
            continue;
        }
        let pids = ip(&["netns", "pids", name]).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        swept += usize::from(ip(&["netns", "del", name]).is_ok());
    }
    swept
}

/// The process of the run that a namespace belongs to.
fn run_of(namespace: &str) -> Option<u32> {
    namespace.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::switch::{Line, MTU, Port, Switch};
    use super::*;
    use std::time::{Duration, Instant};

    /// Has bash dial from a namespace: how it ended, and when. Nobody listens there, so the best is a refusal.
    fn dial(from: &str, to: &str) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let script = format!("exec 3<>/dev/tcp/{to}/4710");
        let words = ["netns", "exec", from, "timeout", "2", "bash", "-c", &script];
        let status = Command::new("ip").args(words).stderr(Stdio::null()).status().unwrap();
        (status.code(), started.elapsed())
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "whoever runs it without the rights should know")]
    fn a_refusal_takes_a_round_trip_and_the_one_behind_translation_is_silent() {
        let offer = offer();
        if !offer.missing.is_empty() {
            eprintln!("SKIPPED: this machine lacks {}", offer.missing.join("; "));
            return;
        }
        let mut namespaces = Namespaces::default();
        let port = |number: usize, inside: Option<&str>| Port {
            device: device_name(number + 90),
            address: format!("10.99.0.{}", number + 1).parse().unwrap(),
            inside: inside.map(|text| text.parse().unwrap()),
        };
        let ports = [port(0, None), port(1, Some("192.168.99.2"))];
        let delay = Duration::from_millis(20);
        let switch = Switch::start(&ports, Line { delay, loss: 0.0 }, 1).unwrap();
        let names = ["near", "far"].map(|node| namespaces.add(node).unwrap());
        for (port, name) in ports.iter().zip(&names) {
            let address = port.inside.unwrap_or(port.address);
            attach(&port.device, name, &format!("{address}/24"), MTU).unwrap();
        }
        let (code, took) = dial(&names[1], "10.99.0.1");
        assert_eq!(code, Some(1), "a refusal");
        assert!(took >= 2 * delay && took < Duration::from_secs(1), "{took:?}");
        // What `timeout` says of a command that it had to end.
        assert_eq!(dial(&names[0], "10.99.0.2").0, Some(124), "silence");
        assert!(switch.carried().unasked > 0);
        switch.cut(0, 1, true);
        assert_eq!(dial(&names[1], "10.99.0.1").0, Some(124), "a cut link is silent");
        assert!(switch.carried().cut > 0);
    }

    #[test]
    fn only_namespaces_of_runs_are_swept() {
        assert_eq!(run_of("ctb1234-north"), Some(1234));
        for other in ["ctb-north", "ctb12", "north", "ctbx-north", "blue", ""] {
            assert_eq!(run_of(other), None, "{other}");
        }
        // A device has at most 15 letters, and a process id at most 7 digits.
        assert!(PREFIX.len() + 7 + "n99".len() <= 15);
    }
}
