//! The schema of a roster file.

use super::{address, exact, file, flag, label, list, name, needed, optional, real, table, whole, words};
use crate::{limits::*, roster::words as known};
use serde_json::{Value, json};

/// The schema of a roster file.
pub fn roster() -> Value {
    let several = |most: usize, of: Value| list(&(0..=most), of);
    file(
        "Roster of a Consilium consortium",
        vec![
            needed(
                "consortium",
                "The consortium.",
                table(vec![
                    needed("name", "Its name, for people.", label()),
                    optional(
                        "quorum",
                        "How many owners and compute parties sign a version. Default majority.",
                        quorum(),
                    ),
                ]),
            ),
            optional("module", "The module that draws noise.", module()),
            needed("member", "One table for each node.", list(&MEMBERS, member())),
            optional("pair", "Two members that compute together.", several(PAIRS_MAX, pair())),
            optional("task", "A question that the consortium answers.", several(TASKS_MAX, task())),
        ],
    )
}

fn quorum() -> Value {
    let word = words(["majority", "all"]);
    json!({ "anyOf": [word, whole(&(1..=*MEMBERS.end() as u64))] })
}

/// What must vouch for the module is the module's own matter: its kinds are listed, their keys are not.
fn module() -> Value {
    let kind = |about: &str| json!({ "type": "object", "description": about });
    let seconds = |most: u64| whole(&(1..=most));
    let mut policy = table(vec![
        needed("evidence_age_max_secs", "Longest time between question and evidence.", seconds(3600)),
        needed("reattest_after_secs", "How long a verdict counts.", seconds(86_400)),
    ]);
    for (name, about) in [
        ("sev_snp", "AMD SEV-SNP."),
        ("tdx", "Intel TDX."),
        ("sgx_dcap", "Intel SGX."),
        ("nitro", "AWS Nitro."),
        ("tpm2", "A TPM."),
        ("software", "Nothing vouches: for public testing."),
    ] {
        policy["properties"][name] = kind(about);
    }
    table(vec![
        needed("host", "The member whose node carries bytes to the module.", name()),
        needed("policy", "What evidence must say to be accepted.", policy),
    ])
}

fn member() -> Value {
    let (least, most) = (PEER_CHARS.start(), PEER_CHARS.end());
    let peer = format!("^[1-9A-HJ-NP-Za-km-z]{{{least},{most}}}$");
    table(vec![
        needed("name", "By which the rest of the roster refers to it.", name()),
        needed(
            "peer",
            "Its peer id, from `consilium identity`.",
            json!({ "type": "string", "pattern": peer }),
        ),
        optional("organisation", "Who runs it.", label()),
        needed(
            "addresses",
            "Where the others dial it; empty for a member that only dials.",
            list(&(0..=ADDRESSES_MAX), address()),
        ),
        needed("roles", "What it may do.", list(&(1..=known::roles().len()), words(known::roles()))),
    ])
}

fn pair() -> Value {
    table(vec![
        needed("name", "By which tasks refer to it.", name()),
        needed("zero", "The member in seat zero.", name()),
        needed("one", "The member in seat one.", name()),
        optional("dealer", "Who deals correlated randomness; left out, the two make it themselves.", name()),
    ])
}

fn task() -> Value {
    let magnitude = f64::from(1_u32 << VALUE_BITS.end());
    let positive = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": magnitude });
    let mut task = table(vec![
        needed("name", "By which users and models refer to it.", name()),
        needed("title", "What it is about, for people.", label()),
        optional("pair", "The pair that computes it, and is asked first.", name()),
        optional(
            "input",
            "Size of one input: values, or channels, rows and columns.",
            json!({ "anyOf": [list(&(1..=1), whole(&INPUT_VALUES)), list(&(3..=3), whole(&INPUT_VALUES))] }),
        ),
        optional(
            "kind",
            "Whether models vote, the owner is named whose model knows the input best, one owner computes on \
             encrypted inputs, or files of encodings are sent. Default vote.",
            words(known::kinds()),
        ),
        optional(
            "classes",
            "The labels, in the order of the models' outputs. Needed but in one-class tasks.",
            list(&CLASSES, label()),
        ),
        optional("input_abs_max", "No input value is larger in magnitude.", positive),
        optional("input_min", "Of a homomorphic task: no input value is smaller.", real(magnitude)),
        optional(
            "inputs_per_client_max",
            "Of a homomorphic task: how many inputs the owner answers for each client, ever. No default.",
            whole(&INPUTS_PER_CLIENT),
        ),
        optional("fraction_bits", "Bits after the binary point. Default 16.", whole(&FRACTION_BITS)),
        optional("value_bits", "Bits before the binary point. Default 12.", whole(&VALUE_BITS)),
        optional(
            "distance_bits",
            "Of a one-class task: bits before the binary point of a distance. Default 20.",
            whole(&DISTANCE_BITS),
        ),
        optional("owners", "Members whose models vote.", list(&OWNERS, name())),
        optional("owner", "Of a homomorphic task: the member that computes.", name()),
        optional("clients", "Members that may ask.", list(&CLIENTS, name())),
        optional(
            "hospitals",
            "Of a task of encodings: members that send and take.",
            list(&HOSPITALS, name()),
        ),
        optional("lab", "Of a task of encodings: whether anything is sent and taken. Default false.", flag()),
        optional("owners_min", "Fewest owners that must vote. Default 2.", whole(&OWNERS_MIN)),
        optional("shards", "Models of each owner. Default 1.", whole(&SHARDS)),
        optional("batch", "Queries evaluated side by side. Default 1.", whole(&BATCH_QUERIES)),
        optional("comparison", "How shared values are compared. Default auto.", words(known::comparisons())),
        optional(
            "standby",
            "Pairs that are asked when those before them cannot answer.",
            list(&(0..=STANDBY_MAX), standby()),
        ),
        optional("pool", "How many queries each party prepares ahead.", pool()),
        optional("image", "How files of images become inputs.", image()),
        optional("features", "Public normalisation by the client: (raw - offset) * scale.", features()),
        optional("release", "How the label is let out.", release()),
    ]);
    task["allOf"] = by_kind();
    task
}

/// Which keys a task needs, and which it must not have, by its kind.
fn by_kind() -> Value {
    let none = |keys: &[&str]| keys.iter().map(|key| json!({ "required": [key] })).collect::<Vec<_>>();
    let kind = |word: &str| json!({ "properties": { "kind": { "const": word } }, "required": ["kind"] });
    let of_pairs = [
        "pair",
        "standby",
        "release",
        "pool",
        "owners",
        "owners_min",
        "shards",
        "batch",
        "comparison",
        "fraction_bits",
        "value_bits",
        "distance_bits",
    ];
    let of_owners = ["owner", "input_min", "inputs_per_client_max"];
    let of_both = ["input", "input_abs_max", "clients", "classes", "image", "features"];
    let of_hospitals = ["hospitals", "lab"];
    let homomorphic = json!({
        "required": ["input", "input_abs_max", "clients", "owner", "classes", "inputs_per_client_max"],
        "not": { "anyOf": none(&[of_pairs.as_slice(), &of_hospitals].concat()) },
    });
    let encodings = json!({
        "required": ["hospitals"],
        "not": { "anyOf": none(&[of_pairs.as_slice(), &of_owners, &of_both].concat()) },
    });
    let paired = json!({
        "required": ["input", "input_abs_max", "clients", "pair", "owners", "release"],
        "not": { "anyOf": none(&[of_owners.as_slice(), &of_hospitals].concat()) },
    });
    let rest = json!({ "if": kind("encodings"), "then": encodings, "else": paired });
    json!([{ "if": kind("homomorphic"), "then": homomorphic, "else": rest }])
}

fn standby() -> Value {
    table(vec![
        needed("pair", "The pair.", name()),
        optional("slice", "The part of every budget that it may spend. No default.", exact(&SLICE)),
    ])
}

fn pool() -> Value {
    table(vec![
        optional("low", "Below this many, a refill starts. Default 64.", whole(&STOCK_QUERIES)),
        optional("high", "At this many, it stops. Default 192.", whole(&STOCK_QUERIES)),
    ])
}

fn image() -> Value {
    table(vec![
        optional("colour", "Channels. Default grey.", words(known::colours())),
        optional(
            "size",
            "Rows and columns. Default: those of `input`.",
            list(&(2..=2), whole(&INPUT_VALUES)),
        ),
        optional(
            "resize",
            "What to do with a file of another size. Default refuse.",
            words(known::resizes()),
        ),
        optional(
            "window",
            "Which part of a DICOM file's values counts. Default whole.",
            words(known::windows()),
        ),
        optional("window_center", "The middle of the task's window.", real(FEATURE_MAGNITUDE_MAX)),
        optional(
            "window_width",
            "Its width.",
            json!({ "type": "number", "minimum": 1, "maximum": FEATURE_MAGNITUDE_MAX }),
        ),
        needed(
            "range",
            "What the darkest and the brightest sample become.",
            list(&(2..=2), real(FEATURE_MAGNITUDE_MAX)),
        ),
    ])
}

fn features() -> Value {
    let counts = 1..=*INPUT_VALUES.end() as usize;
    let mut scale = real(FEATURE_MAGNITUDE_MAX);
    scale["not"] = json!({ "const": 0 });
    table(vec![
        optional("names", "Names of the input values in order.", list(&counts, label())),
        optional(
            "offset",
            "One for each input value, or one for all.",
            list(&counts, real(FEATURE_MAGNITUDE_MAX)),
        ),
        optional("scale", "The same; never zero.", list(&counts, scale)),
    ])
}

fn release() -> Value {
    let mut release = table(vec![
        needed(
            "mechanism",
            "What is released. No default: it decides what the owners are promised.",
            words(known::mechanisms()),
        ),
        optional("sigma", "Deviation of the noise on each count, in votes.", exact(&SIGMA_VOTES)),
        optional("threshold", "Votes that the top count must reach.", whole(&THRESHOLD_VOTES)),
        optional("threshold_sigma", "Deviation of the noise on the top count.", exact(&SIGMA_VOTES)),
        optional("epsilon_per_answer", "Loss of one answer (laplace).", exact(&EPSILON)),
        optional("unit", "Whose data the promise covers. Default owner.", words(known::units())),
        optional("epsilon", "Loss that an owner accepts in all.", exact(&EPSILON)),
        optional("delta", "Probability with which the promise may fail.", exact(&DELTA)),
        optional("client_epsilon", "How much of it one client may cause.", exact(&EPSILON)),
        optional("noise", "Who draws the noise.", words(known::noises())),
    ]);
    let only = |mechanism: &str, needed: &[&str], refused: &[&str]| {
        let none: Vec<Value> = refused.iter().map(|key| json!({ "required": [key] })).collect();
        let mut then = json!({ "required": needed });
        if !none.is_empty() {
            then["not"] = json!({ "anyOf": none });
        }
        json!({ "if": { "properties": { "mechanism": { "const": mechanism } } }, "then": then })
    };
    let threshold = ["threshold", "threshold_sigma"];
    let all = [
        "sigma",
        "threshold",
        "threshold_sigma",
        "epsilon_per_answer",
        "unit",
        "epsilon",
        "delta",
        "client_epsilon",
        "noise",
    ];
    release["allOf"] = json!([
        only("exact", &[], &all),
        only(
            "gaussian",
            &["sigma", "epsilon", "delta", "noise"],
            &["epsilon_per_answer", threshold[0], threshold[1]]
        ),
        only(
            "confident-gaussian",
            &["sigma", "threshold", "threshold_sigma", "epsilon", "delta", "noise"],
            &["epsilon_per_answer"],
        ),
        only(
            "laplace",
            &["epsilon_per_answer", "epsilon", "noise"],
            &["sigma", "delta", threshold[0], threshold[1]],
        ),
    ]);
    release
}
