using System.Text.Json;
using System.Text.Json.Serialization;

namespace PciOperator.Kubernetes;

/// <summary>An <c>integer</c> of a schema is any of 64 bits, whatever its format says, and may be written <c>1.0</c> or <c>1e3</c>:
/// what does not fit is the nearest that does.</summary>
internal sealed class LenientInt32Converter : JsonConverter<int>
{
    public override int Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        (int)Math.Clamp(LenientInt64Converter.Read(ref reader), int.MinValue, int.MaxValue);

    public override void Write(Utf8JsonWriter writer, int value, JsonSerializerOptions options) => writer.WriteNumberValue(value);
}

/// <inheritdoc cref="LenientInt32Converter"/>
internal sealed class LenientInt64Converter : JsonConverter<long>
{
    public override long Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => Read(ref reader);

    public override void Write(Utf8JsonWriter writer, long value, JsonSerializerOptions options) => writer.WriteNumberValue(value);

    public static long Read(ref Utf8JsonReader reader)
    {
        if (reader.TokenType != JsonTokenType.Number)
            throw new JsonException($"Expected a whole number, got a JSON {reader.TokenType}.");
        if (reader.TryGetInt64(out long whole))
            return whole;
        double number = reader.GetDouble();
        // The conversion clamps; 2⁶³ itself is no long.
        return Math.Floor(number) == number || double.IsInfinity(number)
            ? number >= long.MaxValue
                ? long.MaxValue
                : number <= long.MinValue
                    ? long.MinValue
                    : (long)number
            : throw new JsonException($"Expected a whole number, got {number}.");
    }
}
