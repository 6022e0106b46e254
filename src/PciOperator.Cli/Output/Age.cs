namespace PciOperator.Cli.Output;

/// <summary>How old something is, as kubectl says it.</summary>
internal static class Age
{
    /// <summary>Two units at most: <c>45s</c>, <c>5m30s</c>, <c>3h5m</c>, <c>2d4h</c>, <c>30d</c>.</summary>
    public static string Of(DateTime? created, DateTime now)
    {
        if (created is not { } then || then > now)
            return created is null ? "" : "0s";
        TimeSpan age = now - then;
        return age switch
        {
            { TotalMinutes: < 2 } => $"{(int)age.TotalSeconds}s",
            { TotalMinutes: < 10 } => $"{(int)age.TotalMinutes}m{Rest(age.Seconds, "s")}",
            { TotalHours: < 3 } => $"{(int)age.TotalMinutes}m",
            { TotalHours: < 8 } => $"{(int)age.TotalHours}h{Rest(age.Minutes, "m")}",
            { TotalHours: < 48 } => $"{(int)age.TotalHours}h",
            { TotalDays: < 8 } => $"{(int)age.TotalDays}d{Rest(age.Hours, "h")}",
            _ => $"{(int)age.TotalDays}d",
        };

        static string Rest(int count, string unit) => count == 0 ? "" : $"{count}{unit}";
    }
}
