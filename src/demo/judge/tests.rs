use super::*;

const PROPAGATION: Span = Span::from_secs(1);

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

fn write(sent: i64, acknowledged: i64, a: u32, b: u32) -> Write {
    Write { sent: at(sent), acknowledged: at(acknowledged), weights: PerGroup { a, b } }
}

fn placed(revision: &str, group: Group, from: i64) -> Placement {
    Placement { revision: revision.to_owned(), group, from: at(from), until: None }
}

/// v1 serves in `a`; v2 comes to `b`, gets 10 %, and loses it again.
fn canary_and_back() -> (Vec<Write>, Vec<Placement>) {
    let writes = vec![write(0, 10, 1, 0), write(10_000, 10_010, 900, 100), write(20_000, 20_010, 1, 0)];
    (writes, vec![placed("web:1", Group::A, 0), placed("web:2", Group::B, 5_000)])
}

fn answered(started: i64, ended: i64, status: u16, revision: Option<&str>) -> Request {
    let answer = Answer { status, revision: revision.map(Arc::from) };
    Request { started: at(started), ended: at(ended), answer: Ok(answer), fresh: false }
}

fn by(revision: &str, started: i64, ended: i64) -> Request {
    answered(started, ended, 200, Some(revision))
}

fn leaks(requests: &[Request]) -> u32 {
    let (writes, placements) = canary_and_back();
    judge(requests, &writes, &placements, PROPAGATION).leaked
}

#[test]
fn an_answer_after_weight_was_taken_away_and_propagated_is_a_leak() {
    assert_eq!(leaks(&[by("web:2", 21_011, 21_020)]), 1);
    assert_eq!(leaks(&[by("web:1", 21_011, 21_020)]), 0);
}

#[test]
fn an_answer_before_the_revision_ever_had_weight_is_a_leak() {
    assert_eq!(leaks(&[by("web:2", 6_000, 6_010)]), 1);
}

#[test]
fn until_propagation_has_passed_either_weights_may_decide() {
    assert_eq!(leaks(&[by("web:2", 20_005, 20_015), by("web:2", 21_010, 21_020)]), 0);
}

#[test]
fn a_slow_request_that_ends_after_weight_was_given_is_no_leak() {
    assert_eq!(leaks(&[by("web:2", 9_000, 10_000)]), 0);
    assert_eq!(leaks(&[by("web:2", 9_000, 9_999)]), 1);
}

#[test]
fn a_slow_request_that_began_at_zero_and_ended_at_zero_is_a_leak_whatever_was_written_between() {
    let (mut writes, placements) = canary_and_back();
    writes.push(write(30_000, 30_010, 100, 0));
    let slow = by("web:2", 22_000, 30_005);
    assert_eq!(judge(&[slow], &writes, &placements, PROPAGATION).leaked, 1);
}

#[test]
fn a_group_that_gets_weight_for_its_next_task_set_does_not_excuse_the_one_before() {
    let (mut writes, mut placements) = canary_and_back();
    placements[1].until = Some(at(25_000));
    placements.push(placed("web:3", Group::B, 26_000));
    writes.push(write(30_000, 30_010, 900, 100));
    let requests = [by("web:2", 32_000, 32_010), by("web:3", 32_000, 32_010)];
    assert_eq!(judge(&requests, &writes, &placements, PROPAGATION).leaked, 1);
}

#[test]
fn one_leak_in_a_thousand_requests_is_found() {
    let requests: Vec<Request> = (0..1_000)
        .map(|n| by(if n == 500 { "web:2" } else { "web:1" }, 22_000 + n * 4, 22_003 + n * 4))
        .collect();
    let (writes, placements) = canary_and_back();
    let verdict = judge(&requests, &writes, &placements, PROPAGATION);
    assert_eq!((verdict.requests, verdict.judged, verdict.leaked), (1_000, 1_000, 1));
    assert_eq!(verdict.first_leak, Some((at(24_000), "web:2".to_owned())));
}

#[test]
fn failed_is_what_no_version_of_the_app_answered() {
    let (writes, placements) = canary_and_back();
    let broken = Request { answer: Err("connection reset".to_owned()), ..by("web:1", 3_000, 3_001) };
    let requests = [
        broken,
        answered(3_010, 3_011, 503, None),
        answered(3_020, 3_021, 404, None),
        answered(3_030, 3_031, 500, Some("web:1")),
        answered(3_040, 3_041, 404, Some("web:1")),
        answered(3_050, 3_051, 200, None),
    ];
    let verdict = judge(&requests, &writes, &placements, PROPAGATION);
    assert_eq!(verdict.failed, 3);
    assert_eq!(verdict.first_failure, Some((at(3_000), "connection reset".to_owned())));
    assert_eq!(verdict.answered["web:1"], Answered { answers: 2, bad: 1 });
}

#[test]
fn a_revision_that_nobody_released_is_a_stranger() {
    let (writes, placements) = canary_and_back();
    let verdict = judge(&[by("web:9", 3_000, 3_001)], &writes, &placements, PROPAGATION);
    assert_eq!((verdict.strangers, verdict.leaked), (1, 0));
}

/// 900 requests within the canary, every `n`th by the new version, and some at its edges.
fn canary_with_every(n: i64) -> Share {
    let revision = |place: i64| if place % n == 0 { "web:2" } else { "web:1" };
    let mut requests: Vec<Request> =
        (0..900).map(|place| by(revision(place), 11_011 + place * 9, 11_015 + place * 9)).collect();
    // Either weights may have decided these: they count for neither.
    requests.push(by("web:2", 10_500, 10_501));
    requests.push(by("web:2", 19_999, 20_000));
    let (writes, placements) = canary_and_back();
    let mut shares = judge(&requests, &writes, &placements, PROPAGATION).shares;
    assert_eq!(shares.len(), 1, "one write splits the traffic");
    shares.remove(0)
}

#[test]
fn a_share_is_held_against_its_weight_in_standard_deviations() {
    let fair = canary_with_every(10);
    assert_eq!((fair.revision.as_str(), fair.requests, fair.answered), ("web:2", 900, 90));
    assert!(fair.enough && fair.fits() && fair.sigmas.abs() < 0.01, "{fair:?}");
    let twice = canary_with_every(5);
    assert!(!twice.fits() && twice.sigmas > 9.0, "{twice:?}");
}

#[test]
fn few_requests_say_nothing_about_a_share() {
    let (writes, placements) = canary_and_back();
    let requests: Vec<Request> = (0..50).map(|n| by("web:2", 12_000 + n, 12_001 + n)).collect();
    let verdict = judge(&requests, &writes, &placements, PROPAGATION);
    assert!(!verdict.shares[0].enough && verdict.shares[0].fits());
}
