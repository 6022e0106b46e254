using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes;

// The library's own converters stay unused: one use of them keeps all of its generated JSON, 13 MB of it, and they refuse times that a
// server can store.

/// <summary>
/// The library's times: Kubernetes' <c>Time</c>, RFC 3339 in UTC with whole seconds, as the server keeps it, or <c>MicroTime</c> with
/// exactly six fractional digits. Whatever the server can store is read: a time beyond .NET's calendar is its first or last moment, what is
/// no time is null.
/// </summary>
internal sealed class TimeConverter : JsonConverter<DateTime?>
{
    private const string Seconds = "yyyy-MM-dd'T'HH:mm:ss'Z'";
    private const string Microseconds = "yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'";
    private readonly string _format;

    private TimeConverter(string format) => _format = format;

    public static TimeConverter Whole { get; } = new(Seconds);

    public static TimeConverter Micro { get; } = new(Microseconds);

    public override DateTime? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        KubernetesTime.Read(ref reader)?.UtcDateTime;

    public override void Write(Utf8JsonWriter writer, DateTime? value, JsonSerializerOptions options)
    {
        if (value is { } time)
            Write(writer, time);
        else
            writer.WriteNullValue();
    }

    /// <summary>A time of no kind is UTC, as everything here.</summary>
    public void Write(Utf8JsonWriter writer, DateTime time)
    {
        Span<char> text = stackalloc char[27];
        DateTime utc = time.Kind == DateTimeKind.Local ? time.ToUniversalTime() : time;
        utc.TryFormat(text, out int written, _format, CultureInfo.InvariantCulture);
        writer.WriteStringValue(text[..written]);
    }
}

/// <summary>
/// The same for times that the library always has: what is no time is the first moment of .NET's calendar, which is Go's for none.
/// </summary>
public sealed class RequiredTimeConverter : JsonConverter<DateTime>
{
    private readonly TimeConverter _time;

    /// <summary>With whole seconds.</summary>
    public RequiredTimeConverter()
        : this(TimeConverter.Whole) { }

    private RequiredTimeConverter(TimeConverter time) => _time = time;

    internal static RequiredTimeConverter Micro { get; } = new(TimeConverter.Micro);

    /// <inheritdoc/>
    public override DateTime Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        KubernetesTime.Read(ref reader)?.UtcDateTime ?? DateTime.SpecifyKind(default, DateTimeKind.Utc);

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, DateTime value, JsonSerializerOptions options) => _time.Write(writer, value);
}

/// <summary>Times that a schema calls <c>date-time</c> and no more: read like the others, written with their fraction.</summary>
internal sealed class LenientTimeConverter : JsonConverter<DateTimeOffset?>
{
    public override DateTimeOffset? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        KubernetesTime.Read(ref reader);

    public override void Write(Utf8JsonWriter writer, DateTimeOffset? value, JsonSerializerOptions options)
    {
        if (value is { } time)
            writer.WriteStringValue(time);
        else
            writer.WriteNullValue();
    }
}
