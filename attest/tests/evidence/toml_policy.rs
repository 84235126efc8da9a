//! Policies as people write them.

use consilium_attest::policy::{AMD_MILAN_ROOT, AWS_NITRO_ROOT, INTEL_SGX_ROOT, Platforms, SnpSigner};
use consilium_attest::{EvidenceKind, Policy};
use toml::{Table, Value};

/// A policy with every field of every kind.
fn text() -> String {
    let (short, long) = ("ab".repeat(32), "cd".repeat(48));
    let platform = |table: &str| {
        format!(
            "[{table}.platform]
            roots = [\"{INTEL_SGX_ROOT}\"]
            statuses = [\"UpToDate\"]
            advisories = []
            evaluation_min = 17
            allow_dynamic_platform = false
            allow_cached_keys = false
            allow_smt = false
            platforms = {{ listed = [\"00112233\"] }}\n"
        )
    };
    format!(
        "evidence_age_max_secs = 120
        reattest_after_secs = 3600
        [sev_snp]
        roots = [\"{AMD_MILAN_ROOT}\"]
        measurements = [\"{long}\"]
        host_data = [\"{short}\"]
        signers = [\"vcek\"]
        vmpl_max = 0
        versions_min = {{ fmc = 0, boot_loader = 3, tee = 0, snp = 8, microcode = 115 }}
        allow_smt = false
        require_revocation_list = true
        platforms = \"any\"
        [tdx]
        images = [{{ mr_td = \"{long}\", rtmr = [\"{long}\", \"{long}\", \"{long}\", \"{long}\"], mr_config_id = \"{long}\" }}]
        {}
        [sgx_dcap]
        images = [{{ mr_enclave = \"{short}\", mr_signer = \"{short}\", product = 1, version_min = 2 }}]
        {}
        [nitro]
        roots = [\"{AWS_NITRO_ROOT}\"]
        images = [{{ registers = [
            {{ index = 0, value = \"{long}\" }}, {{ index = 1, value = \"{long}\" }}, {{ index = 2, value = \"{long}\" }},
        ] }}]
        platforms = \"any\"
        [tpm2]
        keys = [\"{short}\"]
        images = [{{ registers = [{{ index = 4, value = \"{short}\" }}] }}]
        [software]
        allow = false",
        platform("tdx"),
        platform("sgx_dcap"),
    )
}

/// Every field of a document: the keys and places on the way to it.
fn fields(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let mut visit = |key: String, inner: &Value, counts: bool| {
        path.push(key);
        if counts {
            found.push(path.clone());
        }
        fields(inner, path, found);
        path.pop();
    };
    match value {
        Value::Table(table) => table.iter().for_each(|(key, inner)| visit(key.clone(), inner, true)),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, inner)| visit(at.to_string(), inner, false));
        }
        _ => {}
    }
}

/// The table in which the last key of a path stands.
fn table_of<'a>(value: &'a mut Value, path: &[String]) -> &'a mut Table {
    let inner = path[..path.len() - 1].iter().fold(value, |value, key| match value {
        Value::Table(table) => table.get_mut(key).unwrap(),
        Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
        _ => panic!("{path:?}"),
    });
    inner.as_table_mut().unwrap()
}

#[test]
fn a_policy_can_be_written_down() {
    let policy: Policy = toml::from_str(&text()).unwrap();
    policy.check().unwrap();
    let kinds = &EvidenceKind::ALL[..5];
    assert_eq!(policy.kinds(), kinds, "software is there and not allowed");
    let snp = policy.sev_snp.as_ref().unwrap();
    assert_eq!((snp.signers.as_slice(), &snp.platforms), (&[SnpSigner::Vcek][..], &Platforms::Any));
    let again: Policy = toml::from_str(&toml::to_string(&policy).unwrap()).unwrap();
    assert_eq!(again, policy);
}

#[test]
fn a_policy_with_any_field_missing_is_not_read() {
    let whole = Value::Table(text().parse().unwrap());
    let mut all = Vec::new();
    fields(&whole, &mut Vec::new(), &mut all);
    let kinds = ["sev_snp", "tdx", "sgx_dcap", "nitro", "tpm2", "software"];
    let mut refused = 0;
    for path in &all {
        let name = path.last().unwrap();
        let mut less = whole.clone();
        table_of(&mut less, path).remove(name).unwrap();
        match less.try_into::<Policy>() {
            // A missing table is a refusal of its kind.
            Ok(policy) => {
                assert!(path.len() == 1 && kinds.contains(&name.as_str()), "{path:?}");
                let index = kinds.iter().position(|kind| kind == name).unwrap();
                assert!(!policy.kinds().contains(&EvidenceKind::ALL[index]));
            }
            // The only variant with a value; without its name there is none.
            Err(_) if name == "listed" => {}
            Err(error) => {
                assert!(error.to_string().contains(&format!("missing field `{name}`")), "{path:?}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

#[test]
fn a_policy_with_an_unknown_field_is_not_read() {
    let whole = Value::Table(text().parse().unwrap());
    let mut all = Vec::new();
    fields(&whole, &mut Vec::new(), &mut all);
    for path in &all {
        let mut more = whole.clone();
        table_of(&mut more, path).insert("allow_everything".to_owned(), Value::Boolean(true));
        assert!(more.try_into::<Policy>().is_err(), "{path:?}");
    }
}

#[test]
fn values_of_the_wrong_form_are_not_read() {
    for (good, bad) in [
        ("platforms = \"any\"", "platforms = \"all\""),
        ("platforms = \"any\"", "platforms = true"),
        ("signers = [\"vcek\"]", "signers = [\"any\"]"),
        ("vmpl_max = 0", "vmpl_max = -1"),
        ("microcode = 115", "microcode = 256"),
        ("index = 4", "index = 256"),
        ("allow = false", "allow = \"yes\""),
        ("abab", "abax"),
        ("abab", "ab"),
    ] {
        let text = text();
        assert!(text.contains(good));
        assert!(toml::from_str::<Policy>(&text.replacen(good, bad, 1)).is_err(), "{bad}");
    }
}

#[test]
fn the_policy_of_the_manual_is_read() {
    let manual = include_str!("../../../README.md");
    let block = |from: &str| {
        let start = manual.find(from).unwrap();
        &manual[start..start + manual[start..].find("```").unwrap()]
    };
    let text = [block("[module.policy]"), block("[module.policy.sev_snp]")].concat();
    let mut roster: toml::Table = toml::from_str(&text).unwrap();
    let policy: Policy =
        roster["module"].as_table_mut().unwrap().remove("policy").unwrap().try_into().unwrap();
    policy.check().unwrap();
    assert_eq!(policy.kinds(), [EvidenceKind::SevSnp, EvidenceKind::Tpm2, EvidenceKind::Software]);
    assert_eq!(policy.sev_snp.unwrap().roots, [AMD_MILAN_ROOT]);
}
