//! A node as a service: what its manager hears, reloads, ends, and starts that fail.

use crate::setting::{EXACT, LOOK_EVERY, SOON, Setting, in_runtime, refused, scenario};
use consilium::demo::names;
use consilium::message::Obstacle;
use consilium_config::Roster;
use consilium_tests::link::{Line, place_before};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long the manager of these tests waits for a sign of life.
const PATIENCE: Duration = Duration::from_secs(2);

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

fn file_of(setting: &Setting, name: &str) -> PathBuf {
    setting.world.folder_of(name).join("consilium.toml")
}

fn log_of(setting: &Setting, name: &str) -> String {
    std::fs::read_to_string(setting.world.folder_of(name).join("log.txt")).unwrap()
}

fn daemon(setting: &Setting, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.args(["daemon", "--config"]).arg(file_of(setting, name)).stdin(Stdio::null());
    command
}

/// A service manager with one service.
struct Manager {
    socket: UnixDatagram,
    child: Child,
}

impl Manager {
    fn start(setting: &Setting, name: &str) -> Self {
        let folder = setting.world.folder_of(name);
        let socket = UnixDatagram::bind(folder.join("notify")).unwrap();
        let log = std::fs::File::create(folder.join("log.txt")).unwrap();
        let child = daemon(setting, name)
            .env("NOTIFY_SOCKET", folder.join("notify"))
            .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { socket, child }
    }

    /// The next message, or nothing in this time.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut room = [0; 4096];
        let count = self.socket.recv(&mut room).ok()?;
        Some(String::from_utf8(room[..count].to_vec()).unwrap())
    }

    /// The next message that holds `wanted`.
    fn until(&self, wanted: &str) -> String {
        let started = Instant::now();
        while started.elapsed() < SOON {
            if let Some(message) = self.hears(SOON).filter(|message| message.contains(wanted)) {
                return message;
            }
        }
        panic!("the manager never heard {wanted}");
    }

    /// Messages up to the first that says each of these.
    fn until_all(&self, wanted: &[&str]) -> String {
        let (started, mut heard) = (Instant::now(), String::new());
        while started.elapsed() < SOON {
            heard.push_str(&self.hears(SOON).unwrap_or_default());
            heard.push('\n');
            if wanted.iter().all(|wanted| heard.contains(wanted)) {
                return heard;
            }
        }
        panic!("the manager heard only {heard}, not {wanted:?}");
    }

    fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_manager_hears_whether_the_node_lives_and_how_its_reloads_went() {
    in_runtime(async {
        let setting = Setting::prepared(scenario(), "info");
        let (file, roster) = (file_of(&setting, names::ZERO), setting.world.folder_of("roster.toml"));
        let mut manager = Manager::start(&setting, names::ZERO);
        manager.until("READY=1");
        let status = manager.until("STATUS=");
        assert!(
            status.contains("0 of 5 members connected; party zero of main, evaluation: not ready"),
            "{status}"
        );
        manager.until("WATCHDOG=1");

        manager.signal(Signal::STOP);
        // What was sent before it stopped.
        while manager.hears(LOOK_EVERY).is_some() {}
        assert_eq!(manager.hears(PATIENCE), None, "a stopped node shows no life");
        manager.signal(Signal::CONT);
        manager.until("WATCHDOG=1");

        let good = std::fs::read_to_string(&file).unwrap();
        assert!(good.contains("filter = \"info\"") && good.contains("bytes_max = 1073741824"), "{good}");
        let changed = good.replace("filter = \"info\"", "filter = \"debug\"");
        let changed = changed.replace("bytes_max = 1073741824", "bytes_max = 1073741825");
        std::fs::write(&file, &changed).unwrap();
        manager.signal(Signal::HUP);
        assert!(manager.until("RELOADING=1").contains("MONOTONIC_USEC="));
        manager.until("READY=1");
        let log = log_of(&setting, names::ZERO);
        assert!(log.contains("in force from now on: log.filter, pool.bytes_max"), "{log}");

        std::fs::write(&file, changed.replace("[network]", "[netwrk]")).unwrap();
        manager.signal(Signal::HUP);
        let heard = manager.until_all(&["RELOADING=1", "READY=1", "STATUS=", "the last reload was refused"]);
        assert!(heard.contains("consilium.toml: "), "{heard}");
        assert!(log_of(&setting, names::ZERO).contains("netwrk"), "each problem is logged");
        assert!(setting.world.status(names::ZERO).await.is_ok(), "it serves on");

        std::fs::write(&file, &changed).unwrap();
        let text = Roster::load(&roster).unwrap().to_toml();
        assert!(text.contains("owners_min = 3"), "{text}");
        std::fs::write(&roster, text.replacen("owners_min = 3", "owners_min = 2", 1)).unwrap();
        manager.signal(Signal::HUP);
        manager.until_all(&[
            "RELOADING=1",
            "READY=1",
            "a restart is needed for roster task.exact.owners_min",
        ]);

        let title = format!("title = \"{}\"", setting.scenario.title);
        assert!(text.contains(&title), "{text}");
        std::fs::write(&roster, text.replacen(&title, "title = \"Which?\"", 1)).unwrap();
        manager.signal(Signal::HUP);
        manager.until_all(&["RELOADING=1", "closes its stores", "READY=1", "0 of 5 members connected"]);
        let log = log_of(&setting, names::ZERO);
        assert!(log.contains("begun anew: roster task.exact.title"), "{log}");
        assert_eq!(log.matches("the node is up").count(), 2, "{log}");

        manager.signal(Signal::TERM);
        assert!(manager.until("STOPPING=1").contains("EXTEND_TIMEOUT_USEC="));
        assert_eq!(manager.ended().code(), Some(0));
    });
}

#[test]
fn a_start_that_fails_says_why_and_ends_with_a_code_for_it() {
    in_runtime(async {
        let setting = Setting::prepared(scenario(), "info");
        let (file, folder) = (file_of(&setting, names::ZERO), setting.world.folder_of(names::ZERO));
        let run = || {
            let output = daemon(&setting, names::ZERO).output().unwrap();
            (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let check = || {
            let words = ["config", "check", file.to_str().unwrap()];
            let output = Command::new(env!("CARGO_BIN_EXE_node")).args(words).output().unwrap();
            (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let (code, told) = check();
        assert!(code == 0 && told.contains("can start"), "{code} {told}");
        let good = std::fs::read_to_string(&file).unwrap();
        for (from, to, wanted) in [
            ("listen = ", "lisen = ", "did you mean `listen`?"),
            ("filter = \"info\"", "filter = \"info,consilium=loud\"", "`log.filter`"),
            ("roster.toml", "rooster.toml", "rooster.toml"),
        ] {
            assert!(good.contains(from), "{good}");
            std::fs::write(&file, good.replacen(from, to, 1)).unwrap();
            let (code, told) = check();
            assert!(code == 1 && told.contains(wanted), "{to}: {code} {told}");
            let (code, told) = run();
            assert!(code == 78 && told.contains(wanted), "{to}: {code} {told}");
        }
        std::fs::write(&file, good.replacen(names::ZERO, names::ONE, 1)).unwrap();
        let (code, told) = run();
        assert!(code == 78 && told.contains("use one name"), "{code} {told}");

        std::fs::write(&file, &good).unwrap();
        let key = folder.join("identity.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (code, told) = run();
        assert!(code == 77 && told.contains("chmod 600"), "{code} {told}");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

        let listen = consilium_config::Node::load(&file).unwrap().network().listen[0].as_str().to_owned();
        let port: u16 = listen.rsplit('/').next().unwrap().parse().unwrap();
        let taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (code, told) = run();
        assert!(code == 69 && told.contains(&listen), "{code} {told}");
        drop(taken);
    });
}

#[test]
fn a_credential_takes_the_place_of_a_key_file() {
    in_runtime(async {
        let setting = Setting::prepared(scenario(), "info");
        let folder = setting.world.folder_of(names::ZERO);
        let credentials = tempfile::tempdir().unwrap();
        // Without its key file the node would make another key, which the roster does not know.
        std::fs::rename(folder.join("identity.key"), credentials.path().join("consilium.identity")).unwrap();
        let mut command = daemon(&setting, names::ZERO);
        let mut child =
            command.env("CREDENTIALS_DIRECTORY", credentials.path()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while setting.world.status(names::ZERO).await.is_err() {
            assert!(child.try_wait().unwrap().is_none() && started.elapsed() < SOON, "it does not start");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        send(child.id(), Signal::TERM);
        assert!(child.wait().unwrap().success());
        assert!(!folder.join("identity.key").exists());
    });
}

#[test]
fn questions_in_progress_are_answered_before_the_end() {
    in_runtime(async {
        let filter = "info,consilium::compute=debug";
        let mut setting = Setting::prepared(scenario(), filter);
        // A question takes a second and more, so that the node is told to stop amid its rounds.
        let line = Line { delay: Duration::from_millis(100), bits_per_second: None };
        let _links = [names::ZERO, names::ONE].map(|name| place_before(&setting.world, name, line).unwrap());
        setting.world.launch_all().await.unwrap();
        setting.publish_all(&[EXACT]).await;
        let told = || log_of(&setting, names::ZERO);
        let stopping = async {
            let started = Instant::now();
            while !told().contains("a question arrived") {
                assert!(started.elapsed() < SOON, "no question arrives");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            send(setting.world.pid(names::ZERO).unwrap(), Signal::TERM);
            while !told().contains("asked to stop") {
                assert!(started.elapsed() < SOON, "the signal is not heard");
                tokio::time::sleep(LOOK_EVERY).await;
            }
            let stopped = [Obstacle::Busy, Obstacle::Peer, Obstacle::Deadline];
            refused(setting.ask(EXACT, 1, None).await, &stopped);
        };
        let (answer, ()) = tokio::join!(setting.ask(EXACT, 0, None), stopping);
        let verdict = setting.verdict(0);
        let answer = answer.unwrap();
        assert!(!verdict.certain || answer.labels == [Some(verdict.label as u32)]);
        let log = told();
        let (asked, answered) = (log.find("asked to stop"), log.find("answered a question"));
        assert!(asked.is_some() && asked < answered, "it was asked to stop only when all was done: {log}");
    });
}
