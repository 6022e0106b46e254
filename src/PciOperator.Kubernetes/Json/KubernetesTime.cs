using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace PciOperator.Kubernetes;

/// <summary>
/// Reads every time that an API server can store. A schema's <c>format: date-time</c> is looser than RFC 3339 (k8s.io/kube-openapi
/// strfmt takes small letters, any sign before the fraction and any two digits as the offset's hours), and Go writes years below 0
/// and above 9999. What lies beyond .NET's calendar is its first or last moment; what is no time at all is none.
/// </summary>
internal static partial class KubernetesTime
{
    /// <summary>The time at a reader's place, or null.</summary>
    public static DateTimeOffset? Read(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.String)
        {
            reader.PassOver();
            return null;
        }

        return reader.TryGetDateTimeOffset(out DateTimeOffset time) ? time : Parse(reader.GetString()!);
    }

    /// <summary>The same of a text.</summary>
    internal static DateTimeOffset? Parse(string text)
    {
        Match match = Pattern().Match(text);
        if (!match.Success)
            return null;
        int Part(int group) => int.Parse(match.Groups[group].ValueSpan, NumberStyles.None, CultureInfo.InvariantCulture);
        (int month, int day, int hour, int minute, int second) = (Part(2), Part(3), Part(4), Part(5), Part(6));
        if (month is < 1 or > 12 || day is < 1 or > 31 || hour > 23 || minute > 59 || second > 60)
            return null;
        string yearText = match.Groups[1].Value;
        if (yearText[0] == '-' || yearText == "0000")
            return DateTimeOffset.MinValue;
        // Nobody's year has that many digits, and an int does not hold them.
        if (yearText.Length > 4)
            return DateTimeOffset.MaxValue;
        int year = Part(1);
        if (day > DateTime.DaysInMonth(year, month))
            return null;
        long local =
            new DateTime(year, month, day, hour, minute, Math.Min(second, 59), DateTimeKind.Utc).Ticks + Fraction(match.Groups[7].Value);
        return Clamped(local - Offset(match));
    }

    private static long Fraction(string digits) =>
        digits.Length == 0 ? 0 : long.Parse(digits.PadRight(7, '0').AsSpan(0, 7), NumberStyles.None, CultureInfo.InvariantCulture);

    private static long Offset(Match match)
    {
        if (!match.Groups[8].Success)
            return 0;
        int minutes =
            (int.Parse(match.Groups[9].ValueSpan, CultureInfo.InvariantCulture) * 60)
            + int.Parse(match.Groups[10].ValueSpan, CultureInfo.InvariantCulture);
        return TimeSpan.TicksPerMinute * (match.Groups[8].Value == "-" ? -minutes : minutes);
    }

    private static DateTimeOffset Clamped(long utcTicks) =>
        new(Math.Clamp(utcTicks, DateTimeOffset.MinValue.Ticks, DateTimeOffset.MaxValue.Ticks), TimeSpan.Zero);

    // What follows a second T is not looked at by the server either.
    [GeneratedRegex(
        "^(-?[0-9]{4,})-([0-9]{2})-([0-9]{2})[tT]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:.([0-9]+))?(?:[zZ]|([+-])([0-9]{2}):([0-9]{2}))(?:[tT].*)?$",
        RegexOptions.CultureInvariant | RegexOptions.Singleline
    )]
    private static partial Regex Pattern();
}
