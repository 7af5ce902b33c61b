use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn spec(name: &str, kind: AlarmKind) -> AlarmSpec {
    AlarmSpec {
        name: name.to_owned(),
        description: None,
        actions_enabled: true,
        ok_actions: vec![],
        alarm_actions: vec![],
        insufficient_data_actions: vec![],
        kind,
    }
}

fn metric(name: &str) -> AlarmSpec {
    let stat = MetricStat {
        namespace: "Shop".to_owned(),
        metric: "Errors".to_owned(),
        dimensions: BTreeMap::new(),
        period_secs: 60,
        stat: "Sum".to_owned(),
        unit: None,
    };
    spec(
        name,
        AlarmKind::Metric(MetricCondition {
            watched: Watched::Metric(stat),
            evaluation_periods: 1,
            datapoints_to_alarm: None,
            threshold: "5".to_owned(),
            comparison: Comparison::Greater,
            treat_missing: None,
        }),
    )
}

fn composite(name: &str, rule: &str) -> AlarmSpec {
    spec(name, AlarmKind::Composite { rule: Rule::parse(rule).unwrap(), suppressor: None })
}

fn alarms(specs: Vec<AlarmSpec>) -> Alarms {
    let mut alarms = Alarms::default();
    for spec in specs {
        alarms.put(at(0), spec).unwrap();
    }
    alarms
}

fn state(alarms: &Alarms, name: &str) -> AlarmState {
    alarms.get(name).unwrap().state
}

#[test]
fn a_new_metric_alarm_has_insufficient_data_and_an_update_leaves_its_state() {
    let mut alarms = alarms(vec![metric("errors")]);
    assert_eq!(state(&alarms, "errors"), AlarmState::InsufficientData);
    alarms.transition(at(1), "errors", AlarmState::Alarm, "test", None).unwrap();
    alarms.put(at(2), metric("errors")).unwrap();
    let alarm = alarms.get("errors").unwrap();
    assert_eq!((alarm.state, alarm.configured_at, alarm.transitioned_at), (AlarmState::Alarm, at(2), at(1)));
}

#[test]
fn only_a_real_change_moves_the_transition_time_and_leaves_a_history_item() {
    let mut alarms = alarms(vec![metric("errors")]);
    assert!(alarms.transition(at(1), "errors", AlarmState::Alarm, "first", None).unwrap());
    assert!(!alarms.transition(at(2), "errors", AlarmState::Alarm, "second", Some("{}")).unwrap());
    let alarm = alarms.get("errors").unwrap();
    assert_eq!((alarm.transitioned_at, alarm.updated_at), (at(1), at(2)));
    assert_eq!((alarm.reason.as_str(), alarm.reason_data.as_deref()), ("second", Some("{}")));
    let changes: Vec<_> = alarms.history("errors").map(|item| (item.at, &item.event)).collect();
    assert!(matches!(
        changes[..],
        [
            (_, HistoryEvent::Configuration { change: ConfigurationChange::Created }),
            (_, HistoryEvent::State { from: AlarmState::InsufficientData, to: AlarmState::Alarm, .. })
        ]
    ));
}

#[test]
fn a_composite_follows_its_children_at_once_and_through_every_level() {
    let mut alarms = alarms(vec![
        metric("a"),
        metric("b"),
        composite("either", "ALARM(a) OR ALARM(b)"),
        composite("top", "ALARM(either) AND NOT OK(b)"),
    ]);
    assert_eq!(state(&alarms, "top"), AlarmState::Ok);
    alarms.transition(at(1), "a", AlarmState::Alarm, "test", None).unwrap();
    assert_eq!((state(&alarms, "either"), state(&alarms, "top")), (AlarmState::Alarm, AlarmState::Alarm));
    alarms.transition(at(2), "b", AlarmState::Ok, "test", None).unwrap();
    assert_eq!((state(&alarms, "either"), state(&alarms, "top")), (AlarmState::Alarm, AlarmState::Ok));
}

#[test]
fn a_composite_that_was_set_by_hand_returns_only_when_a_child_changes() {
    let mut alarms = alarms(vec![metric("a"), composite("top", "ALARM(a)")]);
    alarms.transition(at(1), "top", AlarmState::Alarm, "by hand", None).unwrap();
    alarms.transition(at(2), "a", AlarmState::InsufficientData, "no change", None).unwrap();
    assert_eq!(state(&alarms, "top"), AlarmState::Alarm);
    alarms.transition(at(3), "a", AlarmState::Ok, "a change", None).unwrap();
    assert_eq!(state(&alarms, "top"), AlarmState::Ok);
}

#[test]
fn a_cycle_of_composites_that_never_settles_ends() {
    let mut alarms = alarms(vec![metric("a"), composite("x", "ALARM(a)"), composite("y", "ALARM(x)")]);
    alarms.put(at(1), composite("x", "NOT ALARM(y)")).unwrap();
    assert!(alarms.history("x").count() <= 2 * EVALUATIONS_PER_CHANGE_MAX);
}

#[test]
fn a_composite_needs_existing_children_and_keeps_them_from_deletion() {
    let mut alarms = alarms(vec![metric("a")]);
    let refused = alarms.put(at(1), composite("top", "ALARM(a) OR OK(b)")).unwrap_err();
    assert_eq!(refused, AlarmError::MissingChildren { missing: vec!["b".to_owned()] });
    alarms.put(at(1), composite("top", "ALARM(a)")).unwrap();
    let refused = alarms.delete(at(2), &["a".to_owned()]).unwrap_err();
    assert_eq!(refused, AlarmError::InUse { name: "a".to_owned(), parent: "top".to_owned() });
    alarms.delete(at(2), &["a".to_owned(), "top".to_owned()]).unwrap();
    assert_eq!(alarms.states().count(), 0);
}

#[test]
fn metric_and_composite_alarms_share_their_names() {
    let mut alarms = alarms(vec![metric("a"), metric("b")]);
    let refused = alarms.put(at(1), composite("b", "ALARM(a)")).unwrap_err();
    assert_eq!(refused, AlarmError::OtherType { name: "b".to_owned() });
}

#[test]
fn unknown_alarms_cannot_change_their_state_but_may_be_deleted() {
    let mut alarms = alarms(vec![metric("a")]);
    let refused = alarms.transition(at(1), "A", AlarmState::Ok, "names are case-sensitive", None);
    assert_eq!(refused, Err(AlarmError::Unknown { name: "A".to_owned() }));
    alarms.delete(at(1), &["A".to_owned(), "a".to_owned()]).unwrap();
    assert!(alarms.get("a").is_none());
}

#[test]
fn history_is_bounded_and_outlives_its_alarm() {
    let mut alarms = alarms(vec![metric("a")]);
    for second in 0..2_000 {
        let state = if second % 2 == 0 { AlarmState::Alarm } else { AlarmState::Ok };
        alarms.transition(at(second), "a", state, "flap", None).unwrap();
    }
    assert_eq!(alarms.history("a").count(), HISTORY_MAX);
    alarms.delete(at(2_000), &["a".to_owned()]).unwrap();
    let last = alarms.history("a").next_back().unwrap();
    assert_eq!(last.event, HistoryEvent::Configuration { change: ConfigurationChange::Deleted });
    for number in 0..=DELETED_HISTORIES_MAX {
        let name = format!("b{number}");
        alarms.put(at(3_000), metric(&name)).unwrap();
        alarms.delete(at(3_000), &[name]).unwrap();
    }
    assert_eq!(alarms.history("a").count(), 0);
    assert_eq!(alarms.history_names().count(), DELETED_HISTORIES_MAX);
}
