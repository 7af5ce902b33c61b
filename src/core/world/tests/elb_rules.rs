//! What rules may say: conditions within AWS's limits, fixed responses and redirects.

use serde_json::{Value, json};

use super::elb::refused;
use super::{Scene, text};
use crate::world::{Condition, RegexSubject, RouteTarget};

fn conditions(scene: &Scene, conditions: &Value) -> Value {
    json!({ "RuleArn": scene.rule, "Conditions": conditions })
}

fn path(values: &[&str]) -> Value {
    json!({ "Field": "path-pattern", "PathPatternConfig": { "Values": values } })
}

#[test]
fn conditions_end_at_three_values_each_five_values_and_five_wildcards_together() {
    let mut scene = Scene::new();
    let header = |name: &str, values: &[&str]| json!({ "Field": "http-header", "HttpHeaderConfig": { "HttpHeaderName": name, "Values": values } });
    let long = "x".repeat(129);
    let good = [
        json!([path(&["/a", "/b", "/c"]), header("x", &["1", "2"])]),
        json!([path(&["/*/*/*/??"])]),
        json!([path(&[r"/\*\*\*\*\*\?"])]),
        json!([{ "Field": "source-ip", "SourceIpConfig": { "Values":
            ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "2001:db8::/32"] } }]),
    ];
    for given in good {
        scene.elb("ModifyRule", conditions(&scene, &given));
    }
    let bad = [
        json!([path(&["/a", "/b", "/c", "/d"])]),
        json!([path(&["/a", "/b", "/c"]), header("x", &["1", "2", "3"])]),
        json!([path(&["/*/*/*/???"])]),
        json!([path(&[&long])]),
        json!([header("host", &["a.example"])]),
        json!([header(&"n".repeat(41), &["a"])]),
        json!([{ "Field": "http-request-method", "HttpRequestMethodConfig": { "Values": ["get"] } }]),
        json!([{ "Field": "source-ip", "SourceIpConfig": { "Values": ["10.0.0.1"] } }]),
        json!([{ "Field": "host-header", "HostHeaderConfig": { "Values": ["localhost"] } }]),
    ];
    for given in bad {
        let input = conditions(&scene, &given);
        assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError", "{given}");
    }
}

#[test]
fn a_condition_has_values_or_regular_expressions_that_compile() {
    let mut scene = Scene::new();
    let given = json!([{ "Field": "path-pattern", "PathPatternConfig": { "RegexValues": ["^/v[12]/"] } }]);
    let changed = scene.elb("ModifyRule", conditions(&scene, &given));
    let echoed = &changed["Rules"][0]["Conditions"][0];
    assert_eq!(echoed["PathPatternConfig"]["RegexValues"], json!(["^/v[12]/"]));
    assert!(echoed.get("Values").is_none(), "{echoed}");
    let routed = scene.region.routing().listeners[0].rules[0].conditions.clone();
    assert_eq!(routed, [Condition::Regex(RegexSubject::Path, vec!["^/v[12]/".to_owned()])]);
    for config in [
        json!({ "RegexValues": ["a"], "Values": ["/b"] }),
        json!({ "RegexValues": ["("] }),
        json!({ "RegexValues": ["(?=ahead)"] }),
        json!({ "RegexValues": [r"(a)\1"] }),
        json!({ "RegexValues": [r"\p{L}"] }),
    ] {
        let input = conditions(&scene, &json!([{ "Field": "path-pattern", "PathPatternConfig": config }]));
        assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError", "{config}");
    }
    let short = json!([{ "Field": "host-header", "RegexValues": ["^a"] }]);
    scene.elb("ModifyRule", conditions(&scene, &short));
    let query = json!([{ "Field": "query-string", "QueryStringConfig": { "RegexValues": ["a"] } }]);
    let input = conditions(&scene, &query);
    assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError");
}

#[test]
fn a_fixed_response_has_a_status_a_body_and_a_content_type_that_aws_knows() {
    let mut scene = Scene::new();
    let answer = |config: Value| json!([{ "Type": "fixed-response", "FixedResponseConfig": config }]);
    for config in [
        json!({}),
        json!({ "StatusCode": "302" }),
        json!({ "StatusCode": "42" }),
        json!({ "StatusCode": "200", "ContentType": "image/png" }),
        json!({ "StatusCode": "200", "MessageBody": "x".repeat(1025) }),
    ] {
        let input = json!({ "RuleArn": scene.rule, "Actions": answer(config.clone()) });
        assert_eq!(refused(&mut scene, "ModifyRule", input), "ValidationError", "{config}");
    }
    let config = json!({ "StatusCode": "503", "ContentType": "application/json", "MessageBody": "{}" });
    scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Actions": answer(config) }));
}

#[test]
fn a_redirect_is_given_back_whole_and_one_that_changes_nothing_is_refused() {
    let mut scene = Scene::new();
    let redirect = |config: Value| json!([{ "Type": "redirect", "RedirectConfig": config }]);
    for (config, code) in [
        (json!({ "StatusCode": "HTTP_301" }), "InvalidLoadBalancerAction"),
        (json!({ "StatusCode": "HTTP_301", "Query": "a=b" }), "InvalidLoadBalancerAction"),
        (json!({ "Path": "/new" }), "ValidationError"),
        (json!({ "StatusCode": "HTTP_307", "Path": "/new" }), "ValidationError"),
        (json!({ "StatusCode": "HTTP_302", "Path": "new" }), "ValidationError"),
        (json!({ "StatusCode": "HTTP_302", "Port": "0" }), "ValidationError"),
        (json!({ "StatusCode": "HTTP_302", "Protocol": "ftp" }), "ValidationError"),
        (json!({ "StatusCode": "HTTP_302", "Path": "/a", "Query": "?a" }), "ValidationError"),
    ] {
        let input = json!({ "RuleArn": scene.rule, "Actions": redirect(config.clone()) });
        assert_eq!(refused(&mut scene, "ModifyRule", input), code, "{config}");
    }
    let config = json!({ "StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443" });
    let changed = scene.elb("ModifyRule", json!({ "RuleArn": scene.rule, "Actions": redirect(config) }));
    let whole = json!({ "StatusCode": "HTTP_301", "Protocol": "HTTPS", "Port": "443", "Host": "#{host}",
        "Path": "/#{path}", "Query": "#{query}" });
    assert_eq!(changed["Rules"][0]["Actions"][0]["RedirectConfig"], whole);
    let RouteTarget::Redirect { status, location } =
        scene.region.routing().listeners[0].rules[0].target.clone()
    else {
        panic!("a redirect");
    };
    assert_eq!((status, location.as_str()), (301, "https://#{host}:443/#{path}?#{query}"));
}

#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let mut scene = Scene::new();
    let config = json!({ "StatusCode": "HTTP_301", "Protocol": "HTTP" });
    let actions = json!([{ "Type": "redirect", "RedirectConfig": config }]);
    let input = json!({ "LoadBalancerArn": scene.load_balancer, "Protocol": "HTTPS", "Port": 443,
        "DefaultActions": actions });
    assert_eq!(refused(&mut scene, "CreateListener", input.clone()), "InvalidLoadBalancerAction");
    let mut plain = input;
    plain["Protocol"] = json!("HTTP");
    let listener = text(&scene.elb("CreateListener", plain)["Listeners"][0]["ListenerArn"]);
    let secured = json!({ "ListenerArn": listener, "Protocol": "HTTPS" });
    assert_eq!(refused(&mut scene, "ModifyListener", secured), "InvalidLoadBalancerAction");
}
