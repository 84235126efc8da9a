//! The REST interface of real processes, by a client that writes its own requests.

use crate::setting::{EXACT, PRIVATE, SOON, Setting, in_runtime};
use consilium::demo::names;
use serde_json::{Value, json};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A value of a question that is in no time, port or identifier by chance.
const SECRET: f64 = 4_711_047_110.25;

pub(crate) struct Told {
    pub(crate) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

fn token(setting: &Setting, name: &str) -> String {
    std::fs::read_to_string(setting.world.folder_of(name).join("http.token")).unwrap()
}

/// One request on a connection of its own.
async fn send(setting: &Setting, name: &str, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Told {
    let mut stream = TcpStream::connect(setting.world.http(name).unwrap()).await.unwrap();
    let mut head = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for (key, value) in headers {
        head.push_str(&format!("{key}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut told = Vec::new();
    tokio::time::timeout(SOON, async {
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream.read_to_end(&mut told).await.unwrap();
    })
    .await
    .expect("nothing may hang");
    let end = told.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(told[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Told { status, head, body: told[end + 4..].to_vec() }
}

pub(crate) async fn get(setting: &Setting, name: &str, path: &str) -> Told {
    let token = format!("Bearer {}", token(setting, name));
    send(setting, name, &format!("GET {path}"), &[("authorization", &token)], b"").await
}

async fn infer(setting: &Setting, task: &str, headers: &[(&str, &str)], body: &[u8]) -> Told {
    let token = format!("Bearer {}", token(setting, names::CLIENT));
    let headers = [&[("authorization", token.as_str())][..], headers].concat();
    send(setting, names::CLIENT, &format!("POST /v2/models/{task}/infer"), &headers, body).await
}

/// Waits until a path answers with a status.
pub(crate) async fn until(setting: &Setting, name: &str, path: &str, status: u16) {
    let started = Instant::now();
    while get(setting, name, path).await.status != status {
        if started.elapsed() >= SOON {
            let overview = get(setting, name, "/api/overview").await.body;
            panic!("{path} of {name} is not {status}: {}", String::from_utf8_lossy(&overview));
        }
        tokio::time::sleep(crate::setting::LOOK_EVERY).await;
    }
}

fn question(row: &[f64]) -> Value {
    json!({ "inputs": [{ "name": "input", "datatype": "FP64", "shape": [1, row.len()], "data": row }] })
}

#[test]
fn questions_in_json_and_bytes_get_the_label_of_the_oracle() {
    in_runtime(async {
        let setting = Setting::published(&[EXACT, PRIVATE]).await;
        let list = get(&setting, names::CLIENT, "/v2/models").await.json();
        assert_eq!(list, json!({ "models": ["evaluation", EXACT, PRIVATE] }));
        let mut sure = (0..64).filter(|row| setting.verdict(*row).certain);
        for row in [(); 3].map(|()| sure.next().unwrap()) {
            let values = setting.row(row);
            let told = infer(&setting, EXACT, &[], question(&values).to_string().as_bytes()).await.json();
            let label = told["outputs"][0]["data"][0].as_u64().unwrap();
            assert_eq!(label, setting.verdict(row).label as u64, "{told}");
            assert_eq!(told["outputs"][1]["data"][0], json!(format!("class {label}")));
            assert_eq!(told["parameters"]["noise_source"], "none");
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let json = json!({ "parameters": { "binary_data_output": true }, "inputs": [{ "name": "input",
                "datatype": "FP64", "shape": [1, values.len()], "parameters": { "binary_data_size": bytes.len() } }] });
            let json = json.to_string();
            let length = json.len().to_string();
            let body = [json.as_bytes(), &bytes].concat();
            let told = infer(&setting, EXACT, &[("inference-header-content-length", &length)], &body).await;
            assert!(told.head.contains("inference-header-content-length: "), "{}", told.head);
            let tail = &told.body[told.body.len() - 4 - 4 - 7..];
            assert_eq!(tail[..4], i32::try_from(label).unwrap().to_le_bytes());
            assert_eq!(tail[8..], *format!("class {label}").as_bytes());
        }
        let noisy =
            infer(&setting, PRIVATE, &[], question(&setting.row(0)).to_string().as_bytes()).await.json();
        assert_eq!(noisy["parameters"]["noise_source"], "software", "{noisy}");
        assert!(noisy["parameters"]["epsilon_charged"].as_f64().unwrap() > 0.0);
        let mut again = question(&setting.row(0));
        again["parameters"] = json!({ "release": noisy["parameters"]["release"] });
        let again = infer(&setting, PRIVATE, &[], again.to_string().as_bytes()).await.json();
        assert_eq!((&again["parameters"]["repeated"], &again["outputs"]), (&json!(true), &noisy["outputs"]));
        let metrics = get(&setting, names::ZERO, "/metrics").await;
        let metrics = String::from_utf8(metrics.body).unwrap();
        assert!(metrics.contains("consilium_queries_total{task=\"exact\",side=\"compute\"} 6"), "{metrics}");
        let metrics = String::from_utf8(get(&setting, names::CLIENT, "/metrics").await.body).unwrap();
        assert!(metrics.contains("consilium_queries_total{task=\"private\",side=\"client\"} 2"), "{metrics}");
    });
}

#[test]
fn readiness_follows_models_parties_and_budgets() {
    in_runtime(async {
        let mut setting = Setting::bare(crate::setting::scenario(), "info").await;
        let path = format!("/v2/models/{EXACT}/ready");
        let (client, zero) = (names::CLIENT, names::ZERO);
        assert_eq!(get(&setting, client, &path).await.status, 400);
        assert_eq!(get(&setting, zero, "/v2/health/ready").await.status, 400);
        let overview = get(&setting, client, "/api/overview").await.json();
        let reason = overview["outlooks"].to_string();
        assert!(reason.contains("of at least 3 owners are ready"), "{reason}");
        setting.publish_all(&[EXACT]).await;
        until(&setting, client, &path, 200).await;
        assert_eq!(get(&setting, client, "/v2/health/ready").await.status, 400, "two tasks have no models");
        setting.publish_all(&[PRIVATE, "evaluation"]).await;
        until(&setting, client, "/v2/health/ready", 200).await;
        until(&setting, zero, "/v2/health/ready", 200).await;
        setting.world.kill(names::ONE).unwrap();
        until(&setting, client, "/v2/health/ready", 400).await;
        let told = infer(&setting, EXACT, &[], question(&setting.row(0)).to_string().as_bytes()).await;
        assert!([503, 504].contains(&told.status) && !told.error().is_empty(), "{}", told.status);
        setting.revive(names::ONE).await;
        until(&setting, client, "/v2/health/ready", 200).await;
        for row in 0..setting.paid(PRIVATE) {
            let told =
                infer(&setting, PRIVATE, &[], question(&setting.row(row)).to_string().as_bytes()).await;
            assert_eq!(told.status, 200, "{}", String::from_utf8_lossy(&told.body));
        }
        until(&setting, client, &format!("/v2/models/{PRIVATE}/ready"), 400).await;
        let told = infer(&setting, PRIVATE, &[], question(&setting.row(0)).to_string().as_bytes()).await;
        assert_eq!(told.status, 403);
        assert!(told.error().contains("privacy budget") && told.head.contains("consilium-obstacle: budget"));
        let overview = get(&setting, zero, "/api/overview").await.json();
        let course =
            overview["courses"].as_array().unwrap().iter().find(|one| one["task"] == PRIVATE).unwrap();
        assert_eq!(course["points"].as_array().unwrap().last().unwrap()[1], 0, "{course}");
        assert_eq!(get(&setting, client, &path).await.status, 200, "the other task is as it was");
    });
}

#[test]
fn strangers_and_wrong_requests_are_turned_away_and_the_token_stays_secret() {
    in_runtime(async {
        let setting = Setting::published(&[EXACT]).await;
        let name = names::CLIENT;
        let secret = token(&setting, name);
        let wrong = format!("Bearer {}", token(&setting, names::ZERO));
        for (line, shown, status) in [
            ("GET /v2/models", None, 401),
            ("GET /v2/models", Some(wrong.as_str()), 401),
            ("GET /metrics", Some("Basic eDp5"), 401),
            ("GET /v2/health/live", None, 200),
            ("GET /", None, 200),
        ] {
            let headers: Vec<_> = shown.map(|value| ("authorization", value)).into_iter().collect();
            let told = send(&setting, name, line, &headers, b"").await;
            assert_eq!(told.status, status, "{line}");
            assert!(told.head.contains("content-security-policy: default-src 'none'"), "{}", told.head);
        }
        let long = vec![b' '; 9 << 20];
        let told = infer(&setting, EXACT, &[], &long).await;
        assert!(told.status == 413 && told.error().contains("body_bytes_max"));
        let bad =
            json!({ "inputs": [{ "name": "input", "datatype": "FP64", "shape": [1, 6], "data": [SECRET] }] });
        let told = infer(&setting, EXACT, &[], bad.to_string().as_bytes()).await;
        assert!(told.status == 400 && told.error().contains("has 6 values, not 1"));
        assert_eq!(infer(&setting, "nothing", &[], b"{}").await.status, 404);
        assert_eq!(get(&setting, names::ZERO, "/v2/models").await.json(), json!({ "models": [] }));
        for node in [names::CLIENT, names::ZERO, names::ONE] {
            let log = std::fs::read_to_string(setting.world.folder_of(node).join("log.txt")).unwrap();
            assert!(!log.contains(&secret) && !log.contains(&SECRET.to_string()), "{node}");
            let mode =
                std::fs::metadata(setting.world.folder_of(node).join("http.token")).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
        let log = std::fs::read_to_string(setting.world.folder_of(name).join("log.txt")).unwrap();
        assert_eq!(log.matches("had no token or a wrong one").count(), 1, "once an interval: {log}");
    });
}
