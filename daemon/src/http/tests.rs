//! The interface over a node that stands still.

use super::backend::{PairSeats, Spent};
use super::*;
use crate::admin::{Level, MemberStatus, ModuleStatus, NoiseStatus, Refill, Report, SeatStatus, TaskStatus};
use crate::client::{Answer, Detour};
use crate::ledger::ReleaseId;
use crate::message::{AnswerTerms, Obstacle, Refusal};
use crate::outlook::{Readiness, Supply};
use crate::tally::{Side, Tally};
use axum::body::Body;
use axum::http::{Method, Request as Call};
use consilium_attest::choice::NoiseRule;
use consilium_attest::{EvidenceKind, Provenance};
use consilium_config::{EXAMPLE_ROSTER, Roster};
use consilium_protocol::party::Party;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Mutex;
use tower::ServiceExt;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const TASK: &str = "breast-cancer";
const LIMIT: usize = 4096;

/// A node that answers what it is told to.
struct Still {
    terms: Arc<TaskTerms>,
    told: Mutex<Result<(), Refusal>>,
    tally: Tally,
}

impl Still {
    fn new() -> Self {
        let roster = Roster::parse("roster.toml", EXAMPLE_ROSTER).unwrap();
        let terms = Arc::new(TaskTerms::new(roster.task(TASK).unwrap()).unwrap());
        let tally = Tally::new([TASK.to_owned()]);
        tally.note(Side::Client, TASK, Duration::from_millis(5), None);
        tally.note(Side::Client, TASK, Duration::from_millis(5), Some(Obstacle::Budget));
        Self { terms, told: Mutex::new(Ok(())), tally }
    }

    fn told(&self) -> Result<(), Refusal> {
        self.told.lock().unwrap().clone()
    }
}

impl Backend for Still {
    fn offers(&self) -> Vec<Arc<TaskTerms>> {
        vec![self.terms.clone()]
    }

    fn is_homomorphic(&self, task: &str) -> bool {
        task == "encrypted"
    }

    fn ask<'a>(
        &'a self,
        _: &'a Arc<TaskTerms>,
        rows: Vec<Vec<f64>>,
        release: Option<ReleaseId>,
    ) -> BoxFuture<'a, Result<Answer, Refusal>> {
        let told = self.told();
        async move { told.map(|()| answer(rows.len(), release)) }.boxed()
    }

    fn readiness(&self) -> BoxFuture<'_, Vec<Readiness>> {
        let supply = Supply { bundles: 7, answers_left: Some(3) };
        let outlook = self.told().map(|()| supply);
        async move { vec![Readiness { task: TASK.to_owned(), outlook }] }.boxed()
    }

    fn report(&self) -> BoxFuture<'_, Report> {
        async { report() }.boxed()
    }

    fn spent<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Vec<Spent>> {
        async { vec![Spent { at: 10, answers: 1 }] }.boxed()
    }

    fn pairs(&self) -> Vec<PairSeats> {
        vec![PairSeats { pair: "main".into(), zero: "north".into(), one: "south".into(), dealer: None }]
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }
}

fn answer(rows: usize, release: Option<ReleaseId>) -> Answer {
    let terms = AnswerTerms {
        share_words: 1,
        owners: 3,
        users: Vec::new(),
        shards: 1,
        noise: Provenance::Module { evidence: EvidenceKind::SevSnp },
        preprocessing: "pairwise".into(),
        gadget: "digits".into(),
        charged: 7,
        rounds: 9,
        bytes: 800,
        rounds_us: 0,
        together: 1,
        cpu_us: 0,
        bundles: 1,
        repeated: release.is_some(),
    };
    Answer {
        release: release.unwrap_or(ReleaseId([1; 16])),
        labels: vec![Some(1); rows],
        classes: vec![Some("benign".into()); rows],
        terms,
        mechanism: "noise".into(),
        epsilon: Some(0.5),
        losses: None,
        milliseconds: 1.0,
        cpu_us: [0; 2],
        pair: "main".into(),
        tried: Vec::new(),
    }
}

fn accepted() -> ModuleStatus {
    ModuleStatus::Accepted {
        evidence: EvidenceKind::SevSnp,
        measurement: "ab".into(),
        platform: String::new(),
        level: String::new(),
        boot: "cd".into(),
        verified_at: 1,
        valid_until: 2,
        shown: "vouched for".into(),
    }
}

fn report() -> Report {
    let task = TaskStatus {
        task: TASK.into(),
        models_ready: 3,
        owners_ready: 3,
        owners: 3,
        shards: 1,
        pool: Some(Level { left: 7, used: 2, low: 4, high: 12 }),
        refill: Some(Refill {
            pool: "00".into(),
            source: "pairwise".into(),
            bytes_on_disk: Some(1024),
            bundles_per_second: Some(100.0),
            batch: None,
            fault: None,
        }),
        rounds: Some(9),
        bytes: Some(800),
        mechanism: "noise".into(),
        noise: Some(NoiseStatus { rule: NoiseRule::Module, ahead: 5, fault: None }),
        answered: 2,
        computations: 2,
        together_most: 1,
        epsilon_spent: Some(1.0),
        epsilon_budget: Some(8.0),
        slice: None,
        losses: None,
        losses_at_budget: None,
    };
    let member = MemberStatus {
        name: "south".into(),
        roles: vec!["compute".into()],
        serves: vec!["digits".into()],
        connected: true,
        relay: None,
        round_trip_ms: Some(1.5),
        fault: None,
    };
    let seat = SeatStatus {
        pair: "main".into(),
        seat: Party::Zero,
        tasks: vec![task],
        refill_fault: None,
        module: Some(accepted()),
    };
    Report {
        name: "north".into(),
        peer: "peer".into(),
        listening: Vec::new(),
        members: vec![member],
        seats: vec![seat],
        dealer: false,
        relays: Vec::new(),
        prospects: Vec::new(),
        faults: 2,
        detours: vec![Detour {
            task: "chest".into(),
            pair: "main".into(),
            looked_at_in: 4,
            reason: "it is down".into(),
        }],
        encrypted: Vec::new(),
        laboratory: Vec::new(),
    }
}

struct Told {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    fn error(&self) -> String {
        let body = self.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        body["error"].as_str().unwrap().to_owned()
    }
}

async fn tell(app: &Arc<App>, call: Call<Body>) -> Told {
    let response = router(app.clone()).oneshot(call).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    assert!(parts.headers.contains_key("content-security-policy"), "{}", parts.status);
    assert_eq!(parts.headers["x-content-type-options"], "nosniff");
    Told { status: parts.status.as_u16(), headers: parts.headers, body }
}

fn call(method: Method, path: &str, token: Option<&str>, body: impl Into<Body>) -> Call<Body> {
    let mut call = Call::builder().method(method).uri(path);
    if let Some(token) = token {
        call = call.header("authorization", format!("Bearer {token}"));
    }
    call.body(body.into()).unwrap()
}

fn still() -> (Arc<App>, Arc<Still>) {
    let node = Arc::new(Still::new());
    (Arc::new(App::new(node.clone(), Token::of(SECRET), LIMIT)), node)
}

async fn get_json(app: &Arc<App>, path: &str) -> Value {
    let told = tell(app, call(Method::GET, path, Some(SECRET), Body::empty())).await;
    assert_eq!(told.status, 200, "{path}");
    told.json()
}

fn question() -> Value {
    json!({ "inputs": [{ "name": "input", "datatype": "FP64", "shape": [1, 3], "data": vec![0.5; 3] }] })
}

async fn infer(app: &Arc<App>, body: impl Into<Body>) -> Told {
    tell(app, call(Method::POST, &format!("/v2/models/{TASK}/infer"), Some(SECRET), body)).await
}

#[tokio::test]
async fn metadata_list_and_index_agree() {
    let (app, node) = still();
    assert_eq!(get_json(&app, "/v2").await["name"], "consilium");
    assert_eq!(get_json(&app, "/v2/models").await, json!({ "models": [TASK] }));
    for path in [format!("/v2/models/{TASK}"), format!("/v2/models/{TASK}/versions/1")] {
        let metadata = get_json(&app, &path).await;
        assert_eq!(metadata["inputs"], json!([{ "name": "input", "datatype": "FP64", "shape": [-1, 3] }]));
        assert_eq!(metadata["outputs"][1], json!({ "name": "class", "datatype": "BYTES", "shape": [-1, 1] }));
        let classes: Vec<String> =
            serde_json::from_str(metadata["parameters"]["classes"].as_str().unwrap()).unwrap();
        assert_eq!(classes, node.terms.roster.classes);
        assert_eq!(get_json(&app, &format!("{path}/config")).await["input"][0]["dims"], json!([3]));
        let stats = &get_json(&app, &format!("{path}/stats")).await["model_stats"][0]["inference_stats"];
        assert_eq!(
            *stats,
            json!({ "success": { "count": 1, "ns": 5_000_000 }, "fail": { "count": 1, "ns": 5_000_000 } })
        );
    }
    assert_eq!(get_json(&app, "/v2/models/stats").await["model_stats"].as_array().unwrap().len(), 1);
    for body in ["", "{}", "{\"ready\": true}"] {
        let told = tell(&app, call(Method::POST, "/v2/repository/index", Some(SECRET), body)).await;
        assert_eq!(told.json(), json!([{ "name": TASK, "version": "1", "state": "READY", "reason": "" }]));
    }
    let bad = tell(&app, call(Method::POST, "/v2/repository/index", Some(SECRET), "[")).await;
    assert!(bad.status == 400 && bad.error().contains("\"ready\""));
}

#[tokio::test]
async fn readiness_is_that_of_a_question() {
    let (app, node) = still();
    let paths = ["/v2/health/ready".to_owned(), format!("/v2/models/{TASK}/ready")];
    *node.told.lock().unwrap() = Err(Refusal::new(Obstacle::Correlations, "the pool is empty"));
    for path in &paths {
        let told = tell(&app, call(Method::GET, path, Some(SECRET), Body::empty())).await;
        assert_eq!(told.status, 400, "{path}");
        let why = String::from_utf8_lossy(&told.body).into_owned();
        assert_eq!(why.contains("the pool is empty"), path.contains(TASK), "{path}: {why}");
    }
    let index = tell(&app, call(Method::POST, "/v2/repository/index", Some(SECRET), "")).await.json();
    assert_eq!(
        (&index[0]["state"], &index[0]["reason"]),
        (&json!("UNAVAILABLE"), &json!("the pool is empty"))
    );
    let ready =
        tell(&app, call(Method::POST, "/v2/repository/index", Some(SECRET), "{\"ready\":true}")).await;
    assert_eq!(ready.json(), json!([]));
    let (app, _) = still();
    for path in &paths {
        let told = tell(&app, call(Method::GET, path, Some(SECRET), Body::empty())).await;
        assert_eq!(told.status, 200, "{path}");
    }
    assert_eq!(tell(&app, call(Method::GET, "/v2/health/live", None, Body::empty())).await.status, 200);
}

#[tokio::test]
async fn answers_carry_where_they_come_from() {
    let (app, _) = still();
    let mut body = question();
    body["id"] = json!("case 7");
    body["parameters"] = json!({ "release": "02020202020202020202020202020202" });
    let told = infer(&app, body.to_string()).await;
    assert_eq!(told.status, 200);
    let told = told.json();
    assert_eq!((&told["model_name"], &told["id"]), (&json!(TASK), &json!("case 7")));
    assert_eq!(told["outputs"][0]["data"], json!([1]));
    assert_eq!(told["outputs"][1]["data"], json!(["benign"]));
    let parameters = &told["parameters"];
    assert_eq!(parameters["release"], "02020202020202020202020202020202");
    assert_eq!(
        (&parameters["noise_source"], &parameters["noise_evidence"]),
        (&json!("module"), &json!("sev-snp"))
    );
    assert_eq!(
        (&parameters["preprocessing"], &parameters["epsilon_charged"]),
        (&json!("pairwise"), &json!(0.5))
    );
    assert_eq!((&parameters["owners"], &parameters["repeated"]), (&json!(3), &json!(true)));
    body["parameters"] = json!({ "binary_data_output": true });
    let told = infer(&app, body.to_string()).await;
    let length: usize = told.headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let (json, bytes) = told.body.split_at(length);
    let json: Value = serde_json::from_slice(json).unwrap();
    assert_eq!(json["outputs"][0]["parameters"], json!({ "binary_data_size": 4 }));
    assert_eq!(bytes, b"\x01\0\0\0\x06\0\0\0benign");
}

#[tokio::test]
async fn every_refusal_has_the_form_of_the_protocol() {
    let (app, node) = still();
    let path = format!("/v2/models/{TASK}/infer");
    for token in [None, Some("wrong"), Some(""), Some(&SECRET[1..])] {
        let told = tell(&app, call(Method::POST, &path, token, question().to_string())).await;
        assert!(told.status == 401 && told.error().contains("Authorization: Bearer"), "{token:?}");
        assert_eq!(told.headers["www-authenticate"], "Bearer realm=\"consilium\"");
    }
    let long = infer(&app, vec![b' '; LIMIT + 1]).await;
    assert!(long.status == 413 && long.error().contains("longer than 4096 bytes"));
    for (method, path, status, text) in [
        (Method::GET, "/v2/models/x", 404, "offers breast-cancer"),
        (Method::GET, "/v2/models/encrypted", 404, "ask by `consilium ask --task encrypted`"),
        (Method::GET, "/v2/models/breast-cancer/versions/2", 404, "one version, 1"),
        (Method::GET, "/v2/models/%ff", 400, "UTF-8"),
        (Method::GET, "/v2/models/breast-cancer/infer", 405, "another method"),
        (Method::GET, "/nowhere", 404, "/openapi.json"),
        (Method::POST, "/v2/repository/models/x/load", 404, "/openapi.json"),
    ] {
        let told = tell(&app, call(method, path, Some(SECRET), Body::empty())).await;
        assert_eq!(told.status, status, "{path}");
        assert!(told.error().contains(text), "{path}: {}", told.error());
    }
    let mut compressed = call(Method::POST, &path, Some(SECRET), question().to_string());
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(tell(&app, compressed).await.status, 415);
    for (obstacle, status) in [
        (Obstacle::Budget, 403),
        (Obstacle::NotAllowed, 403),
        (Obstacle::Task, 409),
        (Obstacle::Release, 409),
        (Obstacle::Request, 400),
        (Obstacle::Noise, 503),
        (Obstacle::Correlations, 503),
        (Obstacle::Peer, 503),
        (Obstacle::Deadline, 504),
        (Obstacle::Local, 500),
    ] {
        *node.told.lock().unwrap() = Err(Refusal::new(obstacle, "because"));
        let told = infer(&app, question().to_string()).await;
        assert_eq!((told.status, told.error()), (status, "because".to_owned()), "{obstacle:?}");
        assert_eq!(told.headers["consilium-obstacle"], crate::tally::name(obstacle));
    }
}

#[tokio::test]
async fn metrics_hold_what_rules_and_dashboards_name() {
    let (app, _) = still();
    let told = tell(&app, call(Method::GET, "/metrics", Some(SECRET), Body::empty())).await;
    let text = String::from_utf8(told.body).unwrap();
    assert!(told.status == 200 && text.ends_with("# EOF\n"), "{text}");
    for line in [
        "consilium_member_connected{member=\"south\",roles=\"compute\"} 1.0",
        "consilium_pool_bundles{pair=\"main\",task=\"breast-cancer\"} 7.0",
        "consilium_detour{pair=\"main\",task=\"chest\"} 1.0",
        "consilium_budget_epsilon_spent{pair=\"main\",task=\"breast-cancer\"} 1.0",
        "consilium_budget_answers_left{task=\"breast-cancer\"} 3.0",
        "consilium_noise_verdict{pair=\"main\",verdict=\"accepted\"} 1.0",
        "consilium_ready{task=\"breast-cancer\"} 1.0",
        "consilium_channel_faults_total 2",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    let known = |name: &str| text.lines().any(|line| line.starts_with(name));
    for file in [
        include_str!("../../../systemd/prometheus-alerts.yml"),
        include_str!("../../../systemd/grafana-dashboard.json"),
    ] {
        let word = |letter: char| !letter.is_ascii_alphanumeric() && letter != '_';
        let names: Vec<&str> = file.split(word).filter(|word| word.starts_with("consilium_")).collect();
        assert!(names.len() > 5);
        for name in names {
            assert!(known(name), "{name} is no metric");
        }
    }
}

#[tokio::test]
async fn the_overview_is_whole_and_needs_the_token() {
    let (app, _) = still();
    let overview = get_json(&app, "/api/overview").await;
    assert_eq!(overview["report"]["seats"][0]["module"]["accepted"]["shown"], "vouched for");
    assert_eq!(overview["outlooks"][0]["answers_left"], 3);
    let points = overview["courses"][0]["points"].as_array().unwrap();
    assert_eq!((&points[0], &points[1]), (&json!([10, 4]), &json!([10, 3])));
    assert_eq!(overview["queries"][1]["obstacle"], "budget");
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/plots.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/openapi.json", "application/json"),
    ] {
        let told = tell(&app, call(Method::GET, path, None, Body::empty())).await;
        assert_eq!((told.status, told.headers["content-type"].to_str().unwrap()), (200, kind), "{path}");
    }
    for path in ["/api/overview", "/metrics", "/v2", "/v2/models"] {
        let told = tell(&app, call(Method::GET, path, None, Body::empty())).await;
        assert_eq!(told.status, 401, "{path}");
    }
}

#[tokio::test]
async fn every_described_path_is_served() {
    let (app, _) = still();
    let description = serde_json::to_value(openapi::description()).unwrap();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() > 15, "{paths:?}");
    for (path, item) in paths {
        let path = path.replace("{name}", TASK).replace("{version}", "1");
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let told = tell(&app, call(method, &path, Some(SECRET), Body::empty())).await;
            assert!(![401, 404, 405].contains(&told.status), "{path}: {}", told.status);
            let documented = &item[path_key(item)]["responses"];
            assert!(documented.get(told.status.to_string()).is_some(), "{path}: {}", told.status);
        }
    }
}

fn path_key(item: &Value) -> &'static str {
    if item.get("post").is_some() { "post" } else { "get" }
}
