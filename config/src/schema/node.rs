//! The schema of a node file.

use super::{address, file, flag, list, name, needed, optional, path, table, whole, words};
use crate::limits::*;
use serde_json::{Value, json};

/// The schema of a node file, and of the files of `conf.d` but for what must be there.
pub fn node() -> Value {
    file(
        "Settings of one Consilium node",
        vec![
            needed("node", "Who this machine is and where it keeps things.", place()),
            needed("network", "How this machine meets the others.", network()),
            optional("pool", "What prepared material may cost this machine.", pool()),
            optional(
                "admin",
                "How the command line reaches the daemon.",
                table(vec![optional(
                    "socket",
                    "Unix socket. Default: admin.sock in the state folder.",
                    path(),
                )]),
            ),
            optional("module", "The module that draws noise, as far as it concerns this machine.", module()),
            optional("log", "What is logged, and how.", log()),
            optional("http", "How software on this machine asks, and where its metrics are.", http()),
        ],
    )
}

fn place() -> Value {
    table(vec![
        needed("name", "This member's name in the roster.", name()),
        needed("state", "Folder of all durable state. No two nodes may share it.", path()),
        optional("identity", "File of this node's key. Default: identity.key in the state folder.", path()),
        optional("roster", "The roster file. Default: roster.toml beside the node file.", path()),
        optional(
            "unsigned_roster",
            "Run by the roster file as it is, which nobody has signed. Default false.",
            flag(),
        ),
    ])
}

fn network() -> Value {
    let milliseconds = || whole(&DEADLINE_MS);
    table(vec![
        needed(
            "listen",
            "Where to accept connections; empty for a node that only dials.",
            list(&(0..=ADDRESSES_MAX), address()),
        ),
        optional(
            "behind_nat",
            "Nobody can dial this node: others reach it through members that relay. Default false.",
            flag(),
        ),
        optional("relay", "Whether this node relays for members behind a NAT. Default false.", flag()),
        optional("mdns", "Whether members are looked for on the local network. Default false.", flag()),
        optional(
            "connections_per_peer_max",
            "Connections held to one peer. Default 2.",
            whole(&CONNECTIONS_PER_PEER),
        ),
        optional("streams_per_peer_max", "Streams held with one peer. Default 64.", whole(&STREAMS_PER_PEER)),
        optional("frame_bytes_max", "Longest frame. Default 33554432.", whole(&FRAME_BYTES)),
        optional("dial_timeout_ms", "Time to reach a peer. Default 10000.", milliseconds()),
        optional("round_deadline_ms", "Time of a peer for one round. Default 10000.", milliseconds()),
        optional("query_deadline_ms", "Time of a whole query. Default 60000.", milliseconds()),
        optional("idle_timeout_ms", "How long an unused connection stays. Default 60000.", milliseconds()),
    ])
}

fn pool() -> Value {
    table(vec![
        optional("bytes_max", "Room on the disk. Default 1073741824.", whole(&POOL_BYTES)),
        optional(
            "refill_batch_queries",
            "Queries' worth made in one go. Default 128.",
            whole(&REFILL_QUERIES),
        ),
        optional("prepared_max", "Queries laid out ahead in memory. Default 1024.", whole(&PREPARED_QUERIES)),
        optional(
            "transfers",
            "How party Zero makes oblivious transfers. Default auto.",
            words(["auto", "iknp", "silent"]),
        ),
    ])
}

fn module() -> Value {
    let socket = "^(unix:.+|vsock:[0-9]{1,10}:[0-9]{1,10})$";
    table(vec![
        optional(
            "socket",
            "Where the module on this machine listens; only on its host.",
            json!({ "type": "string", "pattern": socket }),
        ),
        optional("collateral", "Folder of the vendors' statements.", path()),
    ])
}

fn http() -> Value {
    let listen = json!({ "type": "string", "pattern": "^.+:[0-9]{1,5}$" });
    table(vec![
        optional("listen", "Address and port. Left out, there is no interface.", listen),
        optional(
            "token_file",
            "File of the callers' token. Default: http.token in the state folder.",
            path(),
        ),
        optional("body_bytes_max", "Longest body of a request. Default 8388608.", whole(&HTTP_BODY_BYTES)),
        optional("beyond_loopback", "Whether other machines may reach it. Default false.", flag()),
    ])
}

fn log() -> Value {
    table(vec![
        optional("format", "The form of a line. Default auto.", words(["auto", "plain", "json", "journal"])),
        optional(
            "filter",
            "Which events: a level, or levels by module. Default info.",
            json!({ "type": "string", "maxLength": FILTER_BYTES_MAX }),
        ),
    ])
}
