//! How values of records stand in columns.

use jiff::Timestamp;
use rusqlite::OptionalExtension;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

use crate::state::{Kind, Outcome, Phase};

/// A time, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct At(pub(super) Timestamp);

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let time = self.0.as_nanosecond();
        // Years outside 1678 to 2262 are bad clocks; they keep their order.
        Ok(i64::try_from(time).unwrap_or(if time < 0 { i64::MIN } else { i64::MAX }).into())
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Timestamp::from_nanosecond(value.as_i64()?.into()).map(Self).map_err(FromSqlError::other)
    }
}

/// A number that is never negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Count(pub(super) u64);

impl ToSql for Count {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(i64::try_from(self.0).unwrap_or(i64::MAX).into())
    }
}

impl FromSql for Count {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_i64().map(|n| Self(u64::try_from(n).unwrap_or(0)))
    }
}

/// A row, or none when what is in it makes no sense: it must not hide the others.
pub(super) fn sound<T>(row: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
    match row {
        Err(
            e @ (FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)),
        ) => {
            tracing::warn!("a row of the database makes no sense and is left out: {e}");
            Ok(None)
        }
        row => row.map(Some),
    }
}

/// The one row, if there is one that makes sense.
pub(super) fn one<T>(row: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    Ok(sound(row.optional())?.flatten())
}

macro_rules! word_columns {
    ($($name:ident)+) => { $(
        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> { Ok(self.word().into()) }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                let word = value.as_str()?;
                Self::from_word(word).ok_or_else(|| FromSqlError::other(Unknown(word.to_owned())))
            }
        }
    )+ };
}

word_columns!(Kind Phase Outcome);

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not known here")]
struct Unknown(String);
