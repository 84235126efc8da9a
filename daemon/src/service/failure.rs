//! How a start fails: a message for people and a number for programs.

use crate::admin::AdminError;
use crate::consortium::ConsortiumError;
use crate::http::{HttpError, TokenError};
use crate::net::{IdentityError, NetError};
use crate::node::NodeError;
use crate::vault::VaultError;
use consilium_config::ConfigError;
use miette::Report;
use std::process::ExitCode;

/// Exit codes, by the names of `sysexits.h`.
pub mod exit_code {
    /// The network or the admin socket cannot be had; another process may have it.
    pub const UNAVAILABLE: u8 = 69;
    /// The program failed; this is a bug.
    pub const SOFTWARE: u8 = 70;
    /// A file or store of the state cannot be read or written.
    pub const STATE: u8 = 74;
    /// A secret is open to others.
    pub const EXPOSED: u8 = 77;
    /// The node file or the roster is wrong.
    pub const CONFIGURATION: u8 = 78;
}

/// Why the daemon ends.
#[derive(Debug)]
pub struct Failure {
    report: Report,
    code: u8,
}

impl Failure {
    /// A failure that is none of the classes.
    pub fn other(report: Report) -> Self {
        Self { report, code: 1 }
    }

    /// A bug.
    pub fn bug(text: String) -> Self {
        Self { report: miette::miette!("{text}"), code: exit_code::SOFTWARE }
    }

    /// The network does not get ready.
    pub fn unavailable(text: String) -> Self {
        Self { report: miette::miette!("{text}"), code: exit_code::UNAVAILABLE }
    }

    /// A setting that does not hold.
    pub fn configuration(report: Report) -> Self {
        Self { report, code: exit_code::CONFIGURATION }
    }

    /// What happened, for people.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What the process ends with.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// Writes it into the log, every problem of a bad file with its line.
    pub fn log(&self) {
        self.log_problems();
        tracing::error!(kind = "failed", code = self.code, "consilium ends: {}", self.line());
    }

    /// Every problem of a bad file, as an entry of its own.
    pub(super) fn log_problems(&self) {
        let Some(error) = self.report.downcast_ref::<ConfigError>() else { return };
        for problem in error.problems() {
            let advice = problem.advice().map(|advice| format!("; {advice}")).unwrap_or_default();
            tracing::error!(kind = "bad-file", line = problem.line(), "{}{advice}", problem.message());
        }
    }

    /// The same for the end of `main`.
    pub fn exit(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The message and its causes in one line, as a log wants it.
    pub fn line(&self) -> String {
        let mut line = self.report.to_string();
        for cause in self.report.chain().skip(1) {
            let cause = cause.to_string();
            // Transparent errors repeat what they wrap.
            if !line.ends_with(&cause) {
                line.push_str(": ");
                line.push_str(&cause);
            }
        }
        line
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { report: error.into(), code: exit_code::CONFIGURATION }
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let code = match &error {
            HttpError::Listen { .. } => exit_code::UNAVAILABLE,
            HttpError::Token(TokenError::Vault(VaultError::Exposed { .. })) => exit_code::EXPOSED,
            HttpError::Token(TokenError::Form(_)) => exit_code::CONFIGURATION,
            HttpError::Token(TokenError::Vault(_)) => exit_code::STATE,
        };
        Self { report: Report::msg(error), code }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        Self { report: Report::msg(error), code: exit_code::UNAVAILABLE }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let code = code_of(&error);
        let report = match error {
            // With its lines and carets.
            NodeError::Config(error) | NodeError::Consortium(ConsortiumError::Config(error)) => error.into(),
            error => Report::msg(error),
        };
        Self { report, code }
    }
}

fn code_of(error: &NodeError) -> u8 {
    match error {
        NodeError::NotAMember { .. }
        | NodeError::Name { .. }
        | NodeError::Member { .. }
        | NodeError::Seats(..)
        | NodeError::ModuleSocket
        | NodeError::Pair(_)
        | NodeError::Config(_)
        | NodeError::Consortium(
            ConsortiumError::Config(_) | ConsortiumError::NoRoster { .. } | ConsortiumError::Both { .. },
        )
        | NodeError::Task(_) => exit_code::CONFIGURATION,
        NodeError::Network(error) => match **error {
            NetError::Listen { .. } => exit_code::UNAVAILABLE,
            NetError::ListenName { .. }
            | NetError::NoQuic { .. }
            | NetError::KeyLog
            | NetError::RelayBehindNat
            | NetError::TooManyMembers { .. }
            | NetError::DuplicateMember { .. }
            | NetError::Limit { .. } => exit_code::CONFIGURATION,
            _ => exit_code::SOFTWARE,
        },
        NodeError::Identity(IdentityError::Exposed { .. }) | NodeError::Vault(VaultError::Exposed { .. }) => {
            exit_code::EXPOSED
        }
        NodeError::Dealer(_) => exit_code::SOFTWARE,
        _ => exit_code::STATE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consilium_config::Node;
    use std::path::Path;

    #[test]
    fn what_a_retry_cannot_mend_has_a_code_of_its_own() {
        let path = Path::new("/state/identity.key").to_owned();
        let exposed = NodeError::Identity(IdentityError::Exposed { path: path.clone(), mode: 0o644 });
        let length = NodeError::Identity(IdentityError::Length { path, found: 3 });
        let name = NodeError::Name { expected: "north".into(), found: "south".into() };
        let taken = NodeError::Network(Box::new(NetError::Stopped));
        let codes = [exposed, length, name, taken].map(|error| Failure::from(error).code());
        assert_eq!(codes, [77, 74, 78, 70]);
    }

    #[test]
    fn a_bad_file_keeps_its_report_and_fits_a_line() {
        let error = Node::parse("consilium.toml", "[node]\nname = 1", Path::new("")).unwrap_err();
        let failure = Failure::from(NodeError::from(error));
        assert_eq!(failure.code(), exit_code::CONFIGURATION);
        let line = failure.line();
        assert!(line.starts_with("consilium.toml: ") && !line.contains('\n'), "{line}");
        assert!(format!("{:?}", failure.report()).contains("name = 1"), "the line at fault is shown");
    }

    #[test]
    fn causes_are_told_once() {
        let state = VaultError::Full { path: "/state/ledger".into() };
        let failure = Failure::from(NodeError::from(state));
        assert_eq!(failure.line().matches("no room left").count(), 1);
        assert_eq!(failure.code(), exit_code::STATE);
    }
}
