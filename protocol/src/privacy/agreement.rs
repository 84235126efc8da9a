//! The account against values that other accountants computed: every reference point that does not depend on
//! votes.
//!
//! Two of the tools quote the Canonne-Kamath-Steinke conversion over a list of orders, so the product's formula
//! over the same list must give the same. The product itself looks at all orders: its epsilon is never above
//! that, never above the simple `ρ + 2√(ρ ln 1/δ)`, and never below the exact curve of the same noise. The rows
//! on votes carry a data-independent figure beside the data-dependent one, from the older conversion
//! `αρ + ln(1/δ)/(α-1)` over a list of its own.

use super::conversion::cks_epsilon_over;
use super::{COST_ONE, Cost, Delta, Mechanism, Ratio, Unit, cks_epsilon, epsilon_of, oracle};
use serde_json::Value;
use std::collections::BTreeMap;

fn number(row: &Value, name: &str) -> Option<f64> {
    row.get(name)?.as_f64()
}

fn list(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

/// The exact rational behind a decimal of the file.
fn ratio(value: f64) -> Ratio {
    value.to_string().parse().unwrap()
}

fn squared(ratio: Ratio, factor: u64) -> Ratio {
    Ratio::new(factor * ratio.numerator().pow(2), ratio.denominator().pow(2)).unwrap()
}

/// Losses of `count` releases of one kind. `pure` only where the mechanism has one.
#[derive(Clone, Copy)]
struct Loss {
    rho: Cost,
    pure: Option<Cost>,
}

impl Loss {
    /// From the product's own mechanisms, as far as it has the kind: the noisy threshold is a Gaussian on one
    /// count, which moves by 1 and not by √2, so it costs what a Gaussian of twice the variance would. The
    /// exponential mechanism and permute-and-flip are not offered; their pure loss is that of Laplace noise,
    /// and the former's rho is `ε²/8`, a quarter.
    fn of(kind: &str, value: f64, count: u64) -> Self {
        let gaussian =
            |factor| Mechanism::Gaussian { sigma_squared: squared(ratio(value), factor) }.cost().unwrap();
        let laplace = || Mechanism::Laplace { epsilon: ratio(value) }.cost().unwrap();
        let (rho, pure) = match kind {
            "gnmax" => (gaussian(1), None),
            "confident_threshold" => (gaussian(2), None),
            "lnmax" | "permute_and_flip" => (laplace().in_zcdp().unwrap(), Some(laplace())),
            "exponential_mechanism_gumbel" => {
                let rho = laplace().in_zcdp().unwrap();
                (Cost::new(Unit::Zcdp, rho.amount().div_ceil(4)), Some(laplace()))
            }
            _ => panic!("no mechanism is called {kind}"),
        };
        Self { rho: rho.times(count).unwrap(), pure: pure.map(|pure| pure.times(count).unwrap()) }
    }

    /// The loss of a row of the file: its mechanism as often as it was asked, or several of them.
    fn of_row(row: &Value) -> Self {
        let (kind, params) = (row["mechanism"].as_str().unwrap(), &row["params"]);
        let queries = row["queries"].as_u64().unwrap();
        if let Some(items) = params.get("items") {
            let losses = items.as_array().unwrap().iter().map(|item| {
                let value = number(item, "value").unwrap();
                Self::of(item["kind"].as_str().unwrap(), value, item["count"].as_u64().unwrap()).rho
            });
            let rho = losses.reduce(|sum, loss| sum.plus(loss).unwrap()).unwrap();
            return Self { rho, pure: None };
        }
        // The rows on votes name the same noise with a suffix.
        let kind = kind.split_once("_data").map_or(kind, |(kind, _)| kind);
        let value = ["sigma", "sigma1", "eps0"].iter().find_map(|name| number(params, name)).unwrap();
        Self::of(kind, value, queries)
    }

    fn check_sums(&self, row: &Value) {
        let queries = number(row, "queries").unwrap();
        for (found, name) in [(Some(self.rho), "rho"), (self.pure, "eps_pure")] {
            let Some(expected) = number(row, name) else { continue };
            let found = found.unwrap().amount() as f64 / COST_ONE as f64;
            // Ten printed digits. A pure loss, at most 2 here, is rounded up before and after it is squared.
            assert!(found >= expected - 1e-10, "{}: {name} {found} below {expected}", row["id"]);
            let grain = 4.0 * queries / COST_ONE as f64;
            assert!(found <= expected + 1e-10 + grain, "{}: {name} {found} above {expected}", row["id"]);
        }
    }
}

fn delta(row: &Value) -> Delta {
    format!("{:e}", number(row, "delta").unwrap()).parse().unwrap()
}

/// What a row says of the conversion over the listed orders and over all.
fn check_conversion(row: &Value, loss: &Loss, orders: &[f64]) {
    let (id, delta) = (&row["id"], delta(row));
    // A pure loss is an epsilon at any delta.
    let pure = loss.pure.map_or(f64::INFINITY, |pure| epsilon_of(pure, None).unwrap());
    let rho = loss.rho.amount();
    let (listed, best) = (cks_epsilon_over(rho, delta, orders).min(pure), cks_epsilon(rho, delta).min(pure));
    let same = ["eps_cks_conversion", "eps_dp_accounting_zcdp"].iter().filter_map(|name| number(row, name));
    for expected in same {
        assert!((listed / expected - 1.0).abs() < 1e-6, "{id}: {listed}, expected {expected}");
    }
    assert!(best <= listed * (1.0 + 1e-12), "{id}: {best} above {listed}");
    let simple = number(row, "eps_zcdp_simple").unwrap();
    // Where epsilon passes 600 the list of orders ends too early; all orders together never do.
    assert!(listed <= simple * (1.0 + 1e-9) || simple > 600.0, "{id}: {listed} above {simple}");
    assert!(best <= simple * (1.0 + 1e-9), "{id}: {best} above {simple}");
    let curves = ["eps_exact_gaussian", "eps_dp_accounting_pld", "eps_autodp_zcdp"];
    for exact in curves.iter().filter_map(|name| number(row, name)) {
        assert!(best >= exact * (1.0 - 1e-9), "{id}: {best} below {exact}");
    }
    // One tool minimises over all orders as the product does.
    if let Some(other) = number(row, "eps_autodp_zcdp").filter(|_| best < pure) {
        assert!((best / other - 1.0).abs() < 1e-6, "{id}: {best}, expected {other}");
    }
    // Of Gaussian noise the moments are exactly those of its rho; of Laplace noise they are better.
    if let Some(moments) = number(row, "eps_dp_accounting_rdp") {
        let gaussian = row["mechanism"] == "gnmax";
        assert!(listed >= moments * (1.0 - 1e-6), "{id}: {listed} below {moments}");
        assert!(!gaussian || listed <= moments * (1.0 + 1e-6), "{id}: {listed} above {moments}");
    }
    if let Some(older) = number(row, "eps_classic_rdp") {
        assert!(best <= older * (1.0 + 1e-9), "{id}: {best} above {older}");
    }
}

/// What a row on votes says that does not depend on them.
fn check_without_votes(row: &Value, loss: &Loss, orders: &[f64]) {
    let (id, rho) = (&row["id"], loss.rho.amount() as f64 / COST_ONE as f64);
    // The moments of one query are never above what its rho allows, whatever the votes.
    let queries = number(row, "queries").unwrap();
    for (order, moment) in row.get("rdp").and_then(Value::as_object).into_iter().flatten() {
        let (order, moment) = (order.parse::<f64>().unwrap(), moment.as_f64().unwrap());
        assert!(moment <= order * rho / queries * (1.0 + 1e-6) + 1e-12, "{id}: moment of order {order}");
    }
    let Some(expected) = number(row, "eps_data_independent") else { return };
    let inverse = 1.0 / number(row, "delta").unwrap();
    let older = orders.iter().map(|order| order * rho + inverse.ln() / (order - 1.0));
    let older = older.fold(f64::INFINITY, f64::min);
    // A hundred losses rounded up to 2^-40 each, times an order of a hundred.
    assert!((older / expected - 1.0).abs() < 1e-7, "{id}: {older}, expected {expected}");
    let best = cks_epsilon(loss.rho.amount(), delta(row));
    assert!(best <= expected, "{id}: {best} above {expected}");
}

#[test]
fn every_reference_point_is_met() {
    let Some(file) = oracle::read("accounting.json") else { return };
    let orders = list(&file["meta"]["rdp_orders_dp_accounting"]);
    let older_orders = list(&file["meta"]["pate_orders"]);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in file["points"].as_array().unwrap() {
        let kind = row["mechanism"].as_str().unwrap();
        // A sensitivity for a mechanism that is not offered; there is no loss to compare.
        if kind == "gnmax_smooth_sensitivity" {
            continue;
        }
        let loss = Loss::of_row(row);
        loss.check_sums(row);
        if row.get("eps_cks_conversion").is_some() {
            check_conversion(row, &loss, &orders);
        } else {
            check_without_votes(row, &loss, &older_orders);
        }
        *seen.entry(kind).or_default() += 1;
    }
    let expected = [
        ("confident_threshold_data_dependent", 5),
        ("exponential_mechanism_gumbel", 24),
        ("gnmax", 36),
        ("gnmax_data_dependent", 14),
        ("gnmax_data_dependent_stream", 30),
        ("lnmax", 24),
        ("lnmax_data_dependent", 9),
        ("lnmax_data_dependent_stream", 30),
        ("mixed", 9),
        ("permute_and_flip", 6),
    ];
    assert_eq!(seen, BTreeMap::from(expected), "points compared, by kind");
}

#[test]
fn a_confident_attempt_costs_its_test_and_its_label() {
    // 1,000 attempts with σ₁ = 30 and 700 labels with σ = 40, at delta 1e-6, as in the reference.
    let attempts = Loss::of("confident_threshold", 30.0, 1000).rho;
    let labels = Loss::of("gnmax", 40.0, 700).rho;
    let spent = attempts.plus(labels).unwrap();
    let exact = 1000.0 / 1800.0 + 700.0 / 1600.0;
    assert!((spent.amount() as f64 / COST_ONE as f64 - exact).abs() < 1e-8);
    let found = cks_epsilon(spent.amount(), Delta::new(1, 6).unwrap());
    assert!((found / 7.734_987_903_5 - 1.0).abs() < 1e-3 && found <= 7.734_987_904, "{found}");
}
