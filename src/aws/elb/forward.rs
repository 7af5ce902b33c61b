//! Action lists: reading our pair's weights out of them, and splicing two integers into them.
//!
//! `ModifyRule` and `ModifyListener` replace a whole list and have no precondition (`aws-facts.md` §2), so the
//! list goes back exactly as it came, but for the two weights.

use aws_sdk_elasticloadbalancingv2::types::{Action, ActionTypeEnum, ForwardActionConfig};

use crate::model::Shares;
use crate::model::effect::RefusalClass;
use crate::model::observed::{ForwardAction, Weights};
use crate::records::names::{Arn, PerGroup};
use crate::records::{Group, Span};

/// ELB gives a lone target group this weight when none is said.
const DEFAULT_WEIGHT: u32 = 1;

/// Why a list is not rewritten.
pub type Refused = (RefusalClass, String);

/// Where the pair stands in a list.
struct Pair {
    action: usize,
    a: usize,
    b: usize,
    shares: Shares,
}

/// The weights of our pair in this list.
pub fn weights(actions: &[Action], groups: &PerGroup<Arn>) -> Weights {
    match find_pair(actions, groups) {
        Ok(pair) => Weights::Pair(pair.shares),
        Err(what) => Weights::NotOurPair(what),
    }
}

/// The target groups of one action with their weights, in order. For a lone group ELB answers
/// `TargetGroupArn`, `ForwardConfig` or both; they then say the same.
fn forward_groups(action: &Action) -> Vec<(String, u32)> {
    let config = action.forward_config().map(ForwardActionConfig::target_groups).unwrap_or_default();
    if config.is_empty() {
        return action.target_group_arn().map(|arn| (arn.to_owned(), DEFAULT_WEIGHT)).into_iter().collect();
    }
    // A weight that cannot be read must not pass for zero: zero is what allows a delete.
    let weight = |weight: Option<i32>| weight.map_or(DEFAULT_WEIGHT, |it| u32::try_from(it).unwrap_or(1));
    config
        .iter()
        .map(|group| (group.target_group_arn().unwrap_or_default().to_owned(), weight(group.weight())))
        .collect()
}

fn find_pair(actions: &[Action], groups: &PerGroup<Arn>) -> Result<Pair, String> {
    let mut forwards = actions.iter().enumerate().filter_map(|(at, action)| {
        let groups = forward_groups(action);
        (!groups.is_empty()).then_some((at, groups))
    });
    let (action, live) = forwards.next().ok_or_else(|| format!("no forward action: {}", kinds(actions)))?;
    if forwards.next().is_some() {
        return Err("several forward actions".to_owned());
    }
    let index = |group: Group| live.iter().position(|(arn, _)| groups.group_of(arn) == Some(group));
    match (index(Group::A), index(Group::B), live.len()) {
        (Some(a), Some(b), 2) => Ok(Pair { action, a, b, shares: Shares { a: live[a].1, b: live[b].1 } }),
        _ => Err(format!("forwards to {}", told(&live))),
    }
}

fn told(groups: &[(String, u32)]) -> String {
    let each = |(arn, weight): &(String, u32)| {
        // `targetgroup/<name>/<id>`: the name is what people know.
        let name = arn.rsplit('/').nth(1).unwrap_or(arn);
        format!("{name} at {weight}")
    };
    groups.iter().map(each).collect::<Vec<_>>().join(", ")
}

fn kinds(actions: &[Action]) -> String {
    let kinds = actions.iter().map(|action| action.r#type().map_or("no type", ActionTypeEnum::as_str));
    kinds.collect::<Vec<_>>().join(", ")
}

/// The first action type that this build's SDK does not know: what such an action holds was dropped in
/// reading, and writing it back would lose it.
fn unknown_action(actions: &[Action]) -> Option<String> {
    let names = actions.iter().map(|action| action.r#type().map_or("none", ActionTypeEnum::as_str));
    names.into_iter().find(|name| !ActionTypeEnum::values().contains(name)).map(str::to_owned)
}

/// An OIDC action whose settings were not in the answer. With them, `UseExistingClientSecret` keeps the secret
/// that AWS never tells (`semantics` 5.2).
fn oidc_lost(actions: &[Action]) -> bool {
    let oidc = |action: &&Action| action.r#type() == Some(&ActionTypeEnum::AuthenticateOidc);
    actions.iter().filter(oidc).any(|action| action.authenticate_oidc_config().is_none())
}

/// `actions` with the pair's weights as `shares` and everything else untouched.
pub fn splice(
    mut actions: Vec<Action>,
    groups: &PerGroup<Arn>,
    shares: Shares,
    expect: Option<Shares>,
) -> Result<Vec<Action>, Refused> {
    if let Some(name) = unknown_action(&actions) {
        let message = format!("the action type {name} is unknown to this version; the list is left alone");
        return Err((RefusalClass::Permanent, message));
    }
    if oidc_lost(&actions) {
        let message = "an OIDC action without its settings cannot be written back".to_owned();
        return Err((RefusalClass::Permanent, message));
    }
    let pair = find_pair(&actions, groups).map_err(|what| (RefusalClass::Conflict, what))?;
    if let Some(expect) = expect.filter(|expect| !expect.same_ratio(pair.shares)) {
        let Shares { a, b } = pair.shares;
        let message = format!(
            "somebody else moved the weights: a {a} / b {b} instead of a {} / b {}",
            expect.a, expect.b
        );
        return Err((RefusalClass::Conflict, message));
    }
    let weight = |share: u32| {
        let refused = |_| (RefusalClass::Permanent, format!("{share} is not a weight"));
        i32::try_from(share).map_err(refused)
    };
    let (a, b) = (weight(shares.a)?, weight(shares.b)?);
    for action in &mut actions {
        if let Some(oidc) = &mut action.authenticate_oidc_config {
            oidc.use_existing_client_secret = Some(true);
            oidc.client_secret = None;
        }
    }
    let action = &mut actions[pair.action];
    // Together with two groups in `ForwardConfig` ELB refuses it.
    action.target_group_arn = None;
    let config = action.forward_config.as_mut().and_then(|config| config.target_groups.as_mut());
    if let Some(config) = config {
        config[pair.a].weight = Some(a);
        config[pair.b].weight = Some(b);
    }
    Ok(actions)
}

/// The list as the load balancer's reader tells it.
pub fn told_of(owner: &str, load_balancer: &str, actions: &[Action]) -> ForwardAction {
    let sticky = actions.iter().find_map(|action| {
        let config = action.forward_config()?.target_group_stickiness_config()?;
        let seconds = u64::try_from(config.duration_seconds().unwrap_or(0)).unwrap_or(0);
        config.enabled().unwrap_or(false).then(|| Span::from_secs(seconds))
    });
    ForwardAction {
        owner: owner.to_owned(),
        load_balancer: load_balancer.to_owned(),
        groups: actions.iter().flat_map(forward_groups).collect(),
        sticky,
        unknown_action: unknown_action(actions),
        oidc: oidc_lost(actions),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_elasticloadbalancingv2::types::{
        AuthenticateOidcActionConfig, TargetGroupStickinessConfig, TargetGroupTuple,
    };

    use super::*;

    const A: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/shop-a/aaaaaaaaaaaaaaaa";
    const B: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/shop-b/bbbbbbbbbbbbbbbb";
    const C: &str =
        "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/cart/cccccccccccccccc";

    fn groups() -> PerGroup<Arn> {
        PerGroup { a: A.parse().unwrap(), b: B.parse().unwrap() }
    }

    fn forward(order: i32, groups: &[(&str, i32)]) -> Action {
        let tuples = groups
            .iter()
            .map(|(arn, weight)| TargetGroupTuple::builder().target_group_arn(*arn).weight(*weight).build());
        let sticky = TargetGroupStickinessConfig::builder().enabled(true).duration_seconds(3600).build();
        let config = ForwardActionConfig::builder()
            .set_target_groups(Some(tuples.collect()))
            .target_group_stickiness_config(sticky);
        Action::builder().r#type(ActionTypeEnum::Forward).order(order).forward_config(config.build()).build()
    }

    fn oidc(order: i32) -> Action {
        let config = AuthenticateOidcActionConfig::builder()
            .issuer("https://id.example.com")
            .authorization_endpoint("https://id.example.com/auth")
            .token_endpoint("https://id.example.com/token")
            .user_info_endpoint("https://id.example.com/user")
            .client_id("shop")
            .session_timeout(600)
            .authentication_request_extra_params("prompt", "login")
            .build();
        Action::builder()
            .r#type(ActionTypeEnum::AuthenticateOidc)
            .order(order)
            .authenticate_oidc_config(config)
            .build()
    }

    #[test]
    fn exactly_two_integers_change_and_the_order_of_groups_stays() {
        let list = vec![forward(1, &[(B, 0), (A, 100)])];
        let written =
            splice(list, &groups(), Shares { a: 900, b: 100 }, Some(Shares { a: 1, b: 0 })).unwrap();
        assert_eq!(written, vec![forward(1, &[(B, 100), (A, 900)])]);
    }

    #[test]
    fn an_oidc_action_is_written_back_whole_with_its_secret_kept_by_aws() {
        let list = vec![oidc(1), forward(2, &[(A, 1), (B, 0)])];
        let written = splice(list, &groups(), Shares { a: 0, b: 100 }, None).unwrap();
        let mut expected = vec![oidc(1), forward(2, &[(A, 0), (B, 100)])];
        expected[0].authenticate_oidc_config.as_mut().unwrap().use_existing_client_secret = Some(true);
        assert_eq!(written, expected);
    }

    #[test]
    fn a_list_with_an_action_that_the_sdk_does_not_know_is_left_alone() {
        let unknown = Action::builder().r#type(ActionTypeEnum::from("authenticate-star")).build();
        let list = vec![unknown, forward(2, &[(A, 1), (B, 0)])];
        assert_eq!(told_of("o", "l", &list).unknown_action.as_deref(), Some("authenticate-star"));
        let (class, _) = splice(list, &groups(), Shares { a: 0, b: 100 }, None).unwrap_err();
        assert_eq!(class, RefusalClass::Permanent);
    }

    #[test]
    fn weights_that_somebody_else_moved_are_a_conflict_unless_nothing_is_expected() {
        let list = vec![forward(1, &[(A, 70), (B, 30)])];
        let expect = Some(Shares { a: 90, b: 10 });
        let (class, message) =
            splice(list.clone(), &groups(), Shares { a: 800, b: 200 }, expect).unwrap_err();
        assert_eq!(class, RefusalClass::Conflict);
        assert!(message.contains("a 70 / b 30"), "{message}");
        assert!(
            splice(list.clone(), &groups(), Shares { a: 800, b: 200 }, Some(Shares { a: 7, b: 3 })).is_ok()
        );
        assert!(splice(list, &groups(), Shares { a: 100, b: 0 }, None).is_ok());
    }

    #[test]
    fn anything_but_both_groups_alone_is_not_our_pair_and_never_written() {
        let lone = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(A);
        let config = ForwardActionConfig::builder()
            .target_groups(TargetGroupTuple::builder().target_group_arn(A).weight(1).build());
        let both = lone.clone().forward_config(config.build()).build();
        let lone = lone.build();
        for list in [
            vec![],
            vec![lone.clone()],
            vec![both.clone()],
            vec![forward(1, &[(A, 1)])],
            vec![forward(1, &[(A, 1), (C, 1)])],
            vec![forward(1, &[(A, 1), (A, 1)])],
            vec![forward(1, &[(A, 1), (B, 1), (C, 0)])],
            vec![Action::builder().r#type(ActionTypeEnum::Redirect).build()],
        ] {
            assert!(matches!(weights(&list, &groups()), Weights::NotOurPair(_)), "{list:?}");
            let (class, _) = splice(list, &groups(), Shares { a: 100, b: 0 }, None).unwrap_err();
            assert_eq!(class, RefusalClass::Conflict);
        }
        assert_eq!(told_of("o", "l", &[both]).groups, [(A.to_owned(), 1)]);
        assert_eq!(told_of("o", "l", &[lone]).groups, [(A.to_owned(), 1)]);
    }

    #[test]
    fn stickiness_is_told_when_it_is_enabled() {
        let mut list = vec![forward(1, &[(A, 1), (B, 0)])];
        assert_eq!(told_of("o", "l", &list).sticky, Some(Span::from_mins(60)));
        let config = list[0].forward_config.as_mut().unwrap();
        config.target_group_stickiness_config.as_mut().unwrap().enabled = Some(false);
        assert_eq!(told_of("o", "l", &list).sticky, None);
    }
}
