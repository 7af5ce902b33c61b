//! The weather and the fault rules that lie about a call's effect, as unmodified clients meet them.

use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use aws_sdk_ecs::error::ProvideErrorMetadata as _;

use super::*;

async fn in_weather(weather: Conditions) -> (Sandbox, aws_config::SdkConfig) {
    let settings = SandboxSettings { weather, ..SandboxSettings::default() };
    let sandbox = Sandbox::start(settings).await.expect("a free port");
    let config = client_config(sandbox.endpoint()).await;
    (sandbox, config)
}

async fn clusters(client: &aws_sdk_ecs::Client) -> usize {
    client.list_clusters().send().await.expect("a read").cluster_arns().len()
}

async fn make_cluster(client: &aws_sdk_ecs::Client, name: &str) {
    client.create_cluster().cluster_name(name).send().await.expect("a cluster");
}

#[tokio::test]
async fn a_stale_read_answers_with_a_version_within_its_bounds_and_the_present_one_after_them() {
    let stale = Conditions { stale_versions: 2, stale_millis: 60_000, ..Conditions::of(Profile::Calm) };
    let (sandbox, config) = in_weather(stale).await;
    let client = aws_sdk_ecs::Client::new(&config);
    for name in ["a", "b", "c", "d"] {
        make_cluster(&client, name).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        seen.insert(clusters(&client).await);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    let change = ConditionsChange { stale_millis: Some(0), ..ConditionsChange::default() };
    sandbox.change_weather(change).expect("possible");
    for _ in 0..20 {
        assert_eq!(clusters(&client).await, 4);
    }
}

#[tokio::test]
async fn an_observers_key_costs_no_tokens_and_a_rule_for_one_key_hits_nobody_else() {
    let calm = Conditions::of(Profile::Calm);
    let mine = vec!["AKIDTEST".to_owned()];
    let (sandbox, config) = in_weather(Conditions { throttling: true, observers: mine, ..calm }).await;
    let client = aws_sdk_ecs::Client::new(&config);
    let other =
        FaultRule { access_key: Some("AKIDOTHER".to_owned()), count: None, ..rule("*", Effect::Denied) };
    sandbox.arm(other).expect("room for a rule");
    // The burst of ListClusters is 50.
    for _ in 0..80 {
        assert_eq!(clusters(&client).await, 0);
    }
    let ours = FaultRule { access_key: Some("AKIDT*".to_owned()), ..rule("*", Effect::Denied) };
    sandbox.arm(ours).expect("room for a rule");
    let refused = client.list_clusters().send().await.expect_err("ordered");
    assert_eq!(refused.into_service_error().code(), Some("AccessDeniedException"));
}

#[tokio::test]
async fn a_rule_with_a_probability_hits_the_same_calls_in_every_run() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (sandbox, config) = sandbox().await;
        let client = aws_sdk_ecs::Client::new(&config);
        let half = rule("ListClusters", Effect::ServerError);
        sandbox
            .arm(FaultRule { count: None, per_mille: Some(500), seed: 4, ..half })
            .expect("room for a rule");
        let mut hit = Vec::new();
        for _ in 0..40 {
            hit.push(client.list_clusters().send().await.is_err());
        }
        runs.push(hit);
    }
    assert_eq!(runs[0], runs[1]);
    let hits = runs[0].iter().filter(|hit| **hit).count();
    assert!((10..=30).contains(&hits), "{hits} of 40 at a half");
}

#[tokio::test]
async fn a_call_whose_client_was_cut_off_still_takes_effect_later() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_ecs::Client::new(&config);
    let late = Effect::LateEffect { millis: 300, client: faults::LateClient::Reset };
    sandbox.arm(rule("CreateCluster", late)).expect("room for a rule");
    client.create_cluster().cluster_name("late").send().await.expect_err("cut off");
    assert_eq!(clusters(&client).await, 0, "not yet");
    let mut found = 0;
    for _ in 0..100 {
        found = clusters(&client).await;
        if found == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(found, 1);
    let calls = sandbox.calls(0);
    let record = calls.iter().find(|call| call.operation == "CreateCluster").expect("a record");
    assert_eq!((record.result.as_deref(), record.faults.as_slice()), (Some("OK"), ["lateEffect"].as_slice()));
}

#[tokio::test]
async fn half_an_answer_is_no_answer_although_the_call_took_effect() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_ecs::Client::new(&config);
    sandbox.arm(rule("CreateCluster", Effect::Malformed)).expect("room for a rule");
    client.create_cluster().cluster_name("half").send().await.expect_err("half an answer");
    assert_eq!(clusters(&client).await, 1);
}

#[tokio::test]
async fn a_transaction_conflict_has_the_error_that_each_kind_of_write_gets() {
    let (sandbox, config) = sandbox().await;
    let client = aws_sdk_dynamodb::Client::new(&config);
    records_table(&client).await;
    sandbox.arm(rule("PutItem", Effect::TransactionConflict)).expect("room for a rule");
    let refused = put_once(&client).send().await.expect_err("ordered").into_service_error();
    assert!(matches!(refused, PutItemError::TransactionConflictException(_)), "{refused:?}");

    sandbox.arm(rule("TransactWriteItems", Effect::TransactionConflict)).expect("room for a rule");
    let put = |pk: &str| {
        let put = Put::builder().table_name("records").item("pk", AttributeValue::S(pk.to_owned())).build();
        TransactWriteItem::builder().put(put.unwrap()).build()
    };
    let write = client.transact_write_items().transact_items(put("a")).transact_items(put("b"));
    let refused = write.send().await.expect_err("ordered").into_service_error();
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = refused else {
        panic!("{refused:?}")
    };
    let reasons: Vec<_> =
        cancelled.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect();
    assert_eq!(reasons, ["TransactionConflict", "None"]);
}
