//! A sandbox with a state file that stops and starts again.

use super::*;

async fn start(state: &std::path::Path) -> Result<Sandbox, SandboxError> {
    let state = Some(state.to_owned());
    Sandbox::start(SandboxSettings { speed: 20, state, ..SandboxSettings::default() }).await
}

#[tokio::test]
async fn a_region_is_there_again_after_a_restart_and_serves_its_traffic() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("region.json");
    let sandbox = start(&state).await.unwrap();
    let config = client_config(sandbox.endpoint()).await;
    let (ecs, elb) = (aws_sdk_ecs::Client::new(&config), elb::Client::new(&config));
    let (cloudwatch, tables) =
        (aws_sdk_cloudwatch::Client::new(&config), aws_sdk_dynamodb::Client::new(&config));
    let alb = alb(&elb).await;
    external_service(&ecs).await;
    let set = task_set(&ecs, "web:1", &alb.blue, 100.0).await;
    steady(&ecs, &set).await;
    let old = ecs.list_tasks().cluster("shop").service_name("web").send().await.unwrap();
    errors_alarm(&cloudwatch).await;
    let alarmed = cloudwatch.set_alarm_state().alarm_name("errors").state_value(StateValue::Alarm);
    alarmed.state_reason("before the restart").send().await.unwrap();
    let stream = records_table(&tables).await;
    let item = |key: &str| [("pk".to_owned(), AttributeValue::S(key.to_owned()))].into();
    tables.put_item().table_name("records").set_item(Some(item("a"))).send().await.unwrap();
    let weights_of = async |client: &elb::Client| {
        let read = client.describe_listeners().listener_arns(&alb.listener).send().await.unwrap();
        weights(read.listeners()[0].default_actions())
    };
    let actions = forward((&alb.blue, 900), (&alb.green, 100));
    elb.modify_listener().listener_arn(&alb.listener).default_actions(actions).send().await.unwrap();
    let actions = forward((&alb.blue, 1), (&alb.green, 0));
    elb.modify_listener().listener_arn(&alb.listener).default_actions(actions).send().await.unwrap();
    sandbox.stop().await;

    let sandbox = start(&state).await.unwrap();
    let taken = start(&state).await.expect_err("the file is in use");
    assert!(matches!(taken, SandboxError::State(StateError::InUse { .. })), "{taken}");
    let config = client_config(sandbox.endpoint()).await;
    let (ecs, elb) = (aws_sdk_ecs::Client::new(&config), elb::Client::new(&config));
    let (cloudwatch, tables) =
        (aws_sdk_cloudwatch::Client::new(&config), aws_sdk_dynamodb::Client::new(&config));
    assert_eq!(weights_of(&elb).await, [1, 0]);
    let gone =
        ecs.describe_tasks().cluster("shop").set_tasks(Some(old.task_arns().to_vec())).send().await.unwrap();
    assert_eq!(gone.tasks().len(), 2);
    let reasons: Vec<_> = gone.tasks().iter().filter_map(|task| task.stopped_reason()).collect();
    assert_eq!(reasons, ["The sandbox was restarted"; 2]);
    let history = cloudwatch.describe_alarm_history().alarm_name("errors").send().await.unwrap();
    let told = history.alarm_history_items().iter().filter_map(|item| item.history_data());
    assert!(told.into_iter().any(|data| data.contains("before the restart")));
    let read = tables.get_item().table_name("records").set_key(Some(item("a"))).consistent_read(true);
    assert_eq!(read.send().await.unwrap().item(), Some(&item("a")));
    let described = tables.describe_table().table_name("records").send().await.unwrap();
    assert_eq!(described.table().unwrap().latest_stream_arn(), Some(stream.as_str()));

    steady(&ecs, &set).await;
    assert_eq!(get(alb.port).await.0, 200, "on the same port");
    sandbox.stop().await;
}
