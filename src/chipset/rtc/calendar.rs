//! Dates as the RTC's registers hold them, and as a count of seconds in between.

/// Days before each month of a year that is not a leap year.
const BEFORE_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
/// Days in the 400 years after which the Gregorian calendar repeats.
const DAYS_400: i64 = 146_097;
const DAY: i64 = 86_400;
/// Days from 1 January of the year 1 to 1 January 1970.
const UNIX_DAYS: i64 = 719_162;

/// A moment in the Gregorian calendar. Fields may lie outside their usual ranges: they carry over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// From 1.
    pub(super) month: i64,
    /// From 1.
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
}

impl Date {
    /// Seconds since 1 January 1970.
    pub(super) fn to_unix(self) -> i64 {
        let month = self.month - 1;
        let year = self.year + month.div_euclid(12);
        let month = month.rem_euclid(12) as usize;
        let leap_day = i64::from(month >= 2 && is_leap(year));
        let days = days_before(year) + BEFORE_MONTH[month] + leap_day + self.day - 1 - UNIX_DAYS;
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// The date of a count of seconds since 1 January 1970.
    pub(super) fn from_unix(seconds: i64) -> Self {
        let of_day = seconds.rem_euclid(DAY);
        let days = seconds.div_euclid(DAY) + UNIX_DAYS;
        // The average year's length is off by less than a year within the 400.
        let mut year = (days * 400).div_euclid(DAYS_400) + 1;
        while days_before(year) > days {
            year -= 1;
        }
        while days_before(year + 1) <= days {
            year += 1;
        }
        let of_year = days - days_before(year);
        let first = |month: usize| BEFORE_MONTH[month] + i64::from(month >= 2 && is_leap(year));
        let month = (0..12).rev().find(|&m| first(m) <= of_year).unwrap_or(0);
        Self {
            year,
            month: month as i64 + 1,
            day: of_year - first(month) + 1,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

/// The day of the week as the RTC counts it: 1 is Sunday.
pub(super) fn weekday(unix: i64) -> u8 {
    // 1 January 1970 was a Thursday.
    ((unix.div_euclid(DAY) + 4).rem_euclid(7) + 1) as u8
}

/// Days from 1 January of the year 1 to that of `year`.
fn days_before(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400)
}

fn is_leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(year: i64, month: i64, day: i64) -> Date {
        Date {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn known_days_are_right() {
        for (date, unix) in [
            (date(1970, 1, 1), 0),
            (date(1972, 2, 29), 68_169_600),
            (date(2000, 3, 1), 951_868_800),
            (date(2024, 2, 29), 1_709_164_800),
            (date(2100, 3, 1), 4_107_542_400),
            (date(1900, 3, 1), -2_203_891_200),
        ] {
            assert_eq!(date.to_unix(), unix);
            assert_eq!(Date::from_unix(unix), date);
        }
        assert_eq!(weekday(0), 5, "a Thursday");
        assert_eq!(weekday(1_709_164_800), 5, "so was 29 February 2024");
    }

    #[test]
    fn impossible_fields_carry_over() {
        assert_eq!(date(2023, 2, 31).to_unix(), date(2023, 3, 3).to_unix());
        assert_eq!(date(2023, 14, 1).to_unix(), date(2024, 2, 1).to_unix());
        assert_eq!(date(2023, 0, 1).to_unix(), date(2022, 12, 1).to_unix());
    }

    proptest! {
        #[test]
        fn every_second_has_one_date(unix in -100_000_000_000i64..1_000_000_000_000) {
            let date = Date::from_unix(unix);
            prop_assert_eq!(date.to_unix(), unix);
            prop_assert!((1..=12).contains(&date.month) && (1..=31).contains(&date.day));
            prop_assert!(date.hour < 24 && date.minute < 60 && date.second < 60);
            prop_assert_eq!(weekday(unix) % 7 + 1, weekday(unix + DAY));
        }
    }
}
