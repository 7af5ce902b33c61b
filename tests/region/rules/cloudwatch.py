"""CloudWatch: alarms, how they are evaluated and described, and metrics."""

from __future__ import annotations

import datetime
import math
import time
from typing import Any, Iterable, Optional

from aws import Aws
from suite import Service, need, refused, same, stays, until

CLOUDWATCH = Service("cloudwatch")
CASES = CLOUDWATCH.cases
case = CLOUDWATCH.case

ALARMS = ("alarms",)
MISSING = "aws-facts §3 (alarms-and-missing-data)"
ALL_TYPES = ["MetricAlarm", "CompositeAlarm"]


class Metric:
    """A metric of its own, fed period by period."""

    def __init__(self, aws: Aws):
        self._aws, self.name = aws, aws.name("m")
        self.of = {"Namespace": "Region", "MetricName": self.name}

    def feed(
        self, pattern: Iterable[Optional[float]], first: int, length: float = 60, now: Optional[float] = None
    ) -> None:
        """One datum in the middle of each period, the first one so many periods from now. Two calls whose data belong
        together need one `now`: a period is short here, and may end between them.
        """
        real = self._aws.seconds(length)
        start = math.floor((time.time() if now is None else now) / real) * real
        data = []
        for index, value in enumerate(pattern):
            if value is not None:
                at = start + (first + index + 0.5) * real
                stamp = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
                data.append({"MetricName": self.name, "Timestamp": stamp, "Value": value})
        self._aws.cloudwatch.put_metric_data(Namespace="Region", MetricData=data)

    def alarm(self, **given: Any) -> str:
        """An alarm that fires above 5; its name."""
        name = given.pop("AlarmName", None) or self._aws.name("a")
        arguments: dict[str, Any] = {
            "AlarmName": name,
            **self.of,
            "Statistic": "Sum",
            "Period": 60,
            "EvaluationPeriods": 1,
            "Threshold": 5,
            "ComparisonOperator": "GreaterThanThreshold",
        }
        arguments.update(given)
        arguments = {member: value for member, value in arguments.items() if value is not None}
        self._aws.cloudwatch.put_metric_alarm(**arguments)
        self._aws.after(self._aws.cloudwatch.delete_alarms, AlarmNames=[name])
        return name


def _read(aws: Aws, name: str) -> dict:
    answer = aws.cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=ALL_TYPES)
    return (answer["MetricAlarms"] + answer.get("CompositeAlarms", []))[0]


def _state(aws: Aws, name: str) -> str:
    return _read(aws, name)["StateValue"]


def _composite(aws: Aws, rule: str) -> str:
    name = aws.name("comp")
    aws.cloudwatch.put_composite_alarm(AlarmName=name, AlarmRule=rule)
    aws.after(aws.cloudwatch.delete_alarms, AlarmNames=[name])
    return name


def _set(aws: Aws, name: str, state: str) -> None:
    aws.cloudwatch.set_alarm_state(AlarmName=name, StateValue=state, StateReason="by hand")


def _is(aws: Aws, name: str, state: str) -> None:
    until(f"{name} is {state}", lambda: _state(aws, name) == state)


# --- evaluation


@case(
    "a new alarm is INSUFFICIENT_DATA",
    "When this operation creates an alarm, the alarm state is immediately set to INSUFFICIENT_DATA.",
    "cloudwatch PutMetricAlarm",
)
def _(aws: Aws) -> None:
    same(_state(aws, Metric(aws).alarm(TreatMissingData="missing")), "INSUFFICIENT_DATA")


@case(
    "data above the threshold drive an alarm to ALARM, and its end back to OK",
    "The alarm is then evaluated and its state is set appropriately.",
    "cloudwatch PutMetricAlarm",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    alarm = metric.alarm(TreatMissingData="notBreaching")
    _is(aws, alarm, "OK")
    metric.feed([9, 9, 9], first=0)
    _is(aws, alarm, "ALARM")
    need("Threshold Crossed" in _read(aws, alarm)["StateReason"], _read(aws, alarm)["StateReason"])
    _is(aws, alarm, "OK")


@case(
    "two of three: two breaching datapoints in three periods are enough, one is not",
    'This is used only if you are setting an "M out of N" alarm. In that case, this value is the M.',
    "cloudwatch PutMetricAlarmInput.DatapointsToAlarm",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    often, rarely = Metric(aws), Metric(aws)
    # Every window of three of the second pattern holds exactly one; of the first, every other one holds two.
    often.feed([9, 0] * 20, first=-6)
    rarely.feed([9, 0, 0] * 14, first=-6)
    fires = often.alarm(EvaluationPeriods=3, DatapointsToAlarm=2)
    keeps = rarely.alarm(EvaluationPeriods=3, DatapointsToAlarm=2)
    three = often.alarm(EvaluationPeriods=3, DatapointsToAlarm=3)
    _is(aws, fires, "ALARM")
    for alarm in (keeps, three):
        _is(aws, alarm, "OK")
        stays("OK", lambda: _state(aws, alarm) == "OK", aws.seconds(180))


@case(
    "N of N: all datapoints must breach",
    "If you are setting an alarm that requires that a number of consecutive data points be breaching to trigger the "
    "alarm, this value specifies that number.",
    "cloudwatch PutMetricAlarmInput.EvaluationPeriods",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    metric.feed([9, 9, 0] * 14, first=-6)
    alarm = metric.alarm(EvaluationPeriods=3)
    _is(aws, alarm, "OK")
    stays("OK", lambda: _state(aws, alarm) == "OK", aws.seconds(240))
    metric.feed([9] * 9, first=0)
    _is(aws, alarm, "ALARM")


@case(
    "missing data, by what the alarm says of them: breaching, notBreaching, missing",
    "Valid Values: breaching | notBreaching | ignore | missing",
    "cloudwatch PutMetricAlarmInput.TreatMissingData",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    alarms = {value: Metric(aws).alarm(TreatMissingData=value) for value in ("breaching", "notBreaching", "missing")}
    _is(aws, alarms["breaching"], "ALARM")
    _is(aws, alarms["notBreaching"], "OK")
    same(_state(aws, alarms["missing"]), "INSUFFICIENT_DATA")


@case(
    "missing is what an alarm does that does not say",
    "If TreatMissingData is omitted, the default behavior of missing is used.",
    "cloudwatch PutMetricAlarmInput.TreatMissingData",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    alarm = metric.alarm()
    metric.feed([1, 1], first=-2)
    _is(aws, alarm, "OK")
    # All points of the evaluation range are missing in the end.
    _is(aws, alarm, "INSUFFICIENT_DATA")


@case("ignore keeps the state while data are missing", "The current alarm state is maintained", MISSING, needs=ALARMS)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    alarm = metric.alarm(TreatMissingData="ignore")
    metric.feed([9, 9], first=-1)
    _is(aws, alarm, "ALARM")
    stays("ALARM", lambda: _state(aws, alarm) == "ALARM", aws.seconds(600))


@case(
    "a breaching point that is followed by missing ones only is ALARM: the premature alarm",
    "premature alarm logic: one old breaching point + only missing after it ⇒ ALARM",
    MISSING,
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    alarm = metric.alarm(EvaluationPeriods=3, DatapointsToAlarm=2, TreatMissingData="missing")
    metric.feed([9], first=0)
    _is(aws, alarm, "ALARM")


@case(
    "a state set by hand goes back by itself, and its history keeps it",
    "Metric alarms returns to their actual state quickly, often within seconds. Because the metric alarm state change "
    "happens quickly, it is typically only visible in the alarm's History tab in the Amazon CloudWatch console or through "
    "DescribeAlarmHistory.",
    "cloudwatch SetAlarmState",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm(TreatMissingData="notBreaching")
    _is(aws, alarm, "OK")
    _set(aws, alarm, "ALARM")
    _is(aws, alarm, "OK")
    items = aws.cloudwatch.describe_alarm_history(AlarmName=alarm, HistoryItemType="StateUpdate")["AlarmHistoryItems"]
    summaries = [item["HistorySummary"] for item in items]
    same(summaries[:2], ["Alarm updated from ALARM to OK", "Alarm updated from OK to ALARM"])


@case(
    "a composite alarm set by hand stays so until a child changes",
    "If you use SetAlarmState on a composite alarm, the composite alarm is not guaranteed to return to its actual state. "
    "It returns to its actual state only once any of its children alarms change state.",
    "cloudwatch SetAlarmState",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    child = Metric(aws).alarm(TreatMissingData="ignore")
    _set(aws, child, "OK")
    composite = _composite(aws, f'ALARM("{child}")')
    _is(aws, composite, "OK")
    _set(aws, composite, "ALARM")
    stays("ALARM", lambda: _state(aws, composite) == "ALARM", aws.seconds(180))
    _set(aws, child, "INSUFFICIENT_DATA")
    _is(aws, composite, "OK")


@case(
    "a composite alarm follows AND, OR, NOT and parentheses",
    "You can use operators (AND, OR and NOT) to combine multiple functions in a single expression. You can use "
    "parenthesis to logically group the functions in your expression.",
    "cloudwatch PutCompositeAlarmInput.AlarmRule",
)
def _(aws: Aws) -> None:
    a, b, c = (Metric(aws).alarm(TreatMissingData="ignore") for _ in range(3))
    for alarm in (a, b, c):
        _set(aws, alarm, "OK")
    rule = f'(ALARM("{a}") OR ALARM({b})) AND NOT ALARM("{c}")'
    composite = _composite(aws, rule)
    same(_read(aws, composite)["AlarmRule"], rule)
    for states, wanted in (("AO O", "ALARM"), ("OA O", "ALARM"), ("AA A", "OK"), ("OO O", "OK")):
        for alarm, state in zip((a, b, c), states.replace(" ", "")):
            _set(aws, alarm, {"A": "ALARM", "O": "OK"}[state])
        _is(aws, composite, wanted)


@case(
    "AT_LEAST counts alarms by number or percentage, in a state or not in it",
    "Function that returns TRUE when a minimum number or percentage of specified alarms are in the required state.",
    "CloudWatch user guide, alarm-combining (rule expressions)",
)
def _(aws: Aws) -> None:
    a, b, c, d = alarms = [Metric(aws).alarm(TreatMissingData="ignore") for _ in range(4)]
    rules = {
        "two": f'AT_LEAST(2, ALARM, ({a}, "{b}", {c}, {d}))',
        "half": f"AT_LEAST(50%, OK, ({a}, {b}, {c}, {d}))",
        "not": f"AT_LEAST(3, NOT ALARM, ({a}, {b}, {c}, {d}))",
        "both": f"AT_LEAST(2, ALARM, ({a}, {b}, {c})) AND NOT ALARM({d})",
    }
    for alarm in alarms:
        _set(aws, alarm, "OK")
    composites = {kind: _composite(aws, rule) for kind, rule in rules.items()}
    same(_read(aws, composites["two"])["AlarmRule"], rules["two"])
    for states, true in (("OOOO", "half not"), ("AOOO", "half not"), ("AAOO", "two half both"), ("AAOA", "two")):
        for alarm, state in zip(alarms, states):
            _set(aws, alarm, {"A": "ALARM", "O": "OK"}[state])
        for kind, composite in composites.items():
            _is(aws, composite, "ALARM" if kind in true.split() else "OK")
    for wrong in (f"AT_LEAST(0, ALARM, ({a}))", f"AT_LEAST(2, ALARM, ({a}))", f"AT_LEAST(101%, ALARM, ({a}))"):
        refused(lambda: _composite(aws, wrong), "ValidationError", "InvalidParameterValue", "InvalidParameterValueException")


@case(
    "OK, INSUFFICIENT_DATA, TRUE and FALSE are functions of a rule",
    "TRUE always evaluates to TRUE. FALSE always evaluates to FALSE.",
    "cloudwatch PutCompositeAlarmInput.AlarmRule",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm(TreatMissingData="ignore")
    always, never = _composite(aws, "TRUE"), _composite(aws, f'FALSE OR OK("{alarm}")')
    missing = _composite(aws, f'INSUFFICIENT_DATA("{alarm}")')
    _is(aws, always, "ALARM")
    _is(aws, never, "OK")
    _is(aws, missing, "ALARM")
    _set(aws, alarm, "OK")
    _is(aws, missing, "OK")


@case(
    "the time of a transition is not that of an update that changed nothing",
    "The date and time that the alarm's StateValue most recently changed.",
    "cloudwatch MetricAlarm.StateTransitionedTimestamp",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm(TreatMissingData="ignore")
    _set(aws, alarm, "OK")
    first = _read(aws, alarm)
    _set(aws, alarm, "OK")
    second = _read(aws, alarm)
    same(second["StateTransitionedTimestamp"], first["StateTransitionedTimestamp"])
    _set(aws, alarm, "ALARM")
    need(_read(aws, alarm)["StateTransitionedTimestamp"] > first["StateTransitionedTimestamp"], "it stood still")


@case(
    "a high-resolution alarm sees periods of ten seconds",
    "Valid values are 10, 20, 30, and any multiple of 60.",
    "cloudwatch PutMetricAlarmInput.Period",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    name = metric.alarm(Period=10, EvaluationPeriods=1, TreatMissingData="notBreaching")
    real, stamps = aws.seconds(10), []
    for index in range(40):
        stamps.append(datetime.datetime.fromtimestamp(time.time() + index * real, datetime.timezone.utc))
    data = [{"MetricName": metric.name, "Timestamp": at, "Value": 9, "StorageResolution": 1} for at in stamps]
    aws.cloudwatch.put_metric_data(Namespace="Region", MetricData=data)
    _is(aws, name, "ALARM")


@case(
    "a percentile alarm judges the percentile",
    "For percentile statistics, use ExtendedStatistic.",
    "cloudwatch PutMetricAlarmInput.Statistic",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    high = metric.alarm(Statistic=None, ExtendedStatistic="p99", Threshold=50, TreatMissingData="ignore")
    low = metric.alarm(Statistic=None, ExtendedStatistic="p50", Threshold=50, TreatMissingData="ignore")
    _set(aws, low, "INSUFFICIENT_DATA")
    now = datetime.datetime.now(datetime.timezone.utc)
    real = aws.seconds(60)
    data = [
        {
            "MetricName": metric.name,
            "Timestamp": now + datetime.timedelta(seconds=real * index),
            "Values": [1.0, 100.0],
            "Counts": [90.0, 10.0],
        }
        for index in range(8)
    ]
    aws.cloudwatch.put_metric_data(Namespace="Region", MetricData=data)
    _is(aws, high, "ALARM")
    _is(aws, low, "OK")


# --- definitions


@case(
    "an update overwrites the definition and leaves the state",
    "When you update an existing alarm, its state is left unchanged, but the update completely overwrites the previous "
    "configuration of the alarm.",
    "cloudwatch PutMetricAlarm",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    name = metric.alarm(TreatMissingData="ignore", AlarmDescription="first")
    _set(aws, name, "ALARM")
    metric.alarm(AlarmName=name, TreatMissingData="ignore", Threshold=7)
    now = _read(aws, name)
    same((now["StateValue"], now["Threshold"], now.get("AlarmDescription")), ("ALARM", 7.0, None))


@case(
    "wrong definitions are refused",
    "Valid values are 10, 20, 30, and any multiple of 60.",
    "cloudwatch PutMetricAlarmInput.Period",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    codes = ("ValidationError", "ValidationException", "InvalidParameterValue", "InvalidParameterCombination")
    codes += ("InvalidParameterValueException", "InvalidParameterCombinationException")
    for wrong in (
        {"Period": 45},
        {"TreatMissingData": "sometimes"},
        {"EvaluationPeriods": 0},
        {"EvaluationPeriods": 2, "DatapointsToAlarm": 3},
        {"ComparisonOperator": "Beyond"},
        {"ExtendedStatistic": "p90"},
    ):
        refused(lambda: metric.alarm(**wrong), *codes)


@case(
    "a day is the longest that an alarm of short periods looks back",
    "For alarms with a period of less than one hour (3,600 seconds), the total evaluation period can't be longer than one "
    "day (86,400 seconds).",
    "cloudwatch PutMetricAlarmInput.Period",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    metric.alarm(Period=60, EvaluationPeriods=1440)
    refused(lambda: metric.alarm(Period=60, EvaluationPeriods=1441), "ValidationError", "ValidationException")


# --- description


@case(
    "only metric alarms are described unless types are asked for",
    "If you omit this parameter, only metric alarms are returned, even if composite alarms or log alarms exist in the "
    "account.",
    "cloudwatch DescribeAlarmsInput.AlarmTypes",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm()
    composite = _composite(aws, f'ALARM("{alarm}")')
    plain = aws.cloudwatch.describe_alarms(AlarmNames=[alarm, composite])
    same([len(plain["MetricAlarms"]), len(plain.get("CompositeAlarms", []))], [1, 0])
    both = aws.cloudwatch.describe_alarms(AlarmNames=[alarm, composite], AlarmTypes=ALL_TYPES)
    same([len(both["MetricAlarms"]), len(both["CompositeAlarms"])], [1, 1])


@case(
    "unknown names are absent, and no error",
    "Only error InvalidNextToken: unknown names are simply absent",
    "aws-facts §3 (DescribeAlarms)",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm()
    names = [alarm, aws.name("none"), alarm.upper()]
    answer = aws.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
    same([one["AlarmName"] for one in answer], [alarm])


@case(
    "a prefix and names exclude each other",
    "If this parameter is specified, you cannot specify AlarmNames.",
    "cloudwatch DescribeAlarmsInput.AlarmNamePrefix",
)
def _(aws: Aws) -> None:
    codes = ("ValidationError", "ValidationException", "InvalidParameterCombination", "InvalidParameterCombinationException")
    refused(lambda: aws.cloudwatch.describe_alarms(AlarmNames=["a"], AlarmNamePrefix="a"), *codes)


@case(
    "alarms are found by prefix and by state, page by page",
    "Specify this parameter to receive information only about alarms that are currently in the state that you specify.",
    "cloudwatch DescribeAlarmsInput.StateValue",
)
def _(aws: Aws) -> None:
    prefix = aws.name("p")
    names = [Metric(aws).alarm(AlarmName=f"{prefix}-{index}", TreatMissingData="ignore") for index in range(5)]
    for name in names[:3]:
        _set(aws, name, "ALARM")
    found, token, pages = [], None, 0
    while True:
        more = {"NextToken": token} if token else {}
        answer = aws.cloudwatch.describe_alarms(
            AlarmNamePrefix=prefix, StateValue="ALARM", MaxRecords=2, **more
        )
        found += [one["AlarmName"] for one in answer["MetricAlarms"]]
        pages, token = pages + 1, answer.get("NextToken")
        if not token:
            break
    same((sorted(found), pages), (names[:3], 2))


@case(
    "a hundred names are the most, and a wrong token is InvalidNextToken",
    "The next token specified is invalid.",
    "cloudwatch InvalidNextToken",
)
def _(aws: Aws) -> None:
    names = [f"none{index}" for index in range(101)]
    aws.cloudwatch.describe_alarms(AlarmNames=names[:100])
    refused(lambda: aws.cloudwatch.describe_alarms(AlarmNames=names), "ValidationError", "ValidationException")
    refused(lambda: aws.cloudwatch.describe_alarms(NextToken="wrong"), "InvalidNextToken")


@case(
    "children and parents of an alarm are found",
    'If you use this parameter and specify the name of a composite alarm, the operation returns information about the '
    '"children" alarms of the alarm you specify.',
    "cloudwatch DescribeAlarmsInput.ChildrenOfAlarmName",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm()
    composite = _composite(aws, f'ALARM("{alarm}")')
    children = aws.cloudwatch.describe_alarms(ChildrenOfAlarmName=composite)
    same([one["AlarmName"] for one in children["MetricAlarms"]], [alarm])
    parents = aws.cloudwatch.describe_alarms(ParentsOfAlarmName=alarm)
    same([one["AlarmName"] for one in parents["CompositeAlarms"]], [composite])


@case("SetAlarmState of an unknown alarm is ResourceNotFound", "The named resource does not exist.", "cloudwatch ResourceNotFound")
def _(aws: Aws) -> None:
    refused(lambda: _set(aws, aws.name("none"), "OK"), "ResourceNotFound", "ResourceNotFoundException", status=404)


@case(
    "deleting deletes the right names whatever the others are",
    "If you specify any incorrect alarm names, the alarms you specify with correct names are still deleted.",
    "cloudwatch DeleteAlarms",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm()
    try:
        aws.cloudwatch.delete_alarms(AlarmNames=[alarm, aws.name("none")])
    except aws.cloudwatch.exceptions.ResourceNotFound:
        pass  # Whether an unknown name is an error is not documented.
    same(aws.cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"], [])


@case(
    "the history of an alarm outlives it",
    "CloudWatch retains the history of an alarm even if you delete the alarm.",
    "cloudwatch DescribeAlarmHistory",
)
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm(TreatMissingData="ignore")
    _set(aws, alarm, "ALARM")
    aws.cloudwatch.delete_alarms(AlarmNames=[alarm])
    items = aws.cloudwatch.describe_alarm_history(AlarmName=alarm)["AlarmHistoryItems"]
    need(any(item["HistoryItemType"] == "StateUpdate" for item in items), items)


@case("actions are switched off and on", "Enables the actions for the specified alarms.", "cloudwatch EnableAlarmActions")
def _(aws: Aws) -> None:
    alarm = Metric(aws).alarm()
    same(_read(aws, alarm)["ActionsEnabled"], True)
    aws.cloudwatch.disable_alarm_actions(AlarmNames=[alarm])
    same(_read(aws, alarm)["ActionsEnabled"], False)
    aws.cloudwatch.enable_alarm_actions(AlarmNames=[alarm])
    same(_read(aws, alarm)["ActionsEnabled"], True)


# --- metrics


def _query(metric: Metric, statistic: str, name: str = "m") -> dict:
    return {"Id": name, "MetricStat": {"Metric": metric.of, "Period": 60, "Stat": statistic}}


def _data(aws: Aws, queries: list, **given: Any) -> dict[str, dict]:
    now = datetime.datetime.now(datetime.timezone.utc)
    arguments = {
        "StartTime": now - datetime.timedelta(seconds=aws.seconds(3600)),
        "EndTime": now + datetime.timedelta(seconds=aws.seconds(1200)),
    }
    arguments.update(given)
    answer = aws.cloudwatch.get_metric_data(MetricDataQueries=queries, **arguments)
    return {one["Id"]: one for one in answer["MetricDataResults"]}


@case(
    "data are read back by statistic, the newest first",
    "If you omit this parameter, the default of TimestampDescending is used.",
    "cloudwatch GetMetricDataInput.ScanBy",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    now = time.time()
    metric.feed([1, 2, 3], first=-5, now=now)
    metric.feed([10, 20, 30], first=-5, now=now)
    until("they are there", lambda: _data(aws, [_query(metric, "Sum")])["m"]["Values"] == [33, 22, 11])
    same(_data(aws, [_query(metric, "Sum")], ScanBy="TimestampAscending")["m"]["Values"], [11, 22, 33])
    for statistic, wanted in (("Average", [16.5, 11, 5.5]), ("Maximum", [30, 20, 10]), ("SampleCount", [2, 2, 2])):
        same(_data(aws, [_query(metric, statistic)])["m"]["Values"], wanted, statistic)
    same(_data(aws, [_query(metric, "Sum")])["m"]["StatusCode"], "Complete")


@case(
    "the end of the time range is exclusive, its start inclusive",
    "The value specified is exclusive; results include data points up to the specified time stamp.",
    "cloudwatch GetMetricDataInput.EndTime",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    metric.feed([1, 2, 3], first=-5)
    until("they are there", lambda: len(_data(aws, [_query(metric, "Sum")])["m"]["Values"]) == 3)
    stamps = _data(aws, [_query(metric, "Sum")], ScanBy="TimestampAscending")["m"]["Timestamps"]
    within = _data(aws, [_query(metric, "Sum")], StartTime=stamps[0], EndTime=stamps[2])["m"]["Values"]
    same(within, [2, 1])


@case(
    "metric math divides one metric by another, and hides what returns no data",
    "For example, using Lambda metrics, you could divide the Errors metric by the Invocations metric to get an error rate "
    "time series.",
    "cloudwatch GetMetricData",
)
def _(aws: Aws) -> None:
    errors, all_of_them = Metric(aws), Metric(aws)
    now = time.time()
    errors.feed([1, 2], first=-4, now=now)
    all_of_them.feed([10, 10], first=-4, now=now)
    queries = [
        {**_query(errors, "Sum", "e"), "ReturnData": False},
        {**_query(all_of_them, "Sum", "a"), "ReturnData": False},
        {"Id": "rate", "Expression": "100 * e / a", "Label": "rate"},
    ]
    until("they are there", lambda: _data(aws, queries)["rate"]["Values"] == [20, 10])
    same(set(_data(aws, queries)), {"rate"})


@case(
    "functions of the calendar give a value for every period, by its timestamp in UTC",
    "These functions take the period and range of the time series and return a new non-sparse time series where each "
    "value is based on its timestamp.",
    "CloudWatch user guide, using-metric-math (MINUTE, HOUR, DAY, DATE, MONTH, YEAR, EPOCH)",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    metric.feed([1, None, 3], first=-4)
    told = {
        "MINUTE": lambda at: at.minute,
        "HOUR": lambda at: at.hour,
        # "Days of the week are numbered 1 to 7 (Monday to Sunday)"
        "DAY": lambda at: at.isoweekday(),
        "DATE": lambda at: at.day,
        "MONTH": lambda at: at.month,
        "YEAR": lambda at: at.year,
    }
    queries = [{**_query(metric, "Sum", "m")}, {"Id": "epoch", "Expression": "EPOCH(m)"}]
    queries += [{"Id": name.lower(), "Expression": f"{name}(m)"} for name in told]
    queries.append({"Id": "never", "Expression": "IF(MONTH(m) == 13, m)"})
    found = until("it is there", lambda: (seen := _data(aws, queries))["m"]["Values"] == [3, 1] and seen)
    need(len(found["epoch"]["Values"]) > 2, "a value for every period, whether the metric has one or not")
    # Answers are told in whole seconds of the epoch by some protocols, and a period may begin within one.
    drift = [at.timestamp() - value for at, value in zip(found["epoch"]["Timestamps"], found["epoch"]["Values"])]
    need(all(0 <= each < 1 for each in drift), drift)
    for name, function in told.items():
        one = found[name.lower()]
        wanted = [float(function(at.astimezone(datetime.timezone.utc))) for at in one["Timestamps"]]
        same(one["Values"], wanted, name)
    same(found["never"]["Values"], [])


@case(
    "values with counts are as many samples",
    "Each number in the Count array is the number of times the corresponding value in the Values array occurred during "
    "the period.",
    "cloudwatch MetricDatum.Counts",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    datum = {"MetricName": metric.name, "Values": [1.0, 5.0], "Counts": [3.0, 1.0]}
    aws.cloudwatch.put_metric_data(Namespace="Region", MetricData=[datum])
    until("they are there", lambda: _data(aws, [_query(metric, "SampleCount")])["m"]["Values"] == [4])
    same(_data(aws, [_query(metric, "Sum")])["m"]["Values"], [8])
    wrong = {**datum, "Counts": [1.0]}
    refused(
        lambda: aws.cloudwatch.put_metric_data(Namespace="Region", MetricData=[wrong]),
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "InvalidParameterCombination",
        "InvalidParameterCombinationException",
        "ValidationError",
    )


@case(
    "500 queries are the most",
    "A single GetMetricData call can include as many as 500 MetricDataQuery structures.",
    "cloudwatch GetMetricDataInput.MetricDataQueries",
)
def _(aws: Aws) -> None:
    metric = Metric(aws)
    queries = [_query(metric, "Sum", f"m{index}") for index in range(501)]
    same(len(_data(aws, queries[:500])), 500)
    refused(
        lambda: _data(aws, queries), "ValidationError", "ValidationException", "InvalidParameterValue", "LimitExceeded"
    )


@case(
    "an alarm on an expression judges what the expression returns",
    "You designate this expression by setting ReturnData to true for this object in the array.",
    "cloudwatch PutMetricAlarmInput.Metrics",
    needs=ALARMS,
)
def _(aws: Aws) -> None:
    errors, all_of_them = Metric(aws), Metric(aws)
    now = time.time()
    errors.feed([9] * 10, first=-2, now=now)
    all_of_them.feed([100] * 10, first=-2, now=now)
    metrics = [
        {**_query(errors, "Sum", "e"), "ReturnData": False},
        {**_query(all_of_them, "Sum", "a"), "ReturnData": False},
        {"Id": "rate", "Expression": "100 * e / a", "ReturnData": True},
    ]
    name = aws.name("a")
    aws.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=metrics,
        EvaluationPeriods=1,
        Threshold=5,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    aws.after(aws.cloudwatch.delete_alarms, AlarmNames=[name])
    _is(aws, name, "ALARM")
