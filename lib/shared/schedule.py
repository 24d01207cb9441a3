"""A schedule of EventBridge that invokes a function, with a role of its own."""

from __future__ import annotations

from .. import bindings as tf
from ..names import PlatformNames
from . import iam


def invoke_on_schedule(
    scope: tf.Construct,
    id_: str,
    *,
    names: PlatformNames,
    description: str,
    expression: str,
    function: tf.LambdaFunction,
    function_arn: str,
    role_id: str,
    role_description: str,
    sid: str,
    age_s: int,
    retries: int,
    payload: str | None = None,
) -> None:
    """Invoke a function on a schedule.

    Args:
        expression: When, as EventBridge Scheduler writes it.
        function_arn: Its ARN by names, which the role's policy has.
        sid: Of the policy's statement.
        age_s: Seconds after which an invocation that could not be made is given up.
        retries: Tries after the first one.
        payload: The event, as JSON; None for the scheduler's own.
    """
    role = iam.ServiceRole(
        scope,
        role_id,
        names=names,
        description=role_description,
        trust=iam.trust(
            "scheduler.amazonaws.com",
            account_id=names.account_id,
            source_arn=names.arn("scheduler", "schedule-group/default"),
        ),
        statements=(iam.allow(sid, "lambda:InvokeFunction", on=function_arn),),
    )
    tf.SchedulerSchedule(
        scope,
        id_,
        name=names.named(id_),
        description=description,
        schedule_expression=expression,
        flexible_time_window=tf.SchedulerScheduleFlexibleTimeWindow(mode="OFF"),
        target=tf.SchedulerScheduleTarget(
            arn=function.arn,
            role_arn=role.arn,
            input=payload,
            retry_policy=tf.SchedulerScheduleTargetRetryPolicy(
                maximum_event_age_in_seconds=age_s, maximum_retry_attempts=retries
            ),
        ),
        depends_on=[role.policy],
    )
