//! Parts of timestamps and durations.

use super::super::time::offset;
use super::{Evaluated, Function, Machine, Value, no_such_overload, text};

pub(super) fn function(name: &str) -> Option<Function> {
    let known = name.starts_with("get")
        && matches!(
            &name[3..],
            "Date"
                | "DayOfMonth"
                | "DayOfWeek"
                | "DayOfYear"
                | "FullYear"
                | "Hours"
                | "Milliseconds"
                | "Minutes"
                | "Month"
                | "Seconds"
        );
    known.then_some(part)
}

fn part<'a>(_: &mut Machine<'a>, name: &str, args: &[Value<'a>]) -> Evaluated<'a> {
    let time = match args {
        [Value::Duration(nanos)] => return part_of_duration(name, *nanos),
        [Value::Timestamp(time), ..] => time,
        _ => return no_such_overload(),
    };
    let zone = args.get(1).map_or(Ok(""), |zone| text(Some(zone)))?;
    let calendar = time.calendar(offset(zone, *time)?);
    Ok(Value::Int(match name {
        "getDate" => calendar.day,
        "getDayOfMonth" => calendar.day - 1,
        "getDayOfWeek" => calendar.day_of_week,
        "getDayOfYear" => calendar.day_of_year,
        "getFullYear" => calendar.year,
        "getHours" => calendar.second_of_day / 3600,
        "getMilliseconds" => i64::from(time.nanos / 1_000_000),
        "getMinutes" => calendar.second_of_day / 60 % 60,
        "getMonth" => calendar.month - 1,
        "getSeconds" => calendar.second_of_day % 60,
        _ => return no_such_overload(),
    }))
}

fn part_of_duration<'a>(name: &str, nanos: i64) -> Evaluated<'a> {
    const SECOND: i64 = 1_000_000_000;
    Ok(Value::Int(match name {
        "getHours" => nanos / (3600 * SECOND),
        "getMinutes" => nanos / (60 * SECOND),
        "getSeconds" => nanos / SECOND,
        "getMilliseconds" => nanos / 1_000_000,
        _ => return no_such_overload(),
    }))
}
