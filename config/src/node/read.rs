//! From text to the settings of one machine.

use super::http::Listen;
use super::{Admin, Http, LocalModule, Log, LogFormat, ModuleSocket, Network, Node, Place, Pools, Transfers};
use crate::{
    address::{Address, RELAYED},
    document::{Document, Section, value},
    error::{Problem, ValueError, quoted},
    limits::*,
};
use std::{
    ops::{Range, RangeInclusive},
    path::Path,
    time::Duration,
};
use toml::{Spanned, de::DeValue};

const TRANSFERS: [(&str, Transfers); 3] =
    [("auto", Transfers::Auto), ("iknp", Transfers::Iknp), ("silent", Transfers::Silent)];
const FORMATS: [(&str, LogFormat); 4] = [
    ("auto", LogFormat::Auto),
    ("plain", LogFormat::Plain),
    ("json", LogFormat::Json),
    ("journal", LogFormat::Journal),
];

pub(crate) fn node(document: &Document, mut root: Section<'_>, base: &Path) -> Option<Node> {
    let place = place(root.table("node"), base);
    let network = network(document, root.table("network"));
    let pools = pools(document, root.table("pool"));
    let admin = admin(document, root.table("admin"), place.as_ref(), base);
    let log = log(root.table("log"));
    let module = module(document, root.table("module"), base);
    let http = http(document, root.table("http"), base);
    root.finish();
    Some(Node {
        place: place?,
        network: network?,
        pools: pools?,
        admin: admin?,
        log: log?,
        module: module?,
        http: http?,
    })
}

fn place(mut section: Section<'_>, base: &Path) -> Option<Place> {
    let name = section.required("name", "name = \"north\"", value::parsed);
    let state = section.required("state", "state = \"/var/lib/consilium\"", value::path);
    let identity = section.optional("identity", value::path);
    let roster = section.optional("roster", value::path);
    let unsigned = section.defaulted("unsigned_roster", false, value::boolean);
    section.finish();
    let state = base.join(state?.into_inner());
    let identity = identity?.map_or_else(|| state.join("identity.key"), |path| base.join(path.into_inner()));
    let roster = base.join(roster?.map_or_else(|| "roster.toml".into(), Spanned::into_inner));
    let unsigned_roster = unsigned?.into_inner();
    Some(Place { name: name?.into_inner(), state, identity, roster, unsigned_roster })
}

fn network(document: &Document, mut section: Section<'_>) -> Option<Network> {
    let default = Network::default();
    let line = "listen = [\"/ip4/0.0.0.0/tcp/4710\"]` or, to dial out only, `listen = []";
    let listen = section.list("listen", line, 0..=ADDRESSES_MAX, to_listen);
    let nat = section.defaulted("behind_nat", default.behind_nat, value::boolean);
    let relay = section.defaulted("relay", default.relay, value::boolean);
    let mdns = section.defaulted("mdns", default.mdns, value::boolean);
    let connections = section.defaulted(
        "connections_per_peer_max",
        default.connections_per_peer_max,
        within(CONNECTIONS_PER_PEER),
    );
    let streams =
        section.defaulted("streams_per_peer_max", default.streams_per_peer_max, within(STREAMS_PER_PEER));
    let frame = section.defaulted("frame_bytes_max", default.frame_bytes_max, within(FRAME_BYTES));
    let dial = section.defaulted("dial_timeout_ms", default.dial_timeout, duration);
    let round = section.defaulted("round_deadline_ms", default.round_deadline, duration);
    let query = section.defaulted("query_deadline_ms", default.query_deadline, duration);
    let idle = section.defaulted("idle_timeout_ms", default.idle_timeout, duration);
    section.finish();
    if let (Some(round), Some(query)) = (&round, &query)
        && round.get_ref() > query.get_ref()
    {
        document.conflict(|| {
            Problem::new("a query cannot end before one of its rounds")
                .at(query.span(), format!("{} ms for the query", query.get_ref().as_millis()))
                .at(round.span(), format!("{} ms for each round", round.get_ref().as_millis()))
                .help("raise `query_deadline_ms` or lower `round_deadline_ms`".to_owned())
        });
    }
    if let (Some(nat), Some(relay)) = (&nat, &relay)
        && *nat.get_ref()
        && *relay.get_ref()
    {
        document.conflict(|| {
            Problem::new("a node behind a NAT cannot relay for others")
                .at(nat.span(), "nobody can dial it")
                .at(relay.span(), "others are to dial it")
                .help("remove one of the two".to_owned())
        });
    }
    Some(Network {
        listen: listen?.into_inner().into_iter().map(Spanned::into_inner).collect(),
        behind_nat: nat?.into_inner(),
        relay: relay?.into_inner(),
        mdns: mdns?.into_inner(),
        connections_per_peer_max: connections?.into_inner(),
        streams_per_peer_max: streams?.into_inner(),
        frame_bytes_max: frame?.into_inner(),
        dial_timeout: dial?.into_inner(),
        round_deadline: round?.into_inner(),
        query_deadline: query?.into_inner(),
        idle_timeout: idle?.into_inner(),
    })
}

/// Somewhere to listen, which is at a machine.
fn to_listen(value: &DeValue<'_>) -> Result<Address, ValueError> {
    let address: Address = value::parsed(value)?;
    if address.is_relayed() {
        let expected = "an address of this machine such as `/ip4/0.0.0.0/tcp/4710`";
        let help = "to be reached through members that relay, set `behind_nat = true`";
        return Err(ValueError::new(expected, quoted(RELAYED)).help(Some(help.to_owned())));
    }
    Ok(address)
}

fn pools(document: &Document, mut section: Section<'_>) -> Option<Pools> {
    let default = Pools::default();
    let bytes = section.defaulted("bytes_max", default.bytes_max, within(POOL_BYTES));
    let batch =
        section.defaulted("refill_batch_queries", default.refill_batch_queries, within(REFILL_QUERIES));
    let prepared = section.defaulted("prepared_max", default.prepared_max, within(PREPARED_QUERIES));
    let transfers =
        section.defaulted("transfers", default.transfers, |found| value::choice(found, &TRANSFERS));
    section.finish();
    if let (Some(batch), Some(prepared)) = (&batch, &prepared)
        && batch.get_ref() > prepared.get_ref()
    {
        document.conflict(|| {
            Problem::new("one refill would overflow the pool")
                .at(batch.span(), format!("{} queries in one go", batch.get_ref()))
                .at(prepared.span(), format!("{} queries at most", prepared.get_ref()))
                .help("raise `prepared_max` or lower `refill_batch_queries`".to_owned())
        });
    }
    Some(Pools {
        bytes_max: bytes?.into_inner(),
        refill_batch_queries: batch?.into_inner(),
        prepared_max: prepared?.into_inner(),
        transfers: transfers?.into_inner(),
    })
}

fn admin(document: &Document, mut section: Section<'_>, place: Option<&Place>, base: &Path) -> Option<Admin> {
    let given = section.optional("socket", value::path);
    let span = given.as_ref().and_then(|given| given.as_ref()).map_or(section.place(), Spanned::span);
    section.finish();
    let socket = match given? {
        Some(path) => base.join(path.into_inner()),
        None => Admin::beneath(&place?.state).socket,
    };
    let line = "set `socket` under `[admin]` to a short path such as `/run/consilium/admin.sock`";
    short(document, &socket, "admin socket", span, line);
    Some(Admin { socket })
}

fn module(document: &Document, mut section: Section<'_>, base: &Path) -> Option<LocalModule> {
    let socket = section.optional("socket", value::parsed::<ModuleSocket>);
    let collateral = section.optional("collateral", value::path);
    section.finish();
    let socket = socket?.map(|socket| {
        let span = socket.span();
        let socket = socket.into_inner().from(base);
        if let ModuleSocket::Unix(path) = &socket {
            let line =
                "set `socket` under `[module]` to a short path such as `unix:/run/consilium-enclave/socket`";
            short(document, path, "module's socket", span, line);
        }
        socket
    });
    Some(LocalModule { socket, collateral: collateral?.map(|path| base.join(path.into_inner())) })
}

fn http(document: &Document, mut section: Section<'_>, base: &Path) -> Option<Http> {
    let default = Http::default();
    let listen = section.optional("listen", value::parsed::<Listen>);
    let token_file = section.optional("token_file", value::path);
    let body = section.defaulted("body_bytes_max", default.body_bytes_max, within(HTTP_BODY_BYTES));
    let beyond = section.defaulted("beyond_loopback", default.beyond_loopback, value::boolean);
    section.finish();
    if let (Some(Some(listen)), Some(beyond)) = (&listen, &beyond)
        && !beyond.get_ref()
        && !listen.get_ref().0.ip().is_loopback()
    {
        document.report(|| {
            Problem::new("the token would cross the network in the clear")
                .at(listen.span(), "other machines reach this address")
                .help(
                    "write an address such as `127.0.0.1:8000`, or `beyond_loopback = true` if a proxy with TLS \
                     stands between"
                        .to_owned(),
                )
        });
    }
    Some(Http {
        listen: listen?.map(|listen| listen.into_inner().0),
        token_file: token_file?.map(|path| base.join(path.into_inner())),
        body_bytes_max: body?.into_inner(),
        beyond_loopback: beyond?.into_inner(),
    })
}

/// Reports a path that no Unix socket can have.
fn short(document: &Document, path: &Path, what: &str, span: Range<usize>, help: &str) {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_BYTES_MAX {
        document.conflict(|| {
            Problem::new(format!("the path of the {what} is too long for the system"))
                .at(span, format!("{length} bytes, at most {SOCKET_PATH_BYTES_MAX}"))
                .help(help.to_owned())
        });
    }
}

fn log(mut section: Section<'_>) -> Option<Log> {
    let default = Log::default();
    let format = section.defaulted("format", default.format, |found| value::choice(found, &FORMATS));
    let filter = section.defaulted("filter", default.filter, filter);
    section.finish();
    Some(Log { format: format?.into_inner(), filter: filter?.into_inner() })
}

fn filter(found: &DeValue<'_>) -> Result<String, ValueError> {
    let text = value::text(found)?;
    if text.len() > FILTER_BYTES_MAX || text.chars().any(char::is_control) {
        let expected =
            format!("a filter of at most {FILTER_BYTES_MAX} bytes, such as `info` or `info,consilium=debug`");
        return Err(ValueError::new(expected, crate::error::quoted(&text)));
    }
    Ok(text)
}

fn duration(found: &DeValue<'_>) -> Result<Duration, ValueError> {
    value::whole(found, &DEADLINE_MS).map(Duration::from_millis)
}

fn within<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, ValueError>
where
    T: Copy + PartialOrd + std::fmt::Display + TryFrom<i128>,
{
    move |found| value::whole(found, &range)
}
